//! Which call sites allocate more or less than before: two dhat profiles of one side, stack by stack, per message.
//!
//! It reads what the `stacks` instrument left in a run's folder and knows nothing of how a verb presents it. Stacks are
//! compared as people read them, without the runtime's frames.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use alloc_ladder::record::StepRecord;
use alloc_ladder::{Side, Stage};
use anyhow::Context;
use serde::Serialize;

use crate::dhat::Dhat;
use crate::flame;
use crate::fold::{Profile, Unit};
use crate::metric::digits;
use crate::stats::change;
use crate::table::{Cell, Table};
use crate::terminal::{Style, paint};

/// How many changes a table shows.
const SHOWN: usize = 10;

/// How many frames of a stack a table shows, the innermost first: enough to find the line, short enough to read.
const FRAMES_SHOWN: usize = 3;

/// One step of one run, with the folder its dhat files are in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) folder: &'a Path,
    /// The run's id.
    pub(crate) run: &'a str,
    pub(crate) step: &'a StepRecord,
}

/// What changed on one side.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) side: Side,
    /// Every stack that changed, the largest change in bytes first.
    pub(crate) changes: Vec<Site>,
    /// The differential flame graph, once written.
    pub(crate) flame: Option<PathBuf>,
}

/// One stack, before and after, per message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Site {
    pub(crate) stage: Stage,
    /// Root first.
    pub(crate) frames: Vec<String>,
    pub(crate) before: Amount,
    pub(crate) after: Amount,
}

/// What a stack allocates per message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Amount {
    pub(crate) blocks: f64,
    pub(crate) bytes: f64,
}

impl Site {
    fn bytes_more(&self) -> f64 {
        self.after.bytes - self.before.bytes
    }

    fn blocks_more(&self) -> f64 {
        self.after.blocks - self.before.blocks
    }

    /// Whether it allocates more than before, in blocks or in bytes.
    pub(crate) fn grew(&self) -> bool {
        self.bytes_more() > 0.0 || self.blocks_more() > 0.0
    }

    /// The innermost frames, callee first.
    fn innermost(&self) -> String {
        let shown: Vec<&str> = self.frames.iter().rev().take(FRAMES_SHOWN).map(String::as_str).collect();
        shown.join(" ← ")
    }
}

/// What changed between two steps on one side; `None` where either has no stacks.
///
/// # Errors
/// When a dhat file cannot be read.
pub(crate) fn moved(before: Endpoint<'_>, after: Endpoint<'_>, side: Side) -> anyhow::Result<Option<Moved>> {
    let (Some(old), Some(new)) = (read(before, side)?, read(after, side)?) else { return Ok(None) };
    Ok(Some(Moved { side, changes: changes(&old, &new), flame: None }))
}

/// Draws what changed on one side, by bytes, into `file`; says where. `None` where either has no stacks.
///
/// # Errors
/// When a dhat file cannot be read or the graph cannot be written.
pub(crate) fn draw(
    before: Endpoint<'_>,
    after: Endpoint<'_>,
    side: Side,
    file: PathBuf,
) -> anyhow::Result<Option<PathBuf>> {
    let (Some(old), Some(new)) = (read(before, side)?, read(after, side)?) else { return Ok(None) };
    let title = match before.run == after.run {
        true => format!("{}: {} → {}, {side}", after.run, before.step.name, after.step.name),
        false => format!("{} → {}, {}, {side}", before.run, after.run, after.step.name),
    };
    let subtitle = format!("bytes allocated over {} messages; blue is less, orange is more", new.messages);
    let svg = flame::differential_svg(&old.profile, &new.profile, Unit::Bytes, &title, &subtitle)?;
    std::fs::write(&file, svg).with_context(|| format!("cannot write `{}`", file.display()))?;
    Ok(Some(file))
}

struct Stacks {
    profile: Profile,
    messages: u64,
}

fn read(end: Endpoint<'_>, side: Side) -> anyhow::Result<Option<Stacks>> {
    let Some(stacks) = end.step.stacks(side) else { return Ok(None) };
    let profile = Profile::from_dhat(&Dhat::read(&end.folder.join(&stacks.dhat))?);
    Ok(Some(Stacks { profile, messages: stacks.messages }))
}

