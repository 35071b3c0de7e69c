//! What is printed of a recorded program: its stages, its top sites, and where its memory went, a line each.

use std::fmt::Write;
use std::time::Duration;

use alloc_ladder::Stage;

use crate::analyse::by_stack;
use crate::analyse::fold::{Profile, Site};
use crate::cli::numbers::{bytes, count};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::Style;

/// How many sites the table has.
const SITES: usize = 10;
/// How many frames of a site, the innermost first.
const FRAMES: usize = 3;

/// The figures of one recorded process.
pub(crate) struct Figures<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
    pub(crate) temporary_blocks: u64,
    pub(crate) peak_bytes: u64,
    /// 0 for unknown.
    pub(crate) rss_bytes_max: u64,
    pub(crate) wall: Duration,
    pub(crate) shows_stages: bool,
}

/// The line shown while a program runs.
pub(crate) fn progress(after: Duration, made: u64, allocated: u64, live: u64, rss: u64) -> String {
    format!(
        "{:.1} s: {}, {} allocated, {} live, {} resident at most",
        after.as_secs_f64(),
        blocks(made),
        bytes(allocated as f64),
        bytes(live as f64),
        bytes(rss as f64)
    )
}

/// The tables and the lines under them.
pub(crate) fn text(figures: &Figures<'_>) -> String {
    let mut text = String::new();
    if figures.shows_stages {
        text += &stages(figures);
        text.push('\n');
    }
    text += &sites(figures);
    let _ = writeln!(
        text,
        "\n{} and {} allocated, {} and {} live at the end, {} temporary ({:.1} %)",
        blocks(figures.blocks),
        bytes(figures.bytes as f64),
        blocks(figures.live_blocks),
        bytes(figures.live_bytes as f64),
        count(figures.temporary_blocks),
        share(figures.temporary_blocks, figures.blocks),
    );
    // The page leaves these out of its sums, and has a row of them outside.
    let own = figures.profile.sum(|site| if site.stage == Stage::Instrument { site.blocks } else { 0 });
    if own > 0 {
        let _ = writeln!(text, "{} of these the instrument's own", blocks(own));
    }
    let rss = match figures.rss_bytes_max {
        // The program ended between two looks.
        rss if rss < figures.peak_bytes => String::new(),
        rss => format!(", {} resident at most", bytes(rss as f64)),
    };
    let _ = writeln!(
        text,
        "{} live at the peak{rss}, {:.1} s",
        bytes(figures.peak_bytes as f64),
        figures.wall.as_secs_f64()
    );
    text
}

fn blocks(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "block" } else { "blocks" })
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn stages(figures: &Figures<'_>) -> String {
    let profile = figures.profile;
    let has_scopes = !profile.said.is_empty();
    let mut table = Table::default();
    let heading = [if has_scopes { "stage" } else { "stage, by stack" }, "blocks", "bytes", "% of bytes", "% by stack"];
    let columns = if has_scopes { 5 } else { 4 };
    let cell = |(index, words)| if index == 0 { Cell::left(words) } else { Cell::right(words) };
    let heading = heading.into_iter().take(columns).enumerate().map(cell);
    table.row(heading.map(|cell| cell.style(Style::Bold)).collect::<Vec<_>>());
    // What no seam saw stands under the stage of its stack already.
    for row in profile.stages().iter().filter(|row| row.blocks > 0 || row.bytes > 0) {
        let named = by_stack::named_by_stack(profile, row.stage);
        let cells = [
            Cell::left(row.stage.name()),
            Cell::right(count(row.blocks)),
            Cell::right(bytes(row.bytes as f64)),
            Cell::right(format!("{:.1}", share(row.bytes, figures.bytes))),
            Cell::right(format!("{:.1}", share(named, row.bytes))),
        ];
        table.row(cells.into_iter().take(columns).collect::<Vec<_>>());
    }
    table.render() + &disagreements(figures)
}

