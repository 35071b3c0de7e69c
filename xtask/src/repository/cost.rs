//! `cargo xtask cost`: what the instruments that may run in production cost a service, in interleaved rounds.
//!
//! The same traffic goes to four builds: one whose seams do nothing, as a service that nobody instrumented; one with
//! seams and the plain allocator; the one that counts; the one that samples. A round runs each once, in an order
//! shuffled again each round, and what is compared is CPU time within a round, so that a machine that slows down slows all of them.
//! What is left in the first is the seams' types and a count of open calls.
//!
//! `--max` gates: the median over rounds of an instrument's ratio has an interval, and only where all of it lies above
//! the limit is the limit exceeded. Where the limit lies within, more rounds would tell, and that is said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::{Environment, Instrument, Measurement};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use serde::Serialize;

use crate::analyse::stats;
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::quantity::{MESSAGES_MAX, SECONDS_MAX};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style, paint};
use crate::measure::build::{Allocator, Binary, Variant, build, build_variant};
use crate::measure::case::{self, Caller, Local};
use crate::measure::environment;
use crate::measure::interrupt::{self, Cancel};
use crate::measure::rounds::{clock_seed, shuffle};
use crate::measure::step_sets::step_sets;
use crate::store::write;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shapes
    #[arg(default_values_t = [Scenario::Put, Scenario::Unary])]
    scenarios: Vec<Scenario>,
    /// The step, with those before it; also `only=STEP` and `without=STEP`. The baseline allocates most
    #[arg(long, default_value = "baseline")]
    step: String,
    /// Timed rounds over all builds
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Messages (unary: calls) of a timed case [default: 4000]
    #[arg(long, default_value_t = 4000, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// Cargo profile to build with; use `release` for times
    #[arg(long, default_value = "release")]
    profile: String,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds after which a case counts as hung
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    timeout: u64,
    /// Fail if a build uses more CPU than this multiple of the uninstrumented one, as in `count=1.03,sampled=1.1`
    #[arg(long, value_delimiter = ',', value_parser = limit)]
    max: Vec<Limit>,
    /// Also write the figures to this file, as JSON with a description of the machine
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Build {
    /// Seams that do nothing, and the plain allocator.
    Bare,
    /// Seams, and the plain allocator.
    Seams,
    /// Seams, and the allocator that counts.
    Count,
    /// Seams, and the allocator that samples.
    Sampled,
}

impl Build {
    /// The baseline first, then the builds compared with it.
    const ALL: [Build; 4] = [Build::Bare, Build::Seams, Build::Count, Build::Sampled];

    /// The build's one name.
    const fn name(self) -> &'static str {
        match self {
            Build::Bare => "bare",
            Build::Seams => "seams",
            Build::Count => "count",
            Build::Sampled => "sampled",
        }
    }

    /// What its records say they measure.
    const fn instrument(self) -> Instrument {
        match self {
            Build::Bare | Build::Seams => Instrument::Time,
            Build::Count => Instrument::Count,
            Build::Sampled => Instrument::Sampled,
        }
    }

    fn binary(self, profile: &str) -> anyhow::Result<Binary> {
        match self {
            Build::Bare => build_variant(&Variant::bare(), profile, &Cancel::default()),
            _ => build(self.instrument(), Allocator::System, profile),
        }
    }
}

/// How many times the uninstrumented service's CPU time a build may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Limit {
    build: Build,
    max: f64,
}

fn limit(text: &str) -> Result<Limit, String> {
    let (name, max) = text.split_once('=').ok_or("a limit is a build and a ratio, as `count=1.03`")?;
    let build = <Build as clap::ValueEnum>::from_str(name, false).ok().filter(|build| *build != Build::Bare);
    let build = build.ok_or_else(|| format!("`{name}` is none of seams, count, sampled"))?;
    let max: f64 = max.parse().map_err(|_| format!("`{max}` is not a valid ratio"))?;
    if !(max.is_finite() && max > 0.0) {
        return Err(format!("`{max}` is not a valid ratio"));
    }
    Ok(Limit { build, max })
}

/// What rounds say of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CostVerdict {
    Within,
    Above,
    /// The limit lies in the interval.
    Unsettled,
}

impl CostVerdict {
    fn of((low, high): (f64, f64), max: f64) -> CostVerdict {
        if low > max {
            CostVerdict::Above
        } else if high <= max {
            CostVerdict::Within
        } else {
            CostVerdict::Unsettled
        }
    }
}

