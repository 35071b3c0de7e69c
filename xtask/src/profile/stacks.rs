//! From what dhat wrote for a side of a step to its record, and to what is made from it beside.

use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::{Measurement, Run, Stacks};
use anyhow::Context;

use super::case::DHAT_FILE;
use crate::dhat::Dhat;
use crate::fold::Profile;
use crate::report::files::Made;
use crate::run_dir;

/// A step's folder, relative to the run's: `03-bytes-field`.
pub(super) fn folder(run: &Run, index: usize) -> PathBuf {
    PathBuf::from(run_dir::step_folder(index, &run.steps[index].name))
}

/// Reads what dhat wrote for one side of a step and writes everything rendered from it beside.
pub(super) fn render(root: &Path, run: &Run, index: usize, measurement: &Measurement) -> anyhow::Result<Stacks> {
    let side = measurement.side;
    let folder = folder(run, index).join(side.name());
    let dhat = folder.join(DHAT_FILE);
    without_folders(&root.join(&dhat))?;
    let seen = Dhat::read(&root.join(&dhat))?;
    let profile = Profile::from_dhat(&seen);
    let before = index.checked_sub(1).map(|before| load(root, run, before, side)).transpose()?.flatten();
    let messages = measurement.messages;
    let made = Made { run, step: index, side, messages, dhat: &seen, profile: &profile, before: before.as_ref() };
    made.write(&root.join(&folder))?;
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
    let workspace = format!("{}/", run_dir::root().display());
    let shared = registry.replace_all(&text, "").replace(&workspace, "");
    std::fs::write(dhat, shared).with_context(|| format!("cannot write {}", dhat.display()))
}

fn load(root: &Path, run: &Run, index: usize, side: Side) -> anyhow::Result<Option<Profile>> {
    let stacks = run.steps[index].stacks(side);
    Ok(stacks.map(|stacks| Dhat::read(&root.join(&stacks.dhat))).transpose()?.map(|dhat| Profile::from_dhat(&dhat)))
}
