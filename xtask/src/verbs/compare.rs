//! `cargo xtask compare`: what changed between two runs, or between two steps of one, and whether it can be told.
//!
//! In the manner of Go's benchstat: per metric the old and the new median, the change, and the p-value of a rank test;
//! `~` where the samples cannot tell, `=` where exact counts are equal. It refuses to compare what was not measured
//! alike, and it never makes a new measurement.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{Instrument, Run, StepRecord};
use alloc_ladder::subject::ladder::ladder;
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::environments::{environments, json_differences};
use crate::analyse::judge::{self, Judged, Pair, Verdict};
use crate::analyse::metric::{self, Metric};
use crate::analyse::sites;
use crate::analyse::stats;
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style, paint};
use crate::render::sites::{self as drawn, Endpoint};
use crate::store::find;
use crate::store::layout;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to compare with: an id, a path, or `newest`
    old: String,
    /// The run to compare
    #[arg(required_unless_present = "steps")]
    new: Option<String>,
    /// Only this step [default: every step both runs have]
    #[arg(long)]
    step: Option<String>,
    /// Compare two steps of one run
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["new", "step"])]
    steps: Option<Vec<String>>,
    /// The p-value below which times count as different
    #[arg(long, default_value_t = judge::ALPHA, value_parser = probability)]
    alpha: f64,
    /// Exit with 1 when a metric is worse
    #[arg(long)]
    fail_on_regression: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the differential flame graphs here [default: the newer run's folder; with --json nowhere]
    #[arg(long, value_name = "FOLDER")]
    flames: Option<PathBuf>,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(alpha) if alpha > 0.0 && alpha < 1.0 => Ok(alpha),
        _ => Err("a number between 0 and 1 is wanted, 0.05 for instance".to_owned()),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (old_folder, old) = find::load(&args.old)?;
    let (new_folder, new) = match &args.new {
        Some(name) => find::load(name)?,
        None => (old_folder.clone(), old.clone()),
    };
    comparable(&old, &new)?;
    for warning in environments(&old, &new) {
        terminal::labelled(Style::Warning, "warning", &format!("not measured alike: {warning}"));
    }
    let pairs = match args.steps.as_deref() {
        Some([before, after]) => vec![(step(&old, before)?, step(&new, after)?)],
        _ => common_steps(&old, &new, args.step.as_deref())?,
    };
    let flames = flames(&args, &new_folder);
    let mut report = Report { old: old.id.clone(), new: new.id.clone(), alpha: args.alpha, steps: Vec::new() };
    for (before, after) in pairs {
        if args.new.is_some() && before.tuning != after.tuning {
            let changed = json_differences(&before.tuning, &after.tuning);
            let text = format!("`{}` is not the same step in both runs: {}", before.name, changed.join(", "));
            terminal::labelled(Style::Warning, "warning", &text);
        }
        let mut compared = Compared::new([&old, &new], before, after, args.alpha);
        if old.stacks_workload == new.stacks_workload {
            let before = Endpoint { folder: &old_folder, run: &old.id, step: before };
            let after = Endpoint { folder: &new_folder, run: &new.id, step: after };
            compared.add_sites(before, after, flames.as_deref())?;
        } else {
            terminal::labelled(Style::Warning, "warning", "call sites are left out: dhat saw different workloads");
        }
        report.steps.push(compared);
    }
    if report.steps.iter().all(|step| step.rows.is_empty()) {
        let have = |run: &Run| instruments(run).join(", ");
        return Err(Failure::new(
            Kind::Usage,
            format!("nothing to compare: `{}` has {}, `{}` has {}", old.id, have(&old), new.id, have(&new)),
        )
        .help("figures of different instruments are never compared; measure both runs with the same instruments")
        .into());
    }
    terminal::result(&if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text() })?;
    let worse = report.rows().filter(|row| row.verdict == Verdict::Worse).count();
    if args.fail_on_regression && worse > 0 {
        let figures = if worse == 1 { "1 figure is" } else { &format!("{worse} figures are") };
        return Err(Failure::new(Kind::Verdict, format!("{figures} worse")).into());
    }
    Ok(())
}