/// What one build costs one side of a scenario.
#[derive(Clone, Debug, Serialize)]
struct CostRow {
    scenario: Scenario,
    side: Side,
    build: Build,
    rounds: usize,
    /// CPU microseconds a message, the median over rounds.
    cpu_us_per_message: f64,
    /// CPU time as a multiple of the uninstrumented service's in the same round, the median over rounds.
    cpu_ratio: f64,
    /// An interval of at least 95 % around it, where there are rounds enough.
    cpu_ratio_interval: (f64, f64),
    /// The limit it was held to, if any.
    max: Option<f64>,
    verdict: Option<CostVerdict>,
}

/// What `--out` writes.
#[derive(Debug, Serialize)]
struct Record<'a> {
    created: String,
    environment: Environment,
    step: &'a str,
    messages: u64,
    rows: &'a [CostRow],
}

/// CPU microseconds a message of one scenario, one a round, in round order.
type Measured = BTreeMap<(Side, Build), Vec<f64>>;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    interrupt::catch_interrupts()?;
    let sets = args.scenarios.iter().map(|scenario| {
        let (_, set) = step_sets(*scenario, std::slice::from_ref(&args.step))?.remove(0);
        Ok((*scenario, set))
    });
    let sets = sets.collect::<anyhow::Result<Vec<_>>>()?;
    let builds = Build::ALL.into_iter().map(|build| build.binary(&args.profile));
    let builds = builds.collect::<anyhow::Result<Vec<Binary>>>()?;
    let mut measured: Vec<Measured> = sets.iter().map(|_| Measured::default()).collect();
    let bar = terminal::bar("Timing", u64::from(args.runs) * sets.len() as u64 * Build::ALL.len() as u64);
    let mut random = args.seed.unwrap_or_else(clock_seed);
    for round in 0..args.runs {
        for (index, (scenario, set)) in sets.iter().enumerate() {
            let mut order: Vec<usize> = (0..Build::ALL.len()).collect();
            shuffle(&mut order, &mut random);
            for which in order {
                let binary = &builds[which];
                let case = Case {
                    set: set.clone(),
                    workload: Workload { messages: args.messages, ..Workload::default() },
                    instrument: Build::ALL[which].instrument(),
                    round,
                    ..Case::new(*scenario)
                };
                let pair = case::run(
                    &Local(binary, &[]),
                    Caller(binary, &[]),
                    &case,
                    None,
                    Duration::from_secs(args.timeout),
                )?;
                for side in [pair.server, pair.client] {
                    let cpu = measured[index].entry((side.side, Build::ALL[which])).or_default();
                    cpu.push(Measurement::cpu_us_per_message(&side));
                }
                bar.step();
            }
        }
    }
    bar.finish();
    let rows: Vec<CostRow> =
        sets.iter().zip(&measured).flat_map(|((scenario, _), measured)| rows(*scenario, measured, &args.max)).collect();
    if let Some(path) = &args.out {
        let record = Record {
            created: environment::now().0,
            environment: environment::environment(Allocator::System, &args.profile),
            step: &args.step,
            messages: args.messages,
            rows: &rows,
        };
        let json = serde_json::to_string_pretty(&record)? + "\n";
        write::whole(path, json.as_bytes())?;
    }
    if args.json {
        terminal::result(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else {
        terminal::result(&text(&rows, &args.step))?;
    }
    gate(&rows)
}

/// Fails where a limit is exceeded, and says where rounds do not tell.
fn gate(rows: &[CostRow]) -> anyhow::Result<()> {
    let say = |row: &CostRow| {
        let CostRow { scenario, side, build, cpu_ratio, cpu_ratio_interval: (low, high), max, .. } = row;
        let (build, max) = (build.name(), max.unwrap_or(f64::NAN));
        format!("{scenario} {side} {build}: {cpu_ratio:.3} ({low:.3} … {high:.3}), limit {max}")
    };
    let of = |verdict| rows.iter().filter(move |row| row.verdict == Some(verdict));
    for row in of(CostVerdict::Unsettled) {
        let message = format!("{}: inconclusive: the limit lies inside the interval; use more --runs", say(row));
        terminal::labelled(Style::Warning, "unsettled", &message);
    }
    let above: Vec<String> = of(CostVerdict::Above).map(say).collect();
    if above.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Verdict, format!("above the limit: {}", above.join("; ")))
        .help("is the machine busy with something else? Ratios are within a round, but rounds must be alike")
        .into())
}

