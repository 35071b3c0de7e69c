//! From a dhat file to what lies in a step's folder: folded stacks, flame graphs, pprof.

use std::path::{Path, PathBuf};

use alloc_ladder::record::{Measurement, Run, Stacks};
use alloc_ladder::{Side, scenario::Scenario};
use anyhow::Context;

use super::case::DHAT_FILE;
use crate::dhat::Dhat;
use crate::fold::{self, Profile, Unit};
use crate::{flame, pprof, run_dir};

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
    let name = &run.steps[index].name;
    let rpc = run.scenario.map_or("", Scenario::path);
    let subtitle = format!("{} messages", measurement.messages);
    let write = |file: &str, content: &[u8]| {
        let path = root.join(&folder).join(file);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    let raw = Profile::raw(&seen);
    for unit in Unit::ALL {
        write(&format!("{}.raw.folded", unit.name()), raw.folded(unit).as_bytes())?;
        let title = format!("{} allocated by the {side}, {name}", unit.name());
        write(&format!("{}.folded", unit.name()), profile.folded(unit).as_bytes())?;
        write(&format!("{}.svg", unit.name()), flame::svg(&profile, unit, &title, &subtitle)?.as_bytes())?;
        if let Some(before) = &before {
            let title = format!("{title}: change from {}", run.steps[index - 1].name);
            let svg = flame::differential_svg(before, &profile, unit, &title, &subtitle)?;
            write(&format!("diff-{}.svg", unit.name()), svg.as_bytes())?;
            write(&format!("diff-{}.folded", unit.name()), fold::union(before, &profile, unit).as_bytes())?;
        }
    }
    write("profile.pb.gz", &pprof::encode(&[(side, rpc, &profile)]))?;
    Ok(Stacks {
        side,
        messages: measurement.messages,
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