/// Where the differential flame graphs go: nowhere beside JSON unless asked, and never among the reference runs, which
/// are under version control.
fn flames(args: &Args, newer: &Path) -> Option<PathBuf> {
    if args.flames.is_some() || args.json {
        return args.flames.clone();
    }
    if layout::is_reference(newer) {
        let text =
            "differential flame graphs are left out: the newer run is a reference run; --flames FOLDER says where";
        terminal::labelled(Style::Help, "help", text);
        return None;
    }
    Some(newer.to_path_buf())
}

/// Refuses runs whose figures mean different things.
fn comparable(old: &Run, new: &Run) -> anyhow::Result<()> {
    let mut differ = Vec::new();
    if old.scenario != new.scenario {
        let name = |run: &Run| run.scenario.map_or("another program", |scenario| scenario.name());
        differ.push(format!("scenario {} and {}", name(old), name(new)));
    }
    differ.extend(json_differences(&old.workload, &new.workload));
    if differ.is_empty() {
        return Ok(());
    }
    let message = format!("`{}` and `{}` cannot be compared: {}", old.id, new.id, differ.join(", "));
    Err(Failure::new(Kind::Usage, message).help("compare runs of one scenario and one workload").into())
}

fn step<'a>(run: &'a Run, name: &str) -> anyhow::Result<&'a StepRecord> {
    run.steps.iter().find(|step| step.name == name).ok_or_else(|| {
        let measured: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        let exists = run.scenario.is_some_and(|scenario| ladder(scenario).iter().any(|step| step.name == name));
        let why = if exists { "did not measure step" } else { "has no step" };
        Failure::new(Kind::Usage, format!("`{}` {why} `{name}`", run.id))
            .help(format!("its steps: {}", measured.join(", ")))
            .into()
    })
}

fn common_steps<'a>(
    old: &'a Run,
    new: &'a Run,
    only: Option<&str>,
) -> anyhow::Result<Vec<(&'a StepRecord, &'a StepRecord)>> {
    if let Some(name) = only {
        return Ok(vec![(step(old, name)?, step(new, name)?)]);
    }
    let pairs: Vec<_> = new
        .steps
        .iter()
        .filter_map(|after| Some((old.steps.iter().find(|before| before.name == after.name)?, after)))
        .collect();
    if pairs.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("`{}` and `{}` have no step in common", old.id, new.id))
            .help("name two runs that measured the same steps, or two steps of one run with --steps")
            .into());
    }
    Ok(pairs)
}

fn instruments(run: &Run) -> Vec<&'static str> {
    let used = |instrument| run.steps.iter().any(|step| step.measurements.iter().any(|m| m.instrument == instrument));
    Instrument::ALL.into_iter().filter(|instrument| used(*instrument)).map(Instrument::name).collect()
}

/// The whole comparison.
#[derive(Debug, Serialize)]
struct Report {
    old: String,
    new: String,
    alpha: f64,
    steps: Vec<Compared>,
}

/// One step, or a pair of steps, compared.
#[derive(Debug, Serialize)]
struct Compared {
    before: String,
    after: String,
    #[serde(skip)]
    headings: (&'static str, &'static str),
    rows: Vec<Row>,
    /// Figures only one of the two has.
    missing: BTreeSet<String>,
    /// The call sites that changed most, by side.
    sites: Vec<sites::Moved>,
}

/// One figure, compared.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(serialize_with = "name_of")]
    metric: &'static Metric,
    /// `None` for a figure of the whole case.
    side: Option<Side>,
    /// `None` for the whole side.
    stage: Option<Stage>,
    old: Vec<f64>,
    new: Vec<f64>,
    #[serde(flatten)]
    judged: Judged,
}

fn name_of<S: serde::Serializer>(metric: &&'static Metric, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(metric.name)
}

impl std::ops::Deref for Row {
    type Target = Judged;

    fn deref(&self) -> &Judged {
        &self.judged
    }
}

/// What the columns of two steps are called: `old` and `new` of one step measured twice, `before` and `after` of two.
fn headings(before: &StepRecord, after: &StepRecord) -> (&'static str, &'static str) {
    if before.name == after.name { ("old", "new") } else { ("before", "after") }
}

