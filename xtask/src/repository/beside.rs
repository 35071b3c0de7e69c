//! `cargo xtask beside`: what recording every stack costs a service, beside other tools that record them.
//!
//! The same calls go to one server under each tool, in interleaved rounds: the CPU time of the server alone is compared
//! within a round. What a tool does afterwards, or in a process of its own, is not counted. A tool that is not installed,
//! cannot be built or fails is said and left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Measurement};
use alloc_ladder::recorder::Variable;
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::analyse::dhat::Dhat;
use crate::analyse::recording::totals;
use crate::analyse::stats;
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::quantity::{MESSAGES_MAX, SECONDS_MAX};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style, paint};
use crate::measure::build::{Allocator, Binary, Outside, build, build_outside};
use crate::measure::program::{self, Program};
use crate::measure::rounds::{clock_seed, shuffle};
use crate::measure::step_sets::step_sets;
use crate::measure::{case, interrupt, pair, preload};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape
    #[arg(default_value_t = Scenario::Unary)]
    scenario: Scenario,
    /// The step, with those before it. The baseline allocates most
    #[arg(long, default_value = "baseline")]
    step: String,
    /// Timed rounds over all tools
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Messages (unary: calls) of a timed case
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// Tools to leave out
    #[arg(long, value_delimiter = ',', value_enum)]
    without: Vec<Tool>,
    /// Cargo profile to build with; use `release` for times
    #[arg(long, default_value = "release")]
    profile: String,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds after which a case counts as hung
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    timeout: u64,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// What runs with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Tool {
    /// Nothing
    Plain,
    /// The counters, which see no stacks
    Count,
    /// This project's allocator in the program, off
    Off,
    /// The same, sampling
    Sampled,
    /// The same, recording every stack
    Stacks,
    /// This project's recorder, preloaded
    Recorder,
    /// heaptrack, preloaded
    Heaptrack,
    /// dhat, in the program
    Dhat,
    /// Valgrind's DHAT
    Valgrind,
    /// heapscope, in the program
    Heapscope,
    /// hotpath, in the program
    Hotpath,
}

impl Tool {
    const ALL: [Tool; 11] = [
        Tool::Plain,
        Tool::Count,
        Tool::Off,
        Tool::Sampled,
        Tool::Stacks,
        Tool::Recorder,
        Tool::Heaptrack,
        Tool::Dhat,
        Tool::Valgrind,
        Tool::Heapscope,
        Tool::Hotpath,
    ];

