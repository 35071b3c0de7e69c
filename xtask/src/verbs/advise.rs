//! `cargo xtask advise`: the largest stage that is left of a run, and the rungs that were measured to take it away.
//!
//! Nothing is claimed without its number. What a rung does is read from two measured steps that differ in that rung
//! alone: of the run itself, or else of the scenario's reference run, and the line says which, and in what that machine
//! differs from the run's. A rung helps where the stage has less by more than rounds differ by, of bytes or of blocks,
//! and not more of the other. One that is meant for a stage and was measured in neither run is named with the command
//! that measures it, and with no figure.

use std::fmt::Write;

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::ladder::{Step, StepSet, ladder};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::environments::environments;
use crate::analyse::judge::{self, ALPHA, Verdict};
use crate::analyse::metric::{self, ALLOCS_PER_MESSAGE, BYTES_PER_MESSAGE};
use crate::analyse::sites::Amount;
use crate::analyse::stats::{self, change};
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style, paint};
use crate::store::find;
use crate::store::layout;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to look at: an id, a path, or `newest`
    #[arg(default_value = "newest")]
    run: String,
    /// The step to start from [default: the last one the run measured]
    #[arg(long)]
    step: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (_, run) = find::load(&args.run)?;
    let scenarios: Vec<Scenario> = run.scenario.map_or_else(|| Scenario::ALL.to_vec(), |scenario| vec![scenario]);
    let references: Vec<Run> = scenarios
        .iter()
        .map(|scenario| layout::reference(*scenario))
        .filter(|folder| folder.join(layout::RUN_JSON).is_file())
        .map(|folder| Ok(find::load(&folder.to_string_lossy())?.1))
        .collect::<anyhow::Result<_>>()?;
    let advice = Advice::new(&run, args.step.as_deref(), &references)?;
    terminal::result(&if args.json { serde_json::to_string_pretty(&advice)? + "\n" } else { advice.text() })
}

/// What is left, and what takes it away.
#[derive(Debug, Serialize)]
struct Advice {
    run: String,
    step: String,
    /// The largest stage by bytes, and where it is another one, the largest by blocks.
    left: Vec<Left>,
}

/// One stage that still allocates.
#[derive(Debug, Serialize)]
struct Left {
    side: Side,
    stage: Stage,
    amount: Amount,
    /// Of everything the two sides allocate, 0 to 1.
    share_of_bytes: f64,
    share_of_blocks: f64,
    /// The rungs that were measured to reduce it, the one that takes most first; then those meant to.
    rungs: Vec<Rung>,
    /// Measured rungs that are meant for it and do not reduce it.
    in_vain: Vec<Rung>,
}

/// A rung that is not on yet.
#[derive(Debug, Serialize)]
struct Rung {
    scenario: Scenario,
    name: &'static str,
    cost: &'static str,
    switch: &'static str,
    file: &'static str,
    evidence: Option<Evidence>,
}

/// What two steps that differ in one rung measured.
#[derive(Debug, Serialize)]
struct Evidence {
    run: String,
    /// The steps.
    before_step: String,
    after_step: String,
    /// Of the stage, per message.
    before: Amount,
    after: Amount,
    /// Whether that is less, by what rounds differ by anyhow.
    bytes: Verdict,
    blocks: Verdict,
    /// What else became better or worse, in words with figures.
    besides: Vec<String>,
    /// In what the machine, or the build, is another one than the run's that is advised on; empty where it is the same.
    elsewhere: Vec<String>,
}

