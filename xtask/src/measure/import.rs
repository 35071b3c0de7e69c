//! From recordings and other tools' files to the files and the record of a run: one step a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{
    self, CountRow, Counts, Environment, Instrument, Measurement, Run, SCHEMA, Shape, Stacks, StepRecord, Subject,
    Workload,
};
use alloc_ladder::{Side, Stage, Tally};

use crate::analyse::dhat::Dhat;
use crate::analyse::foreign::{self, BadFile, Format};
use crate::analyse::profiles::Profiles;
use crate::analyse::recording::{Recording, Totals};
use crate::analyse::symbols::{self, Named, Quality};
use crate::cli::failure::{Failure, Kind};
use crate::measure::build::Allocator;
use crate::measure::environment;
use crate::measure::symbols::Binaries;
use crate::store::layout::{DHAT_FILE, step_folder};
use crate::store::write::RunFolder;

/// What is known of a file beside what is in it.
pub(crate) struct About<'a> {
    /// What the step is called.
    pub(crate) name: String,
    pub(crate) side: Side,
    /// The program and its arguments, where they are known.
    pub(crate) command: &'a str,
    /// The folder that source files are shown from.
    pub(crate) root: &'a str,
    /// Unstripped files that may name a recording.
    pub(crate) symbols: &'a [PathBuf],
    /// Whether the number of folded stacks is blocks.
    pub(crate) blocks: bool,
}

/// A file, read and named.
pub(crate) struct Imported {
    pub(crate) step: StepRecord,
    /// The process's totals, where the file is a recording.
    pub(crate) recorded: Option<Recorded>,
    /// What is to be said of the figures.
    pub(crate) notes: Vec<String>,
}

/// What only a recording says.
pub(crate) struct Recorded {
    pub(crate) totals: Totals,
    pub(crate) temporary_blocks: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) peak_after_ns: u64,
    pub(crate) quality: Quality,
    pub(crate) has_scopes: bool,
}

/// Reads a file and writes it as step `index` of the run in `folder`; its stacks are kept in `profiles`.
///
/// # Errors
/// When the file cannot be read, with its name and a way out, or the folder cannot be written.
pub(crate) fn import(
    file: &Path,
    folder: &RunFolder,
    index: usize,
    about: &About<'_>,
    profiles: &mut Profiles,
) -> anyhow::Result<Imported> {
    let bad = |message: String, help: &'static str| {
        anyhow::Error::new(Failure::new(Kind::Usage, format!("{}: {message}", file.display())).help(help))
    };
    let opened =
        File::open(file).map_err(|error| bad(format!("cannot be read: {error}"), "name a file that is there"))?;
    let mut first = [0; 8];
    let is_recording =
        std::io::Read::read(&mut &opened, &mut first).is_ok() && crate::analyse::recording::is_recording(&first);
    let mut notes = Vec::new();
    let mut recorded = None;
    let mut counts = None;
    let json = if is_recording {
        let recording = Recording::read(&opened).map_err(|error| bad(error.to_string(), error.help()))?;
        let mut binaries = Binaries::new(about.symbols);
        let named = symbols::name(&recording, about.command, about.root, |module, at| binaries.look_up(module, at));
        notes.append(&mut binaries.warnings);
        notes.extend(remarks(&recording, named.quality));
        counts = recording.has_scopes.then(|| by_scope(&recording));
        recorded = Some(Recorded {
            totals: recording.totals,
            temporary_blocks: recording.stacks.iter().map(|stack| stack.temporary).sum(),
            peak_bytes: recording.peak_bytes,
            peak_after_ns: recording.peak_after_ns,
            quality: named.quality,
            has_scopes: recording.has_scopes,
        });
        serde_json::to_vec(&named)?
    } else {
        let content = std::fs::read(file).map_err(|error| bad(format!("cannot be read: {error}"), "name a file"))?;
        let refused = |error: BadFile| bad(error.to_string(), error.help());
        let (format, unpacked) = foreign::recognise(&content).map_err(refused)?;
        let content = unpacked.unwrap_or(content);
        let stacks = match format {
            Format::Dhat | Format::Recording => None,
            Format::Pprof => Some(foreign::pprof(&content).map_err(refused)?),
            Format::Folded => {
                let text = String::from_utf8_lossy(&content);
                Some(foreign::folded(&text, about.blocks).map_err(refused)?)
            }
        };
        match stacks {
            None => content,
            Some(stacks) => {
                notes.extend(stacks.note.map(str::to_owned));
                serde_json::to_vec(&Named::from_stacks(&stacks, about.command))?
            }
        }
    };
    let dhat = Dhat::parse(&json).map_err(|error| bad(error.to_string(), "name a file of dhat's heap mode"))?;
    let mut step = write(folder, index, about, &json, counts)?;
    // PERF: what the stacks are folded into needs the room.
    drop(json);
    profiles.insert(index, about.side, dhat);
    for stacks in &mut step.stacks {
        stacks.recorded = recorded.as_ref().map(|recorded| record::Recorded {
            peak_bytes: recorded.peak_bytes,
            peak_ms: recorded.peak_after_ns / 1_000_000,
            ..record::Recorded::default()
        });
    }
    Ok(Imported { step, recorded, notes })
}

