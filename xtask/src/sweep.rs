//! `cargo xtask sweep <put|get>`: one rung over message sizes and numbers of streams, in interleaved rounds.
//!
//! A ladder is measured at one message size and with one stream. What it gained must not be lost at another: this
//! shows each size beside its neighbours and beside a raw TCP copy in the same round, each number of streams beside its
//! own neighbours, and says which costs more than half as much again per byte as a neighbour does.

mod table;

pub(crate) use self::table::markdown;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::ladder::{StepSet, ladder};
use alloc_ladder::peer::{self, Direction};
use alloc_ladder::record::{Environment, Instrument, Measurement, SCHEMA};
use alloc_ladder::scenario::{CHUNK_MAX, Scenario, Workload};
use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::build::{Allocator, Binaries, build};
use crate::failure::{Failure, Kind};
use crate::limits::{clock_seed, program, shuffle};
use crate::profile::case::Case;
use crate::profile::step_sets;
use crate::terminal::{self, Style};
use crate::{environment, pair, run_dir};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape: put or get
    scenario: Scenario,
    /// The rung, with those below it; also `only=STEP` and `without=STEP` [default: the last]
    #[arg(long)]
    step: Option<String>,
    /// Payload bytes of a message, as in 32760, 64KiB, 1MiB; each with one stream
    #[arg(long, value_delimiter = ',', default_values = ["4KiB", "8KiB", "16KiB", "32760", "32KiB", "64KiB", "256KiB", "1MiB"])]
    sizes: Vec<Size>,
    /// Concurrent streams on one connection, each number with messages of 64 KiB
    #[arg(long, value_delimiter = ',', default_values = ["1", "8", "64"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: Vec<u32>,
    /// Timed rounds over all of them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// MiB of payload in a timed case
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    payload: u64,
    /// Cargo profile to build with; times mean something in `release` only
    #[arg(long, default_value = "release")]
    profile: String,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds a case may take before it counts as hung
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// The file to write [default: one in profiles/, named by scenario and time]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the record as JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// The name a sweep has in the folder of the run it belongs to.
const SWEEP_JSON: &str = "sweep.json";
/// MiB of payload in a case that counts: what varies from message to message evens out, and nothing else is gained.
const COUNTED_MIB: u64 = 64;
/// The fewest messages of a case, however large they are.
const MESSAGES_MIN: u64 = 200;
/// The fewest messages that warm up a stream, however many streams share the traffic.
const WARMUP_MIN: u64 = 16;

/// A number of bytes as a reader writes it: `32760`, `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err("a size is a number of bytes, KiB or MiB, as in 32760 or 64KiB".to_owned()),
        };
        let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(bytes @ 1..=CHUNK_MAX) => Ok(Size(bytes)),
            _ => Err(format!("a message is of 1 to {CHUNK_MAX} bytes")),
        }
    }
}

/// What a sweep measured: the file it writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sweep {
    pub(crate) schema: u32,
    pub(crate) scenario: Scenario,
    /// The rung.
    pub(crate) step: StepSet,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    pub(crate) environment: Environment,
    pub(crate) seed: u64,
    pub(crate) points: Vec<Point>,
}

/// One size and number of streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    /// Of a timed case; one that counts has fewer messages.
    pub(crate) workload: Workload,
    /// Both sides of every case.
    pub(crate) measurements: Vec<Measurement>,
    /// The server of a raw TCP copy of the same messages, once a round; none with several streams.
    pub(crate) raw_tokio: Vec<Measurement>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    pair::catch_interrupts()?;
    if args.scenario == Scenario::Unary {
        return Err(Failure::new(Kind::Usage, "a sweep is over sizes of streamed messages; unary has none")
            .help("cargo xtask sweep put, or get")
            .into());
    }
    let last = ladder(args.scenario).last().expect("no ladder is empty").name;
    let (_, step) = step_sets(args.scenario, &[args.step.clone().unwrap_or_else(|| last.to_owned())])?.remove(0);
    let (created, stamp) = environment::now();
    let path =
        args.out.clone().unwrap_or_else(|| run_dir::profiles().join(format!("sweep-{}-{stamp}.json", args.scenario)));
    let mut sweep = Sweep {
        schema: SCHEMA,
        scenario: args.scenario,
        step,
        created,
        environment: environment::environment(Allocator::System, &args.profile),
        seed: args.seed.unwrap_or_else(clock_seed),
        points: points(&args),
    };
    // Before anything is built: a file that cannot be written must not cost minutes.
    save(&path, &sweep)?;
    if let Err(error) = measure(&args, &mut sweep, &path) {
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
    terminal::result(&table::text(&sweep))?;
    terminal::progress("Wrote", &path.display().to_string());
    Ok(())
}

