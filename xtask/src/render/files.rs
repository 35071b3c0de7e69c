//! The files beside a record: which there are, and those that are made from dhat's and the sampler's anew.
//!
//! A folder per side of a step, named by the record. Git keeps little more than dhat's own files, so that everything
//! here can be missing, and everything but those can be made again.

use std::path::{Component, Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Run, Stacks, StepRecord};
use alloc_ladder::subject::scenario::Scenario;
use anyhow::Context;

use crate::store::layout::{CPU_FOLDED, CPU_RAW};

use crate::analyse::cpu::{Samples, margin};
use crate::analyse::dhat::Dhat;
use crate::analyse::fold::{self, Profile, Unit};
use crate::analyse::profiles::Profiles;
use crate::cli::failure::{Failure, Kind};
use crate::render::flame;
use crate::render::pprof;

/// Reads the dhat files a run's record names.
///
/// # Errors
/// One of them cannot be read.
pub(crate) fn load(dir: &Path, run: &Run) -> anyhow::Result<Profiles> {
    let mut profiles = Profiles { files: existing(dir, run).collect(), ..Profiles::default() };
    for (index, step) in run.steps.iter().enumerate() {
        for stacks in &step.stacks {
            let dhat = Dhat::read(&inside(dir, &stacks.dhat)?)?;
            profiles.insert(index, stacks.side, Profile::from_dhat(&dhat));
        }
    }
    Ok(profiles)
}

/// What is made from a dhat file, and what it is.
pub(crate) const MADE: [(&str, &str); 11] = [
    ("bytes.folded", "folded stacks, bytes"),
    ("blocks.folded", "folded stacks, blocks"),
    ("bytes.raw.folded", "the same with every frame, bytes"),
    ("blocks.raw.folded", "the same with every frame, blocks"),
    ("profile.pb.gz", "pprof"),
    ("bytes.svg", "flame graph, bytes"),
    ("blocks.svg", "flame graph, blocks"),
    ("diff-bytes.folded", "before and after, folded, bytes"),
    ("diff-blocks.folded", "before and after, folded, blocks"),
    ("diff-bytes.svg", "difference to the previous step, bytes"),
    ("diff-blocks.svg", "difference to the previous step, blocks"),
];

/// The flame graph of the samples of CPU time.
const CPU_GRAPH: &str = "cpu.svg";

/// The folder of one side's files, relative to the run's, with forward slashes as links want them.
pub(crate) fn folder(stacks: &Stacks) -> Option<String> {
    let folder = Path::new(&stacks.dhat).parent()?.to_str()?.replace('\\', "/");
    (!folder.is_empty()).then_some(folder)
}

/// Makes everything that a run's dhat files and samples are the source of.
///
/// # Errors
/// A source cannot be read or lies outside the run's folder, or a file cannot be written.
pub(crate) fn make(dir: &Path, run: &Run, profiles: &Profiles) -> anyhow::Result<()> {
    for (step, record) in run.steps.iter().enumerate() {
        for stacks in &record.stacks {
            let (Some(folder), Some(profile)) = (folder(stacks), profiles.get(step, stacks.side)) else { continue };
            let made = Made {
                run,
                step,
                side: stacks.side,
                messages: stacks.messages,
                dhat: &Dhat::read(&inside(dir, &stacks.dhat)?)?,
                profile,
                before: step.checked_sub(1).and_then(|before| profiles.get(before, stacks.side)),
            };
            made.write(&inside(dir, &folder)?)?;
        }
        for cpu in &record.cpu {
            let Some(folder) = Path::new(&cpu.folded).parent().and_then(Path::to_str) else { continue };
            let folder = inside(dir, folder)?;
            let messages = record.of(cpu.side, Instrument::Cpu).next().map_or(0, |measurement| measurement.messages);
            if folder.join(CPU_RAW).is_file() {
                make_cpu(&folder, record, cpu.side, messages)?;
            }
        }
    }
    Ok(())
}

/// One side of one step, for what is made from its dhat file.
pub(crate) struct Made<'a> {
    pub(crate) run: &'a Run,
    /// Counted from 0 in the run.
    pub(crate) step: usize,
    pub(crate) side: Side,
    pub(crate) messages: u64,
    pub(crate) dhat: &'a Dhat,
    pub(crate) profile: &'a Profile,
    /// The same side of the previous step, where its call sites were measured.
    pub(crate) before: Option<&'a Profile>,
}

impl Made<'_> {
    /// Writes every file of [`MADE`] that there is something for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let Made { run, step, side, profile, before, .. } = *self;
        let name = &run.steps[step].name;
        let subtitle = format!("{} messages", self.messages);
        let raw = Profile::raw(self.dhat);
        for unit in Unit::ALL {
            let title = format!("{} allocated by the {side}, {name}", unit.name());
            write(folder, &format!("{}.raw.folded", unit.name()), raw.folded(unit).as_bytes())?;
            write(folder, &format!("{}.folded", unit.name()), profile.folded(unit).as_bytes())?;
            write(folder, &format!("{}.svg", unit.name()), flame::svg(profile, unit, &title, &subtitle)?.as_bytes())?;
            if let Some(before) = before {
                let title = format!("{title}: change from {}", run.steps[step - 1].name);
                let svg = flame::differential_svg(before, profile, unit, &title, &subtitle)?;
                write(folder, &format!("diff-{}.svg", unit.name()), svg.as_bytes())?;
                let union = fold::union(before, profile, unit);
                write(folder, &format!("diff-{}.folded", unit.name()), union.as_bytes())?;
            }
        }
        let rpc = run.scenario.map_or("", Scenario::path);
        write(folder, "profile.pb.gz", &pprof::encode(&[(side, rpc, profile)]))
    }
}