/// Writes a step's dhat file and makes its record.
fn write(
    folder: &RunFolder,
    index: usize,
    about: &About<'_>,
    json: &[u8],
    counts: Option<Counts>,
) -> anyhow::Result<StepRecord> {
    let file = format!("{}/{}/{DHAT_FILE}", step_folder(index, &about.name), about.side);
    folder.write(&file, json)?;
    let stacks = Stacks { side: about.side, messages: 1, payload_bytes: 0, dhat: file, recorded: None };
    let measurements = counts.map(|counts| Measurement {
        messages: 1,
        counts: Some(counts),
        ..Measurement::new(about.side, Instrument::Count)
    });
    Ok(StepRecord {
        set: format!("only={}", about.name),
        name: about.name.clone(),
        settings: BTreeMap::new(),
        about: None,
        from: None,
        failure: None,
        measurements: measurements.into_iter().collect(),
        stacks: vec![stacks],
        cpu: Vec::new(),
    })
}

/// What a program's step is called: its file's name, in the letters that a step's name may have.
pub(crate) fn step_name(program: &str, index: usize) -> String {
    const LETTERS: usize = 100;
    let name = Path::new(program).file_stem().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let plain = |letter: char| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' };
    let plain: String = name.chars().map(plain).take(LETTERS).collect();
    let plain = plain.trim_matches('-');
    let plain = if plain.is_empty() { "program" } else { plain };
    if index == 0 { plain.to_owned() } else { format!("{plain}-{}", index + 1) }
}

/// A run of these steps.
pub(crate) fn run(id: String, created: String, command: String, steps: Vec<StepRecord>, partial: bool) -> Run {
    // Of several steps the first: the page says of what file each is.
    let subject = steps.first().map_or_else(String::new, |step| step.name.clone());
    let Environment { cpu, cores, kernel, .. } = environment::environment(Allocator::System, "");
    Run {
        schema: SCHEMA,
        id,
        created,
        subject: Subject { name: subject, shape: Shape::Program },
        workload: Workload { messages: 1, warmup: 0, ..Workload::default() },
        stacks_workload: None,
        environment: Environment { cpu, cores, kernel, command, ..Environment::default() },
        server_environment: None,
        partial,
        seed: 0,
        steps,
        limits: Vec::new(),
    }
}

/// Exact rows, by the scopes that the program's own allocator recorded.
fn by_scope(recording: &Recording) -> Counts {
    let mut rows: Vec<CountRow> = Vec::new();
    for stack in &recording.stacks {
        let (side, rpc) = match recording.methods.get(stack.method).and_then(Option::as_ref) {
            Some((side, path)) => (Some(*side), path.as_str()),
            None => (None, ""),
        };
        let stage = stack.stage.unwrap_or(Stage::Other);
        let tally = Tally {
            blocks: stack.blocks,
            bytes: stack.bytes,
            freed_blocks: stack.freed_blocks,
            freed_bytes: stack.freed_bytes,
            ..Tally::default()
        };
        match rows.iter_mut().find(|row| row.stage == stage && row.side == side && row.rpc == rpc) {
            Some(row) => row.tally += tally,
            None => rows.push(CountRow { rpc: rpc.to_owned(), side, stage, tally }),
        }
    }
    let total = rows.iter().map(|row| row.tally).sum();
    Counts { rows, total, peak_bytes: recording.peak_bytes, ..Counts::default() }
}

/// What is to be said of a recording before its figures are believed.
fn remarks(recording: &Recording, quality: Quality) -> Vec<String> {
    let missed = recording.missed;
    let mut remarks: Vec<String> = quality.note().map(str::to_owned).into_iter().collect();
    let blocks = recording.totals.blocks.max(1);
    let mut say = |number: u64, text: &str| {
        if number > 0 {
            remarks.push(format!("{number} {text}"));
        }
    };
    say(missed.homeless_blocks, "blocks have no stack: /dev/shm was full, or there were too many stacks");
    say(missed.reentered, "blocks of signal handlers were not recorded");
    say(missed.untracked, "blocks are counted as live for ever: there was no memory to know them again");
    let child = if missed.forks == 1 { "child was" } else { "children were" };
    let forked = format!("{child} forked; a child is recorded when it executes a program that --children names");
    say(missed.forks, &forked);
    say(if missed.cut * 100 > blocks { missed.cut } else { 0 }, "blocks have stacks whose outermost frames are cut");
    say(
        if missed.foreign * 100 > blocks { missed.foreign } else { 0 },
        "blocks were allocated on other stacks than their thread's (coroutines, signals) and have no frames",
    );
    remarks
}

#[cfg(test)]
mod tests;
