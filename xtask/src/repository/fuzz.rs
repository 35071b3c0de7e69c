//! `cargo xtask fuzz`: damages good inputs and gives them to every reader of files and of the wire.
//!
//! A case is made from the seed and its number alone, so that a failure is found again by both, and tried again from
//! the file it is saved in. What is expected of a target, its oracle, is said where the target is: in [`readers`],
//! [`frames`], [`messages`], [`recordings`], [`requests`] and [`connections`]. A case that panics, takes longer than
//! [`runner::CASE_TIME`] or breaks its oracle has failed. A stack that overflows ends the process: the number of the
//! case is then found with `--cases` and the seed, which is printed first.
//!
//! No coverage guides it: it runs on stable Rust, a million cases in minutes, and finds what lies near good inputs.

mod connections;
mod engine;
mod frames;
mod messages;
mod readers;
mod recordings;
mod requests;
mod runner;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style};
use crate::measure::rounds::clock_seed;
use crate::repository::again;
use crate::store::layout::root;
use runner::{Limit, Outcome, Tally};
use targets::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to try [default: all]
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long to try each target: a number and s, m or h [default: 10s, or as long as --cases takes]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// The most cases of each target [default: as many as the time allows]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    cases: Option<u64>,
    /// Build the command with optimisation first: for a million cases of a target, say
    #[arg(long)]
    release: bool,
    /// The same seed makes the same cases [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Try this file alone, as an input of the one target that is named
    #[arg(long, value_name = "FILE", conflicts_with_all = ["time", "cases", "seed"])]
    input: Option<PathBuf>,
}

/// As long as each target is tried where nothing is said.
const TIME: Duration = Duration::from_secs(10);
/// Longer than anybody waits.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a time is a whole number and s, m or h, as in 60s".to_owned()),
    };
    let time = digits.parse::<u64>().map_err(|error| error.to_string())?.checked_mul(scale).map(Duration::from_secs);
    time.filter(|time| !time.is_zero() && *time <= TIME_MAX).ok_or_else(|| "a time is from 1s to 24h".to_owned())
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.release && cfg!(debug_assertions) {
        return again::with_feature("fuzz", &std::env::args().skip(1).collect::<Vec<String>>());
    }
    if let Some(file) = &args.input {
        return once_more(&args.targets, file);
    }
    let time = args.time.unwrap_or(if args.cases.is_some() { TIME_MAX } else { TIME });
    let limit = Limit { time, cases: args.cases.unwrap_or(u64::MAX) };
    try_all(&args.targets, args.seed.unwrap_or_else(clock_seed), limit)
}

fn try_all(targets: &[Target], seed: u64, limit: Limit) -> anyhow::Result<()> {
    let targets = if targets.is_empty() { Target::value_variants() } else { targets };
    let mut tallies = Vec::new();
    for target in targets {
        terminal::progress("Fuzzing", &format!("{} with --seed {seed}", target.name()));
        let folder = root().join("target/fuzz").join(target.name());
        let tally = runner::run(target.start(), target.engine(seed)?, limit, &folder)?;
        for failed in &tally.failures {
            let times =
                if failed.times > 1 { format!(" ({} cases)", numbers::count(failed.times)) } else { String::new() };
            terminal::labelled(
                Style::Error,
                "error",
                &format!("{}: case {}: {}{times}", target.name(), failed.case, failed.message),
            );
            terminal::labelled(Style::Help, "help", &format!("try it again: {}", command(*target, &failed.file)));
        }
        tallies.push((*target, tally));
    }
    terminal::result(&table(&tallies))?;
    let failed: u64 = tallies.iter().map(|(_, tally)| failures(tally)).sum();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(Kind::Verdict, format!("{} cases failed", numbers::count(failed)))
        .help("each kind is told above with the command that tries it again; its input lies in target/fuzz")
        .into())
}

/// Tries a saved input.
fn once_more(targets: &[Target], file: &Path) -> anyhow::Result<()> {
    let [target] = targets else {
        return Err(Failure::new(Kind::Usage, "--input is an input of one target")
            .help("name the target: cargo xtask fuzz TARGET --input FILE")
            .into());
    };
    let input = std::fs::read(file).map_err(|error| {
        Failure::new(Kind::Usage, format!("cannot read `{}`: {error}", file.display()))
            .help("name a file in target/fuzz")
    })?;
    let mut attempt = target.start()()?;
    match runner::once(&mut attempt, &input, 0) {
        Ok(outcome) => {
            let word = if outcome == Outcome::Accepted { "accepted" } else { "refused" };
            terminal::result(&format!("{}: {word}, as it should be\n", target.name()))
        }
        Err(message) => Err(Failure::new(Kind::Verdict, format!("{}: {message}", target.name()))
            .help("mend the kind of fault, and keep the input in xtask/tests-data/fuzz")
            .into()),
    }
}

fn command(target: Target, file: &Path) -> String {
    let file = file.strip_prefix(root()).unwrap_or(file);
    format!("cargo xtask fuzz {} --input {}", target.name(), file.display())
}

fn failures(tally: &Tally) -> u64 {
    tally.failures.iter().map(|failed| failed.times).sum()
}

fn table(tallies: &[(Target, Tally)]) -> String {
    let mut table = Table::default();
    let heads = ["cases", "accepted", "seconds", "cases/s", "failures"];
    let heads = std::iter::once(Cell::left("target")).chain(heads.map(Cell::right));
    table.row(heads.map(|head| head.style(Style::Bold)).collect::<Vec<_>>());
    for (target, tally) in tallies {
        let seconds = tally.took.as_secs_f64();
        let failed = Cell::right(numbers::count(failures(tally)));
        table.row([
            Cell::left(target.name()),
            Cell::right(numbers::count(tally.cases)),
            Cell::right(numbers::share(tally.accepted as f64 / tally.cases.max(1) as f64)),
            Cell::right(format!("{seconds:.1}")),
            Cell::right(numbers::count((tally.cases as f64 / seconds.max(1e-9)) as u64)),
            if tally.failures.is_empty() { failed } else { failed.style(Style::Error) },
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        assert_eq!(time("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "0s", "60", "1.5s", "-1s", "25h", "18446744073709551615h", "5 s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_has_a_line_a_target_and_counts_what_failed() {
        let failed =
            runner::Failed { case: 7, message: "not so".to_owned(), file: root().join("target/fuzz/dhat/x"), times: 3 };
        assert_eq!(command(Target::Dhat, &failed.file), "cargo xtask fuzz dhat --input target/fuzz/dhat/x");
        let tally = Tally { cases: 2000, accepted: 500, took: Duration::from_secs(4), failures: vec![failed] };
        let text = terminal::plain(&table(&[(Target::FrameName, Tally::default()), (Target::Dhat, tally)]));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["target", "cases", "accepted", "seconds", "cases/s", "failures"]);
        assert_eq!(lines[1][0], "frame-name");
        assert_eq!(lines[2].concat(), "dhat200025.0%4.05003");
    }
}
