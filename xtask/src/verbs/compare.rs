//! `cargo xtask compare`: what changed between two runs, or between two steps of one, and whether it can be told.
//!
//! In the manner of Go's benchstat: per metric the old and the new median, the change, and the p-value of a rank test;
//! `~` where the samples cannot tell, `=` where exact counts are equal. It refuses to compare what was not measured
//! alike. Only `--base` may measure: what a change is compared with, where nobody did before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::ladder::ladder;
use alloc_ladder::subject::scenario::Scenario;

use crate::analyse::comparison::{self, Compared, Report};
use crate::analyse::environments::{environments, json_differences};
use crate::analyse::judge::{self, Verdict};
use crate::cli::failure::{Failure, Kind};
use crate::cli::format::{Format, Output};
use crate::cli::terminal::{self, Style};
use crate::measure::base::{self, Alike, Change};
use crate::measure::subject::found;
use crate::render::findings::Findings;
use crate::render::sites::{self as drawn, Endpoint};
use crate::render::{github, junit, markdown};
use crate::store::find;
use crate::store::{layout, place};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to compare with: an id, a path, or `newest`. With --base the run to compare [default then: the newest of
    /// what is checked out]
    #[arg(required_unless_present = "base")]
    old: Option<String>,
    /// The run to compare
    #[arg(required_unless_present_any = ["steps", "base"])]
    new: Option<String>,
    /// Compare with a run of the commit where this branch was left, the newest that was measured alike. If there is none,
    /// {base}
    #[arg(long, value_name = "BRANCH", conflicts_with_all = ["new", "steps"])]
    base: Option<String>,
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
    #[command(flatten)]
    output: Output,
    /// Write the differential flame graphs here [default: the newer run's folder; with other forms than text nowhere]
    #[arg(long, value_name = "FOLDER")]
    flames: Option<PathBuf>,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(alpha) if alpha > 0.0 && alpha < 1.0 => Ok(alpha),
        _ => Err("a number between 0 and 1 is wanted, 0.05 for instance".to_owned()),
    }
}

/// A run, and the folder it is in.
type Found = (PathBuf, Run);

/// The two runs that the flags name.
fn named(args: &Args) -> anyhow::Result<[Found; 2]> {
    let old = args.old.as_deref().unwrap_or("newest");
    match (&args.base, &args.new) {
        (Some(branch), _) => of_change(branch, args.old.as_deref(), args.step.as_deref()),
        (None, Some(new)) => Ok([find::load(old)?, find::load(new)?]),
        (None, None) => {
            let run = find::load(old)?;
            Ok([run.clone(), run])
        }
    }
}

/// Runs of a change's base and of the change. Of the study they are measured where there are none.
fn of_change(branch: &str, named: Option<&str>, step: Option<&str>) -> anyhow::Result<[Found; 2]> {
    let change = Change::since(branch, &layout::root())?;
    let scenario = Scenario::ALL.into_iter().find(|scenario| place::has_study() && Some(scenario.name()) == named);
    let new = match (named, scenario) {
        (Some(name), None) => find::load(name)?,
        _ => newest_of(&change, scenario)?,
    };
    if !change.is_head(&new.1) {
        let of = format!("`{}` is not of what is checked out ({})", new.1.id, base::short(&change.head));
        terminal::labelled(Style::Warning, "warning", &of);
    } else if change.dirty {
        let text = "there are changes that are not committed; whether the run has them is not known";
        terminal::labelled(Style::Warning, "warning", text);
    }
    let is_alike = |run: &Run| {
        let steps = |run: &'_ Run| run.steps.iter().map(|step| step.name.clone()).collect::<BTreeSet<_>>();
        let (theirs, own) = (steps(run), steps(&new.1));
        let has_steps = match step {
            Some(step) => theirs.contains(step),
            None => theirs.intersection(&own).next().is_some(),
        };
        // A program's traffic is in its name.
        let is_of_it = run.subject.name == new.1.subject.name;
        has_steps && is_of_it && comparison::differences(run, &new.1).is_empty()
    };
    let old = match find::last(|run| change.is_base(run) && is_alike(run)) {
        Some(found) => found,
        None => measured_base(branch, &change, &new.1)?,
    };
    let text = format!("{branch} was left at {}: {} → {}", base::short(&change.base), old.1.id, new.1.id);
    terminal::progress("Comparing", &text);
    Ok([old, new])
}

/// The newest run of what is checked out. The study's scenario is measured where it has none.
fn newest_of(change: &Change, scenario: Option<Scenario>) -> anyhow::Result<Found> {
    let is_of = |run: &Run| scenario.is_none() || Scenario::of(&run.subject) == scenario;
    match (find::last(|run| change.is_head(run) && is_of(run)), scenario) {
        (Some(found), _) => Ok(found),
        (None, Some(scenario)) => load(&base::here(&Alike::defaults(scenario))?),
        (None, None) => {
            if let Some(file) = found::nearby().filter(|_| !place::has_study()) {
                return load(&base::described_here(&file)?);
            }
            let message = format!("there is no run of what is checked out ({})", base::short(&change.head));
            let help = match place::has_study() {
                true => "name a scenario, and it is measured: cargo xtask compare --base BRANCH put".to_owned(),
                false => format!("measure one: {}", place::first_run(None)),
            };
            Err(Failure::new(Kind::Usage, message).help(help).into())
        }
    }
}