impl Advice {
    fn new(run: &Run, step: Option<&str>, references: &[Run]) -> anyhow::Result<Advice> {
        let counted = |step: &&StepRecord| Side::ALL.iter().any(|side| step.counts(*side).is_some());
        let measured = || run.steps.iter().filter(counted);
        let found = match step {
            Some(name) => measured().find(|step| step.name == name),
            None => measured().next_back(),
        };
        let Some(found) = found else {
            let names: Vec<&str> = measured().map(|step| step.name.as_str()).collect();
            let (what, help) = match (step, names.is_empty()) {
                (Some(name), false) => {
                    (format!(" of step `{name}`"), format!("it has counts of: {}", names.join(", ")))
                }
                _ => (String::new(), "advice needs the `count` instrument: measure the run with it".to_owned()),
            };
            return Err(Failure::new(Kind::Usage, format!("`{}` has no counts{what}", run.id)).help(help).into());
        };
        let mut left = largest(found);
        for left in &mut left {
            let (rungs, in_vain) = rungs(run, found, references, left.side, left.stage);
            (left.rungs, left.in_vain) = (rungs, in_vain);
        }
        Ok(Advice { run: run.id.clone(), step: found.name.clone(), left })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", paint(Style::Bold, &format!("{}, step {}", self.run, self.step)));
        if self.left.is_empty() {
            text += "nothing is left: neither side allocates in the measured part\n";
        }
        for left in &self.left {
            text += &left.text();
        }
        text
    }
}

/// The stage with the most bytes and the stage with the most blocks, over both sides.
fn largest(step: &StepRecord) -> Vec<Left> {
    let amounts: Vec<(Side, Stage, Amount)> = Side::ALL
        .into_iter()
        .flat_map(|side| Stage::ALL.map(|stage| (side, stage)))
        .filter(|(_, stage)| *stage != Stage::Instrument)
        .filter_map(|(side, stage)| Some((side, stage, amount(step, side, stage)?)))
        .collect();
    let total = |pick: fn(&Amount) -> f64| amounts.iter().map(|(_, _, amount)| pick(amount)).sum::<f64>();
    let (bytes, blocks) = (total(|amount| amount.bytes), total(|amount| amount.blocks));
    let most = |pick: fn(&Amount) -> f64| {
        let some = amounts.iter().filter(|(_, _, amount)| pick(amount) > 0.0);
        some.max_by(|a, b| pick(&a.2).total_cmp(&pick(&b.2)))
    };
    let mut largest: Vec<_> =
        [most(|amount| amount.bytes), most(|amount| amount.blocks)].into_iter().flatten().collect();
    largest.dedup_by_key(|(side, stage, _)| (*side, *stage));
    let left = largest.into_iter().map(|(side, stage, amount)| Left {
        side: *side,
        stage: *stage,
        amount: *amount,
        share_of_bytes: amount.bytes / bytes,
        share_of_blocks: amount.blocks / blocks,
        rungs: Vec::new(),
        in_vain: Vec::new(),
    });
    left.collect()
}

/// What a stage of a side allocates per message; `None` where the side was not counted.
fn amount(step: &StepRecord, side: Side, stage: Stage) -> Option<Amount> {
    let median = |samples: Vec<f64>| (!samples.is_empty()).then(|| stats::median(&samples));
    Some(Amount {
        blocks: median(ALLOCS_PER_MESSAGE.samples(step, side, Some(stage)))?,
        bytes: median(BYTES_PER_MESSAGE.samples(step, side, Some(stage)))?,
    })
}

/// The rungs above a step that concern a stage: those that help or might, and those that were measured in vain.
fn rungs(run: &Run, from: &StepRecord, references: &[Run], side: Side, stage: Stage) -> (Vec<Rung>, Vec<Rung>) {
    let scenarios = run.scenario.map_or_else(|| Scenario::ALL.to_vec(), |scenario| vec![scenario]);
    let (mut helpful, mut in_vain) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        // Somebody else's program is on no rung yet.
        let on = |index: usize, step: &Step| run.scenario.is_some() && is_on(&from.set, scenario, index, step);
        for (index, step) in ladder(scenario).iter().enumerate().filter(|(index, step)| *index > 0 && !on(*index, step))
        {
            let runs = std::iter::once(run).chain(references).filter(|run| run.scenario == Some(scenario));
            let found = runs.filter_map(|of| Some((of, evidence(of, scenario, index, side, stage)?))).next();
            let evidence = found.map(|(of, evidence)| Evidence { elsewhere: environments(run, of), ..evidence });
            let reduces = evidence.as_ref().map(Evidence::reduces);
            let meant = step.reduces == Some((side, stage));
            let rung =
                Rung { scenario, name: step.name, cost: step.cost, switch: step.switch, file: step.file, evidence };
            match (reduces, meant) {
                (Some(true), _) | (None, true) => helpful.push(rung),
                (Some(false), true) => in_vain.push(rung),
                (Some(false) | None, false) => {}
            }
        }
    }
    let taken = |rung: &Rung| {
        rung.evidence.as_ref().map_or((f64::NEG_INFINITY, 0.0), |evidence| {
            (evidence.before.bytes - evidence.after.bytes, evidence.before.blocks - evidence.after.blocks)
        })
    };
    helpful.sort_by(|a, b| {
        let ((a_bytes, a_blocks), (b_bytes, b_blocks)) = (taken(a), taken(b));
        b_bytes.total_cmp(&a_bytes).then(b_blocks.total_cmp(&a_blocks))
    });
    (helpful, in_vain)
}

