//! `cargo xtask check`: whether a run keeps to its budgets, and if not, which call sites grew.
//!
//! Only figures the budgets name are looked at. A count is allowed what is written and nothing more unless a tolerance
//! is written beside it. What grew is told against the reference run of the scenario, the one the README quotes. Counts
//! have no call sites, so a step that is over is run once more, with dhat, before it is explained: a check that passes
//! does not pay for that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{Instrument, Run};
use alloc_ladder::subject::ladder::{Step, ladder};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use anyhow::Context;
use tempfile::TempDir;

use crate::analyse::budget::{BadBudgets, Budget, Budgets};
use crate::analyse::held::{Blessed, Checked, Grown, Kept, checked, grown_stages, over};
use crate::analyse::sites;
use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal::{self, Style, paint};
use crate::measure::climb::{self, Lines};
use crate::measure::interrupt;
use crate::render::sites::{self as drawn, Endpoint};
use crate::render::text::{self, repeat, summary};
use crate::store::find;
use crate::store::{layout, place, read, write};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The run to check: an id, a path, or `newest` [default: measure the counts of every scenario now]
    run: Option<String>,
    /// Write what is usual now, and what limits were passed, into the budgets, and show what that changes
    #[arg(long)]
    bless: bool,
    /// The budgets [default: {budgets} in the root of the workspace]
    #[arg(long, value_name = "FILE")]
    budgets: Option<PathBuf>,
    /// Cargo profile to build with where it measures [default: release]
    #[arg(long, conflicts_with = "run")]
    profile: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "bless")]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let path = args.budgets.clone().unwrap_or_else(place::budgets);
    let mut budgets = read::parsed(&path, Budgets::read, help)?;
    let mut subjects = match &args.run {
        Some(name) => {
            let (folder, run) = find::load(name)?;
            vec![Subject { run, place: Place::Kept(folder) }]
        }
        None => {
            let scenarios: BTreeSet<Scenario> = budgets.all.iter().map(|budget| budget.scenario).collect();
            let built = args.profile.as_deref().unwrap_or("release");
            scenarios.into_iter().map(|of| Subject::measure(of, &budgets, built)).collect::<anyhow::Result<_>>()?
        }
    };
    let lines: Vec<Checked> = subjects.iter().flat_map(|subject| checked(&budgets, &subject.run)).collect();
    let ids: Vec<String> = subjects.iter().map(|subject| subject.run.id.clone()).collect();
    if lines.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("no budget is for a step of {}", ids.join(", ")))
            .help(format!("budgets are in {}", path.display()))
            .into());
    }
    if args.bless {
        return bless(&mut budgets, &lines, &path);
    }
    let mut grown = Vec::new();
    for subject in &mut subjects {
        let over = over(&subject.run, &lines);
        subject.look_closer(&over)?;
        grown.extend(explain(&subject.run, subject.folder(), &over)?);
    }
    if args.json {
        let json = serde_json::json!({ "lines": lines, "grown": grown });
        terminal::result(&(serde_json::to_string_pretty(&json)? + "\n"))?;
    } else {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let title = paint(Style::Bold, &format!("{file} against {}", ids.join(", ")));
        let explained: String = grown.iter().map(Grown::text).collect();
        terminal::result(&format!("{title}\n{}{explained}", text::held::table(&lines)))?;
    }
    verdict(&lines, args.run.as_deref())
}

