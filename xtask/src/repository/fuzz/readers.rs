//! The readers of files: names, dhat, folded stacks, pprof, runs, sweeps, budgets.

use std::io::Write;
use std::path::Path;

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use alloc_ladder::wire::pprof;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::runner::{Outcome, Try, Verdict};
use crate::analyse::budget::{Budget, Budgets, Place, Whose};
use crate::analyse::cpu::Samples;
use crate::analyse::dhat::Dhat;
use crate::analyse::fold::{Profile, Unit, union};
use crate::analyse::frame::name::Name;
use crate::analyse::profiles::Profiles;
use crate::analyse::sites::{Stacks, changes};
use crate::analyse::sweep::Sweep;
use crate::render::text::{summary, sweep as sweep_text};
use crate::render::{flame, page, pprof as pprof_export};
use crate::store::{fits, name};

/// Pictures take a hundred times as long as reading: one accepted input in so many is drawn.
const DRAWN: u64 = 32;

/// The line that fails where `condition` does not hold.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
pub(super) use hold;

/// A name is never empty and can stand in a folded line; read again it is the same; and where it stands in a source
/// file, whatever the folder is called, changes nothing.
pub(super) fn frame_name() -> anyhow::Result<Try> {
    Ok(Box::new(|input, _| {
        let raw = String::from_utf8_lossy(input);
        let name = Name::parse(&raw);
        hold!(!name.short.is_empty() && !name.path.is_empty(), "an empty name of {raw:?}: {name:?}");
        for text in [&name.full, &name.short, &name.path] {
            hold!(!text.contains([';', '\n', '\r', '\0']), "would split a line: {text:?} of {raw:?}");
        }
        let again = Name::parse(&name.full);
        hold!(again == name, "read again it differs: {name:?} and {again:?}");
        // A parenthesis of its own may be taken for the position's.
        if raw.contains(['(', ')']) || raw.is_empty() {
            return Ok(Outcome::Accepted);
        }
        let at = |place: &str| {
            let frames = [format!("0x1: {raw} ({place})")];
            let file = serde_json::json!({ "dhatFileVersion": 2, "mode": "rust-heap", "pps": [], "ftbl": frames });
            Dhat::parse(file.to_string().as_bytes()).map(|dhat| dhat.names).map_err(|error| error.to_string())
        };
        for place in ["src/main.rs:1:2", "my app (copy (2))/src/main.rs:10:20", "in /opt/a b (1)/bin"] {
            let names = at(place)?;
            hold!(names == [raw.as_ref()], "the position is part of the name: {names:?}");
        }
        Ok(Outcome::Accepted)
    }))
}

/// Sums are those of the file, however it is folded, and what is drawn is as wide as them; a refusal has words.
pub(super) fn dhat() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        let dhat = match Dhat::parse(input) {
            Ok(dhat) => dhat,
            Err(error) => return refused(&error, error.help()),
        };
        let (raw, profile) = (Profile::raw(&dhat), Profile::from_dhat(&dhat));
        let blocks: u64 = dhat.points.iter().map(|point| point.blocks).sum();
        let bytes: u64 = dhat.points.iter().map(|point| point.bytes).sum();
        for folded in [&raw, &profile] {
            let sums = (folded.total_blocks(), folded.total_bytes());
            hold!(sums == (blocks, bytes), "the file has {blocks} blocks and {bytes} bytes, folded {sums:?}");
        }
        if rng.u64(..DRAWN) == 0 {
            draw(&Profile::default(), &profile)?;
        }
        Ok(Outcome::Accepted)
    }))
}

fn draw(before: &Profile, after: &Profile) -> Result<(), String> {
    for unit in Unit::ALL {
        hold!(flame::layout(after, unit).whole == after.total(unit), "the graph is not as wide as the total");
        flame::differential_layout(before, after, unit);
        flame::svg(after, unit, "title", "").map_err(|error| error.to_string())?;
        flame::differential_svg(before, after, unit, "title", "").map_err(|error| error.to_string())?;
        union(before, after, unit);
        for line in after.folded(unit).lines() {
            let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<u64>().ok());
            hold!(count.is_some(), "a folded line without a count: {line:?}");
        }
    }
    let mut file = Vec::new();
    pprof_export::encode(&[(Side::Server, "", after)], &mut file).map_err(|error| error.to_string())?;
    let export = pprof::Profile::read(&file);
    let values = export.map_err(|error| format!("our own pprof: {error}"))?.sample;
    hold!(values.iter().all(|sample| sample.value.iter().all(|value| *value >= 0)), "a negative value in pprof");
    let stacks = |profile: &Profile| Stacks { profile: profile.clone(), messages: 3 };
    changes(&stacks(before), &stacks(after));
    Ok(())
}

/// No sample is lost, and what is written again is read as the same.
pub(super) fn folded() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        let samples = match Samples::parse(input) {
            Ok(samples) => samples,
            Err(error) => return refused(&error, error.help()),
        };
        let lines = String::from_utf8_lossy(input);
        let counts = lines.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        let total: u64 = counts.sum();
        hold!(samples.total() == total, "{} of {total} samples", samples.total());
        let written = samples.folded();
        let again = Samples::parse(written.as_bytes()).map_err(|error| format!("our own lines: {error}"))?;
        hold!(again.total() == total, "written again, {} of {total} samples", again.total());
        if rng.u64(..DRAWN) == 0 {
            flame::cpu_svg(&samples, "title", "").map_err(|error| error.to_string())?;
        }
        Ok(Outcome::Accepted)
    }))
}

