//! Measuring a sweep: one step over message sizes and numbers of streams, or other traffic, in interleaved rounds.

use std::path::Path;
use std::time::Duration;

use alloc_ladder::record::Instrument;
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::peer::{Direction, Kind as Peer};
use alloc_ladder::subject::scenario::{Scenario, Workload};
use anyhow::Context;

use crate::analyse::sweep::Sweep;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::measure::build::{Allocator, Binary, build};
use crate::measure::case::{self, Caller, Local};
use crate::measure::cores::Cores;
use crate::measure::pair;
use crate::measure::peers;
use crate::measure::rounds::shuffle;
use crate::store::fits;
use crate::store::write::{self, RunFolder};

/// The name a sweep has in the folder of the run it belongs to.
const SWEEP_JSON: &str = "sweep.json";
/// MiB of payload in a case that counts: what varies from message to message evens out, and nothing else is gained.
const COUNTED_MIB: u64 = 64;
/// The fewest messages of a case, however large they are.
const MESSAGES_MIN: u64 = 200;
/// The fewest messages that warm up a stream, however many streams share the traffic.
const WARMUP_MIN: u64 = 16;

/// How a sweep is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Timed rounds over all points.
    pub(crate) rounds: u32,
    /// The cores of timed cases.
    pub(crate) cores: Cores,
    /// Cargo's profile.
    pub(crate) profile: String,
    /// How long a case may take.
    pub(crate) timeout: Duration,
}

/// The traffic of a point that carries `mib` MiB of payload.
pub(crate) fn workload(chunk: usize, streams: u32, mib: u64) -> Workload {
    let messages = (mib << 20).div_ceil(chunk as u64).max(MESSAGES_MIN);
    Workload { chunk, messages, warmup: warmup(streams), streams, ..Workload::default() }
}

/// Messages that warm up each of so many streams: together they carry about as much as one alone.
pub(crate) fn warmup(streams: u32) -> u64 {
    (Workload::default().warmup / u64::from(streams)).max(WARMUP_MIN)
}

/// Measures every point: once counted, then in timed rounds. The record is written after every round.
///
/// # Errors
/// Whatever the first case that fails gives.
pub(crate) fn measure(plan: &Plan, sweep: &mut Sweep, path: &Path) -> anyhow::Result<()> {
    let what = format!("{} · {} · {} points", sweep.scenario, sweep.step, sweep.points.len());
    terminal::progress("Sweeping", &what);
    let count = build(Instrument::Count, Allocator::System, &plan.profile)?;
    let time = build(Instrument::Time, Allocator::System, &plan.profile)?;
    for index in 0..sweep.points.len() {
        let of = sweep.points[index].workload;
        let counted = Workload { messages: workload(of.chunk, of.streams, COUNTED_MIB).messages, ..of };
        case(sweep, plan, &count, Instrument::Count, index, counted, 0)?;
    }
    save(path, sweep)?;
    let bar = terminal::bar("Timing", u64::from(plan.rounds) * sweep.points.len() as u64);
    let mut random = sweep.seed;
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..sweep.points.len()).collect();
        shuffle(&mut order, &mut random);
        for index in order {
            let traffic = sweep.points[index].workload;
            case(sweep, plan, &time, Instrument::Time, index, traffic, round)?;
            if traffic.streams == 1 && sweep.scenario != Scenario::Unary && traffic.special().is_empty() {
                raw(sweep, plan, &time, index)?;
            }
            bar.step();
        }
        save(path, sweep)?;
    }
    bar.finish();
    Ok(())
}

/// The sweep that lies in a run's folder, if there is one.
///
/// # Errors
/// [`Kind::Environment`] when there is a file and it is not a sweep of this version.
pub(crate) fn beside(folder: &Path) -> anyhow::Result<Option<Sweep>> {
    let path = folder.join(SWEEP_JSON);
    let folder = RunFolder::open(folder)?;
    if !folder.has(SWEEP_JSON) {
        return Ok(None);
    }
    let text = folder.read_to_string(SWEEP_JSON)?;
    let sweep = serde_json::from_str::<Sweep>(&text).map_err(|error| {
        Failure::new(Kind::Environment, format!("`{}` is not a valid sweep: {error}", path.display()))
            .help("measure it again with `cargo xtask sweep`")
    })?;
    fits::check(&text).map_err(|error| {
        Failure::new(Kind::Environment, format!("`{}` is not a valid sweep: {error}", path.display()))
            .help("measure it again with `cargo xtask sweep`")
    })?;
    Ok(Some(sweep))
}

fn case(
    sweep: &mut Sweep,
    plan: &Plan,
    binary: &Binary,
    instrument: Instrument,
    index: usize,
    workload: Workload,
    round: u32,
) -> anyhow::Result<()> {
    let case = Case { set: sweep.step.clone(), workload, instrument, round, ..Case::new(sweep.scenario) };
    let (server, client) = match instrument {
        Instrument::Time => plan.cores.of(case.tuning()?.runtime, workload.connections),
        _ => (&[][..], &[][..]),
    };
    let measured = case::run(&Local(binary, server), Caller(binary, client), &case, None, plan.timeout);
    let measured = measured.with_context(|| {
        let special: String = workload.special().into_iter().map(|words| format!(", {words}")).collect();
        format!("cannot measure {} streams of {} B messages{special}", workload.streams, workload.chunk)
    })?;
    sweep.points[index].measurements.extend([measured.server, measured.client]);
    Ok(())
}

/// The same messages without gRPC: what the kernel takes for them.
fn raw(sweep: &mut Sweep, plan: &Plan, binary: &Binary, index: usize) -> anyhow::Result<()> {
    let direction = Direction::of(sweep.scenario).expect("a sweep is over streams");
    let workload = sweep.points[index].workload;
    let case = peers::peer_case(Peer::RawTokio, direction, workload, Instrument::Time);
    let client = |address: &str| peers::client(binary, &case, address).on_cores(&plan.cores.client);
    let server = peers::program(binary, &case).on_cores(&plan.cores.server);
    let measured = pair::spawn_pair(&server, client, plan.timeout)?;
    sweep.points[index].raw_tokio.push(measured.server);
    Ok(())
}

/// Writes the record, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(path: &Path, sweep: &Sweep) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write::whole(path, (serde_json::to_string_pretty(sweep)? + "\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_carries_about_the_same_payload() {
        for (chunk, streams) in [(4096, 1), (65_536, 1), (65_536, 64), (1 << 20, 1)] {
            let workload = workload(chunk, streams, 512);
            assert_eq!(workload.messages * chunk as u64, 512 << 20);
            assert!(workload.warmup >= WARMUP_MIN);
        }
    }
}