impl Compared {
    fn new(runs: [&Run; 2], before: &StepRecord, after: &StepRecord, alpha: f64) -> Compared {
        let scenario = runs[1].scenario;
        let headings = headings(before, after);
        let (mut rows, mut missing) = (Vec::new(), BTreeSet::new());
        for metric in metric::compared(scenario) {
            for side in metric.sides(scenario) {
                let whole_case = metric.sides(scenario).len() == 1;
                let mut add = |stage: Option<Stage>| {
                    let steps = [before, after];
                    let Some(Pair { old, new, judged }) = judge::steps(&runs, metric, *side, stage, steps, alpha)
                    else {
                        let [old, new] = steps.map(|step| metric.samples(step, *side, stage).len());
                        if old != new {
                            let has = if old == 0 { headings.1 } else { headings.0 };
                            missing.insert(format!("{side} {} figures (only {has})", metric.instrument.name()));
                        }
                        return;
                    };
                    // A stage is worth a line where it explains a change.
                    if stage.is_none() || judged.verdict.moved() {
                        rows.push(Row { metric, side: (!whole_case).then_some(*side), stage, old, new, judged });
                    }
                };
                add(None);
                if metric.shows_stages() {
                    Stage::ALL.into_iter().for_each(|stage| add(Some(stage)));
                }
            }
        }
        Compared { before: before.name.clone(), after: after.name.clone(), headings, rows, missing, sites: Vec::new() }
    }

    /// Adds the call sites that changed, and draws a differential flame graph of each side in `flames`. A folder that
    /// cannot be written costs the graphs, not the comparison.
    fn add_sites(&mut self, before: Endpoint<'_>, after: Endpoint<'_>, flames: Option<&Path>) -> anyhow::Result<()> {
        for side in Side::ALL {
            let Some(mut moved) = drawn::moved(before, after, side)? else { continue };
            if let Some(folder) = flames.filter(|_| !moved.changes.is_empty()) {
                let file = folder.join(drawn::flame_name(before, after, side));
                moved.flame = drawn::draw(before, after, side, file).unwrap_or_else(|error| {
                    let text = format!("the differential flame graph is left out: {error:#}");
                    terminal::labelled(Style::Warning, "warning", &text);
                    None
                });
            }
            self.sites.push(moved);
        }
        Ok(())
    }
}

impl Report {
    /// The figures that are judged: stages explain them and are not counted again.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.steps.iter().flat_map(|step| &step.rows).filter(|row| row.stage.is_none())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text += &step.text(&self.old, &self.new);
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
        let _ = writeln!(text, " (Mann–Whitney, α = {})", self.alpha);
        text
    }
}

