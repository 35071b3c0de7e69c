//! Where the code of a step is: the user's tree as it is, a git worktree of another revision, or a folder that links to
//! either and has manifests and a lock file of its own.
//!
//! Nothing is written into the user's tree. A worktree is kept for the next run, named after its commit; `git worktree
//! list` shows it until `cargo clean` removes it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;
use toml_edit::{DocumentMut, Item, TableLike, value};

use crate::measure::interrupt::Cancel;
use crate::measure::process::{Process, Streams};
use crate::measure::program::Program;
use crate::measure::subject::file::{Patch, Step};

/// Somebody's workspace may be large and the machine busy; whoever does not want to wait has Ctrl-C.
const LONGEST: Duration = Duration::from_secs(4 * 60 * 60);

/// What a tool said that failed.
pub(super) type Said = String;

/// A workspace: what cargo says of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(super) root: PathBuf,
    pub(super) packages: Vec<Package>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) targets: Vec<Target>,
    #[serde(default)]
    pub(super) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(super) features: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) rename: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) kind: Vec<String>,
}

impl Workspace {
    /// The workspace that a folder belongs to, without its dependencies: cargo writes nothing.
    ///
    /// # Errors
    /// What cargo said, where it cannot read it.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Result<Workspace, Said>> {
        let program = cargo(folder).args(["metadata", "--no-deps", "--format-version", "1"]);
        let lines = match run("cargo", &program)? {
            Ok(lines) => lines,
            Err(said) => return Ok(Err(said)),
        };
        Ok(
            Ok(serde_json::from_str(&lines.join("\n"))
                .context("cargo describes the workspace in words not known here")?),
        )
    }
}

/// Cargo, in a folder.
pub(super) fn cargo(folder: &Path) -> Program {
    Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).in_folder(folder)
}

/// Runs a tool to its end. Gives the lines of its stdout, or what it said on stderr where it failed.
///
/// # Errors
/// When it cannot be started, and [`Kind::Interrupted`](crate::cli::failure::Kind::Interrupted).
pub(super) fn run(what: &str, program: &Program) -> anyhow::Result<Result<Vec<String>, Said>> {
    let mut process = Process::start(what, program, Streams::Heard, &Cancel::default())?.watched();
    process.close();
    let far = Instant::now() + LONGEST;
    let lines = process.lines(far)?;
    match process.wait(far)? {
        Some(status) if status.success() => Ok(Ok(lines)),
        Some(status) => Ok(Err(process.said().unwrap_or_else(|| format!("{program}: {status}")))),
        None => Err(process.failure("took too long")),
    }
}

/// Where the code of a build comes from.
pub(super) struct Source {
    /// What cargo is run in.
    pub(super) folder: PathBuf,
    /// The workspace whose sources these are: the user's, or a worktree's.
    pub(super) tree: PathBuf,
}

/// The workspace that was built into a target folder last, by name.
const TREE: &str = "tree";