fn changes(before: &Stacks, after: &Stacks) -> Vec<Site> {
    type Part = fn(&mut Site) -> &mut Amount;
    let both: [(&Stacks, Part); 2] = [(before, |site| &mut site.before), (after, |site| &mut site.after)];
    let mut sites: BTreeMap<(Stage, &[String]), Site> = BTreeMap::new();
    for (stacks, part) in both {
        let messages = stacks.messages.max(1) as f64;
        for site in &stacks.profile.sites {
            let none = Amount::default();
            let empty = || Site { stage: site.stage, frames: site.frames.clone(), before: none, after: none };
            let amount = part(sites.entry((site.stage, &site.frames)).or_insert_with(empty));
            amount.blocks += site.blocks as f64 / messages;
            amount.bytes += site.bytes as f64 / messages;
        }
    }
    let mut changed: Vec<Site> = sites.into_values().filter(|site| site.before != site.after).collect();
    // Bytes first; sites that change in blocks alone follow.
    let size = |site: &Site| Reverse((ordered(site.bytes_more()), ordered(site.blocks_more())));
    changed.sort_by_cached_key(|site| size(site));
    changed
}

/// A magnitude as a key that sorts.
fn ordered(value: f64) -> u64 {
    // The bits of finite numbers from zero up sort as the numbers do.
    value.abs().to_bits()
}

impl Moved {
    /// The largest changes, a line each.
    pub(crate) fn text(&self) -> String {
        let mut text = paint(Style::Bold, &format!("{} call sites, bytes and blocks per message", self.side)) + "\n";
        if self.changes.is_empty() {
            text += "no call site changed\n";
            return text;
        }
        text += &table(&self.changes);
        if let Some(flame) = &self.flame {
            let _ = writeln!(text, "flame graph  {}", from_here(flame).display());
        }
        text
    }
}

/// A path as it is reached from the current folder, where it is below it.
fn from_here(path: &Path) -> &Path {
    std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

/// The first sites, a line each, and how many more there are.
pub(crate) fn table(sites: &[Site]) -> String {
    let mut table = Table::default();
    for site in &sites[..sites.len().min(SHOWN)] {
        let style = if site.grew() { Style::Worse } else { Style::Better };
        let signed = |value: f64| match value {
            value if value > 0.0 => format!("+{}", digits(value)),
            value => digits(value),
        };
        table.row([
            Cell::right(format!("{} B", signed(site.bytes_more()))).style(style),
            Cell::right(signed(site.blocks_more())).style(style),
            Cell::right(change(site.before.bytes, site.after.bytes).to_string()),
            Cell::left(site.stage.name()),
            Cell::left(site.innermost()),
        ]);
    }
    let mut text = table.render();
    if sites.len() > SHOWN {
        let _ = writeln!(text, "… and {} smaller changes", sites.len() - SHOWN);
    }
    text
}

/// What a comparison's differential flame graph of one side is called.
pub(crate) fn flame_name(before: Endpoint<'_>, after: Endpoint<'_>, side: Side) -> String {
    match before.run == after.run {
        true => format!("diff-{}-{}-{side}.svg", before.step.name, after.step.name),
        false => format!("diff-{}-{}-{side}.svg", before.run, after.step.name),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::fixture;

    use super::*;

    #[test]
    fn changes_are_per_message_largest_first_and_what_stayed_is_left_out() {
        let folder = tempfile::tempdir().expect("creates");
        let stays: (&[&str], u64, u64) = (&["prost::encoding::merge", "subject::put"], 10, 1000);
        let before =
            [stays, (&["subject::gone", "subject::put"], 20, 5000), (&["subject::less", "subject::put"], 2, 64)];
        let after =
            [stays, (&["subject::copy", "subject::put"], 10, 655_360), (&["subject::less", "subject::put"], 1, 32)];
        let step = |name, points| StepRecord {
            stacks: vec![fixture::stacks(folder.path(), name, 10, points)],
            ..fixture::step(name, Vec::new())
        };
        let (old, new) = (step("old", &before), step("new", &after));
        let end = |step| Endpoint { folder: folder.path(), run: "put-a", step };
        let moved = moved(end(&old), end(&new), Side::Server).expect("reads").expect("both have stacks");
        let text = anstream::adapter::strip_str(&table(&moved.changes)).to_string();
        expect_test::expect![[r#"
            +65,536 B   +1.00     new  handler  subject::copy ← subject::put
               −500 B   −2.00    gone  handler  subject::gone ← subject::put
              −3.20 B  −0.100  −50.0%  handler  subject::less ← subject::put
        "#]]
        .assert_eq(&text);
        assert!(super::moved(end(&old), end(&new), Side::Client).expect("reads").is_none());
        let file = folder.path().join(flame_name(end(&old), end(&new), Side::Server));
        let drawn = draw(end(&old), end(&new), Side::Server, file).expect("draws").expect("both have stacks");
        assert_eq!(drawn.file_name().expect("a name"), "diff-old-new-server.svg");
        assert!(fs::read_to_string(drawn).expect("reads").contains("subject::copy"));
    }
}
