//! Builds the programs of a subject: the server once for every step that differs in code, each load once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal;
use crate::measure::subject::file::{self, Patch, ProgramTable, Server, Step, Subject};
use crate::measure::subject::source::{self, Said, Source, Workspace};

/// What decides which program a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Code {
    features: Vec<String>,
    revision: Option<String>,
    patch: BTreeMap<String, Patch>,
    tonic: Option<&'static str>,
}

impl Code {
    fn of(server: &Server, step: &Step) -> Code {
        let mut features: Vec<String> = [&server.features, &step.features].into_iter().flatten().cloned().collect();
        features.extend(step.allocator.clone());
        features.sort();
        features.dedup();
        Code { features, revision: step.revision.clone(), patch: step.patch.clone(), tonic: step.tonic }
    }
}

/// What cargo is asked for.
struct Wanted<'a> {
    package: &'a str,
    kind: &'a str,
    name: &'a str,
    features: &'a [String],
    server: &'a Server,
    /// The user's own tree, whose lock file must stay as it is.
    is_own_tree: bool,
}

/// Builds for one run.
pub(super) struct Builder<'a> {
    subject: &'a Subject,
    /// The folder of the file.
    base: PathBuf,
    /// `None` where nothing is built.
    workspace: Option<Workspace>,
    builds: &'a Path,
    built: Vec<(Code, Result<PathBuf, Said>)>,
}