impl Source {
    /// Has cargo build the packages of this workspace anew where another tree's were built into `builds` last. Cargo knows
    /// them by their place in a workspace, and a file by its time: what was built of an older file of another tree it takes
    /// for fresh.
    ///
    /// # Errors
    /// As [`run`], and when the folder cannot be written.
    pub(super) fn take_over(&self, builds: &Path, target: &Path) -> anyhow::Result<Result<(), Said>> {
        let (last, tree) = (builds.join(TREE), self.tree.to_string_lossy());
        if std::fs::read_to_string(&last).is_ok_and(|last| last == tree) {
            return Ok(Ok(()));
        }
        let workspace = match Workspace::of(&self.folder)? {
            Ok(workspace) => workspace,
            Err(said) => return Ok(Err(said)),
        };
        let is_own = |name: &str| {
            let package = name.rsplit_once('-').map_or(name, |(package, _)| package);
            workspace.packages.iter().any(|own| own.name == package)
        };
        let profiles = std::fs::read_dir(target).into_iter().flatten().flatten();
        for known in profiles.flat_map(|profile| std::fs::read_dir(profile.path().join(".fingerprint"))).flatten() {
            let known = known.with_context(|| format!("cannot read {}", target.display()))?;
            if is_own(&known.file_name().to_string_lossy()) {
                let path = known.path();
                std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        std::fs::write(&last, tree.as_bytes()).with_context(|| format!("cannot write {}", last.display()))?;
        Ok(Ok(()))
    }
}

/// Where a step's code is to be built. `builds` is where worktrees and links go.
///
/// # Errors
/// As [`run`]; what a tool said of a revision or a version that it cannot have is the inner error.
pub(super) fn of(
    workspace: &Workspace,
    step: &Step,
    base: &Path,
    builds: &Path,
) -> anyhow::Result<Result<Source, Said>> {
    let root = match &step.revision {
        None => workspace.root.clone(),
        Some(revision) => match worktree(&workspace.root, revision, builds)? {
            Ok(root) => root,
            Err(said) => return Ok(Err(said)),
        },
    };
    if step.patch.is_empty() && step.tonic.is_none() && root.join("Cargo.lock").is_file() {
        return Ok(Ok(Source { folder: root.clone(), tree: root }));
    }
    let workspace = match &step.revision {
        None => workspace.clone(),
        Some(_) => match Workspace::of(&root)? {
            Ok(workspace) => workspace,
            Err(said) => return Ok(Err(said)),
        },
    };
    let linked = builds.join("linked").join(&step.name);
    link(&workspace, &linked)?;
    if let Some(other) = step.tonic {
        rename(&workspace, &linked, other)?;
    }
    Ok(patch(&linked, &step.patch, base)?.map(|folder| Source { folder, tree: root }))
}

/// A worktree of the repository that `root` is in, at a revision: its folder that is `root` there.
fn worktree(root: &Path, revision: &str, builds: &Path) -> anyhow::Result<Result<PathBuf, Said>> {
    let git = || Program::new("git").in_folder(root);
    let asked = run(
        "git",
        &git().args(["rev-parse", "--verify", "--quiet", "--end-of-options"]).arg(format!("{revision}^{{commit}}")),
    )?;
    let commit = match asked {
        Ok(lines) if !lines.is_empty() => lines[0].trim().to_owned(),
        Ok(_) => return Ok(Err(format!("git knows no revision `{revision}`"))),
        Err(_) => return Ok(Err(format!("git knows no revision `{revision}` of {}", root.display()))),
    };
    let prefix = run("git", &git().args(["rev-parse", "--show-prefix"]))?;
    let prefix = prefix.ok().and_then(|lines| lines.first().map(|line| line.trim().to_owned())).unwrap_or_default();
    let tree = builds.join("worktrees").join(&commit);
    let head = Program::new("git").args(["rev-parse", "HEAD"]).in_folder(&tree);
    let is_there = tree.join(".git").is_file() && run("git", &head)?.is_ok_and(|lines| lines == [commit.as_str()]);
    if !is_there {
        // One that was not made to the end.
        if tree.exists() {
            std::fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
        }
        let add = git().args(["worktree", "add", "--force", "--detach", "--quiet"]).arg(&tree).arg(&commit);
        if let Err(said) = run("git", &add)? {
            return Ok(Err(said));
        }
    }
    let folder = tree.join(prefix);
    // A lock file that is not under version control is the user's all the same: only the revision is to change.
    let (lock, own) = (folder.join("Cargo.lock"), root.join("Cargo.lock"));
    if folder.is_dir() && !lock.exists() && own.is_file() {
        std::fs::copy(&own, &lock).with_context(|| format!("cannot write {}", lock.display()))?;
    }
    Ok(Ok(folder))
}

/// Makes a folder that is the workspace, by links: manifests and the lock file are copies.
fn link(workspace: &Workspace, to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write to {}", to.display());
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(cannot)?;
    }
    let mut manifests: Vec<PathBuf> = workspace.packages.iter().map(|package| package.manifest_path.clone()).collect();
    manifests.push(workspace.root.join("Cargo.toml"));
    manifests.retain(|manifest| manifest.starts_with(&workspace.root));
    mirror(&workspace.root, to, &workspace.root, &manifests).with_context(cannot)
}

fn mirror(from: &Path, to: &Path, root: &Path, manifests: &[PathBuf]) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let target = to.join(&name);
        // Cargo reads `.cargo` of the folders above too, and that is where the user's is.
        if name == ".git" || name == ".cargo" || name == "target" && path.is_dir() {
            continue;
        }
        if manifests.contains(&path) {
            std::fs::write(&target, absolute(&std::fs::read_to_string(&path)?, from, root)?)?;
        } else if path.is_dir() && !path.is_symlink() && manifests.iter().any(|manifest| manifest.starts_with(&path)) {
            mirror(&path, &target, root, manifests)?;
        } else if name == "Cargo.lock" && from == root {
            std::fs::copy(&path, &target)?;
        } else {
            symlink(&path, &target)?;
        }
    }
    Ok(())
}

