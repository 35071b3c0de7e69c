//! `cargo xtask advise`: the largest stage that is left of a run, and the steps that were measured to take it away.
//!
//! Nothing is claimed without its number. What a step does is read from two measured steps that differ in that step
//! alone: of the run itself, or else of the scenario's reference run, and the line says which, and in what that machine
//! differs from the run's. A step helps where the stage has less by more than rounds differ by, of bytes or of blocks,
//! and not more of the other. One that is meant for a stage and was measured in neither run is named with the command
//! that measures it, and with no figure.

use std::path::Path;

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};

use crate::analyse::advice::{Advice, ladders};
use crate::analyse::by_stack;
use crate::analyse::executable::{ALLOC_LINES, SEAM_LINES};
use crate::analyse::fold::Profile;
use crate::analyse::symbols::Quality;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::render::files;
use crate::store::find;
use crate::store::layout;
use crate::store::reference;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run to look at: an id, a path, or `newest`
    #[arg(default_value = "newest")]
    run: String,
    /// The step to start from [default: the last one the run measured]
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// Build and measure the steps that need no change of the code, under the load of alloc-ladder.toml
    #[arg(long, conflicts_with_all = ["run", "json"])]
    pub(crate) prove: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (folder, run) = find::load(&args.run)?;
    let run = files::counted(&folder, run)?;
    let is_study = Scenario::of(&run.subject).is_some();
    let references: Vec<Run> = ladders(&run)
        .into_iter()
        .filter(|scenario| !is_study || layout::reference(*scenario).join(layout::RUN_JSON).is_file())
        .map(reference::run)
        .collect::<anyhow::Result<_>>()?;
    let advice = Advice::of(&run, from(&run, args.step.as_deref())?, &references);
    if !is_study && !advice.left.is_empty() && advice.left.iter().all(|left| left.stage == Stage::Other) {
        terminal::labelled(Style::Warning, "warning", "the run tells no stages apart, so that no step can be named");
        let text = format!("{ALLOC_LINES}\n{SEAM_LINES}\nor, without a change, {}", Quality::HELP);
        terminal::labelled(Style::Help, "help", &text);
    }
    if !is_study {
        warn_of_left_out_seams(&folder, &run, args.step.as_deref())?;
    }
    terminal::result(&match args.json {
        true => serde_json::to_string_pretty(&advice)? + "\n",
        false => advice.text(terminal::width()),
    })
}

/// Says where a row of the counters that advice goes by is mostly another stage's by stack.
fn warn_of_left_out_seams(folder: &Path, run: &Run, step: Option<&str>) -> anyhow::Result<()> {
    for stacks in &from(run, step)?.stacks {
        let profile = Profile::from_dhat(&files::dhat(&RunFolder::open(folder)?, stacks)?);
        for said in by_stack::disagreements_of_counters(&profile) {
            let scope = said.by_scope.map_or("", Stage::name);
            let share = 100.0 * said.bytes as f64 / profile.total_bytes() as f64;
            let text =
                format!("{share:.1} % of the bytes are counted as {scope} and are {} by stack", said.by_stack.name());
            terminal::labelled(Style::Warning, "warning", &format!("{} {text}", stacks.side.name()));
        }
    }
    Ok(())
}

