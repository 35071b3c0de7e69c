//! The files beside a record: which there are, and those that are made again from dhat's and the sampler's.
//!
//! A folder per side of a step, named by the record. Git keeps little more than dhat's own files, so that everything
//! here can be missing, and everything but those can be made again.

use std::path::Path;

use alloc_ladder::Side;
use alloc_ladder::record::{CpuProfile, Instrument, Run, Stacks, StepRecord};
use alloc_ladder::subject::scenario::Scenario;

use crate::analyse::counted;
use crate::analyse::cpu::{BadFolded, Samples, margin};
use crate::analyse::dhat::{BadDhat, Dhat};
use crate::analyse::fold::{self, Profile, Unit};
use crate::analyse::profiles::Profiles;
use crate::cli::failure::Failure;
use crate::render::flame;
use crate::render::pprof;
use crate::store::layout::CPU_FOLDED;
use crate::store::read;
use crate::store::write::RunFolder;

/// Reads the dhat files and the samples a run's record names.
///
/// # Errors
/// One of them cannot be read.
pub(crate) fn load(folder: &RunFolder, run: &Run) -> anyhow::Result<Profiles> {
    let mut profiles = Profiles::default();
    complete(folder, run, &mut profiles)?;
    Ok(profiles)
}

/// The run, a program's with rows by stage also where it was recorded from outside.
///
/// # Errors
/// As [`load`].
pub(crate) fn counted(folder: &Path, run: Run) -> anyhow::Result<Run> {
    let lacks = |step: &StepRecord| step.stacks.iter().any(|stacks| step.counts(stacks.side).is_none());
    if Scenario::of(&run.subject).is_some() || !run.steps.iter().any(lacks) {
        return Ok(run);
    }
    let profiles = load(&RunFolder::open(folder)?, &run)?;
    Ok(counted::counted(run, &profiles))
}

/// Reads those of the dhat files and samples that were not read before, and lists the files there are.
///
/// # Errors
/// As [`load`].
pub(crate) fn complete(folder: &RunFolder, run: &Run, profiles: &mut Profiles) -> anyhow::Result<()> {
    profiles.files = existing(folder, run).collect();
    for (index, step) in run.steps.iter().enumerate() {
        for stacks in &step.stacks {
            if profiles.get(index, stacks.side).is_none() {
                profiles.insert(index, stacks.side, dhat(folder, stacks)?);
            }
        }
        for cpu in &step.cpu {
            // Git keeps no samples: a run without them has no figures of CPU time.
            if profiles.samples(index, cpu.side).is_none() && folder.has(&cpu.raw) {
                profiles.insert_samples(index, cpu.side, samples(folder, cpu)?);
            }
        }
    }
    Ok(())
}

/// Reads the dhat file of one side of a step.
///
/// # Errors
/// It cannot be read, or is not a dhat file.
pub(crate) fn dhat(folder: &RunFolder, stacks: &Stacks) -> Result<Dhat, Failure> {
    let text = folder
        .read(&stacks.dhat)
        .map_err(|failure| failure.help("profile again, or name a run folder that still has its dhat files"))?;
    read::taken_apart(&text, &folder.path().join(&stacks.dhat), Dhat::parse, BadDhat::help)
}