    /// The tool's one name.
    const fn name(self) -> &'static str {
        match self {
            Tool::Plain => "plain",
            Tool::Count => "count",
            Tool::Off => "off",
            Tool::Sampled => "sampled",
            Tool::Stacks => "stacks",
            Tool::Recorder => "recorder",
            Tool::Heaptrack => "heaptrack",
            Tool::Dhat => "dhat",
            Tool::Valgrind => "valgrind",
            Tool::Heapscope => "heapscope",
            Tool::Hotpath => "hotpath",
        }
    }

    /// What it tells one allocation from another by.
    const fn sees(self) -> &'static str {
        match self {
            Tool::Plain | Tool::Off => "nothing",
            Tool::Count => "stages",
            Tool::Sampled => "stacks, of a sample",
            Tool::Stacks | Tool::Recorder | Tool::Heaptrack | Tool::Dhat | Tool::Valgrind => "stacks",
            Tool::Heapscope => "stacks, to 64 frames",
            Tool::Hotpath => "marked functions: main",
        }
    }

    /// What the server is built as, where the tool is a crate that a program has to be written with.
    const fn outside(self) -> Option<Outside> {
        let (name, flags) = match self {
            Tool::Off | Tool::Sampled | Tool::Stacks => ("alloc", ""),
            // It walks by frame pointers, and refuses to start where there are none.
            Tool::Heapscope => ("heapscope", "-C force-frame-pointers=yes"),
            Tool::Hotpath => ("hotpath", ""),
            _ => return None,
        };
        Some(Outside { folder: "examples/beside", name, flags })
    }

    const fn instrument(self) -> Instrument {
        match self {
            Tool::Count => Instrument::Count,
            Tool::Dhat => Instrument::Stacks,
            _ => Instrument::Time,
        }
    }

    /// What is said of its blocks where they are not the whole process's; the note below the table has the words.
    const fn part(self) -> &'static str {
        match self {
            Tool::Dhat => " *",
            Tool::Count => " †",
            _ => "",
        }
    }

    /// What to do to have it, where it is missing.
    fn missing(self) -> Option<&'static str> {
        match self {
            Tool::Heaptrack if heaptrack().is_none() => Some("heaptrack is not installed: apt-get install heaptrack"),
            Tool::Valgrind if program::find("valgrind").is_none() => {
                Some("valgrind is not installed: apt-get install valgrind")
            }
            _ => None,
        }
    }

    /// The server with the tool, which writes into `folder`.
    fn server(self, plain: Program, folder: &Path) -> anyhow::Result<Program> {
        Ok(match self {
            Tool::Plain | Tool::Count | Tool::Dhat => plain,
            Tool::Off | Tool::Sampled => plain.env(Variable::Mode.name(), self.name()),
            Tool::Stacks => plain.env(Variable::Mode.name(), self.name()).env(Variable::Recordings.name(), folder),
            Tool::Heapscope => plain.in_folder(folder),
            Tool::Hotpath => {
                plain.in_folder(folder).env("HOTPATH_ALLOC_METRIC", "count").env("HOTPATH_METRICS_SERVER_OFF", "true")
            }
            Tool::Recorder => plain
                .env("LD_PRELOAD", preload::library()?)
                .env(Variable::Mode.name(), "stacks")
                .env(Variable::Recordings.name(), folder),
            Tool::Heaptrack => plain
                .env("LD_PRELOAD", heaptrack().context("heaptrack was there a moment ago")?)
                .env("DUMP_HEAPTRACK_OUTPUT", folder.join("heaptrack")),
            Tool::Valgrind => {
                let valgrind = program::find("valgrind").context("valgrind was there a moment ago")?;
                let tool = Program::new(valgrind).args(["--tool=dhat", "--quiet", "--num-callers=100"]);
                plain.under(tool.arg(format!("--dhat-out-file={}", folder.join("dhat").display())))
            }
        })
    }

    /// The blocks it saw; `None` where it sees none.
    fn blocks(self, server: &Measurement, folder: &Path) -> anyhow::Result<Option<u64>> {
        let left = |name: &str| std::fs::read(folder.join(name)).context("the tool left no file");
        let dhat = |name: &str| -> anyhow::Result<Option<u64>> {
            Ok(Some(Dhat::parse(&left(name)?)?.points.iter().map(|point| point.blocks).sum()))
        };
        match self {
            Tool::Plain | Tool::Off | Tool::Sampled => Ok(None),
            Tool::Count => {
                let counts = server.counts.as_ref().map_or(0, |counts| counts.total.blocks);
                Ok(Some(counts + server.setup.map_or(0, |setup| setup.blocks)))
            }
            Tool::Stacks | Tool::Recorder => {
                let file = std::fs::read_dir(folder)?.next().context("the recorder left no recording")??;
                Ok(Some(totals(&File::open(file.path())?)?.blocks))
            }
            Tool::Heaptrack => heaptrack_blocks(BufReader::new(File::open(folder.join("heaptrack"))?)).map(Some),
            Tool::Dhat | Tool::Valgrind => dhat("dhat"),
            Tool::Heapscope => dhat("dhat-heap.json"),
            Tool::Hotpath => hotpath_blocks(&left("hotpath.json")?).map(Some),
        }
    }
}

/// heaptrack's preload library, which lies beside the program.
fn heaptrack() -> Option<PathBuf> {
    let library = |folder: &str| program::find("heaptrack")?.parent()?.parent().map(|root| root.join(folder));
    let places = ["lib", "lib64"].map(|lib| library(&format!("{lib}/heaptrack/libheaptrack_preload.so")));
    places.into_iter().flatten().find(|library| library.is_file())
}

/// A line of heaptrack's raw file that begins with `+` is a block.
fn heaptrack_blocks(mut raw: impl BufRead) -> anyhow::Result<u64> {
    let (mut blocks, mut line) = (0, Vec::new());
    while raw.read_until(b'\n', &mut line)? > 0 {
        blocks += u64::from(line.starts_with(b"+ "));
        line.clear();
    }
    Ok(blocks)
}

