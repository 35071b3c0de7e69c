//! `cargo xtask check`: whether a run keeps to `profiles/budgets.toml`, and if not, which call sites grew.
//!
//! Only figures the budgets name are looked at. A count is allowed what is written and nothing more unless a tolerance
//! is written beside it. What grew is told against the reference run of the scenario, the one the README quotes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use anyhow::Context;
use serde::Serialize;

use crate::budget::{Budget, Budgets};
use crate::failure::{Failure, Kind};
use crate::metric::{self, Better, digits};
use crate::run_dir;
use crate::sites::{self, Endpoint};
use crate::stats::{self, change};
use crate::table::{Cell, Table};
use crate::terminal::{self, Style, paint};

/// The share of a budget without tolerance from which on it is nearly used up.
const NEAR: f64 = 0.9;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The run to check: an id, a path, or `newest` [default: measure the counts of every scenario now]
    run: Option<String>,
    /// Write what was measured into the budgets, and show what that changes
    #[arg(long)]
    bless: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "bless")]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let path = run_dir::profiles().join("budgets.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut budgets = Budgets::parse(&text)?;
    let scenarios: BTreeSet<Scenario> = budgets.all.iter().map(|budget| budget.scenario).collect();
    let runs = match &args.run {
        Some(name) => vec![run_dir::load(name)?],
        None => scenarios.into_iter().map(measure_counts).collect::<anyhow::Result<_>>()?,
    };
    let lines: Vec<Line> = runs.iter().flat_map(|(_, run)| lines(&budgets, run)).collect();
    if lines.is_empty() {
        let ids: Vec<&str> = runs.iter().map(|(_, run)| run.id.as_str()).collect();
        return Err(Failure::new(Kind::Usage, format!("no budget is for a step of {}", ids.join(", ")))
            .help(format!("budgets are in {}", path.display()))
            .into());
    }
    if args.bless {
        return bless(&mut budgets, &lines, &path);
    }
    let mut grown = Vec::new();
    for (folder, run) in &runs {
        grown.extend(explain(run, folder, &lines)?);
    }
    if args.json {
        let json = serde_json::json!({ "lines": lines, "grown": grown });
        terminal::result(&(serde_json::to_string_pretty(&json)? + "\n"))?;
    } else {
        let ids: Vec<&str> = runs.iter().map(|(_, run)| run.id.as_str()).collect();
        let title = paint(Style::Bold, &format!("budgets.toml against {}", ids.join(", ")));
        let explained: String = grown.iter().map(Grown::text).collect();
        terminal::result(&format!("{title}\n{}{explained}", table(&lines)))?;
    }
    verdict(&lines, args.run.as_deref())
}

/// Measures the `count` instrument of a scenario's budgeted steps.
fn measure_counts(scenario: Scenario) -> anyhow::Result<(PathBuf, Run)> {
    Ok((PathBuf::new(), crate::profile::measure_counts(scenario)?))
}

/// One budget, checked.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(rename = "budget", serialize_with = "name_of")]
    budget: Budget,
    figure: f64,
    tolerance: f64,
    /// The median of the run's rounds; `None` where the run lacks it.
    measured: Option<f64>,
    verdict: Verdict,
}

fn name_of<S: serde::Serializer>(budget: &Budget, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(budget)
}

/// How a budget was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    /// Within its tolerance, or nearly used up.
    Near,
    Over,
    /// The run did not measure it.
    Unmeasured,
}

impl Verdict {
    fn of(budget: &Budget, measured: f64) -> Verdict {
        let Budget { figure, tolerance, .. } = *budget;
        let (beyond, over, used) = match budget.metric.better {
            Better::Less => (measured > figure, measured > figure * (1.0 + tolerance), measured / figure),
            Better::More => (measured < figure, measured < figure * (1.0 - tolerance), figure / measured),
        };
        match () {
            () if over => Verdict::Over,
            // A budget with a tolerance states what is usual; one without states a limit.
            () if beyond => Verdict::Near,
            () if tolerance == 0.0 && measured != figure && used >= NEAR => Verdict::Near,
            () => Verdict::Ok,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Near => "near",
            Verdict::Over => "OVER",
            Verdict::Unmeasured => "–",
        }
    }

