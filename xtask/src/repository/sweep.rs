//! `cargo xtask sweep <put|get>`: one step over message sizes and numbers of streams, in interleaved rounds; with `--over`
//! over one kind of traffic instead, of unary calls too.
//!
//! A ladder is measured at one message size and with one stream. What it gained must not be lost at another: this
//! shows each size beside its neighbours and beside a raw TCP copy in the same round, each number of streams beside its
//! own neighbours, and says which costs more than half as much again per byte as a neighbour does.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use alloc_ladder::record::SCHEMA;
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::ladder::{StepSet, ladder};
use alloc_ladder::subject::scenario::{SPAN_BYTES, Scenario, Workload};
use clap::ValueEnum as _;

use crate::analyse::sweep::{Point, Sweep};
use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::SECONDS_MAX;
use crate::cli::terminal::{self, Style};
use crate::measure::build::Allocator;
use crate::measure::cores::Cores;
use crate::measure::environment;
use crate::measure::interrupt;
use crate::measure::plan::{chunk, unary_calls};
use crate::measure::rounds::clock_seed;
use crate::measure::step_sets::step_sets;
use crate::measure::sweep::{self, Plan, workload};
use crate::render::text;
use crate::store::{layout, write};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape: put or get, and with --over unary
    scenario: Scenario,
    /// The step, with those before it; also `only=STEP` and `without=STEP` [default: the last that takes the traffic]
    #[arg(long)]
    step: Option<String>,
    /// Payload bytes of a message, as in 32760, 64KiB, 1MiB; each with one stream
    #[arg(long, value_parser = chunk, value_delimiter = ',', default_values = ["4KiB", "8KiB", "16KiB", "32760", "32KiB", "64KiB", "256KiB", "1MiB"])]
    sizes: Vec<usize>,
    /// Concurrent streams on one connection, each number with messages of 64 KiB
    #[arg(long, value_delimiter = ',', default_values = ["1", "8", "64"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: Vec<u32>,
    /// One kind of traffic in place of sizes and streams, as in `metadata=0,4,16`: metadata and spans of unary calls, spans
    /// of get, echo of put; each as the flag of `profile` has it
    #[arg(long, value_name = "TRAFFIC=N,N", conflicts_with_all = ["sizes", "streams"])]
    over: Option<Over>,
    /// Timed rounds over all of them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// MiB of payload that a timed case carries
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    payload: u64,
    /// Cargo profile to build with; use `release` for times
    #[arg(long, default_value = "release")]
    profile: String,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds after which a case counts as hung
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    timeout: u64,
    /// The file to write [default: one in {runs}, named by scenario and time]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the record as JSON instead of the table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    interrupt::catch_interrupts()?;
    if args.scenario == Scenario::Unary && args.over.is_none() {
        return Err(Failure::new(Kind::Usage, "a sweep is over sizes of streamed messages; unary has none")
            .help("cargo xtask sweep put, or get; or say over what, as in `--over metadata=0,4,16`")
            .into());
    }
    let points = points(&args);
    let last = || last_that_takes(args.scenario, &points).to_owned();
    let (_, step) = step_sets(args.scenario, &[args.step.clone().unwrap_or_else(last)])?.remove(0);
    for point in &points {
        let case = Case { set: step.clone(), workload: point.workload, ..Case::new(args.scenario) };
        case.tuning().map_err(|error| Failure::new(Kind::Usage, format!("cannot sweep: {error}")))?;
    }
    let (created, stamp) = environment::now();
    let path = match &args.out {
        Some(path) => path.clone(),
        None => write::new_file(&layout::runs(), &format!("sweep-{}-{stamp}", args.scenario), ".json")?,
    };
    let mut sweep = Sweep {
        schema: SCHEMA,
        scenario: args.scenario,
        step,
        created,
        environment: environment::environment(Allocator::System, &args.profile),
        seed: args.seed.unwrap_or_else(clock_seed),
        points,
    };
    let plan = Plan {
        rounds: args.runs,
        cores: Cores::apart(),
        profile: args.profile.clone(),
        timeout: Duration::from_secs(args.timeout),
    };
    // Before anything is built: a file that cannot be written must not cost minutes.
    sweep::save(&path, &sweep)?;
    if let Err(error) = sweep::measure(&plan, &mut sweep, &path) {
        if sweep.points.iter().all(|point| point.measurements.is_empty()) {
            let _ = std::fs::remove_file(&path);
        } else {
            terminal::labelled(Style::Warning, "kept", &format!("what was finished: {}", path.display()));
        }
        return Err(error);
    }
    if args.json {
        return terminal::result(&(serde_json::to_string_pretty(&sweep)? + "\n"));
    }
    terminal::result(&text::sweep::text(&sweep))?;
    terminal::progress("Wrote", &path.display().to_string());
    Ok(())
}