/// Takes what is within gzip. Every string can be asked for; what was read is written and read as the same; bytes that
/// are not gzip are refused.
pub(super) fn pprof() -> anyhow::Result<Try> {
    Ok(Box::new(|input, _| {
        hold!(input.starts_with(&[0x1f, 0x8b]) || pprof::Profile::read(input).is_err(), "read without gzip");
        let Ok(profile) = pprof::Profile::read(&gzip(input)) else { return Ok(Outcome::Refused) };
        for index in [i64::MIN, -1, 0, profile.string_table.len() as i64, i64::MAX] {
            profile.string(index);
        }
        for sample in &profile.sample {
            sample.label.iter().for_each(|label| _ = (profile.string(label.key), profile.string(label.str)));
        }
        let written = profile.encode_to_vec();
        let again = pprof::Profile::read(&gzip(&written)).map_err(|error| format!("written again: {error}"))?;
        hold!(again == profile, "written again it differs");
        Ok(Outcome::Accepted)
    }))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).expect("memory takes everything");
    gzip.finish().expect("memory takes everything")
}

/// What `view` and `report` accept of a record is drawn, has no script of the record's, and is written and read as the
/// same.
pub(super) fn run() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        let Ok(text) = std::str::from_utf8(input) else { return Ok(Outcome::Refused) };
        let run = match Run::from_json(text) {
            Ok(run) => run,
            Err(error) => return refused(&error, "help"),
        };
        if let Err(error) = fits::check(text) {
            return refused(&error, "help");
        }
        if let Err(error) = name::check(Path::new("run.json"), &run) {
            return refused(&error, error.help.as_deref().unwrap_or_default());
        }
        let written = serde_json::to_string(&run).map_err(|error| error.to_string())?;
        let again = Run::from_json(&written).map_err(|error| format!("written again: {error}"))?;
        hold!(serde_json::to_string(&again).ok() == Some(written), "written again it differs");
        if rng.u64(..DRAWN / 4) == 0 {
            let page = page::render(&run, &Profiles::default());
            hold!(!page.contains(SCRIPT), "the page holds the record's own script");
            summary::text(&run, &Profiles::default(), Path::new("report.html"), None, Some(80));
        }
        Ok(Outcome::Accepted)
    }))
}

/// What an input writes to have it run in a page.
pub(super) const SCRIPT: &str = "<script>fuzz";

/// What fits is written as tables, and is written and read as the same.
pub(super) fn sweep() -> anyhow::Result<Try> {
    Ok(Box::new(|input, _| {
        let Ok(text) = std::str::from_utf8(input) else { return Ok(Outcome::Refused) };
        let sweep: Sweep = match serde_json::from_str(text) {
            Ok(sweep) => sweep,
            Err(error) => return refused(&error, "help"),
        };
        if let Err(error) = fits::check(text) {
            return refused(&error, "help");
        }
        sweep_text::text(&sweep);
        sweep_text::markdown(&sweep);
        let written = serde_json::to_string(&sweep).map_err(|error| error.to_string())?;
        let again: Sweep = serde_json::from_str(&written).map_err(|error| format!("written again: {error}"))?;
        hold!(serde_json::to_string(&again).ok() == Some(written), "written again it differs");
        Ok(Outcome::Accepted)
    }))
}

/// Limits are numbers that something can be held to; comments stay; each can be blessed, and is then as it was blessed.
pub(super) fn budgets() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        let mut budgets = match Budgets::read(input, Whose::Study) {
            Ok(budgets) => budgets,
            Err(error) => return refused(&error, "help"),
        };
        let text = String::from_utf8_lossy(input);
        for budget in &budgets.all {
            let (figure, tolerance) = (budget.figure, budget.tolerance);
            hold!(figure.is_finite() && tolerance.is_finite() && tolerance >= 0.0, "holds nothing: {budget:?}");
            let same = |other: &&_| place(other) == place(budget);
            hold!(budgets.all.iter().filter(same).count() == 1, "stated twice: {budget:?}");
        }
        let unchanged = budgets.text();
        let again = Budgets::parse(&unchanged, Whose::Study).map_err(|error| format!("written again: {error}"))?;
        hold!(again.all.len() == budgets.all.len(), "written again, {} budgets", again.all.len());
        hold!(unchanged.matches('#').count() == text.matches('#').count(), "a comment is lost");
        if !budgets.all.is_empty() {
            let budget = budgets.all.swap_remove(rng.usize(..budgets.all.len()));
            budgets.bless(&budget, 12.5);
            let blessed = Budgets::parse(&budgets.text(), Whose::Study).map_err(|error| format!("blessed: {error}"))?;
            let figure = blessed.all.iter().find(|other| place(other) == place(&budget)).map(|found| found.figure);
            hold!(figure == Some(12.5), "blessed as {figure:?}: {budget:?}");
        }
        Ok(Outcome::Accepted)
    }))
}

fn place(budget: &Budget) -> (&Place, &str) {
    (&budget.place, budget.metric.name)
}

/// A refusal says what is wrong and the way out.
fn refused(error: &dyn std::fmt::Display, help: &str) -> Verdict {
    let words = error.to_string();
    hold!(!words.trim().is_empty() && !help.is_empty(), "refused without words");
    Ok(Outcome::Refused)
}
