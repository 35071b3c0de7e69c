//! From the samples of one side of a step to what lies in its folder: folded stacks, a flame graph, shares.

use std::path::Path;

use alloc_ladder::record::{CpuProfile, Measurement, Run};
use anyhow::Context;

use super::stacks::folder;
use crate::cpu::{Samples, Spent, margin};
use crate::flame;

/// The file a `cpu` build writes in a side's folder: whole names, every frame.
pub(super) const RAW_FILE: &str = "cpu.raw.folded";
/// The same as people look at it.
const FOLDED_FILE: &str = "cpu.folded";
/// The flame graph of it.
const GRAPH_FILE: &str = "cpu.svg";

/// Reads the samples of one side of a step and writes what is rendered from them beside.
pub(super) fn render(root: &Path, run: &Run, index: usize, measurement: &Measurement) -> anyhow::Result<CpuProfile> {
    let side = measurement.side;
    let folder = folder(run, index).join(side.name());
    let raw = root.join(&folder).join(RAW_FILE);
    let text =
        std::fs::read_to_string(&raw).with_context(|| format!("the {side} left no samples: {}", raw.display()))?;
    let samples = Samples::parse(&text).with_context(|| format!("{} is no folded file", raw.display()))?;
    let title = format!("CPU time of the {side}, {}", run.steps[index].name);
    let subtitle = format!(
        "{} messages, {} samples, shares ± {:.0} % at worst",
        measurement.messages,
        samples.total(),
        margin(samples.total()) * 100.0
    );
    for (file, content) in [(FOLDED_FILE, samples.folded()), (GRAPH_FILE, flame::cpu_svg(&samples, &title, &subtitle)?)]
    {
        let path = root.join(&folder).join(file);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(CpuProfile {
        side,
        samples: samples.total(),
        allocator_share: samples.share(Spent::Allocator),
        copy_share: samples.share(Spent::Copy),
        kernel_share: samples.share(Spent::Kernel),
        folded: folder.join(FOLDED_FILE).to_string_lossy().into_owned(),
    })
}
