//! Budgets, and what grew where one is exceeded, as the terminal shows them.

use std::fmt::Write;

use crate::analyse::budget::Budget;
use crate::analyse::held::{Checked, Grown, Kept};
use crate::analyse::metric::Better;
use crate::analyse::stats::change;
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Style, paint};
use crate::render::sites;

/// The budgets, a line each.
pub(crate) fn table(lines: &[Checked]) -> String {
    let mut table = Table::default();
    for line in lines {
        let Checked { budget, figure, tolerance, measured, verdict, .. } = line;
        let sign = match budget.metric.better {
            Better::Less => '≤',
            Better::More => '≥',
        };
        let share = measured.filter(|_| matches!(verdict, Kept::Near | Kept::Over) && *figure > 0.0);
        let allowed = match *tolerance {
            0.0 => String::new(),
            tolerance => format!("({} allowed)", percent(1.0 + tolerance)),
        };
        table.row([
            Cell::left(word(*verdict)).style(style(*verdict)),
            Cell::left(budget.to_string()),
            Cell::right(measured.map_or_else(|| "not measured".to_owned(), |measured| budget.metric.show(measured))),
            Cell::right(format!("{sign} {}", budget.metric.show(*figure))),
            Cell::right(share.map_or_else(String::new, |measured| percent(measured / figure))),
            Cell::left(share.map_or("", |_| allowed.as_str())),
        ]);
    }
    table.render()
}

/// A share in percent, with as many digits as it takes to tell it from 100.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = match (percent - 100.0).abs() {
        apart if apart >= 1.0 => 0,
        apart if apart >= 0.1 => 1,
        _ => 3,
    };
    format!("{percent:.decimals$} %")
}

fn word(kept: Kept) -> &'static str {
    match kept {
        Kept::Ok => "ok",
        Kept::Near => "near",
        Kept::Over => "OVER",
        Kept::Unmeasured => "–",
    }
}

fn style(kept: Kept) -> Style {
    match kept {
        Kept::Ok => Style::Verb,
        Kept::Near => Style::Warning,
        Kept::Over => Style::Error,
        Kept::Unmeasured => Style::Dim,
    }
}

/// What blessing changes: the budget, the figure that was written, and the one that is now.
pub(crate) fn blessed(changes: &[(&Checked, f64)]) -> String {
    let mut table = Table::default();
    for (line, now) in changes {
        let more = *now > line.figure;
        let worse = matches!((line.budget.metric.better, more), (Better::Less, true) | (Better::More, false));
        table.row([
            Cell::left(line.budget.to_string()),
            Cell::right(line.budget.metric.show(line.figure)),
            Cell::left("→"),
            Cell::right(line.budget.metric.show(*now)),
            Cell::right(change(line.figure, *now).to_string()).style(if worse { Style::Worse } else { Style::Better }),
        ]);
    }
    table.render()
}

/// Budgets that were added.
pub(crate) fn added(news: &[Budget]) -> String {
    let mut table = Table::default();
    for budget in news {
        let Budget { metric, figure, tolerance, .. } = budget;
        let beyond = if *tolerance > 0.0 { format!("({} allowed)", percent(1.0 + tolerance)) } else { String::new() };
        table.row([
            Cell::left("new"),
            Cell::left(budget.to_string()),
            Cell::right(format!("≤ {}", metric.show(*figure))),
            Cell::left(beyond),
        ]);
    }
    table.render()
}

impl Grown {
    /// What its call sites are.
    pub(crate) fn what(&self) -> String {
        match (self.reference.as_str(), self.largest) {
            ("", _) => "the largest call sites".to_owned(),
            (reference, true) => format!("no call site grew since {reference}, the largest"),
            (reference, false) => format!("what grew since {reference}"),
        }
    }

    /// The stages and call sites that grew, or why they are not known.
    pub(crate) fn text(&self) -> String {
        let Grown { step, side, subject, .. } = self;
        if let Some(why) = &self.unknown {
            return format!("\n{subject}/{step} {side}: what grew is not known: {why}\n");
        }
        let title = format!("{subject}/{step} {side}: {}, per message", self.what());
        let mut text = format!("\n{}\n", paint(Style::Bold, &title));
        let mut table = Table::default();
        for (stage, before, after) in &self.stages {
            table.row([
                Cell::left(stage.name()),
                Cell::right(format!("{} → {} blocks", numbers::number(before.blocks), numbers::number(after.blocks))),
                Cell::right(format!("{} → {}", numbers::bytes(before.bytes), numbers::bytes(after.bytes))),
                Cell::right(change(before.bytes, after.bytes).to_string()).style(Style::Worse),
            ]);
        }
        text += &table.render();
        match &self.sites {
            Some(grown) if grown.is_empty() => text += "no call site grew in the run's stacks\n",
            Some(largest) if self.largest => text += &sites::largest_table(largest),
            Some(grown) => text += &sites::table(grown, None),
            None => {
                let _ = writeln!(text, "call sites are not known: the run or the reference has no stacks of this step");
            }
        }
        text
    }
}
