//! Somebody's own service as a subject: `alloc-ladder.toml` says how to start it, when it is ready, what traffic it
//! gets, and which steps it climbs.
//!
//! A step is built once and changes one thing. Nothing in the user's tree changes: a step with another revision is built
//! in a git worktree, one with another version of a dependency in a folder that links to the user's sources and has a
//! lock file of its own. Builds share one target folder, so that a dependency is built once for all steps that have it.
//!
//! Everything it starts runs in a process group of its own and ends with this process.
#![doc = include_str!("subject/keys.md")]

mod build;
mod checked;
pub(crate) mod climb;
mod file;
pub(crate) mod found;
mod health;
mod keys;
pub(crate) mod patched;
mod ports;
pub(crate) mod prove;
mod ready;
mod serving;
mod source;
mod tables;
mod text;

use std::path::Path;

use crate::cli::failure::{Failure, Kind};

pub(crate) use file::read;
pub(crate) use text::FILE;

/// Every key that the file may have, as a table.
pub(crate) const KEYS: &str = include_str!("subject/keys.md");

/// The library, which a service may have.
const LIBRARY: &str = "alloc-ladder";

/// A program that cargo builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// `bin` or `example`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
}

/// What cargo says of a folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// The programs of the package there, or of the workspace where there is none; binaries first.
    pub(crate) programs: Vec<Program>,
    /// Whether one of these packages has the library already.
    pub(crate) has_library: bool,
}

/// What there is to measure in a folder.
///
/// # Errors
/// [`Kind::Environment`] when cargo cannot read the workspace.
pub(crate) fn programs(folder: &Path) -> anyhow::Result<Found> {
    let workspace = source::Workspace::of(folder)?.map_err(|said| {
        Failure::new(Kind::Environment, format!("cargo cannot read the package of {}: {said}", folder.display()))
            .help("run this in the folder of a cargo package")
    })?;
    let own = folder.join("Cargo.toml");
    let here = workspace.packages.iter().any(|package| package.manifest_path == own);
    let packages = || workspace.packages.iter().filter(|package| !here || package.manifest_path == own);
    let has_library = packages().flat_map(|package| &package.dependencies).any(|dependency| dependency.name == LIBRARY);
    let targets: Vec<&source::Target> = packages().flat_map(|package| &package.targets).collect();
    let of = |kind: &'static str| {
        let named = targets.iter().filter(move |target| target.kind.iter().any(|has| has == kind));
        named.map(move |target| Program { kind, name: target.name.clone() })
    };
    Ok(Found { programs: of("bin").chain(of("example")).collect(), has_library })
}
