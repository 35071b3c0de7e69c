//! `cargo xtask attach -- COMMAND`: any program with alloc-ladder in it, measured as a run of one step.
//!
//! The program says `let _driver = alloc_ladder::driver::install();` at the start of its `main`; that writes what it
//! counted to a file in a folder named by an environment variable, again and again, and here the last of them becomes a
//! `run.json` and its report. The figures are those of the whole process, from its start. Its children are not counted:
//! they leave counters of their own, which `--child` records.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use alloc_ladder::driver;
use alloc_ladder::record::{Measurement, Run, SCHEMA, Shape, StepRecord, Subject, Workload};
use alloc_ladder::{Side, Stage};
use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::SECONDS_MAX;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style};
use crate::measure::environment;
use crate::measure::follow::{self, Followed, Record};
use crate::measure::program::Program;
use crate::render::page;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the run's one step is called, and a step after `{command} join`
    #[arg(long, default_value = "attached", value_parser = step_name)]
    name: String,
    /// Which side of the calls the program is
    #[arg(long, value_enum, default_value = "server")]
    side: Side,
    /// Number of messages handled. If omitted, what the program's layers counted; without layers, "per message" figures are
    /// totals for the whole run
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: Option<u64>,
    /// Payload bytes that they carried. If omitted, what the program's layers counted; without layers, amplification is not
    /// shown
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=PAYLOAD_MAX))]
    payload_bytes: Option<u64>,
    /// End the program after this many seconds. If omitted, it runs until it ends or until Ctrl-C
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=FOR_MAX))]
    seconds: Option<u64>,
    /// Record the child processes of this name instead of the program itself, each as a step of its own
    #[arg(long, value_name = "NAME")]
    child: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The longest name of a step: `join` may add a number to it, and its folder has one too.
const NAME_MAX: usize = 200;
/// The most messages: figures per message are exact in JSON and on the page up to there.
const MESSAGES_MAX: u64 = 1_000_000_000_000;
/// The most payload, an EiB: a million bytes for each of so many messages.
const PAYLOAD_MAX: u64 = 1 << 60;
/// The longest that a program is followed: a year.
const FOR_MAX: u64 = 366 * SECONDS_MAX;

pub(crate) fn step_name(name: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if !(1..=NAME_MAX).contains(&name.len()) || !name.chars().all(plain) {
        return Err(format!("a step's name is made of 1 to {NAME_MAX} of a-z, 0-9 and `-`"));
    }
    Ok(name.to_owned())
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (created, stamp) = environment::now();
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let program = Program::new(&args.command[0]).args(&args.command[1..]).env(driver::SIDE, args.side.name());
    let followed = follow::follow(&args.command[0], &program, scratch.path(), args.seconds.map(Duration::from_secs))?;
    let chosen = chosen(&follow::records(scratch.path()), &followed, &args)?;
    let steps = steps(&chosen, &followed, &args)?;
    let tables: Vec<String> = steps.iter().map(|step| table(&step.measurements[0])).collect();
    let Followed { status, told, .. } = followed;
    let failed = !status.success() && !told;
    let mut run = Run {
        schema: SCHEMA,
        id: format!("attach-{stamp}"),
        created,
        subject: Subject { name: file_name(&args.command[0]), shape: Shape::Program },
        workload: Workload { messages: steps[0].measurements[0].messages, warmup: 0, ..Workload::default() },
        stacks_workload: None,
        environment: environment::of_program(args.command.join(" "), Path::new(&args.command[0])),
        partial: failed,
        seed: 0,
        steps,
        server_environment: None,
        limits: Vec::new(),
    };
    let page = page::keep(&mut run)?;
    terminal::result(&tables.concat())?;
    terminal::progress("Recorded", &page.display().to_string());
    if failed {
        return Err(Failure::new(Kind::Run, format!("`{}` failed: {status}", args.command[0]))
            .help(format!("what it counted until then is kept, marked partial, as `{}`", run.id))
            .into());
    }
    Ok(())
}

/// The counters to record: the program's, or those of its children that are called `wanted`.
fn chosen(records: &[Record], followed: &Followed, args: &Args) -> anyhow::Result<Vec<Record>> {
    let program = &args.command[0];
    let others = |own: Option<&Record>| -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for record in records.iter().filter(|record| Some(*record) != own && record.process != followed.process) {
            if !names.contains(&record.name.as_str()) {
                names.push(&record.name);
            }
        }
        names.iter().map(|name| format!("--child {name}")).collect()
    };
    let Some(wanted) = &args.child else {
        let own = follow::own(records, followed.process);
        let others = others(own);
        if let Some(own) = own.filter(|own| own.process != followed.process) {
            let line = format!("`{program}` left no counters itself; these are of `{}`, which it started", own.name);
            terminal::labelled(Style::Warning, "warning", &line);
        }
        if !others.is_empty() {
            let line = format!(
                "processes that `{program}` started left counters too: record them with {}",
                others.join(" or ")
            );
            terminal::labelled(Style::Help, "help", &line);
        }
        return Ok(own.cloned().into_iter().collect());
    };
    let children = records.iter().filter(|record| record.process != followed.process && record.name == *wanted);
    let children: Vec<Record> = children.cloned().collect();
    if children.is_empty() {
        let there = others(None);
        let there =
            if there.is_empty() { "none left any".to_owned() } else { format!("there is {}", there.join(", ")) };
        return Err(Failure::new(Kind::Run, format!("no child of `{program}` called `{wanted}` left counters"))
            .help(format!("of its children {there}"))
            .into());
    }
    Ok(children)
}

