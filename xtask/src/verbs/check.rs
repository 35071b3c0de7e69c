//! `check`: whether a run keeps to its budgets, and if not, which call sites grew.
//!
//! Only figures the budgets name are looked at. A count is allowed what is written and nothing more unless a tolerance
//! is written beside it. Of the study, what grew is told against the reference run of the scenario, the one the README
//! quotes; of a program the largest call sites are named. Counts have no call sites, so a step of the study that is over
//! is run once more, with dhat, before it is explained: a check that passes does not pay for that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{Instrument, Run};
use alloc_ladder::subject::ladder::{Step, ladder};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use anyhow::Context;
use tempfile::TempDir;

use crate::analyse::budget::{BadBudgets, Budget, Budgets, Whose};
use crate::analyse::held::{Blessed, Checked, Grown, Kept, checked, grown_stages, over, usual};
use crate::analyse::sites;
use crate::cli::failure::{Failure, Kind};
use crate::cli::format::{Format, Output};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal::{self, Style, paint};
use crate::measure::climb::{self, Lines};
use crate::measure::interrupt;
use crate::render::findings::Findings;
use crate::render::sites::{self as drawn, Endpoint};
use crate::render::text::{self, repeat, summary};
use crate::render::{files, github, junit, markdown};
use crate::store::find;
use crate::store::{layout, place, read, write};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to check: an id, a path, or `newest` [default: {checked}]
    run: Option<String>,
    /// Write what is usual now, and what limits were passed, into the budgets, and show what that changes. A program's
    /// steps that have no budgets get the usual ones
    #[arg(long)]
    bless: bool,
    /// The budgets [default: {budgets} in the root of the workspace]
    #[arg(long, value_name = "FILE")]
    budgets: Option<PathBuf>,
    /// Cargo profile to build with where it measures [default: release]
    #[arg(long, conflicts_with = "run")]
    profile: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let path = args.budgets.clone().unwrap_or_else(place::budgets);
    let mut budgets = budgets(&path, args.bless)?;
    let mut subjects = match (&args.run, place::has_study()) {
        (Some(name), _) => vec![Subject::kept(name)?],
        (None, false) => vec![Subject::kept("newest")?],
        (None, true) => {
            let built = args.profile.as_deref().unwrap_or("release");
            scenarios(&budgets, &path)?
                .into_iter()
                .map(|of| Subject::measure(of, &budgets, built))
                .collect::<anyhow::Result<_>>()?
        }
    };
    if args.bless {
        let news: Vec<Budget> = subjects
            .iter()
            .filter(|subject| Scenario::of(&subject.run.subject).is_none())
            .flat_map(|subject| usual(&budgets, &subject.run))
            .collect();
        let lines: Vec<Checked> = subjects.iter().flat_map(|subject| checked(&budgets, &subject.run)).collect();
        if !lines.is_empty() || !news.is_empty() {
            return bless(&mut budgets, &lines, &news, &path);
        }
    }
    let lines: Vec<Checked> = subjects.iter().flat_map(|subject| checked(&budgets, &subject.run)).collect();
    let ids: Vec<String> = subjects.iter().map(|subject| subject.run.id.clone()).collect();
    if lines.is_empty() {
        return Err(no_budgets(&budgets, &subjects, &ids, &path).into());
    }
    let mut grown = Vec::new();
    for subject in &mut subjects {
        let over = over(&subject.run, &lines);
        subject.look_closer(&over)?;
        grown.extend(explain(&subject.run, subject.folder(), &over)?);
    }
    // A run of the study on disk may have measured less than all budgets are for.
    let strict = args.run.is_none() || subjects.iter().any(|of| Scenario::of(&of.run.subject).is_none());
    if strict && args.output.is_text() {
        say_what_is_missing(&lines, &path);
    }
    terminal::result(&shown(args.output.format(), &lines, &grown, &ids, &path, strict)?)?;
    verdict(&lines, args.run.as_deref(), strict)
}