impl<'a> Builder<'a> {
    /// Reads the workspace, if anything is to be built.
    ///
    /// # Errors
    /// [`Kind::Environment`] when cargo cannot read it, [`Kind::Usage`] for a program that it does not have.
    pub(super) fn new(subject: &'a Subject, builds: &'a Path) -> anyhow::Result<Builder<'a>> {
        let base = subject.base();
        let programs = || std::iter::once(&subject.server.program).chain(&subject.load);
        let is_built = programs().any(|program| program.target().is_some());
        let workspace = match is_built {
            false => None,
            true => Some(Workspace::of(&base)?.map_err(|said| {
                Failure::new(
                    Kind::Environment,
                    format!("cargo cannot read the workspace of {}: {said}", base.display()),
                )
                .help("`cargo metadata --no-deps` must succeed there")
            })?),
        };
        let builder = Builder { subject, base, workspace, builds, built: Vec::new() };
        for program in programs() {
            builder.package(program)?;
            builder.is_there(program)?;
        }
        Ok(builder)
    }

    /// The server of a step as a file; what cargo said where it does not build. Of a command, what it names.
    ///
    /// # Errors
    /// When a tool cannot be started, and [`Kind::Interrupted`].
    pub(super) fn server(&mut self, step: &Step) -> anyhow::Result<Result<PathBuf, Said>> {
        let program = &self.subject.server.program;
        let (Some((kind, name)), Some(workspace)) = (program.target(), &self.workspace) else {
            return Ok(Ok(self.command(program)));
        };
        let code = Code::of(&self.subject.server, step);
        if let Some((_, built)) = self.built.iter().find(|(other, _)| *other == code) {
            return Ok(built.clone());
        }
        terminal::progress("Building", &step.name);
        let built = match source::of(workspace, step, &self.base, self.builds)? {
            Err(said) => Err(said),
            Ok(source) => {
                let wanted = Wanted {
                    package: self.package(program)?.unwrap_or_default(),
                    kind,
                    name,
                    features: &code.features,
                    server: &self.subject.server,
                    is_own_tree: source.folder == workspace.root,
                };
                self.cargo(&source, &wanted, &step.name)?
            }
        };
        self.built.push((code, built.clone()));
        Ok(built)
    }

    /// A load as a file, built from the user's tree whatever the steps are.
    ///
    /// # Errors
    /// As [`Builder::server`], and [`Kind::Run`] where it does not build: no step has traffic then.
    pub(super) fn load(&self, load: &ProgramTable) -> anyhow::Result<PathBuf> {
        let (Some((kind, name)), Some(workspace)) = (load.target(), &self.workspace) else {
            return Ok(self.command(load));
        };
        terminal::progress("Building", &format!("the load {name}"));
        let server = &self.subject.server;
        let package = self.package(load)?.unwrap_or_default();
        let same = Some(package) == self.package(&server.program)?;
        let none = Vec::new();
        let features = if same { &server.features } else { &none };
        let failed = |said: Said| {
            let message = format!("the load `{name}` does not build:\n{}", shortened(&said));
            anyhow::Error::from(Failure::new(Kind::Run, message).help("without it no step has traffic"))
        };
        let step = Step { name: "load".to_owned(), ..Step::default() };
        let source = source::of(workspace, &step, &self.base, self.builds)?.map_err(failed)?;
        let is_own_tree = source.folder == workspace.root;
        let wanted = Wanted { package, kind, name, features, server, is_own_tree };
        self.cargo(&source, &wanted, &format!("load-{name}"))?.map_err(failed)
    }

    /// The program of a command: a path is relative to the file's folder.
    fn command(&self, program: &ProgramTable) -> PathBuf {
        let first = program.command.as_ref().and_then(|words| words.0.first()).map_or("", String::as_str);
        if first.contains('/') { self.base.join(first) } else { first.into() }
    }

    /// Where the file names a program.
    fn place(&self, program: &ProgramTable, key: &str) -> String {
        let load = self.subject.load.iter().position(|load| load == program);
        match load.filter(|_| *program != self.subject.server.program) {
            Some(load) => file::place(&self.subject.file, "load", |index, _| index == load, key),
            None => file::place(&self.subject.file, "server", |_, _| true, key),
        }
    }

    /// Refuses a command whose program is nowhere, before anything is built.
    fn is_there(&self, program: &ProgramTable) -> anyhow::Result<()> {
        if program.command.is_none() {
            return Ok(());
        }
        let path = self.command(program);
        let (help, is_there) = match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(_) => ("paths are relative to the file's folder", path.exists()),
            None => {
                let folders = std::env::var_os("PATH").unwrap_or_default();
                let is_there = std::env::split_paths(&folders).any(|folder| folder.join(&path).is_file());
                ("install it, or write its path", is_there)
            }
        };
        if is_there {
            return Ok(());
        }
        let place = self.place(program, "command");
        Err(Failure::new(Kind::Usage, format!("{place}: there is no program {}", path.display())).help(help).into())
    }

    /// The package that has a program.
    fn package(&self, program: &ProgramTable) -> anyhow::Result<Option<&str>> {
        let (Some((flag, name)), Some(workspace)) = (program.target(), &self.workspace) else { return Ok(None) };
        let kind = flag.trim_start_matches('-');
        let of_kind = |package: &&source::Package| {
            program.package.as_ref().is_none_or(|wanted| *wanted == package.name)
                && package.targets.iter().any(|target| target.name == name && target.kind.iter().any(|has| has == kind))
        };
        if let Some(package) = workspace.packages.iter().find(of_kind) {
            return Ok(Some(&package.name));
        }
        let targets = workspace.packages.iter().flat_map(|package| &package.targets);
        let names: Vec<&str> = targets
            .filter(|target| target.kind.iter().any(|has| has == kind))
            .map(|target| target.name.as_str())
            .collect();
        let meant = nearest(Named::Step, name, names.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
        let of = program.package.as_ref().map_or_else(String::new, |package| format!(" of package `{package}`"));
        let key = match &program.package {
            Some(package) if workspace.packages.iter().all(|other| other.name != *package) => "package",
            _ => kind,
        };
        let message = format!("{}: the workspace has no {kind} `{name}`{of}", self.place(program, key));
        let help = format!("{meant}it has: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
        Err(Failure::new(Kind::Usage, message).help(help).into())
    }

    /// Builds in a folder and keeps a copy of the program, which the next step's would replace.
    fn cargo(&self, source: &Source, wanted: &Wanted<'_>, kept: &str) -> anyhow::Result<Result<PathBuf, Said>> {
        let profile = &wanted.server.profile;
        let target = self.builds.join("target");
        if let Err(said) = source.take_over(self.builds, &target)? {
            return Ok(Err(said));
        }
        let mut program = source::cargo(&source.folder)
            .args(["build", "--profile", profile, "--package", wanted.package, wanted.kind, wanted.name])
            .args(["--message-format", "json-render-diagnostics", "--target-dir"])
            .arg(target)
            // Names of functions in call stacks need line tables.
            .env(format!("CARGO_PROFILE_{}_DEBUG", profile.to_uppercase().replace('-', "_")), "1");
        if !wanted.features.is_empty() {
            program = program.args(["--features", &wanted.features.join(",")]);
        }
        if !wanted.server.default_features {
            program = program.arg("--no-default-features");
        }
        if wanted.is_own_tree {
            program = program.arg("--locked");
        }
        let lines = match source::run("cargo", &program)? {
            Ok(lines) => lines,
            Err(said) => return Ok(Err(said)),
        };
        let Some(built) = executable(&lines, wanted.name) else {
            return Ok(Err(format!("cargo built no program `{}`", wanted.name)));
        };
        let place = self.builds.join("programs").join(kept);
        let path = place.join(wanted.name);
        let cannot = || format!("cannot copy {} to {}", built.display(), place.display());
        std::fs::create_dir_all(&place).with_context(cannot)?;
        // A program that runs still cannot be written.
        if path.exists() {
            std::fs::remove_file(&path).with_context(cannot)?;
        }
        std::fs::copy(&built, &path).with_context(cannot)?;
        Ok(Ok(path))
    }
}

/// The end of what a tool said, where its reason stands.
pub(super) fn shortened(said: &str) -> String {
    const LINES: usize = 30;
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Whether a tool failed for want of disk, which is no fault of a step. What it says is all there is: its error number stays
/// with it, and by the time it has ended it has cleared away what filled the disk.
pub(super) fn is_full(said: &str) -> bool {
    said.contains("No space left on device")
}

/// The program of this name among what cargo says it built.
fn executable(lines: &[String], name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        target: source::Target,
        executable: Option<PathBuf>,
    }
    let artifacts = lines.iter().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let mut named = artifacts.filter(|artifact| artifact.target.name == name).filter_map(|built| built.executable);
    named.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_built_and_not_how_it_is_started() {
        let server = file::read_str(
            "[server]\nbin = \"a\"\nfeatures = [\"x\"]\n[[step]]\nname = \"a\"\n[[step]]\nname = \"b\"\nenv = { A = \"1\" }\n\
             [[step]]\nname = \"c\"\nallocator = \"mimalloc\"\n",
        );
        let codes: Vec<Code> = server.steps.iter().map(|step| Code::of(&server.server, step)).collect();
        assert_eq!(codes[0], codes[1]);
        assert_eq!(codes[2].features, ["mimalloc", "x"]);
    }

    #[test]
    fn a_full_disk_is_no_fault_of_a_step() {
        assert!(is_full("error: failed to write /t/x: No space left on device (os error 28)"));
        assert!(!is_full("error[E0308]: mismatched types"));
    }

    #[test]
    fn the_program_is_where_cargo_says_it_is() {
        let lines = [
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"a","kind":["lib"]},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"a","kind":["bin"]},"executable":"/t/release/a"}"#,
        ]
        .map(str::to_owned);
        assert_eq!(executable(&lines, "a"), Some("/t/release/a".into()));
        assert_eq!(executable(&lines, "b"), None);
    }
}
