//! `cargo xtask sweep <put|get>`: one step over message sizes and numbers of streams, in interleaved rounds.
//!
//! A ladder is measured at one message size and with one stream. What it gained must not be lost at another: this
//! shows each size beside its neighbours and beside a raw TCP copy in the same round, each number of streams beside its
//! own neighbours, and says which costs more than half as much again per byte as a neighbour does.

use std::path::PathBuf;
use std::time::Duration;

use alloc_ladder::record::SCHEMA;
use alloc_ladder::subject::ladder::ladder;
use alloc_ladder::subject::scenario::{Scenario, Workload};

use crate::analyse::sweep::{Point, Sweep};
use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::SECONDS_MAX;
use crate::cli::terminal::{self, Style};
use crate::measure::build::Allocator;
use crate::measure::environment;
use crate::measure::interrupt;
use crate::measure::plan::chunk;
use crate::measure::rounds::clock_seed;
use crate::measure::step_sets::step_sets;
use crate::measure::sweep::{self, Plan, workload};
use crate::render::text;
use crate::store::{layout, write};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape: put or get
    scenario: Scenario,
    /// The step, with those before it; also `only=STEP` and `without=STEP` [default: the last]
    #[arg(long)]
    step: Option<String>,
    /// Payload bytes of a message, as in 32760, 64KiB, 1MiB; each with one stream
    #[arg(long, value_parser = chunk, value_delimiter = ',', default_values = ["4KiB", "8KiB", "16KiB", "32760", "32KiB", "64KiB", "256KiB", "1MiB"])]
    sizes: Vec<usize>,
    /// Concurrent streams on one connection, each number with messages of 64 KiB
    #[arg(long, value_delimiter = ',', default_values = ["1", "8", "64"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: Vec<u32>,
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
    if args.scenario == Scenario::Unary {
        return Err(Failure::new(Kind::Usage, "a sweep is over sizes of streamed messages; unary has none")
            .help("cargo xtask sweep put, or get")
            .into());
    }
    let last = ladder(args.scenario).last().expect("no ladder is empty").name;
    let (_, step) = step_sets(args.scenario, &[args.step.clone().unwrap_or_else(|| last.to_owned())])?.remove(0);
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
        points: points(&args),
    };
    let plan = Plan { rounds: args.runs, profile: args.profile.clone(), timeout: Duration::from_secs(args.timeout) };
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

/// Every size with one stream, then the other numbers of streams.
fn points(args: &Args) -> Vec<Point> {
    let chunk = Workload::default().chunk;
    let mut wanted: Vec<(usize, u32)> = args.sizes.iter().map(|size| (*size, 1)).collect();
    wanted.extend(args.streams.iter().map(|streams| (chunk, *streams)));
    wanted.sort_by_key(|(chunk, streams)| (*streams, *chunk));
    wanted.dedup();
    let point = |(chunk, streams)| Point {
        workload: workload(chunk, streams, args.payload),
        measurements: vec![],
        raw_tokio: vec![],
    };
    wanted.into_iter().map(point).collect()
}