/// A run of the base, measured as the change was.
fn measured_base(branch: &str, change: &Change, new: &Run) -> anyhow::Result<Found> {
    if let (true, Some(scenario)) = (place::has_study(), Scenario::of(&new.subject)) {
        return load(&base::at_commit(&change.base, &Alike::to(new, scenario))?);
    }
    // A program that was attached to or recorded is built by its user: how is not known.
    let climbed = !place::has_study() && !new.environment.profile.is_empty();
    if let Some(file) = found::nearby().filter(|_| climbed) {
        return load(&base::described_at(&change.base, &file, new)?);
    }
    let message = format!(
        "there is no run of {}, where `{branch}` was left, that can be compared with `{}`",
        base::short(&change.base),
        new.id
    );
    let how = if new.environment.command.is_empty() { String::new() } else { format!(": {}", new.environment.command) };
    Err(Failure::new(Kind::Usage, message)
        .help(format!(
            "measure it as the other was, and compare again: git stash or commit, git checkout --detach {}, build, then \
             record the same program with the same flags{how}",
            base::short(&change.base)
        ))
        .into())
}

fn load(folder: &Path) -> anyhow::Result<Found> {
    find::load(&folder.to_string_lossy())
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let [(old_folder, old), (new_folder, new)] = named(&args)?;
    comparable(&old, &new)?;
    for warning in environments(&old, &new) {
        terminal::labelled(Style::Warning, "warning", &format!("not measured alike: {warning}"));
    }
    let pairs = match args.steps.as_deref() {
        Some([before, after]) => vec![(step(&old, before)?, step(&new, after)?)],
        _ => common_steps(&old, &new, args.step.as_deref())?,
    };
    let flames = flames(&args, &new_folder);
    let mut report = Report {
        subject: new.subject.name.clone(),
        old: old.id.clone(),
        new: new.id.clone(),
        alpha: args.alpha,
        steps: Vec::new(),
    };
    for (before, after) in pairs {
        if args.steps.is_none() && before.settings != after.settings {
            let changed = json_differences(&before.settings, &after.settings);
            let text = format!("`{}` is not the same step in both runs: {}", before.name, changed.join(", "));
            terminal::labelled(Style::Warning, "warning", &text);
        }
        let mut compared = Compared::new([&old, &new], before, after, args.alpha);
        if old.stacks_workload == new.stacks_workload {
            let before = Endpoint { folder: &old_folder, run: &old.id, step: before };
            let after = Endpoint { folder: &new_folder, run: &new.id, step: after };
            add_sites(&mut compared, before, after, flames.as_deref())?;
        } else {
            terminal::labelled(Style::Warning, "warning", "call sites are left out: dhat saw different workloads");
        }
        report.steps.push(compared);
    }
    if report.steps.iter().all(|step| step.rows.is_empty()) {
        let have = |run: &Run| comparison::instruments(run).join(", ");
        return Err(Failure::new(
            Kind::Usage,
            format!("nothing to compare: `{}` has {}, `{}` has {}", old.id, have(&old), new.id, have(&new)),
        )
        .help("figures of different instruments are never compared; measure both runs with the same instruments")
        .into());
    }
    terminal::result(&shown(&args, &report)?)?;
    let worse = report.rows().filter(|row| row.verdict == Verdict::Worse).count();
    if args.fail_on_regression && worse > 0 {
        let figures = if worse == 1 { "1 figure is" } else { &format!("{worse} figures are") };
        return Err(Failure::new(Kind::Verdict, format!("{figures} worse")).into());
    }
    Ok(())
}

/// The result in the form that was asked for.
fn shown(args: &Args, report: &Report) -> anyhow::Result<String> {
    let findings = || {
        let source = |file: &str| place::in_repository(&layout::root().join(file));
        Findings::of_comparison(report, args.fail_on_regression, source)
    };
    Ok(match args.output.format() {
        Format::Text => report.text(terminal::width()),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Markdown => markdown::comparison(report),
        Format::Junit => junit::text(&findings()),
        Format::Github => github::text(&findings()),
    })
}

