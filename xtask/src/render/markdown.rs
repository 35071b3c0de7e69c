//! Budgets and comparisons as GitHub's Markdown: for a job summary, a comment on a change, a chat.
//!
//! What needs a look comes first, what holds is folded away.

use std::fmt::Write;

use crate::analyse::comparison::{Compared, ComparedFigure, Report};
use crate::analyse::held::{Checked, Grown, Kept};
use crate::analyse::judge::Verdict;
use crate::analyse::metric::Better;
use crate::analyse::sites::Site;
use crate::analyse::stats::{self, change};
use crate::cli::numbers;
use crate::render::findings::Amounts;

/// How many call sites a table shows.
const SITES: usize = 10;

/// Budgets, and what grew where one is exceeded.
pub(crate) fn check(title: &str, lines: &[Checked], grown: &[Grown]) -> String {
    let count = |kept| lines.iter().filter(|line| line.verdict == kept).count();
    let mut text = format!("### {}\n\n", plain(title));
    let _ = writeln!(
        text,
        "{} over, {} near, {} not measured, {} kept\n",
        count(Kept::Over),
        count(Kept::Near),
        count(Kept::Unmeasured),
        count(Kept::Ok)
    );
    let (kept, other): (Vec<&Checked>, Vec<&Checked>) = lines.iter().partition(|line| line.verdict == Kept::Ok);
    let mut other = other;
    other.sort_by_key(|line| match line.verdict {
        Kept::Over => 0,
        Kept::Unmeasured => 1,
        Kept::Near => 2,
        Kept::Ok => 3,
    });
    if !other.is_empty() {
        text += &budgets(&other);
    }
    grown.iter().for_each(|grown| text += &explained(grown));
    if !kept.is_empty() {
        let _ = write!(text, "\n<details><summary>{} kept</summary>\n\n{}\n</details>\n", kept.len(), budgets(&kept));
    }
    text
}

fn budgets(lines: &[&Checked]) -> String {
    let mut text = "| | budget | measured | allowed | line |\n|---|---|---:|---:|---:|\n".to_owned();
    for line in lines {
        let Checked { budget, figure, tolerance, measured, verdict, .. } = line;
        let word = match verdict {
            Kept::Ok => "ok",
            Kept::Near => "near",
            Kept::Over => "**over**",
            Kept::Unmeasured => "not measured",
        };
        let sign = match budget.metric.better {
            Better::Less => '≤',
            Better::More => '≥',
        };
        let beyond = match *tolerance {
            0.0 => String::new(),
            tolerance => format!(" + {}", numbers::share(tolerance)),
        };
        let measured = measured.map_or_else(|| "–".to_owned(), |measured| budget.metric.show(measured));
        let allowed = format!("{sign} {}{beyond}", budget.metric.show(*figure));
        let _ = writeln!(text, "| {word} | {} | {measured} | {allowed} | {} |", plain(&budget.to_string()), line.line);
    }
    text
}

fn explained(grown: &Grown) -> String {
    let Grown { step, side, subject, .. } = grown;
    let of = plain(&format!("{subject}/{step} {side}"));
    if let Some(why) = &grown.unknown {
        return format!("\n{of}: what grew is not known: {}\n", plain(why));
    }
    let mut text = format!("\n**{of}**: {}, per message\n\n", plain(&grown.what()));
    for (stage, before, after) in &grown.stages {
        let _ = writeln!(
            text,
            "- {stage}: {} → {} blocks, {} → {}",
            numbers::number(before.blocks),
            numbers::number(after.blocks),
            numbers::bytes(before.bytes),
            numbers::bytes(after.bytes)
        );
    }
    match &grown.sites {
        Some(grown) if grown.is_empty() => text += "\nNo call site grew in the run's stacks.\n",
        Some(found) => text += &sites(found, Amounts::of(grown)),
        None => text += "\nCall sites are not known: the run or the reference has no stacks of this step.\n",
    }
    text
}

/// Call sites, the first few.
fn sites(sites: &[Site], amounts: Amounts) -> String {
    let mut text = "\n| bytes | blocks | stage | call site |\n|---:|---:|---|---|\n".to_owned();
    for site in sites.iter().take(SITES) {
        let at = site.source.as_ref().map_or_else(String::new, |source| format!(", {}", plain(&source.to_string())));
        let [bytes, blocks] = amounts.of_site(site);
        let _ = writeln!(text, "| {bytes} | {blocks} | {} | {}{at} |", site.stage, plain(&site.innermost()));
    }
    if sites.len() > SITES {
        let _ = writeln!(text, "\n… and {} smaller ones", sites.len() - SITES);
    }
    text
}

