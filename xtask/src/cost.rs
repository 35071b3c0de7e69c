//! `cargo xtask cost`: what the instruments that may run in production cost a service, in interleaved rounds.
//!
//! The same traffic goes to builds that differ in their allocator only: the plain one, the one that counts, the one
//! that samples. A round runs each once, in an order shuffled anew, and what is compared is CPU time within a round, so
//! that a machine that slows down slows all of them. The seams are in every build; what entering a stage takes is
//! measured by `cargo bench --bench overhead`.

use std::collections::BTreeMap;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::ladder::StepSet;
use alloc_ladder::record::{Instrument, Measurement};
use alloc_ladder::scenario::{Scenario, Workload};
use serde::Serialize;

use crate::build::{Allocator, Binaries, build};
use crate::limits::{clock_seed, shuffle};
use crate::metric::digits;
use crate::profile::case::Case;
use crate::profile::step_sets;
use crate::table::{Cell, Table};
use crate::terminal::{self, Style, paint};
use crate::{pair, stats};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shapes
    #[arg(default_values_t = [Scenario::Put, Scenario::Unary])]
    scenarios: Vec<Scenario>,
    /// The rung, with those below it; also `only=STEP` and `without=STEP`. The baseline allocates most
    #[arg(long, default_value = "baseline")]
    step: String,
    /// Timed rounds over all builds
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Messages (unary: calls) of a timed case [default: 4000]
    #[arg(long, default_value_t = 4000, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Cargo profile to build with; times mean something in `release` only
    #[arg(long, default_value = "release")]
    profile: String,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds a case may take before it counts as hung
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// What is compared: the plain allocator first, then what may run in production.
const BUILDS: [Instrument; 3] = [Instrument::Time, Instrument::Count, Instrument::Sampled];

/// What one instrument costs one side of a scenario.
#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: Scenario,
    side: Side,
    instrument: Instrument,
    rounds: usize,
    /// CPU microseconds a message, the median over rounds.
    cpu_us_per_message: f64,
    /// CPU time as a multiple of the plain allocator's in the same round, the median over rounds.
    cpu_ratio: f64,
    /// An interval of at least 95 % around it, where there are rounds enough.
    cpu_ratio_interval: (f64, f64),
}

/// CPU microseconds a message of one scenario, one a round, in round order.
type Measured = BTreeMap<(Side, Instrument), Vec<f64>>;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    pair::catch_interrupts()?;
    let sets = args.scenarios.iter().map(|scenario| {
        let (_, set) = step_sets(*scenario, std::slice::from_ref(&args.step))?.remove(0);
        Ok((*scenario, set))
    });
    let sets = sets.collect::<anyhow::Result<Vec<_>>>()?;
    let builds = BUILDS.map(|instrument| build(instrument, Allocator::System, &args.profile));
    let [time, count, sampled] = builds;
    let builds = [time?, count?, sampled?];
    let mut measured: Vec<Measured> = sets.iter().map(|_| Measured::default()).collect();
    let bar = terminal::bar("Timing", u64::from(args.runs) * sets.len() as u64 * BUILDS.len() as u64);
    let mut random = args.seed.unwrap_or_else(clock_seed);
    for round in 0..args.runs {
        for (index, (scenario, set)) in sets.iter().enumerate() {
            let mut order: Vec<usize> = (0..BUILDS.len()).collect();
            shuffle(&mut order, &mut random);
            for which in order {
                let pair = case(&args, &builds[which], BUILDS[which], *scenario, set, round).run(None)?;
                for side in [pair.server, pair.client] {
                    let cpu = measured[index].entry((side.side, BUILDS[which])).or_default();
                    cpu.push(Measurement::cpu_us_per_message(&side));
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let rows: Vec<Row> =
        sets.iter().zip(&measured).flat_map(|((scenario, _), measured)| rows(*scenario, measured)).collect();
    if args.json {
        return terminal::result(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    terminal::result(&text(&rows, &args.step))
}

fn case<'a>(
    args: &Args,
    binaries: &'a Binaries,
    instrument: Instrument,
    scenario: Scenario,
    set: &'a StepSet,
    round: u32,
) -> Case<'a> {
    Case {
        binaries,
        scenario,
        set,
        workload: Workload { messages: args.messages, ..Workload::default() },
        instrument,
        round,
        runtime: None,
        bind: ([127, 0, 0, 1], 0).into(),
        remote: None,
        timeout: Duration::from_secs(args.timeout),
    }
}

fn rows(scenario: Scenario, measured: &Measured) -> Vec<Row> {
    let row = |(side, instrument)| {
        let of = |instrument| &measured[&(side, instrument)];
        let ratios: Vec<f64> =
            of(instrument).iter().zip(of(Instrument::Time)).map(|(own, plain)| own / plain).collect();
        Row {
            scenario,
            side,
            instrument,
            rounds: ratios.len(),
            cpu_us_per_message: stats::median(of(instrument)),
            cpu_ratio: stats::median(&ratios),
            cpu_ratio_interval: stats::interval95(&ratios),
        }
    };
    Side::ALL.into_iter().flat_map(|side| BUILDS.map(|instrument| (side, instrument))).map(row).collect()
}

fn text(rows: &[Row], step: &str) -> String {
    let mut table = Table::default();
    let heads = ["", "side", "allocator", "CPU µs/message", "CPU ×", "95 % interval"];
    table.row(heads.map(|head| Cell::left(head).style(Style::Bold)));
    for row in rows {
        let ratio = |value: f64| format!("{value:.3}");
        let allocator = if row.instrument == Instrument::Time { "plain" } else { row.instrument.name() };
        let (low, high) = row.cpu_ratio_interval;
        let plain = row.instrument == Instrument::Time;
        let unless_plain = |text: String| Cell::right(if plain { String::new() } else { text });
        table.row([
            Cell::left(row.scenario.name()),
            Cell::left(row.side.name()),
            Cell::left(allocator),
            Cell::right(digits(row.cpu_us_per_message)),
            unless_plain(ratio(row.cpu_ratio)),
            unless_plain(format!("{low:.3} … {high:.3}")),
        ]);
    }
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    let note = format!(
        "{step}. Medians of {rounds} interleaved rounds; ×: as a multiple of the plain allocator's in the same round."
    );
    format!("{}{}\n", table.render(), paint(Style::Dim, &note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instrument_is_compared_with_the_plain_allocator_of_its_own_round() {
        let mut measured = Measured::default();
        for side in Side::ALL {
            // A machine that slows down by half from round to round, and an instrument that costs a tenth.
            measured.insert((side, Instrument::Time), vec![10.0, 15.0, 22.5]);
            measured.insert((side, Instrument::Count), vec![11.0, 16.5, 24.75]);
            measured.insert((side, Instrument::Sampled), vec![10.0, 15.0, 45.0]);
        }
        let rows = rows(Scenario::Put, &measured);
        assert_eq!(rows.len(), 6);
        let of = |instrument| rows.iter().find(|row| row.instrument == instrument).expect("a row");
        assert!((of(Instrument::Count).cpu_ratio - 1.1).abs() < 1e-9);
        assert_eq!(of(Instrument::Sampled).cpu_ratio, 1.0);
        assert_eq!(of(Instrument::Sampled).cpu_ratio_interval, (1.0, 2.0));
        let table = text(&rows, "baseline");
        assert!(table.contains("1.100") && table.contains("Medians of 3 interleaved rounds"), "{table}");
    }
}
