//! `cargo xtask attach -- COMMAND`: any program with alloc-ladder in it, measured as a run of one step.
//!
//! The program says `let _driver = alloc_ladder::driver::install();` at the start of its `main`; that writes what it
//! counted to a file in a folder named by an environment variable, again and again, and here the last of them becomes a
//! `run.json` and its report. The figures are those of the whole process, from its start; processes that it starts in
//! turn are not in them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use alloc_ladder::driver;
use alloc_ladder::record::{Environment, Measurement, Run, SCHEMA, StepRecord};
use alloc_ladder::subject::ladder::{StepSet, Tuning};
use alloc_ladder::subject::scenario::Workload;
use alloc_ladder::{Side, Stage};
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::SECONDS_MAX;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style};
use crate::measure::build::Allocator;
use crate::measure::environment;
use crate::render::page;

/// How long a program may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the run's one step is called, and a step after `{command} join`
    #[arg(long, default_value = "attached", value_parser = step_name)]
    name: String,
    /// Which side of the calls the program is
    #[arg(long, value_enum, default_value = "server")]
    side: Side,
    /// How many messages it handled; figures per message are per run without it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// How many payload bytes they carried; without it there is no amplification
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=PAYLOAD_MAX))]
    payload_bytes: u64,
    /// End the program after so many seconds; without it, when it ends by itself or at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=FOR_MAX))]
    seconds: Option<u64>,
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
    let Followed { process, status, told } = follow(&args, scratch.path())?;
    let file = counters(scratch.path(), process);
    if file.is_file() && file != driver::file(scratch.path(), process) {
        let others = format!("`{}` left no counters itself; these are of a process that it started", args.command[0]);
        terminal::labelled(Style::Warning, "warning", &others);
    }
    let measurement = Measurement {
        messages: args.messages,
        payload_bytes: args.payload_bytes,
        ..read(&file, &args.command[0], status)?
    };
    let table = table(&measurement);
    let failed = !status.success() && !told;
    let mut run = Run {
        schema: SCHEMA,
        id: format!("attach-{stamp}"),
        created,
        scenario: None,
        workload: Workload { messages: args.messages, warmup: 0, ..Workload::default() },
        stacks_workload: None,
        environment: machine(&args.command),
        partial: failed,
        seed: 0,
        steps: vec![StepRecord {
            set: StepSet::Only(args.name.clone()),
            name: args.name,
            tuning: Tuning::default(),
            measurements: vec![measurement],
            stacks: Vec::new(),
            cpu: Vec::new(),
        }],
        server_environment: None,
        limits: Vec::new(),
    };
    let page = page::keep(&mut run)?;
    terminal::result(&table)?;
    terminal::progress("Recorded", &page.display().to_string());
    if failed {
        return Err(Failure::new(Kind::Run, format!("`{}` failed: {status}", args.command[0]))
            .help(format!("what it counted until then is kept, marked partial, as `{}`", run.id))
            .into());
    }
    Ok(())
}

/// A program that has ended.
struct Followed {
    /// The process's id.
    process: u32,
    status: ExitStatus,
    /// Whether it was told to end.
    told: bool,
}