/// Two runs, or two steps, figure by figure.
pub(crate) fn comparison(report: &Report) -> String {
    let title = match report.old == report.new {
        true => report.new.clone(),
        false => format!("{} → {}", report.old, report.new),
    };
    let count = |verdict| report.rows().filter(|row| row.verdict == verdict).count();
    let (better, worse) = (count(Verdict::Better), count(Verdict::Worse));
    let rest = report.rows().count() - better - worse;
    let mut text = format!("### {}\n\n{better} better, {worse} worse, {rest} unchanged or unclear\n", plain(&title));
    report.steps.iter().for_each(|step| text += &compared(step));
    let _ = writeln!(text, "\n{}, α = {}", report.test(), report.alpha);
    text
}

fn compared(step: &Compared) -> String {
    let steps = match step.before == step.after {
        true => plain(&step.after),
        false => format!("{} → {}", plain(&step.before), plain(&step.after)),
    };
    let (moved, still): (Vec<&ComparedFigure>, Vec<&ComparedFigure>) =
        step.rows.iter().partition(|row| row.verdict.moved());
    let mut text = format!("\n#### {steps}\n\n");
    match moved.is_empty() {
        true => text += "Nothing moved.\n",
        false => text += &figures(step, &moved),
    }
    for moved in &step.sites {
        let grown: Vec<Site> = moved.changes.iter().filter(|site| site.grew()).cloned().collect();
        if !grown.is_empty() {
            let _ = writeln!(text, "\n{} call sites that grew, per message", moved.side);
            text += &sites(&grown, Amounts::More);
        }
    }
    if !still.is_empty() {
        let _ = write!(
            text,
            "\n<details><summary>{} unchanged or unclear</summary>\n\n{}\n</details>\n",
            still.len(),
            figures(step, &still)
        );
    }
    if !step.missing.is_empty() {
        let _ = writeln!(text, "\nNot compared: {}", plain(&Vec::from_iter(step.missing.iter().cloned()).join(", ")));
    }
    text
}

fn figures(step: &Compared, rows: &[&ComparedFigure]) -> String {
    let (before, after) = step.headings;
    let mut text = format!("| figure | {before} | {after} | change | |\n|---|---:|---:|---:|---|\n");
    for row in rows {
        let label = match (row.side, row.stage) {
            // Below the figure it is a part of, where that is in this table.
            (side, Some(stage)) => {
                let is_whole = |other: &&&ComparedFigure| {
                    other.stage.is_none() && other.side == side && other.metric.label == row.metric.label
                };
                match (rows.iter().find(is_whole), side) {
                    (None, Some(side)) => format!("{side} {} … {stage}", row.metric.label),
                    _ => format!("… {stage}"),
                }
            }
            (Some(side), None) => format!("{side} {}", row.metric.label),
            (None, None) => row.metric.label.to_owned(),
        };
        let word = match row.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "**worse**",
            Verdict::Equal => "equal",
            Verdict::Unclear => "~",
            Verdict::TooFew => "too few rounds",
            Verdict::OneRound => "one round",
        };
        let p = row.p.map_or_else(String::new, |p| format!(" ({})", numbers::p_value(p)));
        let show = |values: &[f64]| row.metric.show(stats::median(values));
        let (old, new) = (show(&row.old), show(&row.new));
        // Rounds of one run are pairs, whose ratio is closer than that of the medians.
        let change = row
            .ratio
            .as_ref()
            .map_or_else(|| change(stats::median(&row.old), stats::median(&row.new)).to_string(), ToString::to_string);
        let _ = writeln!(text, "| {} | {old} | {new} | {change} | {word}{} |", plain(&label), plain(&p));
    }
    text
}