/// Where seams and stacks say of the same bytes that they are different stages'.
fn disagreements(figures: &Figures<'_>) -> String {
    let apart = by_stack::disagreements(figures.profile);
    if apart.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    table.row([
        Cell::left("the scope says").style(Style::Bold),
        Cell::left("the stack says").style(Style::Bold),
        Cell::right("blocks").style(Style::Bold),
        Cell::right("bytes").style(Style::Bold),
        Cell::right("% of bytes").style(Style::Bold),
    ]);
    for said in apart {
        table.row([
            Cell::left(said.by_scope.map_or("", |stage| stage.name())),
            Cell::left(said.by_stack.name()),
            Cell::right(count(said.blocks)),
            Cell::right(bytes(said.bytes as f64)),
            Cell::right(format!("{:.1}", share(said.bytes, figures.bytes))),
        ]);
    }
    format!("\n{}", table.render())
}

fn sites(figures: &Figures<'_>) -> String {
    let mut sites: Vec<&Site> = figures.profile.sites.iter().collect();
    sites.sort_by_key(|site| std::cmp::Reverse((site.bytes, site.blocks)));
    let mut table = Table::default();
    table.row([
        Cell::right("% of bytes").style(Style::Bold),
        Cell::right("bytes").style(Style::Bold),
        Cell::right("blocks").style(Style::Bold),
        Cell::left("site, innermost first").style(Style::Bold),
    ]);
    for site in sites.into_iter().take(SITES) {
        let frames: Vec<&str> = figures.profile.frames(site).rev().take(FRAMES).collect();
        table.row([
            Cell::right(format!("{:.1}", share(site.bytes, figures.bytes))),
            Cell::right(bytes(site.bytes as f64)),
            Cell::right(count(site.blocks)),
            Cell::left(frames.join(" ← ")),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::fold::Said;

    fn profile() -> Profile {
        let of = |blocks, bytes| crate::analyse::fold::Figures { blocks, bytes, ..Default::default() };
        Profile::of(&[
            (Stage::Marshal, vec!["srv::main", "prost::encode"], of(3, 3000)),
            (Stage::Handler, vec!["srv::main", "srv::keep"], of(1, 1000)),
        ])
    }

    fn figures(profile: &Profile) -> Figures<'_> {
        Figures {
            profile,
            blocks: 4,
            bytes: 4000,
            live_blocks: 1,
            live_bytes: 1000,
            temporary_blocks: 3,
            peak_bytes: 2048,
            rss_bytes_max: 1 << 20,
            wall: Duration::from_millis(1500),
            shows_stages: true,
        }
    }

    #[test]
    fn stages_sites_and_totals_are_shown() {
        let profile = profile();
        let text = anstream::adapter::strip_str(&text(&figures(&profile))).to_string().replace('\u{202f}', " ");
        for line in [
            "marshal               3   2.93 KiB        75.0",
            "      75.0   2.93 KiB       3  prost::encode ← srv::main",
            "4 blocks and 3.91 KiB allocated, 1 block and 0.977 KiB live at the end, 3 temporary (75.0 %)",
            "2 KiB live at the peak, 1 MiB resident at most, 1.5 s",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("instrument's own"), "{text}");
    }

    #[test]
    fn the_instrument_s_own_blocks_are_said() {
        let own = crate::analyse::fold::Figures { blocks: 2, bytes: 64, ..Default::default() };
        let profile = Profile::of(&[(Stage::Instrument, vec!["srv::main", "alloc_ladder::start"], own)]);
        let text = text(&Figures { blocks: 2, ..figures(&profile) });
        assert!(anstream::adapter::strip_str(&text).to_string().contains("\n2 blocks of these the instrument's own\n"));
    }

    #[test]
    fn scopes_and_stacks_that_disagree_have_a_table() {
        let said = |by_scope, by_stack, bytes| Said { by_scope, by_stack, blocks: 1, bytes };
        let mut profile = profile();
        profile.said = vec![
            said(Some(Stage::Marshal), Stage::Transport, 500),
            said(None, Stage::Marshal, 1500),
            said(Some(Stage::Handler), Stage::Handler, 1000),
        ];
        let text = anstream::adapter::strip_str(&text(&figures(&profile))).to_string().replace('\u{202f}', " ");
        for line in [
            "marshal       3   2.93 KiB        75.0        50.0",
            "marshal         transport            1  500 B        12.5",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(text.matches("the scope says").count(), 1);
    }

    #[test]
    fn stages_that_would_mislead_are_not_shown() {
        let profile = profile();
        let text = text(&Figures { shows_stages: false, rss_bytes_max: 0, ..figures(&profile) });
        assert!(!text.contains("marshal") && !text.contains("resident"), "{text}");
    }
}
