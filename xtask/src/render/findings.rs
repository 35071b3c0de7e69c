//! What a check or a comparison found, one finding a figure: what test reports and annotations are written from.

use std::fmt::Write;

use alloc_ladder::Stage;

use crate::analyse::comparison::{Compared, ComparedFigure, Report};
use crate::analyse::held::{Checked, Grown, Kept};
use crate::analyse::judge::Verdict;
use crate::analyse::metric::Better;
use crate::analyse::sites::Site;
use crate::analyse::stats;
use crate::cli::numbers;
use crate::cli::terminal;

/// How many call sites explain a finding.
const SITES: usize = 5;

/// All findings of one check or comparison.
#[derive(Debug)]
pub(crate) struct Findings {
    /// What was held against what.
    pub(crate) title: String,
    pub(crate) all: Vec<Finding>,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The subject and the step, as a test's class: `put.baseline`.
    pub(crate) class: String,
    /// The figure: `server handler allocs/msg`.
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// In one line.
    pub(crate) message: String,
    /// What explains it, in lines; may be empty.
    pub(crate) details: String,
    /// Where to look: a file of the repository and a line, counted from 1.
    pub(crate) place: Option<(String, usize)>,
}

/// What is to be done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Holds, and is worth a look.
    Noted,
    /// Does not hold, and nobody asked for it.
    Warned,
    Failed,
    /// Nothing can be said.
    Skipped,
}

impl Findings {
    /// Of budgets, which stand in `file`. `strict`: what was not measured fails. `path` makes a source file's name one of
    /// the repository.
    pub(crate) fn of_check(
        title: String,
        lines: &[Checked],
        grown: &[Grown],
        file: &str,
        strict: bool,
        path: impl Fn(&str) -> String,
    ) -> Findings {
        let finding = |line: &Checked| {
            let place = &line.budget.place;
            let explained = grown.iter().filter(|grown| {
                line.verdict == Kept::Over
                    && (&grown.subject, &grown.step, grown.side) == (&place.subject, &place.step, place.side)
            });
            let sites = explained.clone().flat_map(|grown| {
                let amounts = Amounts::of(grown);
                grown.sites.iter().flatten().map(move |site| (amounts, site))
            });
            let sites: Vec<(Amounts, &Site)> =
                sites.filter(|(_, site)| place.stage.is_none_or(|stage| stage == site.stage)).take(SITES).collect();
            let source = sites.iter().find_map(|(_, site)| site.source.as_ref());
            let source = source.map(|source| (path(&source.file), source.line as usize));
            let class = format!("{}.{}", place.subject, place.step);
            let whole = line.budget.to_string();
            let outcome = match line.verdict {
                Kept::Ok => Outcome::Passed,
                Kept::Near => Outcome::Noted,
                Kept::Over => Outcome::Failed,
                Kept::Unmeasured if strict => Outcome::Failed,
                Kept::Unmeasured => Outcome::Skipped,
            };
            Finding {
                name: whole.split_once(' ').map_or(whole.as_str(), |(_, name)| name).to_owned(),
                class,
                outcome,
                message: words(line),
                details: sites.iter().map(|(amounts, site)| sentence(site, *amounts)).collect(),
                place: source.or_else(|| Some((file.to_owned(), line.line))),
            }
        };
        Findings { title, all: lines.iter().map(finding).collect() }
    }

    /// Of two runs, or two steps. `fails`: what is worse fails.
    pub(crate) fn of_comparison(report: &Report, fails: bool, path: impl Fn(&str) -> String) -> Findings {
        let title = match report.old == report.new {
            true => report.new.clone(),
            false => format!("{} → {}", report.old, report.new),
        };
        let all = report.steps.iter().flat_map(|step| {
            let rows = step.rows.iter().filter(|row| row.stage.is_none());
            rows.map(|row| compared(report, step, row, fails, &path))
        });
        Findings { title, all: all.collect() }
    }

    /// How many have this outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.all.iter().filter(|finding| finding.outcome == outcome).count()
    }
}