/// What to do about budgets that cannot be read.
fn help(bad: &BadBudgets) -> String {
    let Some((wanted, names)) = &bad.unknown else { return "mend that file, or name another".to_owned() };
    let near = nearest(Named::Budget, wanted, names.iter().map(String::as_str));
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    format!("{meant}there are: {}", names.join(", "))
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
    /// Counts a scenario's budgeted steps.
    fn measure(scenario: Scenario, budgets: &Budgets, built: &str) -> anyhow::Result<Subject> {
        let of = |step: &&Step| {
            budgets.all.iter().any(|budget| budget.scenario == scenario && budget.step.name == step.name)
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
        let is_over = |name: &&String| over.iter().any(|budget| budget.step.name == name.as_str());
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

/// Fails where a budget is exceeded, where nothing at all could be checked, and where a check that measures did not
/// measure one: nothing holds a figure that nobody looks at. A run on disk may have measured less than all budgets are
/// for.
fn verdict(lines: &[Checked], run: Option<&str>) -> anyhow::Result<()> {
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let (over, unmeasured) = (count(Kept::Over), count(Kept::Unmeasured));
    let are = |count: usize| if count == 1 { "is" } else { "are" };
    let exceeded = format!("{over} of {} budgets {} exceeded", lines.len(), are(over));
    let missed = format!("{unmeasured} of {} budgets {} for what was not measured", lines.len(), are(unmeasured));
    if unmeasured == lines.len() {
        let nothing = format!("nothing was checked: the run measured none of what the {unmeasured} budgets are for");
        return Err(Failure::new(Kind::Verdict, nothing)
            .help("measure the steps and figures that the budgets name: cargo xtask check")
            .into());
    }
    if unmeasured > 0 && (over > 0 || run.is_some()) {
        terminal::labelled(Style::Warning, "warning", &missed);
    }
    match (over, unmeasured, run) {
        (0, 0, _) | (0, _, Some(_)) => Ok(()),
        (0, _, None) => Err(Failure::new(Kind::Verdict, missed)
            .help(format!(
                "only counts are taken here; hold other figures of a run with: {} check RUN",
                place::command()
            ))
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
    let Some(scenario) = Scenario::of(&run.subject).filter(|_| !over.is_empty()) else { return Ok(Vec::new()) };
    let reference = layout::reference(scenario);
    let reference = match reference.join(layout::RUN_JSON).is_file() {
        true => Some(find::load(&reference.to_string_lossy())?),
        false => None,
    };
    explain_against(run, &folder, over, scenario, reference.as_ref())
}

fn explain_against(
    run: &Run,
    folder: &Path,
    over: &[&Budget],
    scenario: Scenario,
    reference: Option<&(PathBuf, Run)>,
) -> anyhow::Result<Vec<Grown>> {
    let places: BTreeSet<(&str, Side)> = over.iter().map(|budget| (budget.step.name, budget.side)).collect();
    let grown = places.into_iter().map(|(name, side)| {
        let unknown = |of: &str, why| Grown {
            step: name.to_owned(),
            side,
            reference: of.to_owned(),
            stages: Vec::new(),
            sites: None,
            unknown: Some(why),
            scenario,
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
        // `None` where one of the budgets is for the whole side.
        let stages = over.iter().filter(|b| (b.step.name, b.side) == (name, side)).map(|b| b.stage).collect();
        grown_between(scenario, [reference, run], before, after, side, stages)
    });
    grown.collect()
}

/// What grew between two runs of one step; of the call sites only those of `stages`, if it names any.
fn grown_between(
    scenario: Scenario,
    runs: [&Run; 2],
    before: Endpoint<'_>,
    after: Endpoint<'_>,
    side: Side,
    stages: Option<BTreeSet<Stage>>,
) -> anyhow::Result<Grown> {
    let wanted = |site: &sites::Site| site.grew() && stages.as_ref().is_none_or(|some| some.contains(&site.stage));
    let moved = drawn::moved(before, after, side)?;
    Ok(Grown {
        step: after.step.name.clone(),
        side,
        reference: before.run.to_owned(),
        stages: grown_stages(runs, [before.step, after.step], side),
        sites: moved.map(|moved| moved.changes.into_iter().filter(wanted).collect()),
        unknown: None,
        scenario,
    })
}

/// Rewrites the figures that were measured, and shows which of them changed.
fn bless(budgets: &mut Budgets, lines: &[Checked], path: &Path) -> anyhow::Result<()> {
    let becomes = |line: &'_ Checked| match line.blessed() {
        Blessed::Becomes(figure) => Some(figure),
        Blessed::Same | Blessed::Held | Blessed::Unmeasured => None,
    };
    let changes: Vec<(&Checked, f64)> = lines.iter().filter_map(|line| Some((line, becomes(line)?))).collect();
    for (line, figure) in &changes {
        budgets.bless(&line.budget, *figure);
    }
    if !changes.is_empty() {
        write::whole(path, budgets.text().as_bytes())?;
    }
    terminal::result(&text::held::blessed(&changes))?;
    let kept = [(Blessed::Held, "held and kept"), (Blessed::Unmeasured, "not measured and kept")];
    let kept = kept.map(|(what, why)| (lines.iter().filter(|line| line.blessed() == what).count(), why));
    let kept = kept.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!(", {count} {why}"));
    let kept: String = kept.collect();
    let (changed, all) = (changes.len(), lines.len());
    terminal::progress("Blessed", &format!("{changed} of {all} budgets in {}{kept}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::StepRecord;

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
        let counted = (0..2).map(|round| fixture::count(Side::Server, round, &rows)).collect();
        Run { steps: vec![fixture::step("baseline", counted)], ..fixture::run("put-20260820-1402", Scenario::Put) }
    }

    #[test]
    fn budgets_are_kept_nearly_used_up_exceeded_or_unmeasured() {
        let budgets = Budgets::parse(BUDGETS).expect("parses");
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
            let failure = verdict(lines, run).err()?.downcast::<Failure>().expect("a failure");
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
        let help = |text: &str| help(&Budgets::parse(text).expect_err("wrong"));
        assert_eq!(help("[putt.baseline.server]"), "did you mean `put`? there are: put, get, unary");
        assert!(help("[get.zerocopy.server]").starts_with("did you mean `zero-copy`? there are: baseline, "));
        assert_eq!(help("[put.baseline.middle]"), "there are: server, client");
        assert_eq!(help("[put"), "mend that file, or name another");
    }

    #[test]
    fn a_count_has_no_tolerance_unless_one_is_written() {
        let budgets = Budgets::parse(BUDGETS).expect("parses");
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
        let mut budgets = Budgets::parse(text).expect("parses");
        let file = tempfile::NamedTempFile::new().expect("creates");
        bless(&mut budgets, &checked(&Budgets::parse(text).expect("parses"), &run), file.path()).expect("writes");
        let blessed = text
            .replace("max = 100", "max = 97")
            .replace("= 1000 #", &format!("= {} #", 4 << 20))
            .replace("[put.rope.server]\nallocs-per-message = 0.01", "[put.rope.server]\nallocs-per-message = 0.7");
        assert_eq!(std::fs::read_to_string(file.path()).expect("reads"), blessed);
        let again = checked(&Budgets::parse(&blessed).expect("parses"), &run);
        assert!(verdict(&again, None).is_ok(), "what was blessed passes");
    }

    #[test]
    fn a_step_that_the_reference_lacks_gets_a_line() {
        let budgets = Budgets::parse("[put.one-frame.server]\nallocs-per-message = 0.01").expect("parses");
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
        let grown = |stages| {
            grown_between(Scenario::Put, [&reference, &run], before, after, Side::Server, stages).expect("reads")
        };
        assert_eq!(grown(Some([Stage::Marshal].into())).sites, Some(Vec::new()));
        let grown = grown(None);
        expect_test::expect![[r#"

            put/baseline server: what grew since reference, per message
            handler  0 → 1.00 blocks  0 B → 64 KiB  new
            +64 KiB  +1.00  new  handler  subject::put::copy ← subject::put
        "#]]
        .assert_eq(&terminal::plain(&grown.text()));
    }
}