fn rows(scenario: Scenario, measured: &Measured, limits: &[Limit]) -> Vec<CostRow> {
    let row = |(side, build)| {
        let of = |build| &measured[&(side, build)];
        let ratios: Vec<f64> = of(build).iter().zip(of(Build::Bare)).map(|(own, bare)| own / bare).collect();
        let cpu_ratio_interval = stats::interval95(&ratios);
        let max = limits.iter().find(|limit| limit.build == build).map(|limit| limit.max);
        CostRow {
            scenario,
            side,
            build,
            rounds: ratios.len(),
            cpu_us_per_message: stats::median(of(build)),
            cpu_ratio: stats::median(&ratios),
            cpu_ratio_interval,
            max,
            verdict: max.map(|max| CostVerdict::of(cpu_ratio_interval, max)),
        }
    };
    Side::ALL.into_iter().flat_map(|side| Build::ALL.map(|build| (side, build))).map(row).collect()
}

fn text(rows: &[CostRow], step: &str) -> String {
    let mut table = Table::default();
    let heads = ["", "side", "build", "CPU µs/message", "CPU ×", "95 % interval"];
    table.row(heads.map(|head| Cell::left(head).style(Style::Bold)));
    for row in rows {
        let ratio = |value: f64| format!("{value:.3}");
        let (low, high) = row.cpu_ratio_interval;
        let bare = row.build == Build::Bare;
        let unless_bare = |text: String| Cell::right(if bare { String::new() } else { text });
        table.row([
            Cell::left(row.scenario.name()),
            Cell::left(row.side.name()),
            Cell::left(row.build.name()),
            Cell::right(numbers::number(row.cpu_us_per_message)),
            unless_bare(ratio(row.cpu_ratio)),
            unless_bare(format!("{low:.3} … {high:.3}")),
        ]);
    }
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    let note = format!(
        "{step}. Medians of {rounds} interleaved rounds; ×: as a multiple of the same round's build without seams."
    );
    format!("{}{}\n", table.render(), paint(Style::Dim, &note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let mut measured = Measured::default();
        for side in Side::ALL {
            // A machine that slows down by half from round to round, and an instrument that costs a tenth.
            measured.insert((side, Build::Bare), vec![10.0, 15.0, 22.5]);
            measured.insert((side, Build::Seams), vec![10.0, 15.0, 22.5]);
            measured.insert((side, Build::Count), vec![11.0, 16.5, 24.75]);
            measured.insert((side, Build::Sampled), vec![10.0, 15.0, 45.0]);
        }
        measured
    }

    #[test]
    fn a_build_is_compared_with_the_uninstrumented_one_of_its_own_round() {
        let rows = rows(Scenario::Put, &measured(), &[]);
        assert_eq!(rows.len(), 8);
        let of = |build| rows.iter().find(|row| row.build == build).expect("a row");
        assert!((of(Build::Count).cpu_ratio - 1.1).abs() < 1e-9);
        assert_eq!(of(Build::Sampled).cpu_ratio, 1.0);
        assert_eq!(of(Build::Sampled).cpu_ratio_interval, (1.0, 2.0));
        let table = text(&rows, "baseline");
        assert!(table.contains("1.100") && table.contains("Medians of 3 interleaved rounds"), "{table}");
        gate(&rows).expect("nothing was asked");
    }

    #[test]
    fn a_limit_is_exceeded_only_by_the_whole_interval() {
        let judged = |limits: &str| {
            let limits: Vec<Limit> = limits.split(',').map(|text| limit(text).expect("a limit")).collect();
            rows(Scenario::Put, &measured(), &limits)
        };
        let verdict = |rows: &[CostRow], build| rows.iter().find(|row| row.build == build).expect("a row").verdict;
        let rows = judged("count=1.2,sampled=1.1,seams=1");
        assert_eq!(verdict(&rows, Build::Bare), None);
        assert_eq!(verdict(&rows, Build::Seams), Some(CostVerdict::Within));
        assert_eq!(verdict(&rows, Build::Count), Some(CostVerdict::Within));
        assert_eq!(verdict(&rows, Build::Sampled), Some(CostVerdict::Unsettled));
        gate(&rows).expect("what is not settled is no failure");
        let error = gate(&judged("count=1.03")).expect_err("a tenth is above three hundredths");
        assert_eq!(error.downcast_ref::<Failure>().expect("a failure").kind, Kind::Verdict);
        assert!(error.to_string().contains("put server count: 1.100 (1.100 … 1.100), limit 1.03"), "{error}");
        for bad in ["count", "bare=1", "time=1.1", "count=x", "count=0", "count=nan"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_agree() {
        for build in Build::ALL {
            assert_eq!(<Build as clap::ValueEnum>::from_str(build.name(), false), Ok(build));
            assert_eq!(serde_json::to_value(build).expect("serialises"), build.name());
        }
    }
}
