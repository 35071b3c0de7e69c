//! `profile -- PROGRAM`: runs any program, records every stack that allocates, and shows what it found.
//!
//! Nothing of the program is changed: a preload library records it, or its own `alloc_ladder::Alloc` does.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::Run;

use crate::analyse::executable::{ALLOC_LINES, SEAM_LINES};
use crate::analyse::fold::{Profile, Unit};
use crate::analyse::profiles::Profiles;
use crate::analyse::symbols::Quality;
use crate::cli::browser;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::environment;
use crate::measure::import::{self, About, Imported};
use crate::measure::record::{self, Recorded, Wanted};
use crate::render::page;
use crate::render::text::recorded::{self, Figures};
use crate::store::layout;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End the program after so long, as in 30s or 5m; if omitted, it runs until it ends or Ctrl-C is pressed
    #[arg(long = "for", value_name = "TIME", value_parser = time, requires = "program")]
    time: Option<Duration>,
    /// Record programs of these names too, where the program starts them
    #[arg(long, value_delimiter = ',', value_name = "NAME", requires = "program")]
    children: Vec<String>,
    /// Which side of the calls the program is
    #[arg(long, value_enum, default_value = "server")]
    side: Side,
    /// Name functions from this unstripped file of the same build; may be given several times
    #[arg(long, value_name = "FILE", requires = "program")]
    symbols: Vec<PathBuf>,
    /// Build this binary of the workspace with debug information, and record it; what follows `--` are its arguments
    #[arg(long, value_name = "NAME", group = "program")]
    bin: Option<String>,
    /// Record a program although it brings an allocator of its own, whose blocks are not seen
    #[arg(long, requires = "program")]
    anyway: bool,
    /// Open the report in a browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Print the run's record as JSON instead of the tables
    #[arg(long)]
    pub(crate) json: bool,
    /// The program and its arguments
    #[arg(last = true, group = "program")]
    command: Vec<String>,
}

impl Args {
    /// Whether a program is to be recorded.
    pub(crate) fn has_program(&self) -> bool {
        self.bin.is_some() || !self.command.is_empty()
    }
}

/// A time as people write it: `30s`, `5m`, `1h`, `500ms`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number and ms, s, m or h, as in 30s".to_owned()),
    };
    let seconds = digits.parse::<f64>().map_err(|_| format!("`{digits}` is not a valid number"))? * unit;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero() && time.as_secs() <= 30 * 86_400)
        .ok_or_else(|| "a time is longer than nothing and at most 30 days".to_owned())
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let command = match &args.bin {
        Some(bin) => [vec![record::build(bin)?], args.command.clone()].concat(),
        None => args.command.clone(),
    };
    let wanted = Wanted { command: &command, children: &args.children, time: args.time, anyway: args.anyway };
    let line = terminal::spinner("Recording");
    let recorded = record::record(&wanted, |after, totals, rss| {
        line.about(&recorded::progress(after, totals.blocks, totals.bytes, totals.live_bytes(), rss));
    });
    line.finish();
    let recorded = recorded?;
    let failed = !recorded.status.success() && !recorded.told;
    let mut profiles = Profiles::default();
    let (created, stamp) = environment::now();
    let folder = RunFolder::create_new(&layout::runs(), &format!("profile-{stamp}"))?;
    let (run, imported, page) = terminal::rendering(folder.path(), || {
        let (run, imported) = keep(&args, &command, &recorded, failed, created, &folder, &mut profiles)?;
        let page = page::write_all(&folder, &run, &mut profiles)?;
        anyhow::Ok((run, imported, page))
    })?;
    for note in imported.iter().flat_map(|imported| &imported.notes) {
        terminal::labelled(Style::Warning, "warning", note);
    }
    if args.json {
        terminal::result(&(serde_json::to_string_pretty(&run)? + "\n"))?;
    } else {
        terminal::result(&text(&imported, &recorded, &profiles))?;
    }
    advise(&imported, &profiles);
    terminal::progress("Report", &terminal::path(&page));
    if args.open && !browser::open(&page) {
        terminal::labelled(Style::Help, "help", &format!("there is no browser here; open {}", page.display()));
    }
    if failed {
        return Err(Failure::new(Kind::Run, format!("`{}` failed: {}", command[0], recorded.status))
            .help("what it allocated until then is kept in the report, which is marked partial")
            .into());
    }
    if recorded.left > 0 && !recorded.told {
        return Err(Failure::new(
            Kind::Run,
            format!("`{}` went on in the background, and was ended there", command[0]),
        )
        .help("what a forked child allocates is not recorded: start the program so that it stays in the foreground")
        .into());
    }
    Ok(())
}