/// The file's budgets; of a file that blessing is to make, none.
fn budgets(path: &Path, bless: bool) -> anyhow::Result<Budgets> {
    if !path.exists() {
        if bless {
            return Ok(Budgets::default());
        }
        return Err(Failure::new(Kind::Usage, format!("there are no budgets: {} does not exist", path.display()))
            .help(format!("write those of a run with: {} check RUN --bless", place::command()))
            .into());
    }
    let whose = if place::has_study() { Whose::Study } else { Whose::Anybody };
    Ok(read::parsed(path, |bytes| Budgets::read(bytes, whose), help)?)
}

/// What to do about budgets that cannot be read.
fn help(bad: &BadBudgets) -> String {
    let Some((wanted, names)) = &bad.unknown else { return "mend that file, or name another".to_owned() };
    meant(wanted, names)
}

/// The name that was meant, and all there are.
fn meant(wanted: &str, names: &[String]) -> String {
    let near = nearest(Named::Budget, wanted, names.iter().map(String::as_str));
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    format!("{meant}there are: {}", names.join(", "))
}

/// The scenarios to measure. A name that is not a scenario's cannot be measured here, and is most likely a slip.
fn scenarios(budgets: &Budgets, path: &Path) -> anyhow::Result<BTreeSet<Scenario>> {
    let scenario = |name: &str| Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
    let scenarios = budgets.all.iter().map(|budget| {
        let Budget { place, line, .. } = budget;
        scenario(&place.subject).ok_or_else(|| {
            let message = format!("{}: line {line}: there is no scenario `{}`", path.display(), place.subject);
            let names = Scenario::ALL.map(|scenario| scenario.name().to_owned());
            let help = format!("{}; a program's budgets hold a run of it: check RUN", meant(&place.subject, &names));
            Failure::new(Kind::Environment, message).help(help).into()
        })
    });
    scenarios.collect()
}

/// No budget is for any of the runs: what there are budgets for, and how to get some.
fn no_budgets(budgets: &Budgets, subjects: &[Subject], ids: &[String], path: &Path) -> Failure {
    let failure = Failure::new(Kind::Usage, format!("no budget is for a step of {}", ids.join(", ")));
    let names: Vec<String> = budgets.subjects().into_iter().map(str::to_owned).collect();
    let wanted = subjects.first().map_or("", |subject| subject.run.subject.name.as_str());
    let path = path.display();
    failure.help(match names.is_empty() {
        true => format!("{path} has none; write the usual ones with: {} check {} --bless", place::command(), ids[0]),
        false => format!("{path} has budgets for other subjects than `{wanted}`: {}", meant(wanted, &names)),
    })
}

/// Says of each place that the run lacks where it is written and what was meant.
fn say_what_is_missing(lines: &[Checked], path: &Path) {
    let mut said = BTreeSet::new();
    for line in lines {
        let Some(missing) = &line.missing else { continue };
        let (what, names) = missing.words(&line.budget);
        let meant = names.map_or_else(String::new, |(wanted, names)| format!("; {}", meant(&wanted, names)));
        if said.insert((what.clone(), line.budget.place.clone())) {
            let text = format!("{}: line {}: {what}{meant}", path.display(), line.line);
            terminal::labelled(Style::Warning, "warning", &text);
        }
    }
}

/// The result in the form that was asked for.
fn shown(
    format: Format,
    lines: &[Checked],
    grown: &[Grown],
    ids: &[String],
    path: &Path,
    strict: bool,
) -> anyhow::Result<String> {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let title = format!("{file} against {}", ids.join(", "));
    let findings = || {
        let written = place::in_repository(path);
        let source = |file: &str| place::in_repository(&layout::root().join(file));
        Findings::of_check(title.clone(), lines, grown, &written, strict, source)
    };
    Ok(match format {
        Format::Text => {
            let explained: String = grown.iter().map(Grown::text).collect();
            format!("{}\n{}{explained}", paint(Style::Bold, &title), text::held::table(lines))
        }
        Format::Json => {
            let json = serde_json::json!({ "lines": lines, "grown": grown });
            serde_json::to_string_pretty(&json)? + "\n"
        }
        Format::Markdown => markdown::check(&title, lines, grown),
        Format::Junit => junit::text(&findings()),
        Format::Github => github::text(&findings()),
    })
}

/// What is said of a run while it is measured.
const LINES: Lines = Lines { step: summary::step_line, counted: repeat::line };