/// Text that reads in Markdown as it is: nothing of it is markup, HTML, a table's edge or a line's end.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '\\' | '#' | '!' | '@' | '$' => {
                let _ = write!(safe, "&#{};", u32::from(letter));
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::scenario::Scenario;
    use alloc_ladder::{Side, Stage};
    use pulldown_cmark::{Event, Options, Parser, Tag};

    use crate::analyse::budget::{Budgets, Whose};
    use crate::analyse::held::checked;
    use crate::analyse::sites::{Amount, Source};
    use crate::fixture;

    use super::*;

    /// The text of every cell, a row each; what is not in a table is left out.
    fn cells(markdown: &str) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut within = false;
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
                Event::Start(Tag::TableCell) => {
                    rows.last_mut().expect("a row").push(String::new());
                    within = true;
                }
                Event::End(pulldown_cmark::TagEnd::TableCell) => within = false,
                Event::Text(text) if within => {
                    rows.last_mut().and_then(|row| row.last_mut()).expect("a cell").push_str(&text)
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    assert!(html.contains("details") || html.contains("summary"), "foreign HTML: {html}");
                }
                Event::Start(Tag::Link { .. } | Tag::Image { .. }) => panic!("a link"),
                _ => {}
            }
        }
        rows
    }

    #[test]
    fn every_budget_and_site_is_a_row_whatever_it_is_called() {
        const BUDGETS: &str = "[\"a|b<c>\".\"*x*_y_\".server]
allocs-per-message = 1
bytes-per-message = 1_000_000

[\"a|b<c>\".\"*x*_y_\".client]
allocs-per-message = 1
";
        let budgets = Budgets::parse(BUDGETS, Whose::Anybody).expect("parses");
        let mut run = fixture::run("put-1", Scenario::Put);
        run.subject.name = "a|b<c>".to_owned();
        run.steps = vec![fixture::step("*x*_y_", vec![fixture::count(Side::Server, 0, &[(Stage::Handler, 3000, 9)])])];
        let lines = checked(&budgets, &run);
        let site = Site {
            stage: Stage::Handler,
            frames: vec!["main".to_owned(), "<T as `U`|V>::f".to_owned()],
            before: Amount::default(),
            after: Amount { blocks: 2.0, bytes: 64.0 },
            source: Some(Source { file: "src/a_b_.rs".to_owned(), line: 3 }),
        };
        let grown = Grown {
            step: "*x*_y_".to_owned(),
            side: Side::Server,
            reference: "put-0".to_owned(),
            stages: vec![(Stage::Handler, Amount::default(), Amount { blocks: 3.0, bytes: 1.0 })],
            sites: Some(vec![site]),
            largest: false,
            unknown: None,
            subject: "a|b<c>".to_owned(),
        };
        let markdown = check("budgets & <more> against put-1", &lines, &[grown]);
        let cells = cells(&markdown);
        let columns =
            |row: &[String]| row.iter().map(|cell| cell.replace('\u{202f}', " ")).collect::<Vec<_>>().join(" ; ");
        let rows: Vec<String> = cells.iter().map(|row| columns(row)).collect();
        expect_test::expect![[r#"
            [
                " ; budget ; measured ; allowed ; line",
                "over ; a|b<c>/*x*_y_ server allocs/msg ; 3.00 ; ≤ 1.00 ; 2",
                "not measured ; a|b<c>/*x*_y_ client allocs/msg ; – ; ≤ 1.00 ; 6",
                "bytes ; blocks ; stage ; call site",
                "+64 B ; +2.00 ; handler ; <T as `U`|V>::f ← main, src/a_b_.rs:3",
                " ; budget ; measured ; allowed ; line",
                "ok ; a|b<c>/*x*_y_ server bytes/msg ; 0.0090 B ; ≤ 977 KiB ; 3",
            ]
        "#]]
        .assert_debug_eq(&rows);
    }

    #[test]
    fn a_comparison_shows_what_moved_and_folds_the_rest_away() {
        let run = |id, blocks: u64| {
            let counts = (0..2).map(|round| fixture::count(Side::Server, round, &[(Stage::Handler, blocks, 64_000)]));
            let steps = vec![fixture::step("baseline", counts.collect())];
            alloc_ladder::record::Run { steps, ..fixture::run(id, Scenario::Put) }
        };
        let (old, new) = (run("put-1", 1000), run("put-2", 2000));
        let compared = Compared::new([&old, &new], &old.steps[0], &new.steps[0], 0.05);
        let report = Report {
            subject: "put".to_owned(),
            old: old.id.clone(),
            new: new.id.clone(),
            alpha: 0.05,
            steps: vec![compared],
        };
        let markdown = comparison(&report);
        assert!(markdown.starts_with("### put-1 → put-2\n\n0 better, 1 worse, 4 unchanged or unclear\n"), "{markdown}");
        let cells = cells(&markdown);
        assert_eq!(cells[1], ["server allocs/msg", "1.00", "2.00", "+100%", "worse"]);
        assert_eq!(cells[2], ["… handler", "1.00", "2.00", "+100%", "worse"]);
        assert_eq!(cells.len(), 3 + 1 + 4);
    }
}