/// A step for each of the processes whose counters are recorded: the second one's name ends in `-2`.
fn steps(chosen: &[Record], followed: &Followed, args: &Args) -> anyhow::Result<Vec<StepRecord>> {
    let program = &args.command[0];
    let step = |(index, record): (usize, &Record)| -> anyhow::Result<StepRecord> {
        let name = if index == 0 { args.name.clone() } else { format!("{}-{}", args.name, index + 1) };
        let counted = read(&record.file, program, followed.status)?;
        let measurement = Measurement {
            messages: args.messages.unwrap_or(counted.messages),
            payload_bytes: args.payload_bytes.unwrap_or(counted.payload_bytes),
            ..counted
        };
        Ok(StepRecord {
            set: format!("only={name}"),
            name,
            settings: BTreeMap::new(),
            about: None,
            from: None,
            failure: None,
            measurements: vec![measurement],
            stacks: Vec::new(),
            cpu: Vec::new(),
        })
    };
    if chosen.is_empty() {
        return Err(no_counters(program, followed.status));
    }
    chosen.iter().enumerate().map(step).collect()
}

fn no_counters(program: &str, status: ExitStatus) -> anyhow::Error {
    Failure::new(Kind::Run, format!("`{program}` left no counters ({status})"))
        .help(
            "its `main` begins with `let _driver = alloc_ladder::driver::install();` and ends by returning, or runs \
             longer than the driver's interval",
        )
        .into()
}

fn read(file: &Path, program: &str, status: ExitStatus) -> anyhow::Result<Measurement> {
    let text = fs::read_to_string(file).map_err(|_| no_counters(program, status))?;
    let measurement: Measurement = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Kind::Run, format!("`{program}` left counters this version cannot read: {error}"))
            .help("build it with the alloc-ladder of this checkout")
    })?;
    if measurement.counts.as_ref().is_none_or(|counts| counts.total.is_zero()) {
        return Err(Failure::new(Kind::Run, format!("`{program}` counted nothing"))
            .help("its `#[global_allocator]` must be an alloc_ladder::CountingAlloc")
            .into());
    }
    Ok(measurement)
}