/// Puts another package in the place of `tonic`, in every manifest of a linked workspace that names it.
fn rename(workspace: &Workspace, linked: &Path, other: &str) -> anyhow::Result<()> {
    let manifests = workspace.packages.iter().map(|package| package.manifest_path.clone());
    for manifest in manifests.chain([workspace.root.join("Cargo.toml")]) {
        let Ok(place) = manifest.strip_prefix(&workspace.root) else { continue };
        let path = linked.join(place);
        let cannot = || format!("cannot write {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(cannot)?;
        std::fs::write(&path, renamed(&text, other)?).with_context(cannot)?;
    }
    Ok(())
}

/// A manifest with another package as its dependency `tonic`: that of this checkout, or the published one.
pub(super) fn renamed(manifest: &str, other: &str) -> anyhow::Result<String> {
    let mut document: DocumentMut = manifest.parse()?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|root| root.join("crates/tonic"));
    let checkout = checkout.filter(|path| path.join("Cargo.toml").is_file());
    let replace = |table: Option<&mut Item>| {
        let Some(tonic) = table.and_then(|table| table.get_mut("tonic")) else { return };
        if tonic.get("workspace").is_some() {
            return;
        }
        if tonic.is_str() {
            *tonic = value(toml_edit::InlineTable::new());
        }
        let Some(tonic) = tonic.as_table_like_mut() else { return };
        for key in ["version", "git", "rev", "branch", "tag", "path"] {
            tonic.remove(key);
        }
        tonic.insert("package", value(other));
        match &checkout {
            Some(path) => tonic.insert("path", value(path.to_string_lossy().into_owned())),
            None => tonic.insert("version", value(concat!("=", env!("CARGO_PKG_VERSION")))),
        };
    };
    replace(document.get_mut("workspace").and_then(|workspace| workspace.get_mut("dependencies")));
    replace(document.get_mut("dependencies"));
    Ok(document.to_string())
}

/// A manifest whose paths that lead out of the workspace are absolute.
fn absolute(manifest: &str, folder: &Path, root: &Path) -> anyhow::Result<String> {
    let mut document: DocumentMut = manifest.parse()?;
    paths(document.as_table_mut(), folder, root, &mut Vec::new());
    Ok(document.to_string())
}

/// Follows every table of dependencies: `path` of one of its rows.
fn paths(table: &mut dyn TableLike, folder: &Path, root: &Path, place: &mut Vec<String>) {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        let of_dependency = place
            .iter()
            .rev()
            .take(3)
            .any(|part| part.ends_with("dependencies") || part == "patch" || part == "replace");
        let Some(item) = table.get_mut(&key) else { continue };
        if key == "path" && of_dependency {
            let leads_out = item.as_str().map(|path| normal(&folder.join(path))).filter(|path| !path.starts_with(root));
            if let Some(path) = leads_out {
                *item = value(path.to_string_lossy().into_owned());
            }
        } else if let Some(inner) = item.as_table_like_mut() {
            place.push(key);
            paths(inner, folder, root, place);
            place.pop();
        }
    }
}

/// A path without `.` and `..`, as cargo reads it: links are not followed.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The part of a lock file that is needed.
#[derive(Default, Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    pub(super) package: Vec<Locked>,
}

#[derive(Deserialize)]
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) source: Option<String>,
}

