//! From the samples of one side of a step to its record.

use std::path::Path;

use alloc_ladder::record::{CpuProfile, Measurement, Run};
use anyhow::Context;

use crate::analyse::cpu::{BadFolded, Samples, Spent};
use crate::measure::stacks::folder;
use crate::store::layout::{CPU_FOLDED, CPU_RAW};
use crate::store::read;

/// Reads the samples of one side of a step.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(crate) fn read(root: &Path, run: &Run, index: usize, measurement: &Measurement) -> anyhow::Result<CpuProfile> {
    let side = measurement.side;
    let folder = folder(run, index).join(side.name());
    let raw = root.join(&folder).join(CPU_RAW);
    let samples = read::parsed(&raw, Samples::parse, BadFolded::help)
        .with_context(|| format!("the samples of the {side} cannot be read"))?;
    Ok(CpuProfile {
        side,
        samples: samples.total(),
        allocator_share: samples.share(Spent::Allocator),
        copy_share: samples.share(Spent::Copy),
        kernel_share: samples.share(Spent::Kernel),
        folded: folder.join(CPU_FOLDED).to_string_lossy().into_owned(),
    })
}