/// Reads the samples of one side of a step.
fn samples(folder: &RunFolder, cpu: &CpuProfile) -> anyhow::Result<Samples> {
    Ok(read::taken_apart(&folder.read(&cpu.raw)?, &folder.path().join(&cpu.raw), Samples::parse, BadFolded::help)?)
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

/// Bytes of a raw folded file that is written. A larger one, of some ten thousand stacks, says nothing that dhat's file
/// does not say in a fraction of them.
pub(crate) const RAW_BYTES_MAX: u64 = 64 << 20;

/// The files that are left out where they would be larger.
pub(crate) const RAW: [&str; 2] = ["bytes.raw.folded", "blocks.raw.folded"];

/// Whether a file's raw folded stacks are small enough to be written.
fn is_raw_written(dhat: &Dhat) -> bool {
    let frame = |frame: &u32| dhat.names[*frame as usize].len() as u64 + 1;
    let bytes = dhat.points.iter().map(|point| dhat.frames(point).iter().map(frame).sum::<u64>());
    bytes.sum::<u64>() <= RAW_BYTES_MAX
}

/// The flame graph of the samples of CPU time.
const CPU_GRAPH: &str = "cpu.svg";

/// The folder of one side's files, relative to the run's, with forward slashes as links want them.
pub(crate) fn folder(stacks: &Stacks) -> Option<String> {
    Some(stacks.dhat.rsplit_once('/')?.0.to_owned())
}

/// Makes everything that a run's dhat files and samples are the source of.
///
/// # Errors
/// A source cannot be read or lies outside the run's folder, or a file cannot be written.
pub(crate) fn make(dir: &RunFolder, run: &Run, profiles: &Profiles) -> anyhow::Result<()> {
    for (step, record) in run.steps.iter().enumerate() {
        for stacks in &record.stacks {
            let (Some(folder), Some(dhat), Some(profile)) =
                (folder(stacks), profiles.dhat(step, stacks.side), profiles.get(step, stacks.side))
            else {
                continue;
            };
            let made = Made {
                run,
                step,
                side: stacks.side,
                messages: stacks.messages,
                dhat,
                profile,
                before: run.before(step).and_then(|before| Some((before, profiles.get(before, stacks.side)?))),
            };
            made.write(dir, &folder)?;
        }
        for cpu in &record.cpu {
            if let Some(samples) = profiles.samples(step, cpu.side) {
                make_cpu(dir, record, cpu, samples)?;
            }
        }
    }
    Ok(())
}

/// One side of one step, for what is made from its dhat file.
struct Made<'a> {
    run: &'a Run,
    /// Counted from 0 in the run.
    step: usize,
    side: Side,
    messages: u64,
    dhat: &'a Dhat,
    profile: &'a Profile,
    /// The step that this one changes, by index, with the same side's call sites where they were measured.
    before: Option<(usize, &'a Profile)>,
}

impl Made<'_> {
    /// Writes every file of [`MADE`] that there is something for into the side's folder.
    ///
    /// # Errors
    /// A file cannot be written.
    fn write(&self, dir: &RunFolder, folder: &str) -> anyhow::Result<()> {
        let write = |file: &str, content: &[u8]| dir.write(&format!("{folder}/{file}"), content);
        let Made { run, step, side, profile, before, .. } = *self;
        let name = &run.steps[step].name;
        let subtitle = format!("{} messages", self.messages);
        let fold = |profile: &Profile, file: &str| {
            Unit::ALL.into_iter().try_for_each(|unit| {
                dir.write_by(&format!("{folder}/{}{file}", unit.name()), |into| profile.fold(unit, into))
            })
        };
        if is_raw_written(self.dhat) {
            fold(&Profile::raw(self.dhat), ".raw.folded")?;
        }
        fold(profile, ".folded")?;
        for unit in Unit::ALL {
            let title = format!("{} allocated by the {side}, {name}", unit.name());
            write(&format!("{}.svg", unit.name()), flame::svg(profile, unit, &title, &subtitle)?.as_bytes())?;
            if let Some((index, before)) = before {
                let title = format!("{title}: change from {}", run.steps[index].name);
                let svg = flame::differential_svg(before, profile, unit, &title, &subtitle)?;
                write(&format!("diff-{}.svg", unit.name()), svg.as_bytes())?;
                let union = fold::union(before, profile, unit);
                write(&format!("diff-{}.folded", unit.name()), union.as_bytes())?;
            }
        }
        let rpc = Scenario::of(&run.subject).map_or("", Scenario::path);
        dir.write_by(&format!("{folder}/profile.pb.gz"), |into| pprof::encode(&[(side, rpc, profile)], into))
    }
}

/// Makes the readable folded file and the flame graph from a side's samples.
///
/// # Errors
/// A file cannot be written.
fn make_cpu(dir: &RunFolder, step: &StepRecord, cpu: &CpuProfile, samples: &Samples) -> anyhow::Result<()> {
    let messages = step.of(cpu.side, Instrument::Cpu).next().map_or(0, |measurement| measurement.messages);
    let title = format!("CPU time of the {}, {}", cpu.side, step.name);
    let subtitle = format!(
        "{messages} messages, {} samples, shares ± {:.0} % at worst",
        samples.total(),
        margin(samples.total()) * 100.0
    );
    dir.write(&cpu_folded(cpu), samples.folded().as_bytes())?;
    dir.write(&cpu_graph(cpu), flame::cpu_svg(samples, &title, &subtitle)?.as_bytes())
}

