//! From what dhat wrote for a side of a step to its record.

use std::path::{Path, PathBuf};

use alloc_ladder::record::{Measurement, Run, Stacks};
use anyhow::Context;

use crate::analyse::dhat::{BadDhat, Dhat};
use crate::analyse::profiles::Profiles;
use crate::store::layout;
use crate::store::layout::DHAT_FILE;
use crate::store::read;

/// A step's folder, relative to the run's: `03-bytes-field`.
pub(crate) fn folder(run: &Run, index: usize) -> PathBuf {
    PathBuf::from(layout::step_folder(index, &run.steps[index].name))
}

/// Reads what dhat wrote for one side of a step, and keeps it in `profiles`: nobody need read it again.
///
/// # Errors
/// When it left nothing, or what it left cannot be read.
pub(crate) fn read(
    root: &Path,
    run: &Run,
    index: usize,
    measurement: &Measurement,
    profiles: &mut Profiles,
) -> anyhow::Result<Stacks> {
    let side = measurement.side;
    let folder = folder(run, index).join(side.name());
    let dhat = folder.join(DHAT_FILE);
    without_folders(&root.join(&dhat))?;
    let seen = read::parsed(&root.join(&dhat), Dhat::parse, BadDhat::help)?;
    let profile = profiles.insert(index, side, seen);
    let messages = measurement.messages;
    Ok(Stacks {
        side,
        messages,
        payload_bytes: measurement.payload_bytes,
        stages: profile.stages(),
        total_blocks: profile.total_blocks(),
        total_bytes: profile.total_bytes(),
        peak_bytes: profile.peak_bytes(),
        dhat: dhat.to_string_lossy().into_owned(),
    })
}

/// Takes the folders of this machine out of dhat's file: a run is there to be shown to others.
fn without_folders(dhat: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(dhat).with_context(|| format!("cannot read {}", dhat.display()))?;
    let registry = regex::Regex::new(r#"[^\s"(]*/registry/src/[^/"]+/"#).expect("the pattern is valid");
    let workspace = format!("{}/", layout::root().display());
    let shared = registry.replace_all(&text, "").replace(&workspace, "");
    std::fs::write(dhat, shared).with_context(|| format!("cannot write {}", dhat.display()))
}
