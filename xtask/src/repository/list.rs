//! `cargo xtask list`: the scenarios and the steps of their ladders.

use std::fmt::Write;

use alloc_ladder::Stage;
use alloc_ladder::subject::ladder::{apart, every_step, ladder};
use alloc_ladder::subject::scenario::Scenario;

use crate::analyse::classify::RULES;
use crate::cli::terminal::{self, Style, paint};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this scenario
    scenario: Option<Scenario>,
    /// Show the rules that give a stack its stage instead: the first match from the leaf wins
    #[arg(long, conflicts_with_all = ["scenario", "json"])]
    rules: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.rules {
        return terminal::result(&rules());
    }
    let scenarios = Scenario::ALL.into_iter().filter(|scenario| args.scenario.is_none_or(|only| only == *scenario));
    let mut text = String::new();
    if args.json {
        let json: serde_json::Map<String, serde_json::Value> = scenarios
            .map(|scenario| {
                let steps = every_step(scenario).map(|step| {
                    serde_json::json!({
                        "name": step.name, "hypothesis": step.hypothesis, "cost": step.cost,
                        "switch": step.switch, "file": step.file,
                    })
                });
                (scenario.name().to_owned(), steps.collect())
            })
            .collect();
        writeln!(text, "{}", serde_json::to_string_pretty(&json)?)?;
    } else {
        for scenario in scenarios {
            writeln!(text, "{}  {}", paint(Style::Bold, scenario.name()), scenario.words())?;
            for (index, step) in ladder(scenario).iter().enumerate() {
                writeln!(text, "  {:>2} {:<20} {}", index + 1, step.name, step.hypothesis)?;
                writeln!(text, "     {:<20} {}", "", step.switch)?;
            }
            for (occasion, step) in apart(scenario) {
                writeln!(text, "   – {:<20} {}", step.name, step.hypothesis)?;
                writeln!(text, "     {:<20} {} (with {})", "", step.switch, occasion.flag())?;
            }
        }
    }
    terminal::result(&text)
}

fn rules() -> String {
    let mut text = String::new();
    for rule in RULES {
        let stage = rule.stage.map_or("(does not decide)", Stage::name);
        let _ = writeln!(text, "{}  {}", paint(Style::Bold, stage), rule.because);
        for path in rule.paths {
            let _ = writeln!(text, "    {path}");
        }
    }
    text
}
