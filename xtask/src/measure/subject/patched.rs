//! Crates of other people with the steps in their generated code: a copy of each in the user's workspace whose manifest has
//! another package in tonic's place, and the lines of `[patch.crates-io]` that name the copies.
//!
//! A patch of tonic itself would be a circle: what it is made of depends on tonic, and cargo takes no two versions of a
//! crate that are compatible from one registry. A crate that is copied keeps its version, so that cargo takes the copy
//! without `cargo update`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use toml_edit::DocumentMut;

use super::source::{Lock, cargo, lock, renamed, replace, run};
use crate::cli::failure::{Failure, Kind};
use crate::measure::subject::prove::TONIC;

/// Where the copies lie in a workspace.
const FOLDER: &str = "patches";
/// What cargo puts into the folders it unpacks, and what a copy has no use for.
const LEFT_OUT: [&str; 4] = [".cargo-ok", ".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

/// A crate that was copied, or that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether the copy was there before.
    pub(crate) kept: bool,
    /// The line of `[patch.crates-io]`.
    pub(crate) line: String,
}

/// Copies crates into the workspace at `root`, in the versions of its lock file, and names the copies in its manifest.
/// Without `names`: those that the manifest names already, of which a checkout may lack the copies.
///
/// # Errors
/// [`Kind::Usage`] for a crate that the lock file does not have once, or that does not depend on tonic, and
/// [`Kind::Environment`] when cargo does not find its source or does not take the copy.
pub(crate) fn take(root: &Path, names: &[String]) -> anyhow::Result<Vec<Taken>> {
    let manifest = root.join("Cargo.toml");
    let cannot = || format!("cannot read {}", manifest.display());
    let mut document: DocumentMut = fs::read_to_string(&manifest).with_context(cannot)?.parse().with_context(cannot)?;
    let named = named(&document);
    let names = if names.is_empty() { &named } else { names };
    if names.is_empty() {
        return Err(Failure::new(Kind::Usage, "no crate is named")
            .help("name those whose generated code is to use the steps: cargo alloc-ladder patch CRATE")
            .into());
    }
    let locked = lock(root);
    let mut taken = Vec::new();
    for name in names {
        let version = version(&locked, name)?;
        let kept = root.join(FOLDER).join(name).join("Cargo.toml").is_file();
        let line = format!("{name} = {{ path = \"{FOLDER}/{name}\" }}");
        taken.push(Taken { name: name.clone(), version, kept, line });
    }
    let sources = sources(root, &taken)?;
    for Taken { name, .. } in taken.iter().filter(|taken| !taken.kept) {
        copy(name, &sources[name], &root.join(FOLDER))?;
    }
    let missing: Vec<&Taken> = taken.iter().filter(|taken| !named.contains(&taken.name)).collect();
    if !missing.is_empty() {
        missing.iter().for_each(|Taken { name, .. }| {
            replace(&mut document, name, [("path", format!("{FOLDER}/{name}"))]);
        });
        fs::write(&manifest, document.to_string()).with_context(|| format!("cannot write {}", manifest.display()))?;
    }
    are_used(root, &taken)?;
    Ok(taken)
}

/// The crates that a manifest has copies of.
fn named(document: &DocumentMut) -> Vec<String> {
    let table = document.get("patch").and_then(|patch| patch.get("crates-io")).and_then(|table| table.as_table_like());
    let is_copy = |name: &str, item: &toml_edit::Item| {
        item.get("path").and_then(|path| path.as_str()).is_some_and(|path| path == format!("{FOLDER}/{name}"))
    };
    let entries = table.into_iter().flat_map(|table| table.iter());
    entries.filter(|(name, item)| is_copy(name, item)).map(|(name, _)| name.to_owned()).collect()
}

/// The one version that the lock file has.
fn version(lock: &Lock, name: &str) -> anyhow::Result<String> {
    let versions: Vec<&str> =
        lock.package.iter().filter(|package| package.name == name).map(|package| package.version.as_str()).collect();
    let (what, help) = match versions[..] {
        [version] => return Ok(version.to_owned()),
        [] if lock.package.is_empty() => ("there is no Cargo.lock".to_owned(), "run: cargo generate-lockfile"),
        [] => (format!("the workspace does not depend on `{name}`"), "`cargo tree` lists what it depends on"),
        _ => {
            let help = "a patch is for one version: see to it that everything asks for the same";
            (format!("the workspace depends on `{name}` {}", versions.join(" and ")), help)
        }
    };
    Err(Failure::new(Kind::Usage, what).help(help).into())
}