fn compared(
    report: &Report,
    step: &Compared,
    row: &ComparedFigure,
    fails: bool,
    path: impl Fn(&str) -> String,
) -> Finding {
    let outcome = match row.verdict {
        Verdict::Worse if fails => Outcome::Failed,
        Verdict::Worse => Outcome::Warned,
        Verdict::Better | Verdict::Equal | Verdict::Unclear => Outcome::Passed,
        Verdict::TooFew | Verdict::OneRound => Outcome::Skipped,
    };
    let shows_sites = row.verdict == Verdict::Worse && row.metric.has_stages();
    let moved = step.sites.iter().filter(|moved| shows_sites && Some(moved.side) == row.side);
    let sites: Vec<&Site> = moved.flat_map(|moved| &moved.changes).filter(|site| site.grew()).take(SITES).collect();
    let source = sites.iter().find_map(|site| site.source.as_ref());
    let stages = step.rows.iter().filter(|other| {
        other.stage.is_some() && (other.metric, other.side) == (row.metric, row.side) && other.verdict.moved()
    });
    let mut details: String =
        stages.map(|row| format!("{}: {}\n", row.stage.map_or("", Stage::name), change(row))).collect();
    details.extend(sites.iter().map(|site| sentence(site, Amounts::More)));
    let name = match row.side {
        Some(side) => format!("{side} {}", row.metric.label),
        None => row.metric.label.to_owned(),
    };
    let steps =
        if step.before == step.after { step.after.clone() } else { format!("{} → {}", step.before, step.after) };
    let said = match row.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equal => "equal",
        Verdict::Unclear => "no change that rounds do not make by themselves",
        Verdict::TooFew => "too few rounds to tell",
        Verdict::OneRound => "not comparable with one round",
    };
    Finding {
        class: format!("{}.{steps}", report.subject),
        name: name.clone(),
        outcome,
        message: format!("{name} of {steps}: {}: {said}", change(row)),
        details,
        place: source.map(|source| (path(&source.file), source.line as usize)),
    }
}

/// `3.00 → 4.00 (+33.3%, p<0.001)`.
pub(crate) fn change(row: &ComparedFigure) -> String {
    let show = |values: &[f64]| row.metric.show(stats::median(values));
    let p = row.p.map_or_else(String::new, |p| format!(", {}", numbers::p_value(p)));
    format!("{} → {} ({}{p})", show(&row.old), show(&row.new), row.change)
}

/// A budget in words: what was measured, what is allowed, and what the run lacks.
fn words(line: &Checked) -> String {
    let Checked { budget, figure, tolerance, measured, verdict, missing, .. } = line;
    let most = match budget.metric.better {
        Better::Less => "at most",
        Better::More => "at least",
    };
    let beyond =
        if *tolerance > 0.0 { format!(", and {} beyond it", numbers::share(*tolerance)) } else { String::new() };
    let allowed = format!("{most} {} is allowed{beyond}", budget.metric.show(*figure));
    let Some(measured) = measured else {
        let why = missing.as_ref().map_or_else(String::new, |missing| missing.words(budget).0);
        return format!("{budget} was not measured: {why}; {allowed}");
    };
    let is = match verdict {
        Kept::Over => "is over its budget:",
        Kept::Near => "is near its budget:",
        Kept::Ok | Kept::Unmeasured => "is",
    };
    format!("{budget} {is} {}; {allowed}", budget.metric.show(*measured))
}

/// What the amounts of a call site are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amounts {
    /// What it allocates more than before.
    More,
    /// All that it allocates: nothing was compared.
    All,
}

impl Amounts {
    /// Of what grew, or is the largest where there is nothing that it could have grown from.
    pub(crate) fn of(grown: &Grown) -> Amounts {
        if grown.largest { Amounts::All } else { Amounts::More }
    }

    /// Bytes and blocks of a site, in words.
    pub(crate) fn of_site(self, site: &Site) -> [String; 2] {
        match self {
            Amounts::More => [
                numbers::signed(site.bytes_more(), numbers::bytes),
                numbers::signed(site.blocks_more(), numbers::number),
            ],
            Amounts::All => [numbers::bytes(site.after.bytes), numbers::number(site.after.blocks)],
        }
    }
}

/// A call site in a line of text.
pub(crate) fn sentence(site: &Site, amounts: Amounts) -> String {
    let [bytes, blocks] = amounts.of_site(site);
    let mut line = format!("{bytes} and {blocks} blocks per message, {}: {}", site.stage, site.innermost());
    if let Some(source) = &site.source {
        let _ = write!(line, " ({source})");
    }
    format!("{}\n", terminal::escaped(&line))
}
