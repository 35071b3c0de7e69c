//! Writing into a run's folder, and taking a run out of it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use alloc_ladder::record::Run;
use anyhow::Context;

use crate::store::layout::{REPORT, RUN_JSON, step_folder};

/// Makes a run's folder and makes sure that files can be written there.
///
/// # Errors
/// When it cannot be made or written; the message names it.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    tempfile::tempfile_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(())
}

/// Takes a run out of its folder: record, page and the folders of its steps. What else lies there stays.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn clear(folder: &Path) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(folder.join(RUN_JSON)) else { return Ok(()) };
    let remove = |path: PathBuf| {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    };
    // A record that cannot be read says of no step where it lies.
    for (index, step) in Run::from_json(&text).iter().flat_map(|run| run.steps.iter().enumerate()) {
        remove(folder.join(step_folder(index, &step.name)))?;
    }
    for file in [RUN_JSON, REPORT] {
        remove(folder.join(file))?;
    }
    Ok(())
}
