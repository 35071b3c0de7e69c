//! From the samples of one side of a step to what lies in its folder: folded stacks, a flame graph, shares.

use std::path::Path;

use alloc_ladder::record::{CpuProfile, Measurement, Run};

use super::stacks::folder;
use crate::cpu::Spent;
use crate::report::files;

/// The file a `cpu` build writes in a side's folder.
pub(super) const RAW_FILE: &str = files::CPU_RAW;

/// Reads the samples of one side of a step and writes what is rendered from them beside.
pub(super) fn render(root: &Path, run: &Run, index: usize, measurement: &Measurement) -> anyhow::Result<CpuProfile> {
    let side = measurement.side;
    let folder = folder(run, index).join(side.name());
    let samples = files::make_cpu(&root.join(&folder), &run.steps[index], side, measurement.messages)?;
    Ok(CpuProfile {
        side,
        samples: samples.total(),
        allocator_share: samples.share(Spent::Allocator),
        copy_share: samples.share(Spent::Copy),
        kernel_share: samples.share(Spent::Kernel),
        folded: folder.join(files::CPU_FOLDED).to_string_lossy().into_owned(),
    })
}