fn is_on(set: &StepSet, scenario: Scenario, index: usize, step: &Step) -> bool {
    let place = |name: &str| ladder(scenario).iter().position(|step| step.name == name);
    match set {
        StepSet::Baseline => false,
        StepSet::UpTo(last) => place(last).is_some_and(|last| index <= last),
        StepSet::Only(only) => step.name == only,
        StepSet::Without(without) => step.name != without,
    }
}

/// What a run measured of a rung: the step that climbs it and the one right below, if it measured both.
fn evidence(run: &Run, scenario: Scenario, index: usize, side: Side, stage: Stage) -> Option<Evidence> {
    let climbed = |index: usize| {
        let set = match index {
            0 => StepSet::Baseline,
            _ => StepSet::UpTo(ladder(scenario)[index].name.to_owned()),
        };
        let same = move |step: &&StepRecord| step.set == set || (index == 0 && step.set == up_to_first(scenario));
        run.steps.iter().find(same)
    };
    let (below, above) = (climbed(index - 1)?, climbed(index)?);
    let (before, after) = (amount(below, side, stage)?, amount(above, side, stage)?);
    let mut besides = Vec::new();
    for metric in metric::compared(Some(scenario)) {
        for side in metric.sides(Some(scenario)) {
            let Some(pair) = judge::steps(&[run], metric, *side, None, [below, above], ALPHA) else { continue };
            if metric.has_stages() || !pair.judged.verdict.moved() {
                continue;
            }
            let [old, new] = [pair.old, pair.new].map(|samples| metric.show(stats::median(&samples)));
            let p = pair.judged.p.map_or_else(String::new, |p| format!(", {}", numbers::p_value(p)));
            besides.push(format!("{side} {} {old} → {new} ({}{p})", metric.label, pair.judged.change));
        }
    }
    let verdict =
        |metric| judge::steps(&[run], metric, side, Some(stage), [below, above], ALPHA).map(|pair| pair.judged.verdict);
    Some(Evidence {
        run: run.id.clone(),
        before_step: below.name.clone(),
        after_step: above.name.clone(),
        before,
        after,
        bytes: verdict(&BYTES_PER_MESSAGE)?,
        blocks: verdict(&ALLOCS_PER_MESSAGE)?,
        besides,
        elsewhere: Vec::new(),
    })
}

/// `up-to=baseline`, which is the baseline under another name.
fn up_to_first(scenario: Scenario) -> StepSet {
    StepSet::UpTo(ladder(scenario)[0].name.to_owned())
}

impl Left {
    fn text(&self) -> String {
        let Left { side, stage, amount, .. } = self;
        let mut text = format!(
            "\n{side} {stage}: {} and {} blocks per message, {:.0} % of all bytes and {:.0} % of all blocks\n",
            BYTES_PER_MESSAGE.show(amount.bytes),
            ALLOCS_PER_MESSAGE.show(amount.blocks),
            self.share_of_bytes * 100.0,
            self.share_of_blocks * 100.0,
        );
        if self.rungs.is_empty() {
            text += "  no rung that is not on yet was measured to reduce it, or is meant to\n";
        }
        for rung in &self.rungs {
            text += &rung.text();
        }
        for rung in &self.in_vain {
            if let Some(evidence) = &rung.evidence {
                let did = match evidence.verdicts().contains(&Verdict::Better) {
                    true => "reduced one and raised the other",
                    false => "did not reduce it",
                };
                let _ = writeln!(text, "  {} is meant for it and {did} ({})", rung.name, evidence.words());
            }
        }
        text
    }
}

