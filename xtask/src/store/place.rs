//! Where the command works and what it is called: decided once, by the program that was started.
//!
//! `cargo xtask` works in the checkout that it was built from, and keeps runs in `profiles/`. `cargo alloc-ladder` works
//! in the cargo workspace of the current directory, and keeps runs in that workspace's `target/alloc-ladder/`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use alloc_ladder::subject::scenario::Scenario;
use serde::Deserialize;

use crate::cli::failure::{Failure, Kind};

/// Which of the two programs runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `cargo alloc-ladder`, for anybody's workspace.
    AllocLadder,
    /// `cargo xtask`, for this repository.
    Xtask,
}

impl Program {
    /// What a person types to start it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Program::AllocLadder => "cargo alloc-ladder",
            Program::Xtask => "cargo xtask",
        }
    }

    /// The folder of runs, as `--help` names it.
    const fn runs(self) -> &'static str {
        match self {
            Program::AllocLadder => "target/alloc-ladder/",
            Program::Xtask => "profiles/",
        }
    }

    /// What `check` checks where no run is named.
    const fn checked(self) -> &'static str {
        match self {
            Program::AllocLadder => "the newest",
            Program::Xtask => "measure the counts of every scenario now",
        }
    }

    /// What `compare` does where the base of a change has no run.
    const fn base(self) -> &'static str {
        match self {
            Program::AllocLadder => "one is measured in a git worktree by alloc-ladder.toml",
            Program::Xtask => "one is measured in a git worktree",
        }
    }

    /// The file of budgets, relative to the root.
    const fn budgets(self) -> &'static str {
        match self {
            Program::AllocLadder => "alloc-ladder-budgets.toml",
            Program::Xtask => "profiles/budgets.toml",
        }
    }
}

/// The folders that the command works with.
#[derive(Debug)]
struct Place {
    program: Program,
    root: PathBuf,
    runs: PathBuf,
}

static PLACE: OnceLock<Place> = OnceLock::new();

/// Settles where the command works; called once, before any verb.
///
/// # Errors
/// [`Kind::Environment`] when the current directory belongs to a cargo workspace that cargo cannot read.
pub(crate) fn settle(program: Program) -> anyhow::Result<()> {
    let place = match program {
        Program::AllocLadder => workspace(&env::current_dir()?)?,
        Program::Xtask => checkout(),
    };
    PLACE.set(place).expect("a program settles its place once");
    Ok(())
}

/// Tests settle nothing; they work in the checkout.
fn place() -> &'static Place {
    PLACE.get_or_init(checkout)
}

/// The folder that everything is relative to.
pub(crate) fn root() -> &'static Path {
    &place().root
}

/// The folder of all runs.
pub(crate) fn runs() -> &'static Path {
    &place().runs
}

/// The budgets that `check` holds a run to if no other file is named.
pub(crate) fn budgets() -> PathBuf {
    root().join(place().program.budgets())
}

/// Whether the study's scenarios are here to be measured.
pub(crate) fn has_study() -> bool {
    place().program == Program::Xtask
}

/// A file's path as the repository has it, with forward slashes: from the folder that GitHub Actions says it checked out,
/// else from the workspace's.
pub(crate) fn in_repository(path: &Path) -> String {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let path = whole(path);
    let checked_out = env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let roots = checked_out.iter().map(PathBuf::as_path).chain([root()]);
    let within = roots.into_iter().find_map(|root| path.strip_prefix(whole(root)).ok());
    within.unwrap_or(&path).to_string_lossy().into_owned()
}

/// How the command is called: `cargo xtask` or `cargo alloc-ladder`.
pub(crate) fn command() -> &'static str {
    place().program.command()
}

/// A command line that makes a first run. Only `cargo xtask` has scenarios of its own to measure.
pub(crate) fn first_run(scenario: Option<Scenario>) -> String {
    match place().program {
        Program::Xtask => format!("cargo xtask profile {}", scenario.unwrap_or(Scenario::Put)),
        Program::AllocLadder => "cargo alloc-ladder profile -- PROGRAM".to_owned(),
    }
}

/// The help texts with `{command}`, `{runs}`, `{budgets}`, `{checked}` and `{base}` filled in.
pub(crate) fn named(command: clap::Command, program: Program) -> clap::Command {
    let fill = |text: &clap::builder::StyledStr| {
        text.to_string()
            .replace("{command}", program.command())
            .replace("{runs}", program.runs())
            .replace("{budgets}", program.budgets())
            .replace("{checked}", program.checked())
            .replace("{base}", program.base())
    };
    command
        .mut_args(|arg| match arg.get_help().map(fill) {
            Some(help) => arg.help(help),
            None => arg,
        })
        .mut_subcommands(|verb| {
            let about = verb.get_about().map(fill);
            named(about.into_iter().fold(verb, clap::Command::about), program)
        })
}

/// This checkout. Cargo says at run time where the package is, so a built binary may move along with its checkout.
fn checkout() -> Place {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.parent().map_or_else(|| ".".into(), Path::to_path_buf);
    Place { program: Program::Xtask, runs: root.join("profiles"), root }
}

/// The part of `cargo metadata` that is needed.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

/// The cargo workspace that `current` belongs to, or `current` itself where it belongs to none.
fn workspace(current: &Path) -> anyhow::Result<Place> {
    let program = Program::AllocLadder;
    if !current.ancestors().any(|folder| folder.join("Cargo.toml").is_file()) {
        return Ok(Place { program, root: current.to_path_buf(), runs: current.join(program.runs()) });
    }
    let failure = |why: String| {
        Failure::new(Kind::Environment, format!("cargo cannot read the workspace of {}: {why}", current.display()))
            .help("`cargo metadata --no-deps` must succeed here; or run the command outside of the workspace")
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(current)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failure(error.to_string()))?;
    if !output.status.success() {
        return Err(failure(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()).into());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| failure(error.to_string()))?;
    Ok(Place { program, root: metadata.workspace_root, runs: metadata.target_directory.join("alloc-ladder") })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn runs_of_a_workspace_lie_in_its_target_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("exists");
        let member = root.join("service/src");
        fs::create_dir_all(&member).expect("creates");
        fs::write(root.join("Cargo.toml"), "[workspace]\nmembers = [\"service\"]\nresolver = \"3\"\n").expect("writes");
        let package = "[package]\nname = \"service\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        fs::write(root.join("service/Cargo.toml"), package).expect("writes");
        fs::write(member.join("lib.rs"), "").expect("writes");
        let place = workspace(&member).expect("cargo reads it");
        assert_eq!(place.root, root);
        assert!(place.runs.ends_with("alloc-ladder"), "{}", place.runs.display());

        fs::write(root.join("Cargo.toml"), "[workspace").expect("writes");
        let error = workspace(&member).expect_err("the manifest is broken").downcast::<Failure>().expect("a failure");
        assert_eq!(error.kind, Kind::Environment);
    }

    #[test]
    fn without_a_workspace_the_current_directory_is_the_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = workspace(folder.path()).expect("needs no cargo");
        assert_eq!((place.root, place.runs), (folder.path().into(), folder.path().join("target/alloc-ladder")));
    }
}
