//! Advice, as the terminal shows it.

use std::fmt::Write;

use crate::analyse::advice::{Advice, Evidence, Left, NextStep};
use crate::analyse::judge::Verdict;
use crate::analyse::metric::{ALLOCS_PER_MESSAGE, BYTES_PER_MESSAGE};
use crate::analyse::stats::change;
use crate::cli::table::{Cell, Table, wrapped};
use crate::cli::terminal::{Style, paint};

impl Advice {
    /// What is left, stage by stage, with what takes it away, for a terminal of so many columns.
    pub(crate) fn text(&self, columns: Option<usize>) -> String {
        let mut text = format!("{}\n", paint(Style::Bold, &format!("{}, step {}", self.run, self.step)));
        if self.left.is_empty() {
            text += "nothing is left: neither side allocates in the measured part\n";
        }
        for left in &self.left {
            text += &left.text(columns);
        }
        text
    }
}

impl Left {
    fn text(&self, columns: Option<usize>) -> String {
        let Left { side, stage, amount, .. } = self;
        let line = format!(
            "{side} {stage}: {} and {} blocks {}, {:.0} % of all bytes and {:.0} % of all blocks",
            BYTES_PER_MESSAGE.show(amount.bytes),
            ALLOCS_PER_MESSAGE.show(amount.blocks),
            if self.whole_run { "in the whole run" } else { "per message" },
            self.share_of_bytes * 100.0,
            self.share_of_blocks * 100.0,
        );
        let lines = columns.map_or_else(|| vec![line.clone()], |columns| wrapped(&line, columns, columns));
        let mut text = format!("\n{}\n", lines.join("\n"));
        if self.steps.is_empty() {
            text += "  no step that is not on yet was measured to reduce it, or is meant to\n";
        }
        for step in &self.steps {
            text += &step.text(columns);
        }
        for step in &self.in_vain {
            if let Some(evidence) = &step.evidence {
                let did = match evidence.verdicts().contains(&Verdict::Better) {
                    true => "reduced one and raised the other",
                    false => "did not reduce it",
                };
                let _ = writeln!(text, "  {} is meant for it and {did} ({})", step.name, evidence.words());
            }
        }
        text
    }
}

impl NextStep {
    fn text(&self, columns: Option<usize>) -> String {
        let mut table = Table::default();
        let mut row = |what: &str, words: String| table.row([Cell::left(""), Cell::left(what), Cell::left(words)]);
        match &self.evidence {
            Some(evidence) => {
                row("takes", evidence.words());
                for besides in &evidence.besides {
                    row("besides", besides.words.clone());
                }
                for evidence in &self.more {
                    row("takes", evidence.words());
                }
            }
            None => row(
                "takes",
                match self.scenario {
                    Some(scenario) => format!("not measured here; cargo xtask profile {scenario} does"),
                    None => "meant for it, and measured neither here nor in the study".to_owned(),
                },
            ),
        }
        row("costs", self.cost.to_owned());
        if let Some(words) = self.not_when {
            row("not for", words.to_owned());
        }
        let what = if self.scenario.is_some() { "switch" } else { "write" };
        row(what, format!("{} ({})", self.switch, self.file));
        format!("  {}\n{}", paint(Style::Bold, self.name), table.render_within(columns))
    }
}

impl Evidence {
    fn words(&self) -> String {
        let Evidence { before, after, .. } = self;
        let elsewhere = match self.elsewhere.as_slice() {
            [] => String::new(),
            differ => format!(", measured elsewhere: {}", differ.join(", ")),
        };
        let whose = match self.study {
            Some(scenario) => format!(", this project's {scenario} and not this program"),
            None if self.is_once() => ", one round each".to_owned(),
            None => String::new(),
        };
        format!(
            "{} → {} and {} → {} blocks per message ({}), {} → {} in {}{whose}{elsewhere}",
            BYTES_PER_MESSAGE.show(before.bytes),
            BYTES_PER_MESSAGE.show(after.bytes),
            ALLOCS_PER_MESSAGE.show(before.blocks),
            ALLOCS_PER_MESSAGE.show(after.blocks),
            change(before.bytes, after.bytes),
            self.before_step,
            self.after_step,
            self.run,
        )
    }
}