/// Runs the program to its end.
fn follow(args: &Args, folder: &Path) -> anyhow::Result<Followed> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot listen for Ctrl-C")?;
    }
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env(driver::OUT, folder).env(driver::SIDE, args.side.name());
    // A group of its own: Ctrl-C reaches the program through here, after its counters were read.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot start `{}`: {error}", args.command[0]))
            .help("name the program's file, as `-- target/release/my-server`")
    })?;
    terminal::progress("Attached", &format!("to {} (process {})", args.command[0], child.id()));
    let process = child.id();
    let began = Instant::now();
    let over = || args.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Followed { process, status, told: false });
        }
        if interrupted.load(Ordering::Relaxed) || over() {
            return Ok(Followed { process, status: end(&mut child, folder)?, told: true });
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits for counters newer than now, then tells the program to end; makes it if it will not.
fn end(child: &mut Child, folder: &Path) -> anyhow::Result<ExitStatus> {
    let asked = SystemTime::now();
    let process = child.id();
    let fresh = || written(&counters(folder, process)).is_some_and(|written| written > asked);
    wait(4 * driver::INTERVAL, || fresh() || matches!(child.try_wait(), Ok(Some(_))));
    // A process that has ended but was not waited for still has its id.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id is a positive number")?;
    if child.try_wait()?.is_none() {
        kill_process(pid, Signal::TERM).context("cannot signal the program")?;
    }
    let mut status = None;
    wait(PATIENCE, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if let Some(status) = status {
        return Ok(status);
    }
    terminal::labelled(Style::Warning, "warning", "the program did not end at SIGTERM and is killed");
    child.kill()?;
    Ok(child.wait()?)
}

fn wait(limit: Duration, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() && began.elapsed() < limit {
        std::thread::sleep(LOOK);
    }
}

/// The counters of the process, or where it left none those written last: a script's, say, that starts the program.
fn counters(folder: &Path, process: u32) -> PathBuf {
    let own = driver::file(folder, process);
    if own.is_file() {
        return own;
    }
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let whole = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    whole.max_by_key(|path| written(path)).unwrap_or(own)
}

fn written(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}

fn read(file: &Path, program: &str, status: ExitStatus) -> anyhow::Result<Measurement> {
    let text = fs::read_to_string(file).map_err(|_| {
        Failure::new(Kind::Run, format!("`{program}` left no counters ({status})")).help(
            "its `main` begins with `let _driver = alloc_ladder::driver::install();` and ends by returning, or runs \
             longer than the driver's interval",
        )
    })?;
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

/// What is known of a program somebody else built: the machine, and how it was started.
fn machine(command: &[String]) -> Environment {
    let Environment { cpu, cores, kernel, .. } = environment::environment(Allocator::System, "");
    Environment { cpu, cores, kernel, command: command.join(" "), ..Environment::default() }
}

/// The stages of the process, then its RPC methods.
fn table(measurement: &Measurement) -> String {
    let Some(counts) = &measurement.counts else { return String::new() };
    let mut table = Table::default();
    table.row(["stage or rpc", "blocks", "bytes", "%"].map(|head| Cell::left(head).style(Style::Bold)));
    let share = |bytes: u64| format!("{:.1}", 100.0 * bytes as f64 / counts.total.bytes.max(1) as f64);
    let mut row = |name: &str, blocks: u64, bytes: u64| {
        table.row([
            Cell::left(name),
            Cell::right(blocks.to_string()),
            Cell::right(bytes.to_string()),
            Cell::right(share(bytes)),
        ]);
    };
    for stage in Stage::ALL {
        let tally = counts.stage(stage);
        if !tally.is_zero() {
            row(stage.name(), tally.blocks, tally.bytes);
        }
    }
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
    for (rpc, blocks, bytes) in methods {
        row(rpc, blocks, bytes);
    }
    row("total", counts.total.blocks, counts.total.bytes);
    table.render()
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Tally;
    use alloc_ladder::record::{CountRow, Counts, Instrument, Usage};

    use super::*;

    fn args(command: &[&str], seconds: Option<u64>) -> Args {
        Args {
            name: "attached".to_owned(),
            side: Side::Client,
            messages: 10,
            payload_bytes: 0,
            seconds,
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
            messages: 1,
            payload_bytes: 0,
            wall_ns: 1,
            usage: Usage::default(),
            counts: Some(Counts { rows, total, ..Counts::default() }),
            setup: None,
            retained: Vec::new(),
            latency: None,
            instructions: None,
        }
    }

    #[test]
    fn a_program_is_followed_to_its_end_or_told_to_end() {
        let scratch = tempfile::tempdir().expect("creates");
        // Stands in for an instrumented program: it writes what it is asked to where it is asked to.
        let json = serde_json::to_string(&measurement()).expect("serialises");
        let writes = format!("echo '{json}' > \"$ALLOC_LADDER_OUT/$$.json\"");
        let script = format!("test \"$ALLOC_LADDER_SIDE\" = client && {writes}");
        let run = |script: &str, folder: &Path| follow(&args(&["sh", "-c", script], None), folder).expect("runs");
        let Followed { process, status, told } = run(&script, scratch.path());
        assert!(status.success() && !told);
        let own = counters(scratch.path(), process);
        assert_eq!(read(&own, "sh", status).expect("reads"), measurement());

        // A process that it starts writes later, and is not taken for it.
        let Followed { process, status, .. } =
            run(&format!("{script}; sh -c 'echo > $ALLOC_LADDER_OUT/$$.json'"), scratch.path());
        assert_eq!(read(&counters(scratch.path(), process), "sh", status).expect("reads"), measurement());
        // Unless it writes nothing itself.
        let scratch = tempfile::tempdir().expect("creates");
        fs::write(scratch.path().join("program.sh"), &writes).expect("writes");
        let Followed { process, status, .. } = run("sh \"$ALLOC_LADDER_OUT/program.sh\"; true", scratch.path());
        let others = counters(scratch.path(), process);
        assert_ne!(others, driver::file(scratch.path(), process));
        assert_eq!(read(&others, "sh", status).expect("reads"), measurement());

        let began = Instant::now();
        let Followed { status, told, .. } = follow(&args(&["sleep", "60"], Some(0)), scratch.path()).expect("runs");
        assert!(!status.success() && told && began.elapsed() < Duration::from_secs(5));
        assert!(follow(&args(&["/no/such/program"], None), scratch.path()).is_err());
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
        let scratch = tempfile::tempdir().expect("creates");
        let file = scratch.path().join("measurement.json");
        let status = Command::new("true").status().expect("runs");
        let message = |file: &Path| read(file, "prog", status).expect_err("nothing to read").to_string();
        assert!(message(&file).contains("left no counters"), "{}", message(&file));
        let nothing = Measurement { counts: Some(Counts::default()), ..measurement() };
        fs::write(&file, serde_json::to_string(&nothing).expect("serialises")).expect("writes");
        assert_eq!(message(&file), "`prog` counted nothing");
    }

    #[test]
    fn the_table_has_stages_methods_and_the_total() {
        let text = terminal::plain(&table(&measurement()));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["marshal", "3", "300", "33.3"]), "{text}");
        assert!(lines.contains(&vec!["/a.B/C", "6", "600", "66.7"]), "{text}");
        assert!(lines.contains(&vec!["total", "9", "900", "100.0"]), "{text}");
    }

    #[test]
    fn names_are_kebab_case() {
        assert!(step_name("pooled-2").is_ok());
        for bad in [&"a".repeat(300), "", "A", "a b", "../x", "a=b"] {
            assert!(step_name(bad).is_err(), "{bad}");
        }
    }
}