/// Gives the linked workspace other versions of dependencies.
fn patch(linked: &Path, patches: &BTreeMap<String, Patch>, base: &Path) -> anyhow::Result<Result<PathBuf, Said>> {
    let manifest = linked.join("Cargo.toml");
    let cannot = || format!("cannot write {}", manifest.display());
    let mut document: DocumentMut = std::fs::read_to_string(&manifest).with_context(cannot)?.parse()?;
    let mut wanted = Vec::new();
    for (name, patch) in patches {
        let version = match patch {
            Patch::Version(version) => Some(version.clone()),
            Patch::Path(path) => {
                let path = normal(&base.join(path));
                let version = match version_of(&path) {
                    Ok(version) => version,
                    Err(said) => return Ok(Err(said)),
                };
                replace(&mut document, name, [("path", path.to_string_lossy().into_owned())]);
                Some(version)
            }
            Patch::Git(url, of) => {
                let of = of.iter().map(|(key, value)| (*key, value.clone()));
                replace(&mut document, name, std::iter::once(("git", url.clone())).chain(of));
                None
            }
        };
        wanted.push((name, version, !matches!(patch, Patch::Version(_))));
    }
    std::fs::write(&manifest, document.to_string()).with_context(cannot)?;
    if !linked.join("Cargo.lock").is_file()
        && let Err(said) = run("cargo", &cargo(linked).args(["generate-lockfile"]))?
    {
        return Ok(Err(said));
    }
    for (name, version, is_replaced) in wanted {
        let Some(spec) = spec(&lock(linked), name, version.as_deref()) else {
            return Ok(Err(format!("the workspace does not depend on `{name}`")));
        };
        // A source that is named already may be what the lock file has.
        let precise = version.iter().flat_map(|version| ["--precise".to_owned(), version.clone()]);
        let update = cargo(linked).args(["update", "--package"]).arg(&spec).args(precise);
        let said = run("cargo", &update)?.err();
        let lock = lock(linked);
        let has = lock.package.iter().any(|package| {
            let source = package.source.as_deref();
            let elsewhere = source.is_none_or(|source| source.starts_with("git+"));
            package.name == *name
                && version.as_ref().is_none_or(|version| package.version == *version)
                && (!is_replaced || elsewhere)
        });
        if !has {
            let why = said.unwrap_or_else(|| "cargo chose another version".to_owned());
            return Ok(Err(format!("`{name}` cannot be replaced: {why}")));
        }
    }
    Ok(Ok(linked.to_owned()))
}

