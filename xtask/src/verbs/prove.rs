//! `advise --prove`: measures the steps that need no change of the service's code, under the service's own load.

use std::fmt::Write;

use alloc_ladder::Side;
use alloc_ladder::record::{Run, StepRecord};

use crate::analyse::judge::{self, Verdict};
use crate::analyse::marks::{self, Against, Marks};
use crate::analyse::metric::{self, Metric, Whose};
use crate::analyse::stats;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style, paint, rendering};
use crate::measure::subject::climb::Climb;
use crate::measure::subject::prove::{self, Candidate, Proving};
use crate::measure::subject::{self, found};
use crate::measure::{environment, interrupt};
use crate::render::page;
use crate::store::builds::Builds;
use crate::store::layout;
use crate::store::write::RunFolder;

/// What a step may make better, the most telling first.
const METRICS: [&Metric; 5] = [
    &metric::ALLOCS_PER_MESSAGE,
    &metric::BYTES_PER_MESSAGE,
    &metric::CPU_PER_MESSAGE,
    &metric::PEAK_HEAP,
    &metric::PEAK_RSS,
];

/// Rounds of each at least: every candidate is measured as often as the service as it is, to be compared with that.
const ROUNDS: u32 = 12;

/// Measures them on top of the step called `base`, or of the first of the file.
pub(crate) fn run(base: Option<&str>) -> anyhow::Result<()> {
    interrupt::catch_interrupts()?;
    let mut subject = subject::read(&found::find()?)?;
    // Fewer rounds tell no candidate from chance.
    subject.window.rounds = subject.window.rounds.max(ROUNDS);
    subject.window.budget = None;
    let proving = prove::candidates(subject, base)?;
    let Proving { subject, candidates, left_out } = &proving;
    if candidates.is_empty() {
        let why: Vec<String> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        return Err(Failure::new(Kind::Usage, "nothing can be tried without a change of the code")
            .help(why.join("; "))
            .into());
    }
    found::may_run(subject)?;
    let builds = Builds::take(&layout::builds())?;
    let (created, stamp) = environment::now();
    let name = format!("{}-prove-{stamp}", found::plain(&subject.name));
    let folder = RunFolder::create_new(&layout::runs(), &name)?;
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    terminal::progress("Proving", &format!("{} · {}", subject.name, names.join(", ")));
    let mut climb = Climb::new(subject, folder, created).against_first();
    let measured = climb.build(builds.path()).and_then(|()| climb.measure());
    let has_figures = climb.has_figures();
    let (run, folder, mut profiles) = climb.into_parts();
    if !has_figures {
        folder.clear(&[layout::RUN_JSON.to_owned()])?;
        return measured;
    }
    folder.save(&run)?;
    let page = rendering(folder.path(), || page::write_all(&folder, &run, &mut profiles))?;
    terminal::result(&text(&run, candidates, left_out))?;
    terminal::progress("Report", &terminal::path(&page));
    // A candidate that does not build is an answer; a service that could not be measured is none.
    match measured {
        Err(error) if run.steps.first().is_some_and(|base| base.failure.is_some()) || !is_of_a_step(&error) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Whether an error says that steps failed, and not that the whole was ended.
fn is_of_a_step(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.kind == Kind::Run)
}

/// Before and after of each candidate, with the line to write.
fn text(run: &Run, candidates: &[Candidate], left_out: &[(String, String)]) -> String {
    let Some((base, steps)) = run.steps.split_first() else { return String::new() };
    let mut text = format!("{}, measured under its own load\n", paint(Style::Bold, &run.subject.name));
    let marks = Marks::of(run);
    for (index, (candidate, step)) in candidates.iter().zip(steps).enumerate() {
        let _ = writeln!(text, "\n{}", paint(Style::Bold, &candidate.name));
        text += &of_step(run, &marks, base, step, index + 1, candidate);
    }
    for (name, why) in left_out {
        let _ = writeln!(text, "\n{}\n  not tried: {why}", paint(Style::Bold, name));
    }
    text
}

fn of_step(
    run: &Run,
    marks: &Marks,
    base: &StepRecord,
    step: &StepRecord,
    index: usize,
    candidate: &Candidate,
) -> String {
    if let Some(failure) = &step.failure {
        return format!("  not measured: {failure}\n");
    }
    let mut text = String::new();
    let (mut better, mut any) = (false, false);
    for metric in METRICS {
        let side = marks::alone(run).unwrap_or(Side::Server);
        let Some(pair) = judge::steps(&[run], metric, side, None, [base, step], judge::ALPHA) else { continue };
        // What was timed is judged with all else that was, lest one of many is found by chance.
        let of_times = marks.get(index, Against::First, metric, Whose::Side(side)).filter(|_| !metric.is_exact());
        let judged = of_times.unwrap_or(&pair.judged);
        any = true;
        let (before, after) = (stats::median(&pair.old), stats::median(&pair.new));
        let (word, style) = match judged.verdict {
            Verdict::Better => ("better", Some(Style::Better)),
            Verdict::Worse => ("worse", Some(Style::Worse)),
            Verdict::Equal => ("equal", None),
            _ => ("cannot be told", None),
        };
        better |= judged.verdict == Verdict::Better;
        let shown = [before, after].map(|value| metric.show(value));
        // Rounds are pairs: their ratio is closer than that of the medians.
        let ratio = judged.ratio.filter(|_| of_times.is_some());
        let change = ratio.map_or_else(|| stats::change(before, after).to_string(), |ratio| ratio.to_string());
        let line = format!("{} {} → {} ({change}, {word})", metric.label, shown[0], shown[1]);
        let _ = writeln!(text, "  {}", style.map_or(line.clone(), |style| paint(style, &line)));
    }
    let _ = match (any, better) {
        (false, _) => writeln!(text, "  nothing was counted: the server needs the driver (`cargo alloc-ladder init`)"),
        (true, false) => writeln!(text, "  does not help: nothing became better by more than rounds differ"),
        (true, true) => writeln!(text, "  write, in {}: {}", candidate.place, candidate.line),
    };
    text
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Stage;
    use alloc_ladder::record::{Shape, Subject};
    use alloc_ladder::subject::scenario::Scenario;

    use crate::fixture;

    use super::*;

    #[test]
    fn each_candidate_has_its_figures_or_says_why_not() {
        let step = |name: &str, blocks: u64| {
            let rounds =
                (0..2).map(|round| fixture::count(Side::Server, round, &[(Stage::Handler, blocks, 1000 * blocks)]));
            fixture::step(name, rounds.collect())
        };
        let mut run = fixture::run("toy-prove", Scenario::Put);
        run.subject = Subject { name: "toy".to_owned(), shape: Shape::Program };
        run.steps =
            vec![step("baseline", 84_000), step("alloc-ladder-tonic", 40_000), step("mimalloc", 84_000), step("x", 1)];
        run.steps[3].failure = Some("it does not build; what cargo said is in 04-x/build.log".to_owned());
        let candidate = |name: &str| Candidate {
            name: name.to_owned(),
            place: "Cargo.toml".to_owned(),
            line: format!("{name} = 1"),
        };
        let candidates = ["alloc-ladder-tonic", "mimalloc", "x"].map(candidate);
        let left_out = [("jemalloc".to_owned(), "libjemalloc is not installed".to_owned())];
        let text = terminal::plain(&text(&run, &candidates, &left_out)).replace('\u{202f}', " ");
        expect_test::expect![[r#"
            toy, measured under its own load

            alloc-ladder-tonic
              allocs/msg 84.0 → 40.0 (−52.4%, better)
              bytes/msg 82.0 KiB → 39.1 KiB (−52.4%, better)
              peak heap 4 MiB → 4 MiB (=, equal)
              write, in Cargo.toml: alloc-ladder-tonic = 1

            mimalloc
              allocs/msg 84.0 → 84.0 (=, equal)
              bytes/msg 82.0 KiB → 82.0 KiB (=, equal)
              peak heap 4 MiB → 4 MiB (=, equal)
              does not help: nothing became better by more than rounds differ

            x
              not measured: it does not build; what cargo said is in 04-x/build.log

            jemalloc
              not tried: libjemalloc is not installed
        "#]]
        .assert_eq(&text);
    }
}