/// Every file that a record names or that is made from one: what a run's folder holds when nothing is missing.
pub(crate) fn named(run: &Run) -> Vec<String> {
    let mut files = Vec::new();
    for (index, step) in run.steps.iter().enumerate() {
        for stacks in &step.stacks {
            let differs = run.before(index).is_some_and(|before| run.steps[before].stacks(stacks.side).is_some());
            files.push(stacks.dhat.clone());
            let made = MADE.iter().map(|(file, _)| file).filter(|file| differs || !file.starts_with("diff"));
            files.extend(
                folder(stacks).iter().flat_map(|folder| made.clone().map(move |file| format!("{folder}/{file}"))),
            );
        }
        for cpu in &step.cpu {
            files.extend([cpu.raw.clone(), cpu_folded(cpu), cpu_graph(cpu)]);
        }
    }
    files
}

/// Those of [`named`] that are there.
pub(crate) fn existing(folder: &RunFolder, run: &Run) -> impl Iterator<Item = String> {
    named(run).into_iter().filter(|file| folder.has(file))
}

/// The readable folded file that is made of the samples of one side.
pub(crate) fn cpu_folded(cpu: &CpuProfile) -> String {
    beside(cpu, CPU_FOLDED)
}

/// The flame graph that is made of the samples of one side.
pub(crate) fn cpu_graph(cpu: &CpuProfile) -> String {
    beside(cpu, CPU_GRAPH)
}

fn beside(cpu: &CpuProfile, name: &str) -> String {
    cpu.raw.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}"))
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
        let open = RunFolder::open(dir.path()).expect("opens");
        let before: Vec<String> = existing(&open, &run).collect();
        assert_eq!(before.len(), 4, "dhat's own files: {before:?}");
        let profiles = load(&open, &run).expect("loads");
        make(&open, &run, &profiles).expect("makes");
        let after: Vec<String> = existing(&open, &run).collect();
        // The first step has no difference to another.
        assert_eq!(after.len(), 4 + 2 * MADE.len() + 2 * (MADE.len() - 4), "{after:?}");
        let all =
            run.steps.iter().enumerate().flat_map(|(index, step)| step.stacks.iter().map(move |one| (index, one)));
        for (index, stacks) in all {
            let folder = dir.path().join(folder(stacks).expect("a folder"));
            let profile = profiles.get(index, stacks.side).expect("it was loaded");
            for (unit, total) in [("bytes", profile.total_bytes()), ("blocks", profile.total_blocks())] {
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
    fn raw_stacks_are_left_out_where_they_would_be_large() {
        let stacks = |frames: usize| {
            let json = serde_json::json!({
                "dhatFileVersion": 2,
                "mode": "rust-heap",
                "pps": [{ "tb": 7, "tbk": 1, "fs": vec![1; frames] }],
                "ftbl": ["[root]", format!("0x1: srv::{}", "x".repeat(1018))],
            });
            Dhat::parse(&serde_json::to_vec(&json).expect("serialises")).expect("parses")
        };
        let most = RAW_BYTES_MAX as usize / 1024;
        assert!(is_raw_written(&stacks(most)) && !is_raw_written(&stacks(most + 1)));
    }

    #[test]
    fn a_record_cannot_lead_out_of_its_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("outside"), "x").expect("writes");
        let inner = dir.path().join("run");
        std::fs::create_dir(&inner).expect("creates");
        let inner = RunFolder::open(&inner).expect("opens");
        let mut run = fixture::run();
        run.steps.truncate(1);
        for path in ["../outside", "/etc/passwd", "01/../../outside"] {
            run.steps[0].stacks[0].dhat = path.to_owned();
            assert_eq!(existing(&inner, &run).count(), 0);
            assert!(load(&inner, &run).is_err());
        }
    }
}