/// The blocks of every function in hotpath's report.
fn hotpath_blocks(report: &[u8]) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Report {
        functions_alloc: Functions,
    }
    #[derive(Deserialize)]
    struct Functions {
        data: Vec<Function>,
    }
    #[derive(Deserialize)]
    struct Function {
        total: String,
    }
    let report: Report = serde_json::from_slice(report).context("hotpath's report is of another shape")?;
    let blocks = report.functions_alloc.data.iter().map(|function| function.total.parse::<u64>());
    blocks.sum::<Result<u64, _>>().context("hotpath's report holds something else than counts")
}

/// What a tool costs, and what it saw.
#[derive(Clone, Debug, Serialize)]
struct ToolRow {
    tool: Tool,
    rounds: usize,
    /// CPU microseconds a message of the server, the median over rounds.
    cpu_us_per_message: f64,
    /// CPU time as a multiple of the plain server's in the same round, the median over rounds.
    cpu_ratio: f64,
    /// An interval of at least 95 % around it, where there are rounds enough.
    cpu_ratio_interval: (f64, f64),
    /// Blocks seen in the last round.
    blocks: Option<u64>,
}

/// CPU microseconds a message, one a round, and the blocks of the last.
type Measured = BTreeMap<Tool, (Vec<f64>, Option<u64>)>;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    interrupt::catch_interrupts()?;
    let (_, set) = step_sets(args.scenario, std::slice::from_ref(&args.step))?.remove(0);
    let mut servers = Vec::new();
    for tool in Tool::ALL.into_iter().filter(|tool| *tool == Tool::Plain || !args.without.contains(tool)) {
        match built(tool, &args.profile) {
            Ok(binary) => servers.push((tool, binary)),
            Err(error) => left_out(tool, error)?,
        }
    }
    // The client is the plain one whatever the server runs with.
    let client = servers.first().map(|(_, binary)| binary.clone()).context("the plain server is always the first")?;
    let mut measured = Measured::new();
    let bar = terminal::bar("Timing", u64::from(args.runs) * servers.len() as u64);
    let mut random = args.seed.unwrap_or_else(clock_seed);
    for round in 0..args.runs {
        shuffle(&mut servers, &mut random);
        let mut failed = Vec::new();
        for (tool, binary) in &servers {
            let case = Case {
                set: set.clone(),
                workload: Workload { messages: args.messages, ..Workload::default() },
                instrument: tool.instrument(),
                round,
                ..Case::new(args.scenario)
            };
            match measure(*tool, binary, &client, case, Duration::from_secs(args.timeout)) {
                Ok((cpu, blocks)) => {
                    let of_tool = measured.entry(*tool).or_default();
                    of_tool.0.push(cpu);
                    of_tool.1 = blocks;
                }
                Err(error) => {
                    left_out(*tool, error)?;
                    failed.push(*tool);
                }
            }
            bar.step();
        }
        servers.retain(|(tool, _)| !failed.contains(tool));
    }
    bar.finish();
    let rows = rows(&measured);
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&rows)? + "\n")),
        false => terminal::result(&text(&rows, &args)),
    }
}

/// The server that a tool runs with.
fn built(tool: Tool, profile: &str) -> anyhow::Result<Binary> {
    if let Some(how) = tool.missing() {
        return Err(Failure::new(Kind::Environment, how).into());
    }
    match tool.outside() {
        Some(outside) => build_outside(outside, profile),
        None => build(tool.instrument(), Allocator::System, profile),
    }
}

/// Says that a tool is not measured. Without the plain server, or after Ctrl-C, nothing is.
fn left_out(tool: Tool, error: anyhow::Error) -> anyhow::Result<()> {
    let interrupted = error.downcast_ref::<Failure>().is_some_and(|failure| failure.kind == Kind::Interrupted);
    if tool == Tool::Plain || interrupted {
        return Err(error);
    }
    terminal::labelled(Style::Warning, "left out", &format!("{}: {error:#}", tool.name()));
    Ok(())
}

/// One case: the server's CPU microseconds a message, and the blocks that the tool saw.
fn measure(
    tool: Tool,
    server: &Binary,
    client: &Binary,
    mut case: Case,
    timeout: Duration,
) -> anyhow::Result<(f64, Option<u64>)> {
    let folder = tempfile::tempdir().context("there is no folder for what the tools write")?;
    case.stacks_file = (tool == Tool::Dhat).then(|| folder.path().join("dhat"));
    let server = tool.server(case::program(server, Side::Server, &case), folder.path())?;
    let client = |address: &str| {
        let address = address.to_owned();
        let case = Case { address, instrument: Instrument::Time, stacks_file: None, ..case.clone() };
        case::program(client, Side::Client, &case)
    };
    let sides = pair::spawn_pair(&server, client, timeout)?;
    Ok((sides.server.cpu_us_per_message(), tool.blocks(&sides.server, folder.path())?))
}