/// Makes the readable folded file and the flame graph from a side's samples, which are returned.
///
/// # Errors
/// The samples cannot be read, or a file cannot be written.
pub(crate) fn make_cpu(folder: &Path, step: &StepRecord, side: Side, messages: u64) -> anyhow::Result<Samples> {
    let raw = folder.join(CPU_RAW);
    let text =
        std::fs::read_to_string(&raw).with_context(|| format!("the {side} left no samples: {}", raw.display()))?;
    let samples = Samples::parse(&text).with_context(|| format!("{} is no folded file", raw.display()))?;
    let title = format!("CPU time of the {side}, {}", step.name);
    let subtitle = format!(
        "{messages} messages, {} samples, shares ± {:.0} % at worst",
        samples.total(),
        margin(samples.total()) * 100.0
    );
    write(folder, CPU_FOLDED, samples.folded().as_bytes())?;
    write(folder, CPU_GRAPH, flame::cpu_svg(&samples, &title, &subtitle)?.as_bytes())?;
    Ok(samples)
}

fn write(folder: &Path, file: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(file);
    std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Every file that a record names or that is made from one: what a run's folder holds when nothing is missing.
pub(crate) fn named(run: &Run) -> Vec<String> {
    let mut files = Vec::new();
    for (index, step) in run.steps.iter().enumerate() {
        for stacks in &step.stacks {
            let differs = index.checked_sub(1).is_some_and(|before| run.steps[before].stacks(stacks.side).is_some());
            files.push(stacks.dhat.clone());
            let made = MADE.iter().map(|(file, _)| file).filter(|file| differs || !file.starts_with("diff"));
            files.extend(
                folder(stacks).iter().flat_map(|folder| made.clone().map(move |file| format!("{folder}/{file}"))),
            );
        }
        for cpu in &step.cpu {
            files.extend([cpu.folded.clone(), cpu_graph(&cpu.folded)]);
        }
    }
    files
}

/// Those of [`named`] that are there.
pub(crate) fn existing(dir: &Path, run: &Run) -> impl Iterator<Item = String> {
    named(run).into_iter().filter(|file| inside(dir, file).is_ok_and(|path| path.is_file()))
}

/// The flame graph beside a folded file of CPU time.
pub(crate) fn cpu_graph(folded: &str) -> String {
    format!("{}.svg", folded.strip_suffix(".folded").unwrap_or(folded))
}

/// A path that a record names, in the run's folder. A record may come from anywhere, and must not lead anywhere.
pub(crate) fn inside(dir: &Path, path: &str) -> Result<PathBuf, Failure> {
    let relative = Path::new(path);
    if relative.components().all(|component| matches!(component, Component::Normal(_))) {
        return Ok(dir.join(relative));
    }
    Err(Failure::new(Kind::Environment, format!("`{path}` leads out of the run's folder"))
        .help("the record was edited, or comes from something else: its files lie below its own folder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::fixture;
    use crate::store::{find, layout};

    /// A copy of a reference run with no more than git keeps of it.
    fn reference(scenario: Scenario, steps: usize) -> (tempfile::TempDir, Run) {
        let dir = tempfile::tempdir().expect("a folder");
        let from = layout::reference(scenario);
        let (_, mut run) = find::load(&from.to_string_lossy()).expect("a reference run");
        run.steps.truncate(steps);
        for stacks in run.steps.iter().flat_map(|step| &step.stacks) {
            std::fs::create_dir_all(dir.path().join(folder(stacks).expect("a folder"))).expect("creates");
            std::fs::copy(from.join(&stacks.dhat), dir.path().join(&stacks.dhat)).expect("copies");
        }
        (dir, run)
    }

    #[test]
    fn all_that_is_made_from_a_dhat_file_is_made_again() {
        let (dir, run) = reference(Scenario::Unary, 2);
        let before: Vec<String> = existing(dir.path(), &run).collect();
        assert_eq!(before.len(), 4, "dhat's own files: {before:?}");
        let profiles = load(dir.path(), &run).expect("loads");
        make(dir.path(), &run, &profiles).expect("makes");
        let after: Vec<String> = existing(dir.path(), &run).collect();
        // The first step has no difference to another.
        assert_eq!(after.len(), 4 + 2 * MADE.len() + 2 * (MADE.len() - 4), "{after:?}");
        for stacks in run.steps.iter().flat_map(|step| &step.stacks) {
            let folder = dir.path().join(folder(stacks).expect("a folder"));
            for (unit, total) in [("bytes", stacks.total_bytes), ("blocks", stacks.total_blocks)] {
                for file in [format!("{unit}.folded"), format!("{unit}.raw.folded")] {
                    let text = std::fs::read_to_string(folder.join(&file)).expect("reads");
                    let counts = text.lines().map(|line| line.rsplit(' ').next().expect("a count"));
                    let sum: u64 = counts.map(|count| count.parse::<u64>().expect("a number")).sum();
                    assert_eq!(sum, total, "{file} of the {}", stacks.side);
                }
                let svg = std::fs::read_to_string(folder.join(format!("{unit}.svg"))).expect("reads");
                assert!(svg.contains(&format!("total_samples=\"{total}\"")), "{unit}.svg");
            }
        }
    }

    #[test]
    fn a_record_cannot_lead_out_of_its_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("outside"), "x").expect("writes");
        let inner = dir.path().join("run");
        std::fs::create_dir(&inner).expect("creates");
        let mut run = fixture::run();
        run.steps.truncate(1);
        for path in ["../outside", "/etc/passwd", "01/../../outside"] {
            assert!(inside(&inner, path).is_err(), "{path}");
            run.steps[0].stacks[0].dhat = path.to_owned();
            assert_eq!(existing(&inner, &run).count(), 0);
            assert!(load(&inner, &run).is_err());
        }
    }
}