/// A run that is held to the budgets.
struct Subject {
    run: Run,
    place: Place,
}

/// Where a run's files are.
enum Place {
    /// On disk before; only read.
    Kept(PathBuf),
    /// Measured to be checked, with this cargo profile, in a folder that goes with it.
    Measured(TempDir, String),
}

impl Subject {
    /// A run on disk, a program's with its rows.
    fn kept(name: &str) -> anyhow::Result<Subject> {
        let (folder, run) = find::load(name)?;
        Ok(Subject { run: files::counted(&folder, run)?, place: Place::Kept(folder) })
    }

    /// Counts a scenario's budgeted steps.
    fn measure(scenario: Scenario, budgets: &Budgets, built: &str) -> anyhow::Result<Subject> {
        let of = |step: &&Step| {
            let places = budgets.all.iter().map(|budget| &budget.place);
            places.into_iter().any(|place| place.subject == scenario.name() && place.step == step.name)
        };
        let steps: Vec<String> = ladder(scenario).iter().filter(of).map(|step| step.name.to_owned()).collect();
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let run = climb::alone(scenario, &steps, Instrument::Count, built, &folder.path().join("counts"), &LINES)?;
        Ok(Subject { run, place: Place::Measured(folder, built.to_owned()) })
    }

    /// The folder that files of the run's record are relative to.
    fn folder(&self) -> PathBuf {
        match &self.place {
            Place::Kept(folder) => folder.clone(),
            Place::Measured(folder, _) => folder.path().join("stacks"),
        }
    }

    /// Has dhat look at the steps that are over, where this run was measured here and now.
    fn look_closer(&mut self, over: &[&Budget]) -> anyhow::Result<()> {
        let (Place::Measured(_, built), Some(scenario)) = (&self.place, Scenario::of(&self.run.subject)) else {
            return Ok(());
        };
        let is_over = |name: &&String| over.iter().any(|budget| budget.place.step == **name);
        let steps: Vec<String> = self.run.steps.iter().map(|step| &step.name).filter(is_over).cloned().collect();
        if steps.is_empty() {
            return Ok(());
        }
        let seen = match climb::alone(scenario, &steps, Instrument::Stacks, built, &self.folder(), &LINES) {
            Ok(seen) => seen,
            Err(error) => {
                interrupt::interrupted()?;
                let text = format!("call sites are not known: {error:#}");
                terminal::labelled(Style::Warning, "warning", &text);
                return Ok(());
            }
        };
        self.run.stacks_workload = seen.stacks_workload;
        for seen in seen.steps {
            if let Some(step) = self.run.steps.iter_mut().find(|step| step.name == seen.name) {
                step.stacks = seen.stacks;
            }
        }
        Ok(())
    }
}

/// Fails where a budget is exceeded, where nothing at all could be checked, and where a `strict` check did not measure
/// one: nothing holds a figure that nobody looks at.
fn verdict(lines: &[Checked], run: Option<&str>, strict: bool) -> anyhow::Result<()> {
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let (over, unmeasured) = (count(Kept::Over), count(Kept::Unmeasured));
    let are = |count: usize| if count == 1 { "is" } else { "are" };
    let exceeded = format!("{over} of {} budgets {} exceeded", lines.len(), are(over));
    let missed = format!("{unmeasured} of {} budgets {} for what was not measured", lines.len(), are(unmeasured));
    if unmeasured == lines.len() {
        let nothing = format!("nothing was checked: the run measured none of what the {unmeasured} budgets are for");
        return Err(Failure::new(Kind::Verdict, nothing)
            .help(match place::has_study() {
                true => "measure the steps and figures that the budgets name: cargo xtask check",
                false => "measure the steps and figures that the budgets name, or mend their names",
            })
            .into());
    }
    if unmeasured > 0 && (over > 0 || !strict) {
        terminal::labelled(Style::Warning, "warning", &missed);
    }
    match (over, unmeasured) {
        (0, 0) => Ok(()),
        (0, _) if !strict => Ok(()),
        (0, _) => Err(Failure::new(Kind::Verdict, missed)
            .help(match place::has_study() && run.is_none() {
                true => "only counts are taken here; hold other figures of a run with: cargo xtask check RUN",
                false => "measure what they are for, or take them out of the budgets",
            })
            .into()),
        _ => {
            let run = run.map_or_else(String::new, |run| format!(" {run}"));
            let help = format!(
                "if that is meant: {} check{run} --bless, and commit the budgets with the reason",
                place::command()
            );
            Err(Failure::new(Kind::Verdict, exceeded).help(help).into())
        }
    }
}

