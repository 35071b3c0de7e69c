//! `report.html`: one page per run, a pure function of its record and its dhat files.

mod charts;
mod document;
pub(crate) mod figures;
mod graphs;
mod limits;
mod nine_stages;
pub(crate) mod overview;
mod parts;
mod raw;
mod sites;
mod step;
mod summary;
mod trade_off;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};

use alloc_ladder::record::Run;
use anyhow::Context;

use crate::analyse::profiles::Profiles;
use crate::render::files;
use crate::store::layout::REPORT;

pub(crate) use document::{render, shell};
pub(crate) use raw::encoded;

/// Renders a run into its folder with every file that the page links, and returns the page's path. Of its dhat files
/// those that `profiles` lacks are read.
///
/// # Errors
/// A dhat file the record names cannot be read, or the folder cannot be written.
pub(crate) fn write_all(dir: &Path, run: &Run, mut profiles: Profiles) -> anyhow::Result<PathBuf> {
    files::complete(dir, run, &mut profiles)?;
    files::make(dir, run, &profiles)?;
    profiles.files = files::existing(dir, run).collect();
    write_page(dir, run, &profiles)
}

/// Renders a run's page into its folder and returns its path. The page appears whole or not at all, and links what is
/// there.
///
/// # Errors
/// A dhat file the record names cannot be read, or the folder cannot be written.
pub(crate) fn write(dir: &Path, run: &Run) -> anyhow::Result<PathBuf> {
    write_page(dir, run, &files::load(dir, run)?)
}

fn write_page(dir: &Path, run: &Run, profiles: &Profiles) -> anyhow::Result<PathBuf> {
    let html = render(run, profiles);
    let path = dir.join(REPORT);
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
