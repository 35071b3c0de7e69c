//! `profile` without a program: climbs the steps that `alloc-ladder.toml` describes.

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::browser;
use crate::cli::numbers::several;
use crate::cli::terminal::{self, Style, rendering};
use crate::measure::subject::climb::Climb;
use crate::measure::subject::{self, found};
use crate::measure::{environment, interrupt};
use crate::render::page;
use crate::render::text::summary;
use crate::store::builds::Builds;
use crate::store::layout;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
// Beside those of `profile -- PROGRAM`, whose type has the same name.
#[group(id = "climb")]
pub(crate) struct Args {
    /// The file that describes the service [default: alloc-ladder.toml in this folder or above, up to the workspace's]
    #[arg(long, value_name = "FILE", conflicts_with = "program")]
    file: Option<PathBuf>,
    /// Only these steps of the file
    #[arg(long, value_delimiter = ',', value_name = "STEP", conflicts_with = "program")]
    steps: Vec<String>,
    /// Measure this traffic of the file, as a run of its own [default: that of `[workload]`]
    #[arg(long, value_name = "NAME", conflicts_with = "program")]
    traffic: Option<String>,
    /// How often every step is measured [default: what the file says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "program")]
    rounds: Option<u32>,
    /// Seconds that timed rounds may take; they end sooner when the CPU time of every step is known to 2 % against the
    /// step before [default: what the file says, or as many rounds as are counted]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "program")]
    budget: Option<u64>,
    /// Let timed rounds run on any core instead of holding the loads to one, and the server to the others where there are
    /// more than two [default: what the file says]
    #[arg(long, conflicts_with = "program")]
    no_pin: bool,
    /// Run the commands of a file from elsewhere without asking
    #[arg(long, conflicts_with = "program")]
    yes: bool,
}

/// Measures the subject; `open` the page, or print the record as `json`.
pub(crate) fn run(args: &Args, open: bool, json: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    interrupt::catch_interrupts()?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => found::find()?,
    };
    let mut subject = subject::read(&file)?;
    found::choose(&mut subject, &args.steps)?;
    found::take_traffic(&mut subject, args.traffic.as_deref())?;
    subject.window.rounds = args.rounds.unwrap_or(subject.window.rounds);
    // Who asks for a number of rounds gets that.
    subject.window.budget = args.budget.or(subject.window.budget.filter(|_| args.rounds.is_none()));
    subject.window.pin &= !args.no_pin;
    if !args.yes {
        found::may_run(&subject)?;
    }
    let builds = Builds::take(&layout::builds())?;
    let (created, stamp) = environment::now();
    let folder = RunFolder::create_new(&layout::runs(), &format!("{}-{stamp}", found::plain(&subject.name)))?;
    let rounds = match subject.window.budget {
        Some(seconds) => format!("rounds for {seconds} s"),
        None => several(subject.window.rounds as usize, "round"),
    };
    let words = format!("{} · {} · {rounds}", subject.name, several(subject.steps.len(), "step"));
    terminal::progress("Profiling", &words);
    let mut climb = Climb::new(&subject, folder, created);
    let measured = climb.build(builds.path()).and_then(|()| climb.measure());
    if !climb.has_figures() {
        // A run of nothing would be the newest one; what was printed stays where it is.
        let (_, folder, _) = climb.into_parts();
        folder.clear(&[layout::RUN_JSON.to_owned()])?;
        return measured;
    }
    let (run, folder, mut profiles) = climb.into_parts();
    folder.save(&run)?;
    let page = rendering(folder.path(), || page::write_all(&folder, &run, &mut profiles))?;
    if json {
        terminal::result(&(serde_json::to_string_pretty(&run)? + "\n"))?;
    } else {
        terminal::result(&summary::text(&run, &profiles, &page, None, terminal::width()))?;
    }
    if let Err(error) = measured {
        terminal::progress("Kept", &format!("what was measured until then, marked partial: {}", terminal::path(&page)));
        return Err(error);
    }
    // Who pressed Ctrl-C while the page was drawn has the page, and no browser.
    interrupt::interrupted()?;
    terminal::progress("Finished", &format!("in {:.1} s", began.elapsed().as_secs_f64()));
    if open && !browser::open(&page) {
        terminal::labelled(Style::Help, "help", &format!("there is no browser here; open {}", page.display()));
    }
    Ok(())
}