/// What a sweep is over in place of sizes and streams.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Over {
    traffic: Traffic,
    values: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Traffic {
    Metadata,
    Spans,
    Echo,
}

impl FromStr for Over {
    type Err = String;

    fn from_str(text: &str) -> Result<Over, String> {
        let (traffic, values) =
            text.split_once('=').ok_or("it is a kind of traffic and numbers, as in `metadata=0,4,16`")?;
        let traffic = Traffic::from_str(traffic, false).map_err(|_| {
            let known: Vec<_> = Traffic::value_variants().iter().filter_map(|one| one.to_possible_value()).collect();
            let known: Vec<&str> = known.iter().map(|one| one.get_name()).collect();
            format!("`{traffic}` is none of {}", known.join(", "))
        })?;
        let number = |value: &str| value.trim().parse().map_err(|_| format!("`{value}` is not a whole number"));
        Ok(Over { traffic, values: values.split(',').map(number).collect::<Result<_, _>>()? })
    }
}

impl Over {
    fn workload(&self, scenario: Scenario, value: u32, mib: u64) -> Workload {
        let stock = Workload::default();
        let of_unary = Workload { messages: unary_calls(0), ..stock };
        match (self.traffic, scenario) {
            (Traffic::Metadata, _) => Workload { metadata: value, ..of_unary },
            (Traffic::Spans, Scenario::Unary) => Workload { spans: value, messages: unary_calls(value), ..stock },
            (Traffic::Spans, _) => Workload { spans: value, ..workload((value as usize * SPAN_BYTES).max(1), 1, mib) },
            (Traffic::Echo, _) => Workload { echo: value, ..workload(stock.chunk, 1, mib) },
        }
    }
}

/// The last step of the ladder that takes all of this traffic: not every one does.
fn last_that_takes(scenario: Scenario, points: &[Point]) -> &'static str {
    let takes = |name: &str| {
        let of = |point: &Point| {
            let set = StepSet::UpTo(name.to_owned());
            Case { set, workload: point.workload, ..Case::new(scenario) }.tuning().is_ok()
        };
        points.iter().all(of)
    };
    let steps = ladder(scenario);
    steps.iter().rev().find(|step| takes(step.name)).unwrap_or(&steps[0]).name
}

/// Every size with one stream, then the other numbers of streams; or each value of the traffic that it is over.
fn points(args: &Args) -> Vec<Point> {
    let point = |workload| Point { workload, measurements: vec![], raw_tokio: vec![] };
    if let Some(over) = &args.over {
        let mut values = over.values.clone();
        values.sort_unstable();
        values.dedup();
        return values.into_iter().map(|value| point(over.workload(args.scenario, value, args.payload))).collect();
    }
    let chunk = Workload::default().chunk;
    let mut wanted: Vec<(usize, u32)> = args.sizes.iter().map(|size| (*size, 1)).collect();
    wanted.extend(args.streams.iter().map(|streams| (chunk, *streams)));
    wanted.sort_by_key(|(chunk, streams)| (*streams, *chunk));
    wanted.dedup();
    wanted.into_iter().map(|(chunk, streams)| point(workload(chunk, streams, args.payload))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_and_swept_by_the_last_step_that_takes_it() {
        let over: Over = "metadata=0,4".parse().expect("reads");
        assert_eq!(over, Over { traffic: Traffic::Metadata, values: vec![0, 4] });
        for bad in ["metadata", "metadat=1", "spans=x", "echo="] {
            bad.parse::<Over>().expect_err(bad);
        }
        let last = |text: &str, scenario| {
            let over: Over = text.parse().expect("reads");
            let points = over.values.iter().map(|value| over.workload(scenario, *value, 1));
            let points = points.map(|workload| Point { workload, measurements: vec![], raw_tokio: vec![] });
            last_that_takes(scenario, &points.collect::<Vec<_>>())
        };
        assert_eq!(last("metadata=0,4", Scenario::Unary), "lean-server", "what is by hand has no metadata");
        assert_eq!(last("spans=0,512", Scenario::Unary), "by-hand");
        assert_eq!(last("spans=8,512", Scenario::Get), "aligned-reads");
        assert_eq!(last("echo=1,16", Scenario::Put), "one-frame");
        let over: Over = "spans=512".parse().expect("reads");
        assert_eq!(over.workload(Scenario::Get, 512, 64).chunk, 512 * SPAN_BYTES);
    }
}