/// The part of `cargo metadata` that is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Where cargo has unpacked what is to be copied. It is asked in a package of its own: the workspace cannot be read while
/// copies that it names are missing.
fn sources(root: &Path, taken: &[Taken]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let wanted: Vec<&Taken> = taken.iter().filter(|taken| !taken.kept).collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let lines: String = wanted
        .iter()
        .map(|taken| format!("{} = {{ version = \"={}\", default-features = false }}\n", taken.name, taken.version))
        .collect();
    let manifest = format!(
        "[workspace]\n[package]\nname = \"alloc-ladder-patch\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{lines}"
    );
    fs::write(folder.path().join("Cargo.toml"), manifest)
        .and_then(|()| fs::write(folder.path().join("lib.rs"), ""))
        .and_then(|()| fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")))
        .context("cannot write to the temporary folder")?;
    let asked = run("cargo", &cargo(folder.path()).args(["metadata", "--format-version", "1"]))?;
    let names: Vec<&str> = wanted.iter().map(|taken| taken.name.as_str()).collect();
    let lines = asked.map_err(|said| {
        Failure::new(Kind::Environment, format!("cargo does not find {}: {said}", names.join(", ")))
            .help("only crates of crates.io can be patched")
    })?;
    let metadata: Metadata =
        serde_json::from_str(&lines.join("\n")).context("cargo describes packages in words not known here")?;
    let is_wanted =
        |package: &Package| wanted.iter().any(|taken| taken.name == package.name && taken.version == package.version);
    let found = metadata.packages.into_iter().filter(is_wanted);
    let folders = found.filter_map(|package| Some((package.name, package.manifest_path.parent()?.to_owned())));
    let folders: BTreeMap<String, PathBuf> = folders.collect();
    match names.iter().find(|name| !folders.contains_key(**name)) {
        None => Ok(folders),
        Some(name) => Err(Failure::new(Kind::Environment, format!("cargo has no source of {name}")).into()),
    }
}

/// Copies a crate into `patches`, its manifest with another package in tonic's place.
fn copy(name: &str, source: &Path, patches: &Path) -> anyhow::Result<()> {
    let manifest = source.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let renamed = renamed(&text, TONIC)?;
    if renamed == text.parse::<DocumentMut>()?.to_string() {
        return Err(Failure::new(Kind::Usage, format!("`{name}` does not depend on tonic"))
            .help("the crate to patch is the one that holds the generated code")
            .into());
    }
    let cannot = || format!("cannot write to {}", patches.display());
    fs::create_dir_all(patches).with_context(cannot)?;
    // Beside its place, so that a copy is whole or not there.
    let new = tempfile::tempdir_in(patches).with_context(cannot)?;
    tree(source, new.path()).with_context(cannot)?;
    fs::write(new.path().join("Cargo.toml"), renamed).with_context(cannot)?;
    let folder = new.keep();
    fs::rename(&folder, patches.join(name)).with_context(cannot)
}

fn tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        } else if kind.is_dir() {
            tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Lets cargo read the workspace again, and looks whether it took the copies.
fn are_used(root: &Path, taken: &[Taken]) -> anyhow::Result<()> {
    let read = run("cargo", &cargo(root).args(["metadata", "--format-version", "1"]))?;
    read.map_err(|said| Failure::new(Kind::Environment, format!("cargo cannot read the workspace any more: {said}")))?;
    let lock = lock(root);
    for Taken { name, version, .. } in taken {
        let is_copy = |package: &&super::source::Locked| package.name == *name && package.source.is_none();
        if !lock.package.iter().any(|package| is_copy(&package)) {
            return Err(Failure::new(Kind::Environment, format!("cargo does not take the copy of {name} {version}"))
                .help(format!("remove {FOLDER}/{name} if it is of another version; then: cargo update -p {name}"))
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::subject::source::Locked;

    #[test]
    fn the_manifest_says_which_crates_are_copies() {
        let manifest = "[patch.crates-io]\na = { path = \"patches/a\" }\nb = { path = \"../b\" }\n\
                        c = { git = \"https://example.com/c\" }\n[patch.crates-io.d]\npath = \"patches/d\"\n";
        assert_eq!(named(&manifest.parse().expect("TOML")), ["a", "d"]);
        assert!(named(&"[package]\nname = \"a\"\n".parse().expect("TOML")).is_empty());
    }

    #[test]
    fn a_crate_has_to_be_in_the_lock_file_once() {
        let of =
            |name: &str, version: &str| Locked { name: name.to_owned(), version: version.to_owned(), source: None };
        let lock = Lock { package: vec![of("a", "1.2.0"), of("b", "1.0.0"), of("b", "2.0.0")] };
        assert_eq!(version(&lock, "a").expect("once"), "1.2.0");
        for (lock, name, said) in [
            (&lock, "b", "`b` 1.0.0 and 2.0.0"),
            (&lock, "c", "does not depend on `c`"),
            (&Lock::default(), "a", "no Cargo.lock"),
        ] {
            let error = version(lock, name).expect_err("refused").downcast::<Failure>().expect("a failure");
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_copy_is_the_crate_but_for_one_dependency() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, patches) = (folder.path().join("source"), folder.path().join("patches"));
        fs::create_dir_all(source.join("src")).expect("makes");
        let manifest = "[package]\nname = \"a\"\n\n[dependencies.prost]\nversion = \"0.14\"\n\n\
                        [dependencies.tonic]\nversion = \"0.14.1\"\nfeatures = [\"codegen\"]\ndefault-features = false\n";
        fs::write(source.join("Cargo.toml"), manifest).expect("writes");
        fs::write(source.join("src/lib.rs"), "//! a").expect("writes");
        fs::write(source.join(".cargo-ok"), "{}").expect("writes");
        copy("a", &source, &patches).expect("copies");
        let copied = fs::read_to_string(patches.join("a/Cargo.toml")).expect("reads");
        let table: toml::Table = copied.parse().expect("TOML");
        let tonic = &table["dependencies"]["tonic"];
        assert_eq!(tonic["package"].as_str(), Some(TONIC));
        assert_eq!(tonic["default-features"].as_bool(), Some(false));
        assert_eq!(table["dependencies"]["prost"]["version"].as_str(), Some("0.14"));
        assert_eq!(fs::read_to_string(patches.join("a/src/lib.rs")).expect("reads"), "//! a");
        assert!(!patches.join("a/.cargo-ok").exists());

        fs::write(source.join("Cargo.toml"), manifest.replace("tonic", "http")).expect("writes");
        let error = copy("b", &source, &patches).expect_err("refused");
        assert!(error.to_string().contains("does not depend on tonic"), "{error}");
        assert_eq!(fs::read_dir(&patches).expect("reads").count(), 1, "nothing is left of it");
    }
}