/// What a program is called: the name of its file.
fn file_name(program: &str) -> String {
    Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The stages of the process, which sum to its total, and below them its RPC methods, whose rows are parts of the same.
fn table(measurement: &Measurement) -> String {
    let Some(counts) = &measurement.counts else { return String::new() };
    let share = |bytes: u64| format!("{:.1}", 100.0 * bytes as f64 / counts.total.bytes.max(1) as f64);
    let row = |name: &str, blocks: u64, bytes: u64| {
        let numbers = [blocks.to_string(), bytes.to_string(), share(bytes)];
        [Cell::left(name)].into_iter().chain(numbers.into_iter().map(Cell::right)).collect::<Vec<Cell>>()
    };
    let head = |of: &str| [of, "blocks", "bytes", "%"].map(|head| Cell::left(head).style(Style::Bold));
    let mut stages = Table::default();
    stages.row(head("stage"));
    for stage in Stage::ALL {
        let tally = counts.stage(stage);
        if !tally.is_zero() {
            stages.row(row(stage.name(), tally.blocks, tally.bytes));
        }
    }
    stages.row(row("total", counts.total.blocks, counts.total.bytes));
    let mut methods: Vec<(&str, u64, u64)> = Vec::new();
    for counted in counts.rows.iter().filter(|row| !row.rpc.is_empty()) {
        match methods.iter_mut().find(|(rpc, ..)| *rpc == counted.rpc) {
            Some((_, blocks, bytes)) => {
                *blocks += counted.tally.blocks;
                *bytes += counted.tally.bytes;
            }
            None => methods.push((&counted.rpc, counted.tally.blocks, counted.tally.bytes)),
        }
    }
    if methods.is_empty() {
        return stages.render();
    }
    let mut by_method = Table::default();
    by_method.row(head("of which for"));
    for (rpc, blocks, bytes) in methods {
        by_method.row(row(rpc, blocks, bytes));
    }
    format!("{}\n{}", stages.render(), by_method.render())
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Tally;
    use alloc_ladder::record::{CountRow, Counts, Instrument, Usage};

    use super::*;

    fn args(command: &[&str]) -> Args {
        Args {
            name: "attached".to_owned(),
            side: Side::Client,
            messages: Some(10),
            payload_bytes: None,
            seconds: None,
            child: None,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn measurement() -> Measurement {
        let tally = Tally { blocks: 3, bytes: 300, ..Tally::default() };
        let row = |rpc: &str, stage| CountRow { rpc: rpc.to_owned(), side: Some(Side::Client), stage, tally };
        let rows = vec![row("/a.B/C", Stage::Marshal), row("/a.B/C", Stage::Handler), row("", Stage::Other)];
        let total = rows.iter().map(|row| row.tally).sum();
        Measurement {
            side: Side::Client,
            instrument: Instrument::Count,
            round: 0,
            messages: 7,
            payload_bytes: 0,
            wall_ns: 1,
            usage: Usage::default(),
            counts: Some(Counts { rows, total, ..Counts::default() }),
            setup: None,
            retained: Vec::new(),
            latency: None,
            instructions: None,
            socket: None,
            open_streams: None,
            calls: Vec::new(),
        }
    }

    /// Follows a shell script whose `leave NAME` stands in for an instrumented program of that name.
    fn followed(script: &str, folder: &Path, seconds: Option<u64>) -> Followed {
        let json = serde_json::to_string(&measurement()).expect("serialises");
        let leave = format!("leave() {{ echo '{json}' > \"$ALLOC_LADDER_OUT/$2-$1.json\"; }}\n");
        let program = Program::new("/bin/sh").args(["-c", &format!("{leave}{script}")]);
        follow::follow("sh", &program, folder, seconds.map(Duration::from_secs)).expect("runs")
    }

    fn names(folder: &Path, followed: &Followed, args: &Args) -> Vec<(u32, String)> {
        let chosen = chosen(&follow::records(folder), followed, args).expect("there are some");
        chosen.into_iter().map(|record| (record.process, record.name)).collect()
    }

    #[test]
    fn the_counters_of_children_are_kept_apart() {
        let scratch = tempfile::tempdir().expect("creates");
        let folder = scratch.path();
        let own = followed("leave prog $$; leave worker 7; leave worker 3; leave other 5", folder, None);
        let mut wanted = args(&["prog"]);
        assert_eq!(names(folder, &own, &wanted), [(own.process, "prog".to_owned())]);
        wanted.child = Some("worker".to_owned());
        assert_eq!(names(folder, &own, &wanted), [(3, "worker".to_owned()), (7, "worker".to_owned())]);
        let chosen = chosen(&follow::records(folder), &own, &wanted).expect("there are some");
        let steps = steps(&chosen, &own, &wanted).expect("reads");
        assert_eq!(steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["attached", "attached-2"]);
        assert!(steps.iter().all(|step| step.measurements[0].messages == 10), "what was said");
        wanted.messages = None;
        let steps = super::steps(&chosen, &own, &wanted).expect("reads");
        assert!(steps.iter().all(|step| step.measurements[0].messages == measurement().messages), "what was counted");
        wanted.child = Some("nobody".to_owned());
        let error = super::chosen(&follow::records(folder), &own, &wanted).expect_err("there is none");
        let help = error.downcast_ref::<Failure>().and_then(|failure| failure.help.clone()).expect("a way out");
        assert_eq!(help, "of its children there is --child worker, --child other");
    }

    #[test]
    fn a_script_that_leaves_none_gives_way_to_what_it_started() {
        let scratch = tempfile::tempdir().expect("creates");
        let followed = followed("leave prog 7", scratch.path(), None);
        assert_eq!(names(scratch.path(), &followed, &args(&["sh"])), [(7, "prog".to_owned())]);
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
        let scratch = tempfile::tempdir().expect("creates");
        let file = scratch.path().join("measurement.json");
        let status = std::process::Command::new("true").status().expect("runs");
        let message = |file: &Path| read(file, "prog", status).expect_err("nothing to read").to_string();
        assert!(message(&file).contains("left no counters"), "{}", message(&file));
        let nothing = Measurement { counts: Some(Counts::default()), ..measurement() };
        fs::write(&file, serde_json::to_string(&nothing).expect("serialises")).expect("writes");
        assert_eq!(message(&file), "`prog` counted nothing");
    }

    #[test]
    fn stages_sum_to_the_total_and_methods_stand_apart() {
        let text = terminal::plain(&table(&measurement()));
        let (stages, methods) = text.split_once("\n\n").expect("two tables");
        let rows = |table: &str| -> Vec<Vec<String>> {
            table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        let stages = rows(stages);
        assert_eq!(stages[0], ["marshal", "3", "300", "33.3"], "{text}");
        let (total, of) = stages.split_last().expect("a total");
        assert_eq!(*total, ["total", "9", "900", "100.0"], "{text}");
        let bytes = |row: &[String]| row[2].parse::<u64>().expect("a number");
        assert_eq!(of.iter().map(|row| bytes(row)).sum::<u64>(), bytes(total), "{text}");
        assert_eq!(rows(methods), [["/a.B/C", "6", "600", "66.7"]], "{text}");
    }

    #[test]
    fn names_are_kebab_case() {
        assert!(step_name("pooled-2").is_ok());
        for bad in [&"a".repeat(300), "", "A", "a b", "../x", "a=b"] {
            assert!(step_name(bad).is_err(), "{bad}");
        }
    }
}