/// The step to start from: the one that was named, or the last that was counted.
fn from<'a>(run: &'a Run, step: Option<&str>) -> anyhow::Result<&'a StepRecord> {
    let counted = |step: &&StepRecord| Side::ALL.iter().any(|side| step.counts(*side).is_some());
    let measured = || run.steps.iter().filter(counted);
    let found = match step {
        Some(name) => measured().find(|step| step.name == name),
        None => measured().next_back(),
    };
    let Some(found) = found else {
        let names: Vec<&str> = measured().map(|step| step.name.as_str()).collect();
        let (what, help) = match (step, names.is_empty()) {
            (Some(name), false) => (format!(" of step `{name}`"), format!("it has counts of: {}", names.join(", "))),
            _ => (String::new(), "advice needs the `count` instrument: measure the run with it".to_owned()),
        };
        return Err(Failure::new(Kind::Usage, format!("`{}` has no counts{what}", run.id)).help(help).into());
    };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::{Shape, Subject};

    use crate::analyse::advice::NextStep;
    use crate::fixture;

    use super::*;

    fn advice(run: &Run, step: Option<&str>, references: &[Run]) -> anyhow::Result<Advice> {
        Ok(Advice::of(run, from(run, step)?, references))
    }

    /// The server's receive buffer and the client's handler after each step: `(step, blocks, bytes)` of a thousand
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
        let advice = advice(run, step, references).expect("has counts");
        terminal::plain(&advice.text(None))
    }

    #[test]
    fn a_step_is_advised_with_what_it_was_measured_to_take_and_where() {
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

            server receive-buffer: 87.9 KiB and 12.0 blocks per message, 100 % of all bytes and 71 % of all blocks
              aligned-reads
              takes    71.3 KiB → 5 B and 3.00 → 0.0020 blocks per message (−99.99%), rope → aligned-reads in put-reference
              besides  server CPU-s/GB 1.70 → 1.40 (−17.6%, p=0.002)
              costs    The connection yields once a frame: its task is polled once more a message. It pays only where connection and handler share a thread.
              switch   .serve_with_incoming(aligned(incoming, http2)).await? (src/steps/aligned.rs)
              tuned-h2
              takes    87.9 KiB → 72.3 KiB and 12.0 → 3.00 blocks per message (−17.8%), bytes-field → tuned-h2 in mine
              besides  server CPU-s/GB 2.80 → 1.96 (−30.0%, p=0.002)
              costs    A peer may have a window's worth of bytes in flight on each connection: memory under a slow reader grows by that much.
              switch   Http2::for_messages(encoded_len).server(Server::builder()) (src/steps/http2.rs)
        "#]].assert_eq(&text(&mine, Some("bytes-field"), &[reference]));
        expect_test::expect![[r#"
            mine, step rope

            server receive-buffer: 72.3 KiB and 3.00 blocks per message, 100 % of all bytes and 38 % of all blocks
              aligned-reads
              takes   not measured here; cargo xtask profile put does
              costs   The connection yields once a frame: its task is polled once more a message. It pays only where connection and handler share a thread.
              switch  .serve_with_incoming(aligned(incoming, http2)).await? (src/steps/aligned.rs)

            client handler: 80 B and 5.00 blocks per message, 0 % of all bytes and 62 % of all blocks
              no step that is not on yet was measured to reduce it, or is meant to
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
        let advice = advice(&mine, None, &[reference]).expect("has counts");
        let names = |steps: &[NextStep]| steps.iter().map(|step| step.name).collect::<Vec<_>>();
        assert_eq!(names(&advice.left[0].steps), ["aligned-reads"]);
        assert_eq!(names(&advice.left[0].in_vain), ["tuned-h2"]);
        let text = terminal::plain(&advice.text(None));
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
        let error = advice(&run("mine", &[]), None, &[]).expect_err("nothing was counted");
        assert_eq!(error.to_string(), "`mine` has no counts");
        let error = advice(&still, Some("rope"), &[]).expect_err("not measured");
        assert_eq!(error.to_string(), "`still` has no counts of step `rope`");
    }

    #[test]
    fn a_program_is_told_the_line_to_write_and_whose_figures_they_are() {
        let of_program = |mut run: Run| {
            run.subject = Subject { name: "srv".to_owned(), shape: Shape::Program };
            run.environment.cpu = "A".to_owned();
            run
        };
        let mut reference =
            run("put-reference", &[("rope", (3000, 73_000_000), 1700), ("aligned-reads", (2, 5000), 1400)]);
        reference.environment.cpu = "B".to_owned();
        let references = [reference];
        // What the program does beside its calls is more, and nothing takes it away.
        let attached = |name: &str, bytes| {
            let rows = [(Stage::ReceiveBuffer, 3000, bytes), (Stage::Other, 90_000, 900_000_000)];
            fixture::step(name, vec![fixture::count(Side::Server, 0, &rows)])
        };
        let alone = Run { steps: vec![attached("attached", 70_000_000)], ..run("attach-1", &[]) };
        let alone = of_program(alone);
        expect_test::expect![[r#"
            attach-1, step attached

            server receive-buffer: 68.4 KiB and 3.00 blocks per message, 7 % of all bytes and 3 % of all blocks
              aligned-reads
              takes    71.3 KiB → 5 B and 3.00 → 0.0020 blocks per message (−99.99%), rope → aligned-reads in put-reference, this project's put and not this program, measured elsewhere: cpu A and B
              besides  server CPU-s/GB 1.70 → 1.40 (−17.6%, p=0.002)
              costs    64 KiB a connection
              not for  TLS in this process
              write    .serve_with_incoming(aligned(incoming, http2)) (alloc_ladder::steps, aligned reads)
              bodies
              takes    meant for it, and measured neither here nor in the study
              costs    recycled memory a thread
              not for  codecs that are not prost's: those do not compile
              write    tonic = { package = "alloc-ladder-tonic", version = "0.1" } in Cargo.toml, in place of tonic (alloc_ladder::steps, bodies)
              tuned-h2
              takes    meant for it, and measured neither here nor in the study
              costs    at least 4 MiB a stream may wait in memory for a handler that does not read
              not for  peers that are not trusted with that, many streams that are seldom read
              write    Http2::for_messages(encoded_len).server(Server::builder()) (alloc_ladder::steps, HTTP/2 settings)
        "#]].assert_eq(&text(&alone, None, &references));
        // Its own two steps say more, one round each.
        let steps = vec![attached("attached", 70_000_000), attached("aligned-reads", 1000)];
        let joined = of_program(Run { steps, ..run("join-1", &[]) });
        let said = text(&joined, Some("attached"), &references);
        let own = "attached → aligned-reads in join-1, one round each\n";
        assert!(said.contains(own) && !said.contains("put-reference"), "{said}");
        let said = text(&joined, None, &references);
        assert!(!said.contains("aligned(incoming, http2)"), "it is on: {said}");
    }
}
