//! What changed between the call sites of two steps, as a table and as a differential flame graph.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use alloc_ladder::record::StepRecord;
use alloc_ladder::{Side, Stage};

use crate::analyse::fold::{Profile, Unit};
use crate::analyse::sites::{self, Moved, Site, Source, Stacks, changes};
use crate::analyse::source::Sources;
use crate::analyse::stats::change;
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Style, paint};
use crate::render::{files, flame};
use crate::store::layout;
use crate::store::write::{self, RunFolder};

/// How many changes a table shows.
const SHOWN: usize = 10;

/// One step of one run, with the folder its dhat files are in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) folder: &'a Path,
    /// The run's id.
    pub(crate) run: &'a str,
    pub(crate) step: &'a StepRecord,
}

/// What changed between two steps on one side; `None` where either has no stacks.
///
/// # Errors
/// When a dhat file cannot be read.
pub(crate) fn moved(before: Endpoint<'_>, after: Endpoint<'_>, side: Side) -> anyhow::Result<Option<Moved>> {
    let (Some(old), Some(new)) = (stacks_of(before, side)?, stacks_of(after, side)?) else { return Ok(None) };
    Ok(Some(Moved { side, changes: changes(&old, &new), flame: None }))
}

/// The largest call sites of one side, of `stages` or of all, with the lines that they stand in; `None` where it has no
/// stacks.
///
/// # Errors
/// When a dhat file cannot be read.
pub(crate) fn largest(
    of: Endpoint<'_>,
    side: Side,
    stages: Option<&BTreeSet<Stage>>,
) -> anyhow::Result<Option<Vec<Site>>> {
    let Some(stacks) = stacks_of(of, side)? else { return Ok(None) };
    let mut sites = sites::largest(&stacks, |stage| stages.is_none_or(|stages| stages.contains(&stage)));
    look_up(&mut sites, of, side)?;
    Ok(Some(sites))
}

/// Looks up in which lines the first sites stand, of files in the workspace: the others are nobody's to change.
///
/// # Errors
/// When a dhat file cannot be read.
pub(crate) fn look_up<'a>(
    sites: impl IntoIterator<Item = &'a mut Site>,
    of: Endpoint<'_>,
    side: Side,
) -> anyhow::Result<()> {
    let mut sites = sites.into_iter().take(SHOWN).peekable();
    let Some(stacks) = of.step.stacks(side).filter(|_| sites.peek().is_some()) else { return Ok(()) };
    let Some(sources) = Sources::parse(&RunFolder::open(of.folder)?.read(&stacks.dhat)?) else { return Ok(()) };
    let root = layout::root();
    let is_ours =
        |file: &str| !file.starts_with("target/") && root.join(file).is_file() && root.join(file).starts_with(&root);
    for site in sites {
        let here = root.to_string_lossy();
        site.source = sources.of(site, is_ours).map(|source| Source {
            file: source
                .file
                .strip_prefix(&*here)
                .map_or(source.file.as_str(), |file| file.trim_start_matches('/'))
                .to_owned(),
            ..source
        });
    }
    Ok(())
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
    let (Some(old), Some(new)) = (stacks_of(before, side)?, stacks_of(after, side)?) else { return Ok(None) };
    let title = match before.run == after.run {
        true => format!("{}: {} → {}, {side}", after.run, before.step.name, after.step.name),
        false => format!("{} → {}, {}, {side}", before.run, after.run, after.step.name),
    };
    let subtitle = format!("bytes allocated over {} messages; blue is less, orange is more", new.messages);
    let svg = flame::differential_svg(&old.profile, &new.profile, Unit::Bytes, &title, &subtitle)?;
    write::whole(&file, svg.as_bytes())?;
    Ok(Some(file))
}

fn stacks_of(end: Endpoint<'_>, side: Side) -> anyhow::Result<Option<Stacks>> {
    let Some(stacks) = end.step.stacks(side) else { return Ok(None) };
    let profile = Profile::from_dhat(&files::dhat(&RunFolder::open(end.folder)?, stacks)?);
    Ok(Some(Stacks { profile, messages: stacks.messages }))
}

impl Moved {
    /// The largest changes, a row each, for a terminal of so many columns.
    pub(crate) fn text(&self, columns: Option<usize>) -> String {
        let mut text = paint(Style::Bold, &format!("{} call sites, bytes and blocks per message", self.side)) + "\n";
        if self.changes.is_empty() {
            text += "no call site changed\n";
            return text;
        }
        text += &table(&self.changes, columns);
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

/// The first sites, a row each, and how many more there are.
pub(crate) fn table(sites: &[Site], columns: Option<usize>) -> String {
    let mut table = Table::default();
    for site in &sites[..sites.len().min(SHOWN)] {
        let style = if site.grew() { Style::Worse } else { Style::Better };
        table.row([
            Cell::right(numbers::signed(site.bytes_more(), numbers::bytes)).style(style),
            Cell::right(numbers::signed(site.blocks_more(), numbers::number)).style(style),
            Cell::right(change(site.before.bytes, site.after.bytes).to_string()),
            Cell::left(site.stage.name()),
            Cell::left(site.innermost()),
        ]);
    }
    let mut text = table.render_within(columns);
    if sites.len() > SHOWN {
        let _ = writeln!(text, "… and {} smaller changes", sites.len() - SHOWN);
    }
    text
}

/// The first sites of one run, a line each.
pub(crate) fn largest_table(sites: &[Site]) -> String {
    let mut table = Table::default();
    for site in &sites[..sites.len().min(SHOWN)] {
        table.row([
            Cell::right(numbers::bytes(site.after.bytes)),
            Cell::right(numbers::number(site.after.blocks)),
            Cell::left(site.stage.name()),
            Cell::left(site.innermost()),
        ]);
    }
    table.render()
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
        let text = crate::cli::terminal::plain(&table(&moved.changes, None));
        expect_test::expect![[r#"
            +64 KiB   +1.00     new  handler  subject::copy ← subject::put
             −500 B   −2.00    gone  handler  subject::gone ← subject::put
            −3.20 B  −0.100  −50.0%  handler  subject::less ← subject::put
        "#]]
        .assert_eq(&text);
        assert!(super::moved(end(&old), end(&new), Side::Client).expect("reads").is_none());
        let file = folder.path().join(flame_name(end(&old), end(&new), Side::Server));
        let drawn = draw(end(&old), end(&new), Side::Server, file).expect("draws").expect("both have stacks");
        assert_eq!(drawn.file_name().expect("a name"), "diff-old-new-server.svg");
        assert!(fs::read_to_string(drawn).expect("reads").contains("subject::copy"));
    }
}