impl Compared {
    fn text(&self, old: &str, new: &str) -> String {
        let rounds = |pick: fn(&Row) -> &Vec<f64>| {
            let timed = self.rows.iter().filter(|row| matches!(row.metric.kind, metric::Kind::Sampled));
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
        let mut table = Table::default();
        table.row([
            Cell::left(""),
            Cell::right(self.headings.0),
            Cell::left(""),
            Cell::right(self.headings.1),
            Cell::left(""),
            Cell::right(format!("vs {}", self.headings.0)),
        ]);
        for row in &self.rows {
            table.row(row.cells());
        }
        text += &table.render();
        if !self.missing.is_empty() {
            let _ = writeln!(text, "not compared: {}", Vec::from_iter(self.missing.iter().cloned()).join(", "));
        }
        for moved in &self.sites {
            text += "\n";
            text += &moved.text();
        }
        text
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let label = match (self.side, self.stage) {
            (_, Some(stage)) => format!("  {stage}"),
            (Some(side), None) => format!("{side} {}", self.metric.label),
            (None, None) => self.metric.label.to_owned(),
        };
        let spread = |values: &[f64]| match values.len() {
            0 | 1 => String::new(),
            _ => stats::plus_minus(values, |value| self.metric.show(value)),
        };
        let (change, p) = match (self.verdict, self.p) {
            (Verdict::Better, _) => (Cell::right(self.change.to_string()).style(Style::Better), self.p),
            (Verdict::Worse, _) => (Cell::right(self.change.to_string()).style(Style::Worse), self.p),
            (Verdict::Equal, _) => (Cell::right("="), None),
            (Verdict::Unclear | Verdict::TooFew, p) => (Cell::right("~"), p),
            (Verdict::OneRound, _) => (Cell::right(self.change.to_string()), None),
        };
        let why = match (self.verdict, p) {
            (Verdict::Equal, _) => "(all equal)".to_owned(),
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

#[cfg(test)]
mod tests {

    use alloc_ladder::record::Measurement;
    use alloc_ladder::subject::scenario::{Scenario, Workload};

    use crate::fixture;

    use super::*;

    fn measured(cpu_us: u64, handler: (u64, u64)) -> Vec<Measurement> {
        let rows =
            [(Stage::Handler, handler.0, handler.1), (Stage::Transport, 2000, 64_000), (Stage::Instrument, 9, 99)];
        let counted = (0..2).map(|round| fixture::count(Side::Server, round, &rows));
        let timed = (0..10).map(|round| {
            fixture::time(Side::Server, round, cpu_us + u64::from(round % 5), 1_000_000 + 100 * u64::from(round))
        });
        counted.chain(timed).collect()
    }

    #[test]
    fn runs_of_other_scenarios_or_workloads_are_refused_by_what_differs() {
        let refused = |old: &Run, new: &Run| comparable(old, new).map_err(|error| error.to_string());
        let put = fixture::run("put-a", Scenario::Put);
        assert_eq!(refused(&put, &fixture::run("put-b", Scenario::Put)), Ok(()));
        let get = Run {
            workload: Workload { chunk: 4096, streams: 8, ..Workload::default() },
            ..fixture::run("get-a", Scenario::Get)
        };
        assert_eq!(
            refused(&put, &get).expect_err("they differ"),
            "`put-a` and `get-a` cannot be compared: scenario put and get, chunk 65536 and 4096, streams 1 and 8"
        );
        let paced = Run {
            workload: Workload { rate_bits: Some(5_000_000_000), ..Workload::default() },
            ..fixture::run("put-c", Scenario::Put)
        };
        assert_eq!(
            refused(&put, &paced).expect_err("one was held to a rate"),
            "`put-a` and `put-c` cannot be compared: rate_bits none and 5000000000"
        );
    }

    #[test]
    fn a_comparison_says_what_is_better_worse_equal_and_why() {
        let old = Run {
            steps: vec![
                fixture::step("baseline", measured(1000, (1000, 65_536))),
                fixture::step("tuned-h2", measured(600, (0, 0))),
            ],
            ..fixture::run("put-20260819-0911", Scenario::Put)
        };
        let mut new = Run { id: "put-20260820-1402".to_owned(), ..old.clone() };
        new.steps[0].measurements = measured(1010, (2000, 131_072));
        new.steps[0].measurements.push(fixture::count(Side::Client, 0, &[]));
        let steps = common_steps(&old, &new, None).expect("both have two");
        assert_eq!(steps.len(), 2);
        let steps = steps.into_iter().map(|(before, after)| Compared::new([&old, &new], before, after, 0.05)).collect();
        let report = Report { old: old.id.clone(), new: new.id.clone(), alpha: 0.05, steps };
        expect_test::expect![[r#"
            put-20260819-0911 → put-20260820-1402, step baseline, n = 10 + 10
                                    old            new          vs old
            throughput GB/s        1.00  ±<0.1%   1.00  ±<0.1%       ~  (p=1.000)
            server CPU-s/GB        1.00   ±0.2%   1.01   ±0.2%   +1.0%  (p<0.001)
            server allocs/msg      3.00     ±0%   4.00     ±0%  +33.3%
              handler              1.00     ±0%   2.00     ±0%   +100%
            server bytes/msg      130 B     ±0%  195 B     ±0%  +50.6%
              handler            65.5 B     ±0%  131 B     ±0%   +100%
            server B/payload B    0.130     ±0%  0.195     ±0%  +50.6%
            server reallocs/msg       0     ±0%      0     ±0%       =  (all equal)
            server peak heap      4 MiB     ±0%  4 MiB     ±0%       =  (all equal)
            server peak RSS       8 MiB     ±0%  8 MiB     ±0%       =  (all equal)
            server switches/msg    1.00     ±0%   1.00     ±0%       =  (all equal)
            not compared: client count figures (only new)

            put-20260819-0911 → put-20260820-1402, step tuned-h2, n = 10 + 10
                                    old             new          vs old
            throughput GB/s        1.00  ±<0.1%    1.00  ±<0.1%       ~  (p=1.000)
            server CPU-s/GB       0.602   ±0.3%   0.602   ±0.3%       ~  (p=1.000)
            server allocs/msg      2.00     ±0%    2.00     ±0%       =  (all equal)
            server bytes/msg     64.0 B     ±0%  64.0 B     ±0%       =  (all equal)
            server B/payload B    0.064     ±0%   0.064     ±0%       =  (all equal)
            server reallocs/msg       0     ±0%       0     ±0%       =  (all equal)
            server peak heap      4 MiB     ±0%   4 MiB     ±0%       =  (all equal)
            server peak RSS       8 MiB     ±0%   8 MiB     ±0%       =  (all equal)
            server switches/msg    1.00     ±0%    1.00     ±0%       =  (all equal)

            0 better, 4 worse, 14 unchanged (Mann–Whitney, α = 0.05)
        "#]]
        .assert_eq(&terminal::plain(&report.text()));

        let within = Compared::new([&old, &old], &old.steps[0], &old.steps[1], 0.05);
        let report = Report { old: old.id.clone(), new: old.id.clone(), alpha: 0.05, steps: vec![within] };
        expect_test::expect![[r#"
            put-20260819-0911, step baseline → tuned-h2, n = 10 + 10
                                 before           after          vs before
            throughput GB/s        1.00  ±<0.1%    1.00  ±<0.1%          ~  (p=1.000)
            server CPU-s/GB        1.00   ±0.2%   0.602   ±0.3%     −39.9%  (p<0.001)
            server allocs/msg      3.00     ±0%    2.00     ±0%     −33.3%
              handler              1.00     ±0%       0     ±0%       gone
            server bytes/msg      130 B     ±0%  64.0 B     ±0%     −50.6%
              handler            65.5 B     ±0%     0 B     ±0%       gone
            server B/payload B    0.130     ±0%   0.064     ±0%     −50.6%
            server reallocs/msg       0     ±0%       0     ±0%          =  (all equal)
            server peak heap      4 MiB     ±0%   4 MiB     ±0%          =  (all equal)
            server peak RSS       8 MiB     ±0%   8 MiB     ±0%          =  (all equal)
            server switches/msg    1.00     ±0%    1.00     ±0%          =  (all equal)

            4 better, 0 worse, 5 unchanged (Mann–Whitney, α = 0.05)
        "#]]
        .assert_eq(&terminal::plain(&report.text()));
    }

    #[test]
    fn one_round_on_each_side_is_shown_and_is_no_regression() {
        let run = |id, blocks, cpu: &[u64]| {
            let counted = fixture::count(Side::Server, 0, &[(Stage::Handler, blocks, 1000 * blocks)]);
            let timed = (0..).zip(cpu).map(|(round, cpu)| fixture::time(Side::Server, round, *cpu, 1_000_000));
            let steps = vec![fixture::step("attached", std::iter::once(counted).chain(timed).collect())];
            Run { steps, ..fixture::run(id, Scenario::Put) }
        };
        let (old, new) = (run("a", 1000, &[100, 101, 102]), run("b", 3000, &[200, 201, 202]));
        let compared = Compared::new([&old, &new], &old.steps[0], &new.steps[0], 0.05);
        let report = Report { old: old.id.clone(), new: new.id.clone(), alpha: 0.05, steps: vec![compared] };
        assert_eq!(report.rows().filter(|row| row.verdict.moved()).count(), 0);
        let text = anstream::adapter::strip_str(&report.text()).to_string();
        let line = |label: &str| text.lines().find(|line| line.contains(label)).expect("a line").to_owned();
        assert!(line("allocs/msg").ends_with("+200%  (not comparable with one round)"), "{text}");
        assert!(line("CPU-s/GB").ends_with("~  (n too small: p of 3 + 3 rounds is at least 0.100)"), "{text}");
        assert!(line("0 better").contains("0 worse"), "{text}");
        assert!(line("0 better").contains("with too few rounds to tell, 3 not comparable with one round"), "{text}");
    }

    #[test]
    fn a_step_that_is_missing_is_named_with_those_there_are() {
        let run = Run { steps: vec![fixture::step("baseline", Vec::new())], ..fixture::run("put-a", Scenario::Put) };
        let error = |name| step(&run, name).expect_err("not measured").to_string();
        assert_eq!(error("tuned-h2"), "`put-a` did not measure step `tuned-h2`");
        assert_eq!(error("tuned"), "`put-a` has no step `tuned`");
        assert!(common_steps(&run, &fixture::run("put-b", Scenario::Put), None).is_err());
    }
}