/// Writes the recordings and what is made of them into a new run's folder.
fn keep(
    args: &Args,
    command: &[String],
    recorded: &Recorded,
    failed: bool,
    created: String,
    folder: &RunFolder,
    profiles: &mut Profiles,
) -> anyhow::Result<(Run, Vec<Imported>)> {
    let root = layout::root().to_string_lossy().into_owned();
    let line = command.join(" ");
    let mut imported = Vec::new();
    for (index, file) in recorded.files.iter().enumerate() {
        let kept = folder.path().join(layout::recording(index));
        record::copy(file, &kept)?;
        let name = import::step_name(&command[0], index);
        let about = About { name, side: args.side, command: &line, root: &root, symbols: &args.symbols, blocks: false };
        imported.push(import::import(&kept, folder, index, &about, profiles)?);
    }
    let mut steps: Vec<_> = imported.iter().map(|imported| imported.step.clone()).collect();
    for step in steps.iter_mut().take(1) {
        for measurement in &mut step.measurements {
            measurement.wall_ns = recorded.wall.as_nanos() as u64;
            measurement.usage.rss_bytes_max = recorded.rss_bytes_max;
        }
        for seen in step.stacks.iter_mut().filter_map(|stacks| stacks.recorded.as_mut()) {
            seen.rss_bytes_max = recorded.rss_bytes_max;
            seen.wall_ms = recorded.wall.as_millis() as u64;
            seen.moments.clone_from(&recorded.moments);
        }
    }
    let mut run = import::run(folder.name(), created, line.clone(), steps, failed);
    run.environment = environment::of_program(line, Path::new(&command[0]));
    folder.save(&run)?;
    Ok((run, imported))
}

fn text(imported: &[Imported], recorded: &Recorded, profiles: &Profiles) -> String {
    let mut text = String::new();
    for (index, one) in imported.iter().enumerate() {
        let (Some(of), Some(profile)) = (&one.recorded, stacks(one, index, profiles)) else { continue };
        if imported.len() > 1 {
            let _ = writeln!(text, "{}", one.step.name);
        }
        text += &recorded::text(&Figures {
            profile,
            blocks: of.totals.blocks,
            bytes: of.totals.bytes,
            live_bytes: of.totals.live_bytes(),
            live_blocks: of.totals.blocks.saturating_sub(of.totals.freed_blocks),
            temporary_blocks: of.temporary_blocks,
            peak_bytes: of.peak_bytes,
            rss_bytes_max: if index == 0 { recorded.rss_bytes_max } else { 0 },
            wall: recorded.wall,
            shows_stages: of.quality.tells_stages() || of.has_scopes,
        });
    }
    text
}

/// The stacks of a recording.
fn stacks<'a>(imported: &Imported, index: usize, profiles: &'a Profiles) -> Option<&'a Profile> {
    profiles.get(index, imported.step.stacks.first()?.side)
}

/// The one thing that would show more.
fn advise(imported: &[Imported], profiles: &Profiles) {
    let first = imported.first().and_then(|first| Some((first.recorded.as_ref()?, stacks(first, 0, profiles)?)));
    let Some((of, profile)) = first else { return };
    if profile.total(Unit::Blocks) == 0 {
        return;
    }
    if of.quality != Quality::Full {
        terminal::labelled(Style::Help, "help", of.quality.help());
    } else if !of.has_scopes {
        terminal::labelled(
            Style::Help,
            "help",
            &format!("{SEAM_LINES}\nand an allocator that asks them; {ALLOC_LINES}"),
        );
    } else if profile.said.is_empty() {
        terminal::labelled(Style::Help, "help", SEAM_LINES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "30", "s", "-1s", "0s", "1d", "infs", "NaNs", "9999999h", "1e300s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