impl Rung {
    fn text(&self) -> String {
        let mut table = Table::default();
        let mut row = |what: &str, words: String| table.row([Cell::left(""), Cell::left(what), Cell::left(words)]);
        match &self.evidence {
            Some(evidence) => {
                row("takes", evidence.words());
                for words in &evidence.besides {
                    row("besides", words.clone());
                }
            }
            None => row("takes", format!("not measured here; cargo xtask profile {} does", self.scenario)),
        }
        row("costs", self.cost.to_owned());
        row("switch", format!("{} ({})", self.switch, self.file));
        format!("  {}\n{}", paint(Style::Bold, self.name), table.render())
    }
}

impl Evidence {
    fn verdicts(&self) -> [Verdict; 2] {
        [self.bytes, self.blocks]
    }

    /// Whether the stage has fewer bytes or blocks, and no more of the other.
    fn reduces(&self) -> bool {
        self.verdicts().contains(&Verdict::Better) && !self.verdicts().contains(&Verdict::Worse)
    }

    fn words(&self) -> String {
        let Evidence { before, after, .. } = self;
        let elsewhere = match self.elsewhere.as_slice() {
            [] => String::new(),
            differ => format!(", measured elsewhere: {}", differ.join(", ")),
        };
        format!(
            "{} → {} and {} → {} blocks per message ({}), {} → {} in {}{elsewhere}",
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

#[cfg(test)]
mod tests {
    use crate::fixture;

    use super::*;

    /// The server's receive buffer and the client's handler after each rung: `(step, blocks, bytes)` of a thousand
    /// messages, and the server's CPU microseconds.
    fn run(id: &str, steps: &[(&str, (u64, u64), u64)]) -> Run {
        let record = |(name, (blocks, bytes), cpu): &(&str, (u64, u64), u64)| {
            let server = [(Stage::ReceiveBuffer, *blocks, *bytes), (Stage::Instrument, 10_000, 99_000_000)];
            let client = [(Stage::Handler, 5000, 80_000)];
            let mut measurements = [0, 1]
                .map(|round| {
                    [fixture::count(Side::Server, round, &server), fixture::count(Side::Client, round, &client)]
                })
                .concat();
            measurements.extend((0..10).map(|round| fixture::time(Side::Server, round, *cpu, 1_000_000)));
            fixture::step(name, measurements)
        };
        Run { steps: steps.iter().map(record).collect(), ..fixture::run(id, Scenario::Put) }
    }

    fn text(run: &Run, step: Option<&str>, references: &[Run]) -> String {
        let advice = Advice::new(run, step, references).expect("has counts");
        terminal::plain(&advice.text())
    }

    #[test]
    fn a_rung_is_advised_with_what_it_was_measured_to_take_and_where() {
        let mine = run(
            "mine",
            &[
                ("bytes-field", (12_000, 90_000_000), 2800),
                ("tuned-h2", (3000, 74_000_000), 1960),
                ("rope", (3000, 74_000_000), 1730),
            ],
        );
        let reference = run("put-reference", &[("rope", (3000, 73_000_000), 1700), ("aligned-reads", (2, 5000), 1400)]);
        expect_test::expect![[r#"
            mine, step bytes-field

            server receive-buffer: 90 000 B and 12.0 blocks per message, 100 % of all bytes and 71 % of all blocks
              aligned-reads
              takes    73 000 B → 5.00 B and 3.00 → 0.0020 blocks per message (−99.99%), rope → aligned-reads in put-reference
              besides  server CPU-s/GB 1.70 → 1.40 (−17.6%, p<0.001)
              costs    The connection yields once a frame: its task is polled once more a message. It pays only where connection and handler share a thread.
              switch   AlignedIo around the accepted socket (src/steps/aligned.rs)
              tuned-h2
              takes    90 000 B → 74 000 B and 12.0 → 3.00 blocks per message (−17.8%), bytes-field → tuned-h2 in mine
              besides  server CPU-s/GB 2.80 → 1.96 (−30.0%, p<0.001)
              costs    A peer may have a window's worth of bytes in flight on each connection: memory under a slow reader grows by that much.
              switch   Server::max_frame_size, initial_stream_window_size, initial_connection_window_size (src/subject/http2.rs)
        "#]].assert_eq(&text(&mine, Some("bytes-field"), &[reference]));
        expect_test::expect![[r#"
            mine, step rope

            server receive-buffer: 74 000 B and 3.00 blocks per message, 100 % of all bytes and 38 % of all blocks
              aligned-reads
              takes   not measured here; cargo xtask profile put does
              costs   The connection yields once a frame: its task is polled once more a message. It pays only where connection and handler share a thread.
              switch  AlignedIo around the accepted socket (src/steps/aligned.rs)

            client handler: 80.0 B and 5.00 blocks per message, 0 % of all bytes and 62 % of all blocks
              no rung that is not on yet was measured to reduce it, or is meant to
        "#]].assert_eq(&text(&mine, None, &[]));
    }

    #[test]
    fn what_varies_by_as_much_is_no_help_and_another_machine_is_named() {
        let rounds = |name: &str, rounds: [(u64, u64); 2]| {
            let of = |side, round| fixture::count(side, round, &[]);
            let server = (0..).zip(rounds).map(|(round, (blocks, bytes))| {
                fixture::count(Side::Server, round, &[(Stage::ReceiveBuffer, blocks, bytes)])
            });
            fixture::step(name, server.chain([of(Side::Client, 0), of(Side::Client, 1)]).collect())
        };
        let mut reference = Run {
            steps: vec![
                rounds("bytes-field", [(12_000, 90_000_000), (12_400, 93_000_000)]),
                // A byte less and a block more than the lowest round before.
                rounds("tuned-h2", [(12_001, 89_999_999), (12_300, 92_000_000)]),
                // Fewer bytes in more blocks.
                rounds("rope", [(15_000, 60_000_000), (15_000, 60_000_000)]),
                rounds("aligned-reads", [(2, 5000), (2, 5000)]),
            ],
            ..fixture::run("put-reference", Scenario::Put)
        };
        reference.environment.cpu = "B".to_owned();
        let mut mine = run("mine", &[("bytes-field", (12_000, 90_000_000), 2800)]);
        mine.environment.cpu = "A".to_owned();
        let advice = Advice::new(&mine, None, &[reference]).expect("has counts");
        let names = |rungs: &[Rung]| rungs.iter().map(|rung| rung.name).collect::<Vec<_>>();
        assert_eq!(names(&advice.left[0].rungs), ["aligned-reads"]);
        assert_eq!(names(&advice.left[0].in_vain), ["tuned-h2"]);
        let text = terminal::plain(&advice.text());
        assert!(text.contains("rope → aligned-reads in put-reference, measured elsewhere: cpu A and B\n"), "{text}");
        assert!(text.contains("  tuned-h2 is meant for it and did not reduce it ("), "{text}");
    }

    #[test]
    fn nothing_is_advised_where_nothing_is_left_or_counted() {
        let mut still = run("still", &[("baseline", (0, 0), 1)]);
        still.steps[0].measurements.retain(|m| m.side == Side::Server);
        assert_eq!(
            text(&still, None, &[]),
            "still, step baseline\nnothing is left: neither side allocates in the measured part\n"
        );
        let error = Advice::new(&run("mine", &[]), None, &[]).expect_err("nothing was counted");
        assert_eq!(error.to_string(), "`mine` has no counts");
        let error = Advice::new(&still, Some("rope"), &[]).expect_err("not measured");
        assert_eq!(error.to_string(), "`still` has no counts of step `rope`");
    }
}