/// Every size with one stream, then the other numbers of streams.
fn points(args: &Args) -> Vec<Point> {
    let chunk = Workload::default().chunk;
    let mut wanted: Vec<(usize, u32)> = args.sizes.iter().map(|size| (size.0, 1)).collect();
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

fn workload(chunk: usize, streams: u32, mib: u64) -> Workload {
    let messages = (mib << 20).div_ceil(chunk as u64).max(MESSAGES_MIN);
    let warmup = (Workload::default().warmup / u64::from(streams)).max(WARMUP_MIN);
    Workload { chunk, messages, warmup, streams, ..Workload::default() }
}

fn measure(args: &Args, sweep: &mut Sweep, path: &Path) -> anyhow::Result<()> {
    let what = format!("{} · {} · {} points", args.scenario, sweep.step, sweep.points.len());
    terminal::progress("Sweeping", &what);
    let count = build(Instrument::Count, Allocator::System, &args.profile)?;
    let time = build(Instrument::Time, Allocator::System, &args.profile)?;
    for index in 0..sweep.points.len() {
        let Workload { chunk, streams, .. } = sweep.points[index].workload;
        sweep.case(args, &count, Instrument::Count, index, workload(chunk, streams, COUNTED_MIB), 0)?;
    }
    save(path, sweep)?;
    let bar = terminal::bar("Timing", u64::from(args.runs) * sweep.points.len() as u64);
    let mut random = sweep.seed;
    for round in 0..args.runs {
        let mut order: Vec<usize> = (0..sweep.points.len()).collect();
        shuffle(&mut order, &mut random);
        for index in order {
            sweep.case(args, &time, Instrument::Time, index, sweep.points[index].workload, round)?;
            if sweep.points[index].workload.streams == 1 {
                sweep.raw(args, &time, index)?;
            }
            bar.inc(1);
        }
        save(path, sweep)?;
    }
    bar.finish_and_clear();
    Ok(())
}

impl Sweep {
    /// The sweep that lies in a run's folder, if there is one.
    ///
    /// # Errors
    /// [`Kind::Environment`] when there is a file and it is no sweep of this version.
    pub(crate) fn beside(folder: &Path) -> anyhow::Result<Option<Sweep>> {
        let path = folder.join(SWEEP_JSON);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let sweep = serde_json::from_str::<Sweep>(&text).map_err(|error| {
            Failure::new(Kind::Environment, format!("`{}` is no sweep: {error}", path.display()))
                .help("measure it again with `cargo xtask sweep`")
        })?;
        Ok(Some(sweep))
    }

    fn case(
        &mut self,
        args: &Args,
        binaries: &Binaries,
        instrument: Instrument,
        index: usize,
        workload: Workload,
        round: u32,
    ) -> anyhow::Result<()> {
        let case = Case {
            binaries,
            scenario: self.scenario,
            set: &self.step,
            workload,
            instrument,
            round,
            runtime: None,
            bind: ([127, 0, 0, 1], 0).into(),
            remote: None,
            timeout: Duration::from_secs(args.timeout),
        };
        let measured = case
            .run(None)
            .with_context(|| format!("cannot measure {} streams of {} B messages", workload.streams, workload.chunk))?;
        self.points[index].measurements.extend([measured.server, measured.client]);
        Ok(())
    }

    /// The same messages without gRPC: what the kernel takes for them.
    fn raw(&mut self, args: &Args, binaries: &Binaries, index: usize) -> anyhow::Result<()> {
        let direction = Direction::of(self.scenario).expect("a sweep is over streams");
        let workload = self.points[index].workload;
        let side = |side: Side| program(&binaries.peer, side.name(), peer::Kind::RawTokio, direction, workload);
        let client = |address: &str| side(Side::Client).arg("--address").arg(address);
        let measured = pair::spawn_pair(&side(Side::Server), client, Duration::from_secs(args.timeout))?;
        self.points[index].raw_tokio.push(measured.server);
        Ok(())
    }
}

/// Writes the record, whole or not at all.
fn save(path: &Path, sweep: &Sweep) -> anyhow::Result<()> {
    let new = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(sweep)? + "\n";
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(read("32760"), Ok(32_760));
        assert_eq!(read("4KiB"), Ok(4096));
        assert_eq!(read("1MiB"), Ok(1 << 20));
        for bad in ["", "KiB", "0", "4MiB", "4kb", "-1", "99999999999999999999", "18014398509481984KiB"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_point_carries_about_the_same_payload() {
        for (chunk, streams) in [(4096, 1), (65_536, 1), (65_536, 64), (1 << 20, 1)] {
            let workload = workload(chunk, streams, 512);
            assert_eq!(workload.messages * chunk as u64, 512 << 20);
            assert!(workload.warmup >= WARMUP_MIN);
        }
    }
}
