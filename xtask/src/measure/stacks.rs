//! From what dhat wrote for a side of a step to its record.

use std::path::Path;

use alloc_ladder::record::{Measurement, Run, Stacks};
use anyhow::Context;

use crate::analyse::dhat::{BadDhat, Dhat};
use crate::analyse::profiles::Profiles;
use crate::store::layout;
use crate::store::layout::DHAT_FILE;
use crate::store::read;
use crate::store::write::RunFolder;

/// The folder of a side's files, relative to the run's: `03-bytes-field/server`.
pub(crate) fn folder(run: &Run, index: usize, measurement: &Measurement) -> String {
    format!("{}/{}", layout::step_folder(index, &run.steps[index].name), measurement.side.name())
}

/// Takes what dhat wrote for one side of a step, in `from`, into the run's folder, and keeps it in `profiles`: nobody need
/// read it again.
///
/// # Errors
/// When it left nothing, or what it left cannot be read.
pub(crate) fn keep(
    into: &RunFolder,
    from: &Path,
    run: &Run,
    index: usize,
    measurement: &Measurement,
    profiles: &mut Profiles,
) -> anyhow::Result<Stacks> {
    let side = measurement.side;
    let left = from.join(DHAT_FILE);
    let text = std::fs::read_to_string(&left)
        .with_context(|| format!("the {side} left no call sites: cannot read {}", left.display()))?;
    let text = without_folders(&text);
    let dhat = format!("{}/{DHAT_FILE}", folder(run, index, measurement));
    into.write(&dhat, text.as_bytes())?;
    let seen = read::taken_apart(text.as_bytes(), &into.path().join(&dhat), Dhat::parse, BadDhat::help)?;
    profiles.insert(index, side, seen);
    Ok(Stacks { side, messages: measurement.messages, payload_bytes: measurement.payload_bytes, dhat, recorded: None })
}

/// What dhat wrote without the folders of this machine: a run is there to be shown to others.
fn without_folders(text: &str) -> String {
    let registry = regex::Regex::new(r#"[^\s"(]*/registry/src/[^/"]+/"#).expect("the pattern is valid");
    let workspace = format!("{}/", layout::root().display());
    registry.replace_all(text, "").replace(&workspace, "")
}