    fn style(self) -> Style {
        match self {
            Verdict::Ok => Style::Verb,
            Verdict::Near => Style::Warning,
            Verdict::Over => Style::Error,
            Verdict::Unmeasured => Style::Dim,
        }
    }
}

/// The budgets of a run's scenario, in the order they are written.
fn lines(budgets: &Budgets, run: &Run) -> Vec<Line> {
    let of_run = budgets.all.iter().filter(|budget| run.scenario == Some(budget.scenario));
    of_run
        .map(|budget| {
            let samples = step_of(run, budget).map(|step| budget.metric.samples(step, budget.side, budget.stage));
            let measured = samples.filter(|samples| !samples.is_empty()).map(|samples| stats::median(&samples));
            let verdict = measured.map_or(Verdict::Unmeasured, |measured| Verdict::of(budget, measured));
            Line { budget: *budget, figure: budget.figure, tolerance: budget.tolerance, measured, verdict }
        })
        .collect()
}

fn step_of<'a>(run: &'a Run, budget: &Budget) -> Option<&'a StepRecord> {
    run.steps.iter().find(|step| step.name == budget.step.name)
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::default();
    for line in lines {
        let Line { budget, figure, tolerance, measured, verdict } = line;
        let sign = match budget.metric.better {
            Better::Less => '≤',
            Better::More => '≥',
        };
        let share = measured.filter(|_| matches!(verdict, Verdict::Near | Verdict::Over) && *figure > 0.0);
        let allowed = match *tolerance {
            0.0 => String::new(),
            tolerance => format!("({} % allowed)", digits(100.0 + 100.0 * tolerance)),
        };
        table.row([
            Cell::left(verdict.word()).style(verdict.style()),
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

fn verdict(lines: &[Line], run: Option<&str>) -> anyhow::Result<()> {
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    match count(Verdict::Unmeasured) {
        0 => {}
        unmeasured => {
            let text = format!("{unmeasured} of {} budgets are for what the run did not measure", lines.len());
            terminal::labelled(Style::Warning, "warning", &text);
        }
    }
    let over = count(Verdict::Over);
    if over == 0 {
        return Ok(());
    }
    let is = if over == 1 { "is" } else { "are" };
    let run = run.map_or_else(String::new, |run| format!(" {run}"));
    Err(Failure::new(Kind::Verdict, format!("{over} of {} budgets {is} exceeded", lines.len()))
        .help(format!("if that is meant: cargo xtask check{run} --bless, and commit the budgets with the reason"))
        .into())
}

/// What grew on one side of a step, against the reference run.
#[derive(Debug, Serialize)]
struct Grown {
    step: String,
    side: Side,
    reference: String,
    /// Blocks and bytes per message of stages that grew: before and after.
    stages: Vec<(Stage, sites::Amount, sites::Amount)>,
    /// Call sites that grew, the largest first; `None` where one of the runs has no stacks.
    sites: Option<Vec<sites::Site>>,
    #[serde(skip)]
    scenario: Scenario,
}

/// Says of every exceeded budget which stages and call sites grew.
fn explain(run: &Run, folder: &Path, lines: &[Line]) -> anyhow::Result<Vec<Grown>> {
    let Some(scenario) = run.scenario else { return Ok(Vec::new()) };
    let over: Vec<&Budget> = lines
        .iter()
        .filter(|line| line.verdict == Verdict::Over && line.budget.scenario == scenario)
        .map(|line| &line.budget)
        .collect();
    let reference_folder = run_dir::reference(scenario);
    if over.is_empty() {
        return Ok(Vec::new());
    }
    if !reference_folder.join(run_dir::RUN_JSON).is_file() {
        let text = format!("what grew is not known: there is no reference run in {}", reference_folder.display());
        terminal::labelled(Style::Warning, "warning", &text);
        return Ok(Vec::new());
    }
    let (reference_folder, reference) = run_dir::load(&reference_folder.to_string_lossy())?;
    let places: BTreeSet<(&str, Side)> = over.iter().map(|budget| (budget.step.name, budget.side)).collect();
    let mut grown = Vec::new();
    for (name, side) in places {
        let step = |run: &'_ Run| run.steps.iter().position(|step| step.name == name);
        let (Some(old), Some(new)) = (step(&reference), step(run)) else { continue };
        let before = Endpoint { folder: &reference_folder, run: &reference.id, step: &reference.steps[old] };
        let after = Endpoint { folder, run: &run.id, step: &run.steps[new] };
        // `None` where one of the budgets is for the whole side.
        let stages = over.iter().filter(|b| (b.step.name, b.side) == (name, side)).map(|b| b.stage).collect();
        grown.push(Grown::between(scenario, before, after, side, stages)?);
    }
    Ok(grown)
}

fn grown_stages(old: &StepRecord, new: &StepRecord, side: Side) -> Vec<(Stage, sites::Amount, sites::Amount)> {
    let amount = |step: &StepRecord, stage| {
        let median = |metric: &metric::Metric| stats::median(&metric.samples(step, side, Some(stage)));
        sites::Amount { blocks: median(&metric::ALLOCS_PER_MESSAGE), bytes: median(&metric::BYTES_PER_MESSAGE) }
    };
    let both = Stage::ALL.into_iter().map(|stage| (stage, amount(old, stage), amount(new, stage)));
    both.filter(|(_, before, after)| after.blocks > before.blocks || after.bytes > before.bytes).collect()
}

impl Grown {
    /// What grew between two runs of one step; of the call sites only those of `stages`, if it names any.
    fn between(
        scenario: Scenario,
        before: Endpoint<'_>,
        after: Endpoint<'_>,
        side: Side,
        stages: Option<BTreeSet<Stage>>,
    ) -> anyhow::Result<Grown> {
        let wanted = |site: &sites::Site| site.grew() && stages.as_ref().is_none_or(|some| some.contains(&site.stage));
        let moved = sites::moved(before, after, side)?;
        Ok(Grown {
            step: after.step.name.clone(),
            side,
            reference: before.run.to_owned(),
            stages: grown_stages(before.step, after.step, side),
            sites: moved.map(|moved| moved.changes.into_iter().filter(wanted).collect()),
            scenario,
        })
    }

    fn text(&self) -> String {
        let Grown { step, side, reference, scenario, .. } = self;
        let title = format!("{scenario}/{step} {side}: what grew since {reference}, per message");
        let mut text = format!("\n{}\n", paint(Style::Bold, &title));
        let mut table = Table::default();
        for (stage, before, after) in &self.stages {
            table.row([
                Cell::left(stage.name()),
                Cell::right(format!("{} → {} blocks", digits(before.blocks), digits(after.blocks))),
                Cell::right(format!("{} → {} B", digits(before.bytes), digits(after.bytes))),
                Cell::right(change(before.bytes, after.bytes).to_string()).style(Style::Worse),
            ]);
        }
        text += &table.render();
        match &self.sites {
            Some(sites) if sites.is_empty() => text += "no call site grew in the run's stacks\n",
            Some(sites) => text += &sites::table(sites),
            None => {
                let _ = writeln!(text, "call sites are not known: the run or the reference has no stacks of this step");
            }
        }
        text
    }
}

/// Rewrites the figures that were measured, and shows which of them changed.
fn bless(budgets: &mut Budgets, lines: &[Line], path: &Path) -> anyhow::Result<()> {
    let mut table = Table::default();
    let mut changed = 0;
    for line in lines {
        let Some(measured) = line.measured.filter(|measured| *measured != line.figure) else { continue };
        budgets.bless(&line.budget, measured);
        changed += 1;
        let worse =
            matches!((line.budget.metric.better, measured > line.figure), (Better::Less, true) | (Better::More, false));
        let show = |value| line.budget.metric.show(value);
        table.row([
            Cell::left(line.budget.to_string()),
            Cell::right(show(line.figure)),
            Cell::left("→"),
            Cell::right(show(measured)),
            Cell::right(change(line.figure, measured).to_string()).style(if worse {
                Style::Worse
            } else {
                Style::Better
            }),
        ]);
    }
    if changed > 0 {
        fs::write(path, budgets.text()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    terminal::result(&table.render())?;
    let unmeasured = lines.iter().filter(|line| line.measured.is_none()).count();
    let kept = if unmeasured == 0 { String::new() } else { format!(", {unmeasured} not measured and kept") };
    terminal::progress("Blessed", &format!("{changed} of {} budgets in {}{kept}", lines.len(), path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    use super::*;

    const BUDGETS: &str = "\
[put.baseline.server]
allocs-per-message = 3
bytes-per-message = { max = 100, tolerance = 0.1 }
peak-heap = 100_000_000

[put.baseline.server.handler]
allocs-per-message = 0.5

[put.baseline.client]
allocs-per-message = 1

[put.tuned-h2.server]
allocs-per-message = 1

[get.baseline.server]
allocs-per-message = 1
";

    fn run(handler: (u64, u64)) -> Run {
        let rows = [(Stage::Handler, handler.0, handler.1), (Stage::Transport, 2000, 64_000)];
        let counted = vec![fixture::count(Side::Server, 0, &rows)];
        Run { steps: vec![fixture::step("baseline", counted)], ..fixture::run("put-20260820-1402", Scenario::Put) }
    }

    #[test]
    fn budgets_are_kept_nearly_used_up_exceeded_or_unmeasured() {
        let budgets = Budgets::parse(BUDGETS).expect("parses");
        let checked = lines(&budgets, &run((900, 41_000)));
        expect_test::expect![[r#"
            near  put/baseline server allocs/msg                  2.90      ≤ 3.00   97 %
            near  put/baseline server bytes/msg                  105 B     ≤ 100 B  105 %  (110 % allowed)
            ok    put/baseline server peak heap               4.00 MiB  ≤ 95.4 MiB
            OVER  put/baseline server handler allocs/msg         0.900     ≤ 0.500  180 %
            –     put/baseline client allocs/msg          not measured      ≤ 1.00
            –     put/tuned-h2 server allocs/msg          not measured      ≤ 1.00
        "#]]
        .assert_eq(&anstream::adapter::strip_str(&table(&checked)).to_string());
        let error = verdict(&checked, None).expect_err("one is over");
        assert_eq!(error.to_string(), "1 of 6 budgets is exceeded");
        assert_eq!(error.downcast::<Failure>().expect("a failure").kind, Kind::Verdict);
        assert!(verdict(&lines(&budgets, &run((500, 1000))), None).is_ok());
    }

    #[test]
    fn a_count_has_no_tolerance_unless_one_is_written() {
        let budgets = Budgets::parse(BUDGETS).expect("parses");
        let of = |index: usize, measured| Verdict::of(&budgets.all[index], measured);
        assert_eq!(of(0, 3.0), Verdict::Ok, "the figure itself is not near itself");
        assert_eq!(of(0, 3.0005), Verdict::Over);
        assert_eq!(of(0, 2.9), Verdict::Near);
        assert_eq!(of(0, 2.0), Verdict::Ok);
        assert_eq!(of(1, 99.9), Verdict::Ok, "with a tolerance the figure is what is usual");
        assert_eq!(of(1, 109.0), Verdict::Near);
        assert_eq!(of(1, 111.0), Verdict::Over);
    }

    #[test]
    fn what_grew_is_named_by_stage_and_site() {
        let folder = tempfile::tempdir().expect("creates");
        let copy: (&[&str], u64, u64) = (&["subject::put::copy", "subject::put"], 1000, 65_536_000);
        let rest: (&[&str], u64, u64) = (&["hyper::io", "subject::serve"], 2000, 64_000);
        let step = |file, handler, points: &[_]| StepRecord {
            stacks: vec![fixture::stacks(folder.path(), file, 1000, points)],
            ..run(handler).steps.remove(0)
        };
        let (old, new) = (step("old", (0, 0), &[rest]), step("new", (1000, 65_536_000), &[rest, copy]));
        let before = Endpoint { folder: folder.path(), run: "reference", step: &old };
        let after = Endpoint { folder: folder.path(), run: "put-20260820-1402", step: &new };
        let grown = |stages| Grown::between(Scenario::Put, before, after, Side::Server, stages).expect("reads");
        assert_eq!(grown(Some([Stage::Marshal].into())).sites, Some(Vec::new()));
        let grown = grown(None);
        expect_test::expect![[r#"

            put/baseline server: what grew since reference, per message
            handler  0 → 1.00 blocks  0 → 65,536 B  new
            +65,536 B  +1.00  new  handler  subject::put::copy ← subject::put
        "#]]
        .assert_eq(&anstream::adapter::strip_str(&grown.text()).to_string());
    }
}