/// Says of every exceeded budget which stages and call sites grew, or why that cannot be told.
fn explain(run: &Run, folder: PathBuf, over: &[&Budget]) -> anyhow::Result<Vec<Grown>> {
    if over.is_empty() {
        return Ok(Vec::new());
    }
    let Some(scenario) = Scenario::of(&run.subject) else { return largest(run, &folder, over) };
    let reference = layout::reference(scenario);
    let reference = match reference.join(layout::RUN_JSON).is_file() {
        true => Some(find::load(&reference.to_string_lossy())?),
        false => None,
    };
    explain_against(run, &folder, over, scenario, reference.as_ref())
}

/// The largest call sites of what is over, for a run that nothing is told against.
fn largest(run: &Run, folder: &Path, over: &[&Budget]) -> anyhow::Result<Vec<Grown>> {
    let grown = places(over).into_iter().filter_map(|(name, side)| {
        let step = run.steps.iter().find(|step| step.name == name)?;
        let end = Endpoint { folder, run: &run.id, step };
        Some((name, side, drawn::largest(end, side, stages_of(over, name, side).as_ref())))
    });
    grown
        .map(|(name, side, sites)| {
            let sites = sites?;
            let none = "the run has no call stacks; record some with: ".to_owned() + place::command();
            let unknown = sites.is_none().then(|| none + " profile -- PROGRAM");
            let subject = run.subject.name.clone();
            let (step, reference, stages) = (name.to_owned(), String::new(), Vec::new());
            Ok(Grown { step, side, reference, stages, sites, largest: true, unknown, subject })
        })
        .collect()
}

/// The steps and sides that budgets are of, each once.
fn places<'a>(budgets: &[&'a Budget]) -> BTreeSet<(&'a str, Side)> {
    budgets.iter().map(|budget| (budget.place.step.as_str(), budget.place.side)).collect()
}

/// The stages that the budgets of a side are for; `None` where one of them is for the whole side.
fn stages_of(budgets: &[&Budget], step: &str, side: Side) -> Option<BTreeSet<Stage>> {
    let here =
        budgets.iter().map(|budget| &budget.place).filter(|place| (place.step.as_str(), place.side) == (step, side));
    here.map(|place| place.stage).collect()
}

fn explain_against(
    run: &Run,
    folder: &Path,
    over: &[&Budget],
    scenario: Scenario,
    reference: Option<&(PathBuf, Run)>,
) -> anyhow::Result<Vec<Grown>> {
    let grown = places(over).into_iter().map(|(name, side)| {
        let unknown = |of: &str, why| Grown {
            step: name.to_owned(),
            side,
            reference: of.to_owned(),
            stages: Vec::new(),
            sites: None,
            largest: false,
            unknown: Some(why),
            subject: scenario.name().to_owned(),
        };
        let Some((reference_folder, reference)) = reference else {
            return Ok(unknown("", format!("there is no reference run of {scenario}")));
        };
        let step = |run: &'_ Run| run.steps.iter().position(|step| step.name == name);
        let (Some(old), Some(new)) = (step(reference), step(run)) else {
            let help = format!("measure it again: cargo xtask profile {scenario} --out profiles/reference/{scenario}");
            return Ok(unknown(&reference.id, format!("{} has no step `{name}`; {help}", reference.id)));
        };
        let before = Endpoint { folder: reference_folder, run: &reference.id, step: &reference.steps[old] };
        let after = Endpoint { folder, run: &run.id, step: &run.steps[new] };
        grown_between([reference, run], before, after, side, stages_of(over, name, side))
    });
    grown.collect()
}