/// Sets `[patch.crates-io] name = { … }`.
pub(super) fn replace(
    document: &mut DocumentMut,
    name: &str,
    source: impl IntoIterator<Item = (&'static str, String)>,
) {
    let table = source.into_iter().map(|(key, text)| (key, toml_edit::Value::from(text)));
    let inline: toml_edit::InlineTable = table.collect();
    let mut tables = toml_edit::Table::new();
    // No `[patch]` of its own above `[patch.crates-io]`.
    tables.set_implicit(true);
    let patch = document.entry("patch").or_insert(Item::Table(tables));
    if let Some(patch) = patch.as_table_like_mut() {
        let registry = patch.entry("crates-io").or_insert(Item::Table(toml_edit::Table::new()));
        if let Some(registry) = registry.as_table_like_mut() {
            registry.insert(name, value(inline));
        }
    }
}

pub(super) fn lock(folder: &Path) -> Lock {
    let text = std::fs::read_to_string(folder.join("Cargo.lock")).unwrap_or_default();
    toml::from_str(&text).unwrap_or_default()
}

/// The version that a package's manifest states.
fn version_of(folder: &Path) -> Result<String, Said> {
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let table: toml::Table = text.parse().map_err(|error| format!("{}: {error}", manifest.display()))?;
    let version = table.get("package").and_then(|package| package.get("version")).and_then(toml::Value::as_str);
    version.map(str::to_owned).ok_or_else(|| format!("{} states no version", manifest.display()))
}

/// What cargo calls the package of which another version is wanted: with its version where there are several.
fn spec(lock: &Lock, name: &str, wanted: Option<&str>) -> Option<String> {
    let versions: Vec<&str> =
        lock.package.iter().filter(|package| package.name == name).map(|package| package.version.as_str()).collect();
    let like = |version: &&&str| wanted.is_none_or(|wanted| compatible(version) == compatible(wanted));
    let chosen = versions.iter().find(like).or(versions.first())?;
    Some(format!("{name}@{chosen}"))
}

/// The part of a version that has to be the same for cargo to take one for the other: `1`, `0.4`, `0.0.3`.
fn compatible(version: &str) -> &str {
    let zeros = version.split('.').take_while(|part| *part == "0").count();
    let end = version.match_indices('.').nth(zeros).map_or(version.len(), |(end, _)| end);
    &version[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_of_the_workspace_are_absolute_and_others_stay() {
        let manifest = r#"[package]
name = "a"
[lib]
path = "src/../lib.rs"
[dependencies]
inside = { path = "crates/inside" }
outside = { path = "../outside", version = "1" } # kept
[target.'cfg(unix)'.dev-dependencies.other]
path = "../../other"
[patch.crates-io]
h2 = { path = "../h2" }
"#;
        let text = absolute(manifest, Path::new("/w/root"), Path::new("/w/root")).expect("reads");
        for line in [
            "path = \"src/../lib.rs\"",
            "inside = { path = \"crates/inside\" }",
            "outside = { path = \"/w/outside\", version = \"1\" } # kept",
            "path = \"/other\"",
            "h2 = { path = \"/w/h2\" }",
        ] {
            assert!(text.contains(line), "`{line}` is not in:\n{text}");
        }
    }

    #[test]
    fn another_package_stands_in_for_tonic_with_the_features_that_were_asked_for() {
        let of = |text: &str| renamed(text, "alloc-ladder-tonic").expect("reads");
        let plain: toml::Table = of("[dependencies]\ntonic = \"0.14\"\n").parse().expect("TOML");
        let tonic = &plain["dependencies"]["tonic"];
        assert_eq!(tonic["package"].as_str(), Some("alloc-ladder-tonic"));
        assert!(
            tonic["path"].as_str().is_some_and(|path| path.ends_with("crates/tonic")) && tonic.get("version").is_none()
        );
        let table = of("[dependencies.tonic]\nversion = \"0.14\"\nfeatures = [\"gzip\"]\n");
        assert!(table.contains("features = [\"gzip\"]") && !table.contains("0.14"), "{table}");
        let inherited = "[dependencies]\ntonic = { workspace = true }\nprost = \"0.14\"\n";
        assert_eq!(of(inherited), inherited, "what the workspace says holds");
        let root: toml::Table = of("[workspace.dependencies]\ntonic = { version = \"0.14\" }\n").parse().expect("TOML");
        assert_eq!(root["workspace"]["dependencies"]["tonic"]["package"].as_str(), Some("alloc-ladder-tonic"));
    }

    #[test]
    fn of_several_versions_the_compatible_one_is_replaced() {
        let lock = |versions: &[&str]| Lock {
            package: versions
                .iter()
                .map(|version| Locked { name: "h2".to_owned(), version: (*version).to_owned(), source: None })
                .collect(),
        };
        assert_eq!(spec(&lock(&["0.3.27", "0.4.20"]), "h2", Some("0.4.13")).as_deref(), Some("h2@0.4.20"));
        assert_eq!(spec(&lock(&["0.3.27"]), "h2", Some("0.4.13")).as_deref(), Some("h2@0.3.27"));
        assert_eq!(spec(&lock(&["1.2.3"]), "h2", None).as_deref(), Some("h2@1.2.3"));
        assert_eq!(spec(&lock(&[]), "h2", None), None);
        assert_eq!(["1.2.3", "0.4.13", "0.0.3", "10.0.0"].map(compatible), ["1", "0.4", "0.0.3", "10"]);
    }

    #[test]
    fn a_linked_workspace_is_the_same_but_for_its_manifests() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        let member = root.join("crates/member");
        for made in [root.join("src"), member.join("src"), root.join("target/debug"), root.join(".git")] {
            std::fs::create_dir_all(made).expect("creates");
        }
        std::fs::write(root.join("Cargo.toml"), "[workspace]\nmembers = [\"crates/*\"]\n").expect("writes");
        std::fs::write(root.join("Cargo.lock"), "version = 4\n").expect("writes");
        std::fs::write(
            member.join("Cargo.toml"),
            "[package]\nname = \"m\"\n[dependencies]\nx = { path = \"../../../x\" }\n",
        )
        .expect("writes");
        let workspace = Workspace {
            root: root.clone(),
            packages: vec![Package {
                name: "m".into(),
                manifest_path: member.join("Cargo.toml"),
                ..Package::default()
            }],
        };
        let to = folder.path().join("linked");
        link(&workspace, &to).expect("links");
        link(&workspace, &to).expect("links again");
        assert_eq!(std::fs::read_link(to.join("src")).expect("a link"), root.join("src"));
        assert_eq!(std::fs::read_link(to.join("crates/member/src")).expect("a link"), member.join("src"));
        assert!(!to.join("target").exists() && !to.join(".git").exists());
        assert!(!to.join("Cargo.lock").is_symlink() && !to.join("Cargo.toml").is_symlink());
        let manifest = std::fs::read_to_string(to.join("crates/member/Cargo.toml")).expect("reads");
        assert!(manifest.contains(&format!("path = {:?}", folder.path().join("x"))), "{manifest}");
    }
}
