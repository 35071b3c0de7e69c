//! `report.html`: one page per run, a pure function of its record and its dhat files.

mod charts;
mod document;
mod environment;
pub(crate) mod figures;
mod graphs;
mod limits;
mod methods;
mod nine_stages;
pub(crate) mod overview;
mod parts;
mod raw;
mod recorded;
mod sites;
mod stages;
mod step;
mod summary;
mod trade_off;
pub(crate) mod traffic;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use alloc_ladder::record::Run;

use crate::analyse::profiles::Profiles;
use crate::render::files;
use crate::store::layout::{REPORT, runs};
use crate::store::write::RunFolder;

pub(crate) use document::{render, shell};
pub(crate) use raw::encoded;

/// Renders a run into its folder with every file that the page links, and returns the page's path. Of the files that its
/// record names those that `profiles` lacks are read.
///
/// # Errors
/// A dhat file the record names cannot be read, or the folder cannot be written.
pub(crate) fn write_all(folder: &RunFolder, run: &Run, profiles: &mut Profiles) -> anyhow::Result<PathBuf> {
    files::complete(folder, run, profiles)?;
    files::make(folder, run, profiles)?;
    profiles.files = files::existing(folder, run).collect();
    write_page(folder, run, profiles)
}

/// Renders a run's page into its folder and returns its path. The page appears whole or not at all, and links what is
/// there.
///
/// # Errors
/// A dhat file the record names cannot be read, or the folder cannot be written.
pub(crate) fn write(folder: &RunFolder, run: &Run) -> anyhow::Result<PathBuf> {
    write_page(folder, run, &files::load(folder, run)?)
}

fn write_page(folder: &RunFolder, run: &Run, profiles: &Profiles) -> anyhow::Result<PathBuf> {
    folder.write(REPORT, render(run, profiles).as_bytes())?;
    Ok(folder.path().join(REPORT))
}

/// Puts a run into a new folder among the others, with its page, and returns the page's path. The run gets an id that
/// no other has.
///
/// # Errors
/// The folder cannot be made or written.
pub(crate) fn keep(run: &mut Run) -> anyhow::Result<PathBuf> {
    let folder = RunFolder::create_new(&runs(), &run.id)?;
    run.id = folder.name();
    folder.save(run)?;
    write(&folder, run)
}