fn rows(measured: &Measured) -> Vec<ToolRow> {
    let Some((plain, _)) = measured.get(&Tool::Plain) else { return Vec::new() };
    let row = |(tool, (cpu, blocks)): (&Tool, &(Vec<f64>, Option<u64>))| {
        let ratios: Vec<f64> = cpu.iter().zip(plain).map(|(own, plain)| own / plain).collect();
        ToolRow {
            tool: *tool,
            rounds: ratios.len(),
            cpu_us_per_message: stats::median(cpu),
            cpu_ratio: stats::median(&ratios),
            cpu_ratio_interval: stats::interval95(&ratios),
            blocks: *blocks,
        }
    };
    measured.iter().map(row).collect()
}

fn text(rows: &[ToolRow], args: &Args) -> String {
    let mut table = Table::default();
    let heads = ["tool", "CPU µs/message", "CPU ×", "95 % interval", "blocks seen", "tells them apart by"];
    table.row(heads.map(|head| Cell::left(head).style(Style::Bold)));
    for row in rows {
        let (low, high) = row.cpu_ratio_interval;
        let unless_plain = |text: String| Cell::right(if row.tool == Tool::Plain { String::new() } else { text });
        table.row([
            Cell::left(row.tool.name()),
            Cell::right(numbers::number(row.cpu_us_per_message)),
            unless_plain(format!("{:.2}", row.cpu_ratio)),
            unless_plain(format!("{low:.2} … {high:.2}")),
            Cell::right(row.blocks.map_or_else(String::new, |blocks| numbers::count(blocks) + row.tool.part())),
            Cell::left(row.tool.sees()),
        ]);
    }
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    let note = format!(
        "{} {}, server, {} messages. Medians of {rounds} interleaved rounds; ×: as a multiple of the same round's plain \
         server. Blocks are the whole process's; * of the measured part alone; † without the calls that follow it.",
        args.scenario,
        args.step,
        numbers::count(args.messages)
    );
    format!("{}{}\n", table.render(), paint(Style::Dim, &note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_compared_with_the_plain_server_of_its_own_round() {
        let mut measured = Measured::new();
        measured.insert(Tool::Plain, (vec![10.0, 15.0, 22.5], None));
        measured.insert(Tool::Recorder, (vec![12.5, 18.75, 28.125], Some(77)));
        let rows = rows(&measured);
        assert_eq!(rows.len(), 2);
        assert!((rows[1].cpu_ratio - 1.25).abs() < 1e-9 && rows[1].blocks == Some(77), "{rows:?}");
        assert!(super::rows(&Measured::new()).is_empty());
    }

    #[test]
    fn blocks_of_heaptrack_are_counted_and_frees_are_not() {
        let raw = b"v 10400 3\nx 5 /srv\n+ 48 1 7f00\n- 7f00\n+ 10 2 7f01\nR 12\n\xff\n";
        assert_eq!(heaptrack_blocks(&raw[..]).expect("reads"), 2);
    }

    #[test]
    fn blocks_of_hotpath_are_those_of_its_functions() {
        let function = |name: &str, total: &str| format!(r#"{{"name":"{name}","calls":1,"total":"{total}"}}"#);
        let of =
            |functions: &str| hotpath_blocks(format!(r#"{{"functions_alloc":{{"data":[{functions}]}}}}"#).as_bytes());
        assert_eq!(of(&[function("main", "103112"), function("reply", "7")].join(",")).expect("counts"), 103_119);
        // What it writes where it was not told to count.
        assert!(of(&function("main", "9.3 MB")).is_err());
        assert!(hotpath_blocks(b"{}").is_err());
    }

    #[test]
    fn names_agree() {
        for tool in Tool::ALL {
            assert_eq!(<Tool as clap::ValueEnum>::from_str(tool.name(), false), Ok(tool));
            assert_eq!(serde_json::to_value(tool).expect("serialises"), tool.name());
        }
    }
}
