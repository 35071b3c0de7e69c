//! `report.html`: one page per run, a pure function of its record and its dhat files.
//!
//! `cargo xtask report RUN` renders it again from what is stored; nothing is measured.

mod charts;
pub(crate) mod figures;
pub(crate) mod files;
mod graphs;
mod limits;
mod nine_stages;
pub(crate) mod overview;
mod page;
mod parts;
mod raw;
mod sites;
mod step;
mod summary;
mod trade_off;
pub(crate) mod units;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use anyhow::Context;

use crate::dhat::Dhat;
use crate::fold::Profile;
use crate::{run_dir, terminal};

pub(crate) use page::{render, shell};
pub(crate) use raw::encoded;

/// The page's name in a run's folder.
pub(crate) const FILE: &str = "report.html";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: its id, its folder, or `newest`
    run: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (dir, run) = run_dir::load(&args.run)?;
    let path = write_all(&dir, &run)?;
    terminal::result(&format!("{}\n", path.display()))
}

/// Renders a run into its folder with every file that the page links, and returns the page's path.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_all(dir: &Path, run: &Run) -> anyhow::Result<PathBuf> {
    files::make(dir, run, &Profiles::load(dir, run)?)?;
    write(dir, run)
}

/// Renders a run's page into its folder and returns its path. The page appears whole or not at all, and links what is
/// there.
///
/// # Errors
/// A dhat file the record names cannot be read, or the folder cannot be written.
pub(crate) fn write(dir: &Path, run: &Run) -> anyhow::Result<PathBuf> {
    let profiles = Profiles::load(dir, run)?;
    let html = render(run, &profiles);
    let path = dir.join(FILE);
    let cannot = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new().prefix(".report").tempfile_in(dir).with_context(cannot)?;
    file.write_all(html.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    // A temporary file is private to its owner; a page is for whoever may read the folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(cannot)?;
    }
    file.persist(&path).with_context(cannot)?;
    Ok(path)
}

/// What lies beside a record: its dhat files, folded, by step (counted from 0) and side, and the names of all files.
/// What is not here was not measured.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    folded: BTreeMap<(usize, Side), Profile>,
    files: BTreeSet<String>,
}

impl Profiles {
    /// Reads the dhat files a run's record names.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn load(dir: &Path, run: &Run) -> anyhow::Result<Profiles> {
        let mut profiles = Profiles { files: files::existing(dir, run).collect(), ..Profiles::default() };
        for (index, step) in run.steps.iter().enumerate() {
            for stacks in &step.stacks {
                let dhat = Dhat::read(&files::inside(dir, &stacks.dhat)?)?;
                profiles.insert(index, stacks.side, Profile::from_dhat(&dhat));
            }
        }
        Ok(profiles)
    }

    pub(crate) fn insert(&mut self, step: usize, side: Side, profile: Profile) {
        self.folded.insert((step, side), profile);
    }

    fn get(&self, step: usize, side: Side) -> Option<&Profile> {
        self.folded.get(&(step, side))
    }

    /// Whether a file, named relative to the run's folder, is there to be linked.
    fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }
}
