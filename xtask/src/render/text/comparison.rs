//! Two runs, or two steps of one, as the terminal shows them: a table a step in the manner of Go's benchstat.

use std::fmt::Write;

use crate::analyse::comparison::{Compared, ComparedFigure, Report};
use crate::analyse::judge::Verdict;
use crate::analyse::metric::Accuracy;
use crate::analyse::stats;
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Style, paint};

impl Report {
    /// The comparison as tables for a terminal of so many columns, and how many figures are better or worse.
    pub(crate) fn text(&self, columns: Option<usize>) -> String {
        let mut text = String::new();
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text += &step.text(&self.old, &self.new, columns);
        }
        let count = |wanted: &[Verdict]| self.rows().filter(|row| wanted.contains(&row.verdict)).count();
        let _ = write!(
            text,
            "\n{} better, {} worse, {} unchanged",
            count(&[Verdict::Better]),
            count(&[Verdict::Worse]),
            count(&[Verdict::Equal, Verdict::Unclear]),
        );
        match count(&[Verdict::TooFew]) {
            0 => {}
            few => {
                let _ = write!(text, ", {few} with too few rounds to tell");
            }
        }
        match count(&[Verdict::OneRound]) {
            0 => {}
            once => {
                let _ = write!(text, ", {once} not comparable with one round");
            }
        }
        let test = self.test();
        let _ = writeln!(text, " ({test}, α = {})", self.alpha);
        text
    }
}

impl Compared {
    fn text(&self, old: &str, new: &str, columns: Option<usize>) -> String {
        let rounds = |pick: fn(&ComparedFigure) -> &Vec<f64>| {
            let timed = self.rows.iter().filter(|row| matches!(row.metric.accuracy, Accuracy::Sampled));
            timed.map(|row| pick(row).len()).max()
        };
        let mut title = match (old == new, self.before == self.after) {
            (true, _) => format!("{new}, step {} → {}", self.before, self.after),
            (false, true) => format!("{old} → {new}, step {}", self.after),
            (false, false) => format!("{old} {} → {new} {}", self.before, self.after),
        };
        if let (Some(n), Some(m)) = (rounds(|row| &row.old), rounds(|row| &row.new)) {
            let _ = write!(title, ", n = {n} + {m}");
        }
        let mut text = paint(Style::Bold, &title) + "\n";
        let whole = self.table(false);
        let fits = columns.is_none_or(|columns| whole.width() <= columns);
        text += &if fits { whole } else { self.table(true) }.render();
        if !self.missing.is_empty() {
            let _ = writeln!(text, "not compared: {}", Vec::from_iter(self.missing.iter().cloned()).join(", "));
        }
        for moved in &self.sites {
            text += "\n";
            text += &moved.text(columns);
        }
        text
    }

    /// A row a figure. Where there is little room, without how far rounds lie apart, and with reasons that are figures.
    fn table(&self, narrow: bool) -> Table {
        let mut table = Table::default();
        let mut row = |cells: Vec<Cell>| {
            let shown = |column: usize| !narrow || !SPREADS.contains(&column);
            table.row(
                cells
                    .into_iter()
                    .enumerate()
                    .filter(|(column, _)| shown(*column))
                    .map(|(_, cell)| cell)
                    .collect::<Vec<_>>(),
            );
        };
        let (before, after) = self.headings;
        let empty = || Cell::left("");
        row(vec![
            empty(),
            Cell::right(before),
            empty(),
            Cell::right(after),
            empty(),
            Cell::right(format!("vs {before}")),
        ]);
        for figure in &self.rows {
            row(figure.cells(narrow));
        }
        table
    }
}

/// The columns that say how far the rounds of either side lie apart.
const SPREADS: [usize; 2] = [2, 4];

impl ComparedFigure {
    fn cells(&self, narrow: bool) -> Vec<Cell> {
        let label = match (self.side, self.stage) {
            (_, Some(stage)) => format!("  {stage}"),
            (Some(side), None) => format!("{side} {}", self.metric.label),
            (None, None) => self.metric.label.to_owned(),
        };
        let spread = |values: &[f64]| match values.len() {
            0 | 1 => String::new(),
            _ => stats::plus_minus(values, |value| self.metric.show(value)),
        };
        // Rounds of one run are pairs, and have a ratio.
        let changed = self.ratio.as_ref().map_or_else(|| self.change.to_string(), ToString::to_string);
        let (change, p) = match (self.verdict, self.p) {
            (Verdict::Better, _) => (Cell::right(changed).style(Style::Better), self.p),
            (Verdict::Worse, _) => (Cell::right(changed).style(Style::Worse), self.p),
            (Verdict::Equal, _) => (Cell::right("="), None),
            (Verdict::Unclear, p) if self.ratio.is_some() => (Cell::right(format!("~ {changed}")), p),
            (Verdict::Unclear | Verdict::TooFew, p) => (Cell::right("~"), p),
            (Verdict::OneRound, _) => (Cell::right(self.change.to_string()), None),
        };
        let why = match (self.verdict, p) {
            (Verdict::TooFew, _) if narrow => "(too few)".to_owned(),
            (Verdict::OneRound, _) if narrow => "(1 round)".to_owned(),
            (Verdict::Equal, _) | (_, None) if narrow => String::new(),
            (Verdict::Equal, _) => "(all equal)".to_owned(),
            (Verdict::TooFew, _) if self.ratio.is_some() => {
                let n = self.old.len().min(self.new.len());
                format!("(n too small: p of {n} pairs is at least {:.3})", stats::paired::smallest_p(n))
            }
            (Verdict::TooFew, _) => {
                let (n, m) = (self.old.len(), self.new.len());
                format!("(n too small: p of {n} + {m} rounds is at least {:.3})", stats::smallest_p(n, m))
            }
            (Verdict::OneRound, _) => "(not comparable with one round)".to_owned(),
            (Verdict::Unclear, None) => "(rounds differ by as much)".to_owned(),
            (_, Some(p)) => format!("({})", numbers::p_value(p)),
            (_, None) => String::new(),
        };
        vec![
            Cell::left(label),
            Cell::right(self.metric.show(stats::median(&self.old))),
            Cell::right(spread(&self.old)),
            Cell::right(self.metric.show(stats::median(&self.new))),
            Cell::right(spread(&self.new)),
            change,
            Cell::left(why),
        ]
    }
}
