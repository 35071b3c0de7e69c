//! From the samples of one side of a step to its record.

use std::path::Path;

use alloc_ladder::record::{CpuProfile, Measurement, Run};
use anyhow::Context;

use crate::analyse::cpu::{BadFolded, Samples};
use crate::analyse::profiles::Profiles;
use crate::measure::stacks::folder;
use crate::store::layout::CPU_RAW;
use crate::store::read;
use crate::store::write::RunFolder;

/// Takes the samples of one side of a step, in `from`, into the run's folder, and keeps them in `profiles`: nobody need
/// read them again.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(crate) fn keep(
    into: &RunFolder,
    from: &Path,
    run: &Run,
    index: usize,
    measurement: &Measurement,
    profiles: &mut Profiles,
) -> anyhow::Result<CpuProfile> {
    let side = measurement.side;
    let folder = folder(run, index, measurement);
    let left = from.join(CPU_RAW);
    let text = std::fs::read(&left).with_context(|| format!("the {side} left no samples: {}", left.display()))?;
    let raw = format!("{folder}/{CPU_RAW}");
    into.write(&raw, &text)?;
    let samples = read::taken_apart(&text, &into.path().join(&raw), Samples::parse, BadFolded::help)
        .with_context(|| format!("the samples of the {side} cannot be read"))?;
    profiles.insert_samples(index, side, samples);
    Ok(CpuProfile { side, raw })
}