/// Where the differential flame graphs go: nowhere beside JSON unless asked, and never among the reference runs, which
/// are under version control.
fn flames(args: &Args, newer: &Path) -> Option<PathBuf> {
    if args.flames.is_some() || !args.output.is_text() {
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

fn step<'a>(run: &'a Run, name: &str) -> anyhow::Result<&'a StepRecord> {
    run.steps.iter().find(|step| step.name == name).ok_or_else(|| {
        let measured: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        let exists =
            Scenario::of(&run.subject).is_some_and(|scenario| ladder(scenario).iter().any(|step| step.name == name));
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

/// Refuses runs whose figures mean different things.
fn comparable(old: &Run, new: &Run) -> anyhow::Result<()> {
    let differ = comparison::differences(old, new);
    if differ.is_empty() {
        return Ok(());
    }
    let message = format!("`{}` and `{}` cannot be compared: {}", old.id, new.id, differ.join(", "));
    Err(Failure::new(Kind::Usage, message).help("compare runs of one scenario and one workload").into())
}

/// Adds the call sites that changed, and draws a differential flame graph of each side in `flames`. A folder that
/// cannot be written costs the graphs, not the comparison.
fn add_sites(
    compared: &mut Compared,
    before: Endpoint<'_>,
    after: Endpoint<'_>,
    flames: Option<&Path>,
) -> anyhow::Result<()> {
    for side in Side::ALL {
        let Some(mut moved) = drawn::moved(before, after, side)? else { continue };
        drawn::look_up(moved.changes.iter_mut().filter(|site| site.grew()), after, side)?;
        if let Some(folder) = flames.filter(|_| !moved.changes.is_empty()) {
            let file = folder.join(drawn::flame_name(before, after, side));
            moved.flame = drawn::draw(before, after, side, file).unwrap_or_else(|error| {
                let text = format!("the differential flame graph is left out: {error:#}");
                terminal::labelled(Style::Warning, "warning", &text);
                None
            });
        }
        compared.sites.push(moved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use alloc_ladder::Stage;
    use alloc_ladder::record::Measurement;
    use alloc_ladder::record::Workload;

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
        let report = Report { subject: "put".to_owned(), old: old.id.clone(), new: new.id.clone(), alpha: 0.05, steps };
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
                                   old            new          vs old
            throughput GB/s       1.00  ±<0.1%   1.00  ±<0.1%       ~  (p=1.000)
            server CPU-s/GB      0.602   ±0.3%  0.602   ±0.3%       ~  (p=1.000)
            server allocs/msg     2.00     ±0%   2.00     ±0%       =  (all equal)
            server bytes/msg      64 B     ±0%   64 B     ±0%       =  (all equal)
            server B/payload B   0.064     ±0%  0.064     ±0%       =  (all equal)
            server reallocs/msg      0     ±0%      0     ±0%       =  (all equal)
            server peak heap     4 MiB     ±0%  4 MiB     ±0%       =  (all equal)
            server peak RSS      8 MiB     ±0%  8 MiB     ±0%       =  (all equal)
            server switches/msg   1.00     ±0%   1.00     ±0%       =  (all equal)

            0 better, 4 worse, 14 unchanged (Mann–Whitney, α = 0.05)
        "#]]
        .assert_eq(&terminal::plain(&report.text(None)));

        let within = Compared::new([&old, &old], &old.steps[0], &old.steps[1], 0.05);
        let report = Report {
            subject: "put".to_owned(),
            old: old.id.clone(),
            new: old.id.clone(),
            alpha: 0.05,
            steps: vec![within],
        };
        expect_test::expect![[r#"
            put-20260819-0911, step baseline → tuned-h2, n = 10 + 10
                                 before          after                      vs before
            throughput GB/s        1.00  ±<0.1%   1.00  ±<0.1%                      =  (all equal)
            server CPU-s/GB        1.00   ±0.2%  0.602   ±0.3%  ×0.601 [0.600, 0.601]  (p=0.002)
            server allocs/msg      3.00     ±0%   2.00     ±0%                 −33.3%
              handler              1.00     ±0%      0     ±0%                   gone
            server bytes/msg      130 B     ±0%   64 B     ±0%                 −50.6%
              handler            65.5 B     ±0%    0 B     ±0%                   gone
            server B/payload B    0.130     ±0%  0.064     ±0%                 −50.6%
            server reallocs/msg       0     ±0%      0     ±0%                      =  (all equal)
            server peak heap      4 MiB     ±0%  4 MiB     ±0%                      =  (all equal)
            server peak RSS       8 MiB     ±0%  8 MiB     ±0%                      =  (all equal)
            server switches/msg    1.00     ±0%   1.00     ±0%                      =  (all equal)

            4 better, 0 worse, 5 unchanged (Wilcoxon signed-rank over the rounds, α = 0.05)
        "#]]
        .assert_eq(&terminal::plain(&report.text(None)));
        let narrow = terminal::plain(&report.text(Some(80)));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        let cpu = narrow.lines().find(|line| line.starts_with("server CPU-s/GB")).expect("a line");
        assert_eq!(cpu, "server CPU-s/GB        1.00  0.602  ×0.601 [0.600, 0.601]  (p=0.002)");
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
        let report = Report {
            subject: "put".to_owned(),
            old: old.id.clone(),
            new: new.id.clone(),
            alpha: 0.05,
            steps: vec![compared],
        };
        assert_eq!(report.rows().filter(|row| row.verdict.moved()).count(), 0);
        let text = anstream::adapter::strip_str(&report.text(None)).to_string();
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