/// What grew between two runs of one step; of the call sites only those of `stages`, if it names any.
fn grown_between(
    runs: [&Run; 2],
    before: Endpoint<'_>,
    after: Endpoint<'_>,
    side: Side,
    stages: Option<BTreeSet<Stage>>,
) -> anyhow::Result<Grown> {
    let wanted = |site: &sites::Site| site.grew() && stages.as_ref().is_none_or(|some| some.contains(&site.stage));
    let moved = drawn::moved(before, after, side)?;
    let mut sites: Option<Vec<sites::Site>> = moved.map(|moved| moved.changes.into_iter().filter(wanted).collect());
    // A budget can be less than what there always was: then those are named that there are.
    let largest = sites.as_ref().is_some_and(Vec::is_empty);
    match largest {
        true => sites = drawn::largest(after, side, stages.as_ref())?,
        false => drawn::look_up(sites.iter_mut().flatten(), after, side)?,
    }
    Ok(Grown {
        step: after.step.name.clone(),
        side,
        reference: before.run.to_owned(),
        stages: grown_stages(runs, [before.step, after.step], side),
        sites,
        largest,
        unknown: None,
        subject: runs[1].subject.name.clone(),
    })
}

/// Rewrites the figures that were measured, adds `news`, and shows what that changed.
fn bless(budgets: &mut Budgets, lines: &[Checked], news: &[Budget], path: &Path) -> anyhow::Result<()> {
    let becomes = |line: &'_ Checked| match line.blessed() {
        Blessed::Becomes(figure) => Some(figure),
        Blessed::Same | Blessed::Held | Blessed::Unmeasured => None,
    };
    let changes: Vec<(&Checked, f64)> = lines.iter().filter_map(|line| Some((line, becomes(line)?))).collect();
    for (line, figure) in &changes {
        budgets.bless(&line.budget, *figure);
    }
    news.iter().for_each(|budget| budgets.add(budget));
    if !changes.is_empty() || !news.is_empty() {
        write::whole(path, budgets.text().as_bytes())?;
    }
    terminal::result(&(text::held::blessed(&changes) + &text::held::added(news)))?;
    let kept = [(Blessed::Held, "held and kept"), (Blessed::Unmeasured, "not measured and kept")];
    let kept = kept.map(|(what, why)| (lines.iter().filter(|line| line.blessed() == what).count(), why));
    let kept = kept.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!(", {count} {why}"));
    let kept: String = kept.collect();
    let (changed, all) = (changes.len(), lines.len());
    let added = if news.is_empty() { String::new() } else { format!(", {} added", news.len()) };
    terminal::progress("Blessed", &format!("{changed} of {all} budgets in {}{added}{kept}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Tally;
    use alloc_ladder::record::{CountRow, Shape, StepRecord, Subject};

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

    fn parse(text: &str) -> Result<Budgets, BadBudgets> {
        Budgets::parse(text, Whose::Study)
    }

    fn run(handler: (u64, u64)) -> Run {
        let rows = [(Stage::Handler, handler.0, handler.1), (Stage::Transport, 2000, 64_000)];
        let counted = (0..2).map(|round| fixture::count(Side::Server, round, &rows)).collect();
        Run { steps: vec![fixture::step("baseline", counted)], ..fixture::run("put-20260820-1402", Scenario::Put) }
    }

    #[test]
    fn budgets_are_kept_nearly_used_up_exceeded_or_unmeasured() {
        let budgets = parse(BUDGETS).expect("parses");
        let all = checked(&budgets, &run((900, 41_000)));
        expect_test::expect![[r#"
            near  put/baseline server allocs/msg                  2.90      ≤ 3.00   97 %
            near  put/baseline server bytes/msg                  105 B     ≤ 100 B  105 %  (110 % allowed)
            ok    put/baseline server peak heap                  4 MiB  ≤ 95.4 MiB
            OVER  put/baseline server handler allocs/msg         0.900     ≤ 0.500  180 %
            –     put/baseline client allocs/msg          not measured      ≤ 1.00
            –     put/tuned-h2 server allocs/msg          not measured      ≤ 1.00
        "#]]
        .assert_eq(&terminal::plain(&text::held::table(&all)));
        let failure = |lines: &[Checked], run| {
            let failure = verdict(lines, run, run.is_none()).err()?.downcast::<Failure>().expect("a failure");
            assert_eq!(failure.kind, Kind::Verdict);
            Some(failure.message)
        };
        assert_eq!(failure(&all, None).as_deref(), Some("1 of 6 budgets is exceeded"));
        let kept = checked(&budgets, &run((500, 1000)));
        assert_eq!(failure(&kept, Some("put-a")), None, "a run on disk may have measured less");
        let missed = "2 of 6 budgets are for what was not measured";
        assert_eq!(failure(&kept, None).as_deref(), Some(missed), "a check that measures may not");
        assert_eq!(failure(&kept[..4], None), None);
        // A run without steps, one whose steps have no measurements, and one that carried no message.
        let mut silent = run((900, 41_000));
        silent.steps[0].measurements.iter_mut().for_each(|m| m.messages = 0);
        let hollow = Run { steps: vec![fixture::step("baseline", Vec::new())], ..silent.clone() };
        let empty = Run { steps: Vec::new(), ..silent.clone() };
        silent.steps[0].measurements.iter_mut().for_each(|m| m.counts = None);
        for run in [empty, hollow, silent] {
            let all = checked(&budgets, &run);
            assert_eq!(all.len(), 6);
            for named in [None, Some("put-a")] {
                let nothing = failure(&all, named).expect("nothing was checked");
                assert!(nothing.starts_with("nothing was checked: "), "{nothing}");
            }
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_understood() {
        let help = |text: &str| help(&parse(text).expect_err("wrong"));
        let slip = parse("\n[putt.baseline.server]\nallocs-per-message = 1").expect("a program, for all one knows");
        let failure =
            scenarios(&slip, Path::new("b.toml")).expect_err("wrong").downcast::<Failure>().expect("a failure");
        assert_eq!(failure.message, "b.toml: line 3: there is no scenario `putt`");
        let help_text = failure.help.expect("a way out");
        assert!(help_text.starts_with("did you mean `put`? there are: put, get, unary; "), "{help_text}");
        assert!(help("[get.zerocopy.server]").starts_with("did you mean `zero-copy`? there are: baseline, "));
        assert_eq!(help("[put.baseline.middle]"), "there are: server, client");
        assert_eq!(help("[put"), "mend that file, or name another");
    }

    #[test]
    fn a_count_has_no_tolerance_unless_one_is_written() {
        let budgets = parse(BUDGETS).expect("parses");
        let of = |index: usize, measured| Kept::of(&budgets.all[index], measured);
        assert_eq!(of(0, 3.0), Kept::Ok, "the figure itself is not near itself");
        assert_eq!(of(0, 3.0005), Kept::Over);
        assert_eq!(of(0, 2.9), Kept::Near);
        assert_eq!(of(0, 2.0), Kept::Ok);
        assert_eq!(of(1, 99.9), Kept::Ok, "with a tolerance the figure is what is usual");
        assert_eq!(of(1, 109.0), Kept::Near);
        assert_eq!(of(1, 111.0), Kept::Over);
    }

    #[test]
    fn blessing_leaves_limits_that_hold_and_raises_those_that_were_passed() {
        let text = "\
[put.baseline.server]
allocs-per-message = 0.01 # next to nothing
bytes-per-message = { max = 100, tolerance = 0.1 }
peak-heap = 1000 # too low

[put.rope.server]
allocs-per-message = 0.01
";
        let rounds = |rows: [(u64, u64); 2]| {
            let count =
                |(round, (blocks, bytes))| fixture::count(Side::Server, round, &[(Stage::Handler, blocks, bytes)]);
            (0..).zip(rows).map(count).collect()
        };
        let run = Run {
            steps: vec![
                fixture::step("baseline", rounds([(0, 98_000), (0, 96_000)])),
                fixture::step("rope", rounds([(500, 0), (700, 0)])),
            ],
            ..fixture::run("put-a", Scenario::Put)
        };
        let mut budgets = parse(text).expect("parses");
        let file = tempfile::NamedTempFile::new().expect("creates");
        bless(&mut budgets, &checked(&parse(text).expect("parses"), &run), &[], file.path()).expect("writes");
        let blessed = text
            .replace("max = 100", "max = 97")
            .replace("= 1000 #", &format!("= {} #", 4 << 20))
            .replace("[put.rope.server]\nallocs-per-message = 0.01", "[put.rope.server]\nallocs-per-message = 0.7");
        assert_eq!(std::fs::read_to_string(file.path()).expect("reads"), blessed);
        let again = checked(&parse(&blessed).expect("parses"), &run);
        assert!(verdict(&again, None, true).is_ok(), "what was blessed passes");
    }

    #[test]
    fn a_step_that_the_reference_lacks_gets_a_line() {
        let budgets = parse("[put.one-frame.server]\nallocs-per-message = 0.01").expect("parses");
        let step = |name| fixture::step(name, vec![fixture::count(Side::Server, 0, &[(Stage::Handler, 1000, 0)])]);
        let run = Run { steps: vec![step("one-frame")], ..fixture::run("put-a", Scenario::Put) };
        let reference = Run { steps: vec![step("baseline")], ..fixture::run("put-reference", Scenario::Put) };
        let lines = checked(&budgets, &run);
        let text = |reference: Option<&(PathBuf, Run)>| {
            let grown = explain_against(&run, Path::new(""), &over(&run, &lines), Scenario::Put, reference);
            grown.expect("reads nothing").iter().map(Grown::text).collect::<String>()
        };
        assert_eq!(
            text(Some(&(PathBuf::new(), reference))),
            "\nput/one-frame server: what grew is not known: put-reference has no step `one-frame`; measure it again: \
             cargo xtask profile put --out profiles/reference/put\n"
        );
        assert_eq!(text(None), "\nput/one-frame server: what grew is not known: there is no reference run of put\n");
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
        let of = |step: &StepRecord| Run { steps: vec![step.clone()], ..fixture::run("put-a", Scenario::Put) };
        let (reference, run) = (of(&old), of(&new));
        let grown = |stages| grown_between([&reference, &run], before, after, Side::Server, stages).expect("reads");
        assert_eq!(grown(Some([Stage::Marshal].into())).sites, Some(Vec::new()));
        let grown = grown(None);
        expect_test::expect![[r#"

            put/baseline server: what grew since reference, per message
            handler  0 → 1.00 blocks  0 B → 64 KiB  new
            +64 KiB  +1.00  new  handler  subject::put::copy ← subject::put
        "#]]
        .assert_eq(&terminal::plain(&grown.text()));
    }

    /// A program of two methods, on both sides of calls, counted twice.
    fn program() -> Run {
        let row = |rpc: &str, side, stage, blocks| CountRow {
            rpc: rpc.to_owned(),
            side,
            stage,
            tally: Tally { blocks, bytes: 100 * blocks, ..Tally::default() },
        };
        let measured = |round| {
            let mut measured = fixture::count(Side::Server, round, &[]);
            let counts = measured.counts.as_mut().expect("counted");
            counts.rows = vec![
                row("/a.B/Put", Some(Side::Server), Stage::Marshal, 1000),
                row("/a.B/Put", Some(Side::Server), Stage::Handler, 2000 + 10 * u64::from(round)),
                row("/a.B/Get", Some(Side::Client), Stage::Marshal, 500),
                row("", None, Stage::Other, 7000),
            ];
            counts.total = counts.rows.iter().map(|row| row.tally).sum();
            measured
        };
        Run {
            subject: Subject { name: "srv".to_owned(), shape: Shape::Program },
            steps: vec![fixture::step("attached", vec![measured(0), measured(1)])],
            ..fixture::run("attach-1", Scenario::Put)
        }
    }

    #[test]
    fn a_program_is_held_by_method_and_side_and_what_it_lacks_is_named() {
        const SRV: &str = r#"
[srv.attached.server]
allocs-per-message = 10
[srv.attached.server."/a.B/Put"]
allocs-per-message = 3
[srv.attached.server."/a.B/Put".handler]
bytes-per-message = 201
[srv.attached.server."/a.B/Put".transport]
allocs-per-message = 0
[srv.attached.client."/a.B/Get".marshal]
allocs-per-message = 0.4
[srv.attached.server."/a.B/Get"]
allocs-per-message = 1
[srv.attached.client]
allocs-per-message = 1
[srv.atached.server]
allocs-per-message = 1
[other.attached.server]
allocs-per-message = 1
"#;
        let lines = checked(&parse(SRV).expect("parses"), &program());
        let said: Vec<String> = lines
            .iter()
            .map(|line| {
                let lacks = line.missing.as_ref().map(|missing| match missing.words(&line.budget) {
                    (what, None) => what,
                    (what, Some((wanted, names))) => format!("{what}; {}", meant(&wanted, names)),
                });
                format!("{} {} {:?} {}", line.line, line.budget, line.verdict, lacks.unwrap_or_default())
            })
            .collect();
        expect_test::expect![[r#"
            [
                "3 srv/attached server allocs/msg Over ",
                "5 srv/attached server /a.B/Put allocs/msg Over ",
                "7 srv/attached server /a.B/Put handler bytes/msg Near ",
                "9 srv/attached server /a.B/Put transport allocs/msg Ok ",
                "13 srv/attached server /a.B/Get allocs/msg Unmeasured the run has no method `/a.B/Get`; did you mean `/a.B/Put`? there are: /a.B/Put",
                "11 srv/attached client /a.B/Get marshal allocs/msg Over ",
                "15 srv/attached client allocs/msg Unmeasured the run has no side `client`; there are: server",
                "17 srv/atached server allocs/msg Unmeasured the run has no step `atached`; did you mean `attached`? there are: attached",
            ]
        "#]]
        .assert_debug_eq(&said);
        let (unmeasured, others): (Vec<Checked>, Vec<Checked>) =
            lines.into_iter().partition(|line| line.verdict == Kept::Unmeasured);
        let failure = verdict(&unmeasured, Some("attach-1"), true).expect_err("not measured").to_string();
        assert_eq!(failure, "nothing was checked: the run measured none of what the 3 budgets are for");
        let kept = others.into_iter().filter(|line| line.verdict != Kept::Over);
        let kept: Vec<Checked> = kept.chain(unmeasured).collect();
        let failure = verdict(&kept, Some("attach-1"), true).expect_err("not measured").to_string();
        assert_eq!(failure, "3 of 5 budgets are for what was not measured");
    }

    #[test]
    fn a_program_without_seams_keeps_no_budget_of_a_stage() {
        let mut run = program();
        let counts = run.steps[0].measurements.iter_mut().filter_map(|measured| measured.counts.as_mut());
        counts.for_each(|counts| counts.rows.retain(|row| row.stage == Stage::Other));
        let budgets = parse("[srv.attached.server.marshal]\nallocs-per-message = 5").expect("parses");
        let lines = checked(&budgets, &run);
        assert_eq!(lines[0].verdict, Kept::Unmeasured);
        let words = lines[0].missing.as_ref().expect("missing").words(&lines[0].budget).0;
        assert_eq!(words, "the run does not tell stages apart: the program has no seams");
    }

    #[test]
    fn blessing_a_program_writes_its_usual_budgets_and_then_keeps_them() {
        let folder = tempfile::tempdir().expect("creates");
        let (file, run) = (folder.path().join("budgets.toml"), program());
        let mut none = Budgets::default();
        let news = usual(&none, &run);
        bless(&mut none, &[], &news, &file).expect("writes");
        let text = std::fs::read_to_string(&file).expect("written");
        expect_test::expect![[r#"
            [srv.attached.server]
            allocs-per-message = { max = 10.505, tolerance = 0.05 }
            bytes-per-message = { max = 1050.5, tolerance = 0.05 }
            peak-heap = { max = 4194304, tolerance = 0.25 }

            [srv.attached.server."/a.B/Put"]
            allocs-per-message = { max = 3.005, tolerance = 0.05 }
            bytes-per-message = { max = 300.5, tolerance = 0.05 }

            [srv.attached.client."/a.B/Get"]
            allocs-per-message = { max = 0.5, tolerance = 0.05 }
            bytes-per-message = { max = 50, tolerance = 0.05 }
        "#]]
        .assert_eq(&text);
        let written = parse(&text).expect("parses");
        assert!(usual(&written, &run).is_empty(), "what is there is not added again");
        let lines = checked(&written, &run);
        assert_eq!(lines.len(), 7);
        assert!(lines.iter().all(|line| line.verdict == Kept::Ok), "{lines:?}");
    }
}
