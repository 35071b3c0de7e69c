//! What stacks say where no counter and no seam does: the record of a program as its page shows it.
//!
//! A recording or a file of another tool has no counters: its rows are made of its stacks. A program with seams has rows
//! by scope: what no seam saw gets its stage from the stack. Nothing of this is written to the record.

use std::borrow::Cow;

use alloc_ladder::record::{CountRow, Counts, Instrument, Measurement, Run, Shape, Stacks};
use alloc_ladder::{Stage, Tally};

use crate::analyse::fold::{Moved, Profile, Said};
use crate::analyse::profiles::Profiles;

/// The largest share of bytes that scopes and stacks may say otherwise without a word.
pub(crate) const AGREEMENT: f64 = 0.02;

/// A run whose program's rows are complete. Runs of the study are as they were measured.
pub(crate) fn completed<'a>(run: &'a Run, profiles: &Profiles) -> Cow<'a, Run> {
    if run.subject.shape != Shape::Program || run.steps.iter().all(|step| step.stacks.is_empty()) {
        return Cow::Borrowed(run);
    }
    let mut run = run.clone();
    for (index, step) in run.steps.iter_mut().enumerate() {
        for stacks in &step.stacks {
            let Some(profile) = profiles.get(index, stacks.side) else { continue };
            let counted = step
                .measurements
                .iter_mut()
                .find(|measurement| (measurement.side, measurement.instrument) == (stacks.side, Instrument::Count));
            match counted {
                None => step.measurements.push(measurement(stacks, profile)),
                Some(Measurement { counts: Some(counts), .. }) if is_of_stacks(counts) => {
                    profile.moved.iter().for_each(|moved| charge(counts, moved))
                }
                Some(_) => {}
            }
        }
    }
    Cow::Owned(run)
}

/// Whether counts were made of stacks, and so are of the same blocks: counters know the sizes of blocks too.
pub(crate) fn is_of_stacks(counts: &Counts) -> bool {
    counts.sizes.is_empty() && counts.total.blocks > 0
}

/// What the stacks allocated, as counters would have it.
fn measurement(stacks: &Stacks, profile: &Profile) -> Measurement {
    let rows = Stage::ALL.into_iter().filter_map(|stage| {
        let sites = || profile.sites.iter().filter(move |site| site.stage == stage);
        let live = |all: u64, left: u64| if profile.measured.live { all.saturating_sub(left) } else { 0 };
        let tally = Tally {
            blocks: sites().map(|site| site.blocks).sum(),
            bytes: sites().map(|site| site.bytes).sum(),
            freed_blocks: sites().map(|site| live(site.blocks, site.live_blocks)).sum(),
            freed_bytes: sites().map(|site| live(site.bytes, site.live_bytes)).sum(),
            ..Tally::default()
        };
        (tally != Tally::default()).then_some(CountRow { rpc: String::new(), side: None, stage, tally })
    });
    let rows: Vec<CountRow> = rows.collect();
    let total = rows.iter().map(|row| row.tally).sum();
    let peak_bytes = match &stacks.recorded {
        Some(recorded) => recorded.peak_bytes,
        None => profile.peak_bytes(),
    };
    let counts = Counts { rows, total, peak_bytes, ..Counts::default() };
    Measurement {
        messages: stacks.messages,
        payload_bytes: stacks.payload_bytes,
        counts: Some(counts),
        ..Measurement::new(stacks.side, Instrument::Count)
    }
}

/// Gives what no seam saw, or saw with another stage's, the stage of its stack. The method and the total stay.
fn charge(counts: &mut Counts, moved: &Moved) {
    let (side, rpc) = moved.method.as_ref().map_or((None, ""), |(side, rpc)| (Some(*side), rpc.as_str()));
    let row_of = |rows: &[CountRow], stage| {
        rows.iter().position(|row| row.stage == stage && (row.side, row.rpc.as_str()) == (side, rpc))
    };
    // A row that does not hold what the stacks say of it is of other blocks.
    let Some(from) = row_of(&counts.rows, moved.from) else { return };
    let Some(left) = less(counts.rows[from].tally, moved.tally) else { return };
    counts.rows[from].tally = left;
    match row_of(&counts.rows, moved.to) {
        Some(to) => counts.rows[to].tally += moved.tally,
        None => counts.rows.push(CountRow { rpc: rpc.to_owned(), side, stage: moved.to, tally: moved.tally }),
    }
    counts.rows.retain(|row| row.tally != Tally::default());
}

/// What is left of a row's blocks without some of them.
fn less(of: Tally, some: Tally) -> Option<Tally> {
    Some(Tally {
        blocks: of.blocks.checked_sub(some.blocks)?,
        bytes: of.bytes.checked_sub(some.bytes)?,
        freed_blocks: of.freed_blocks.checked_sub(some.freed_blocks)?,
        freed_bytes: of.freed_bytes.checked_sub(some.freed_bytes)?,
        ..of
    })
}

/// The bytes of a stage that a stack named, because no seam saw them.
pub(crate) fn named_by_stack(profile: &Profile, stage: Stage) -> u64 {
    let of_stage = |said: &&Said| said.by_scope.is_none() && said.by_stack == stage;
    profile.said.iter().filter(of_stage).map(|said| said.bytes).sum()
}

/// Where seams and stacks disagree by more than [`AGREEMENT`] of all bytes, the largest first. A stack that says nothing
/// disagrees with nothing.
pub(crate) fn disagreements(profile: &Profile) -> Vec<Said> {
    apart(&profile.said, profile.total_bytes())
}

/// As [`disagreements`], where the rows are counters': nothing was charged to the stage of its stack there.
pub(crate) fn disagreements_of_counters(profile: &Profile) -> Vec<Said> {
    let mut said: Vec<Said> = profile.said.iter().filter(|said| said.by_scope.is_some()).copied().collect();
    for moved in profile.moved.iter().filter(|moved| moved.from != Stage::Other) {
        let (by_scope, Tally { blocks, bytes, .. }) = (Some(moved.from), moved.tally);
        Said { by_scope, by_stack: moved.to, blocks, bytes }.add_to(&mut said);
    }
    apart(&said, profile.total_bytes())
}

fn apart(said: &[Said], total_bytes: u64) -> Vec<Said> {
    let least = total_bytes as f64 * AGREEMENT;
    let apart = |said: &&Said| {
        let other = said.by_scope.is_some_and(|scope| scope != said.by_stack) && said.by_stack != Stage::Other;
        other && said.bytes as f64 > least
    };
    let mut apart: Vec<Said> = said.iter().filter(apart).copied().collect();
    apart.sort_by_key(|said| std::cmp::Reverse(said.bytes));
    apart
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Side;

    use super::*;
    use crate::analyse::fold::Figures;
    use crate::fixture;

    fn program(measurements: Vec<Measurement>) -> Run {
        let mut run = fixture::run("profile-1", alloc_ladder::subject::scenario::Scenario::Put);
        run.subject.shape = Shape::Program;
        let mut step = fixture::step("service", measurements);
        step.stacks = vec![Stacks {
            side: Side::Server,
            messages: 1,
            payload_bytes: 0,
            dhat: "01-service/server/dhat.json".to_owned(),
            recorded: None,
        }];
        run.steps = vec![step];
        run
    }

    fn profile() -> Profile {
        let of = |blocks, bytes, live_bytes| Figures { blocks, bytes, live_bytes, ..Figures::default() };
        Profile::of(&[
            (Stage::Marshal, vec!["srv::main", "prost::encode"], of(3, 3000, 1000)),
            (Stage::Handler, vec!["srv::main", "srv::keep"], of(1, 1000, 1000)),
        ])
    }

    fn profiles(profile: Profile) -> Profiles {
        let mut profiles = Profiles::default();
        profiles.insert_folded(0, Side::Server, profile);
        profiles
    }

    #[test]
    fn a_file_without_counters_gets_its_rows_from_its_stacks() {
        let run = program(Vec::new());
        let completed = completed(&run, &profiles(profile()));
        let counts = completed.steps[0].counts(Side::Server).and_then(|counted| counted.counts.as_ref()).expect("made");
        assert_eq!((counts.total.blocks, counts.total.bytes, counts.total.freed_bytes), (4, 4000, 2000));
        assert_eq!(counts.stage(Stage::Marshal).bytes, 3000);
        assert!(is_of_stacks(counts));
        assert_eq!(run.steps[0].measurements.len(), 0, "the record stays as it is");
        let mut study = program(Vec::new());
        study.subject.shape = Shape::Upload;
        assert!(matches!(super::completed(&study, &profiles(profile())), Cow::Borrowed(_)));
    }

    #[test]
    fn what_no_seam_saw_gets_the_stage_of_its_stack_and_keeps_the_total() {
        let rows = [(Stage::Marshal, 3, 3000), (Stage::Handler, 2, 2000), (Stage::Other, 5, 5000)];
        let run = program(vec![fixture::count(Side::Server, 0, &rows)]);
        let said = |by_scope, by_stack, blocks, bytes| Said { by_scope, by_stack, blocks, bytes };
        let mut seen = profile();
        seen.said = vec![
            said(Some(Stage::Marshal), Stage::Marshal, 3, 3000),
            said(None, Stage::Transport, 4, 4000),
            said(None, Stage::Other, 1, 1000),
        ];
        let method = run.steps[0].measurements[0].counts.as_ref().expect("counts").rows[0].clone();
        let method = method.side.map(|side| (side, method.rpc));
        let moved = |from, to, blocks, bytes| Moved {
            method: method.clone(),
            from,
            to,
            tally: Tally { blocks, bytes, ..Tally::default() },
        };
        seen.moved = vec![
            moved(Stage::Other, Stage::Transport, 4, 4000),
            moved(Stage::Handler, Stage::Marshal, 2, 2000),
            // More than the row holds: the stacks are of other blocks.
            moved(Stage::Other, Stage::Handler, 4, 4000),
        ];
        assert_eq!((named_by_stack(&seen, Stage::Transport), named_by_stack(&seen, Stage::Marshal)), (4000, 0));
        let profiles = profiles(seen);
        let completed = completed(&run, &profiles);
        let counts =
            completed.steps[0].counts(Side::Server).and_then(|counted| counted.counts.as_ref()).expect("there");
        let stages = [Stage::Marshal, Stage::Transport, Stage::Handler, Stage::Other];
        assert_eq!(stages.map(|stage| counts.stage(stage).bytes), [5000, 4000, 0, 1000]);
        assert_eq!(counts.rows.iter().map(|row| row.tally.bytes).sum::<u64>(), counts.total.bytes);
    }

    #[test]
    fn counts_of_other_blocks_than_the_stacks_are_left_alone() {
        let mut counted = fixture::count(Side::Server, 0, &[(Stage::Other, 5, 5000)]);
        let sizes = &mut counted.counts.as_mut().expect("counts").sizes;
        sizes.push(alloc_ladder::record::SizeBucket { bytes_min: 512, blocks: 5 });
        let run = program(vec![counted]);
        let mut seen = profile();
        let tally = Tally { blocks: 4, bytes: 4000, ..Tally::default() };
        seen.moved = vec![Moved { method: None, from: Stage::Other, to: Stage::Transport, tally }];
        let profiles = profiles(seen);
        assert_eq!(*completed(&run, &profiles), run);
    }

    #[test]
    fn a_disagreement_is_more_than_the_share_that_is_let_pass() {
        let said = |by_scope, by_stack, bytes| Said { by_scope, by_stack, blocks: 1, bytes };
        let mut seen = profile();
        seen.said = vec![
            said(Some(Stage::Transport), Stage::Instrument, 81),
            said(Some(Stage::Transport), Stage::ReceiveBuffer, 80),
            said(Some(Stage::Transport), Stage::Handler, 400),
            said(Some(Stage::Transport), Stage::Other, 900),
            said(Some(Stage::Marshal), Stage::Marshal, 900),
            said(None, Stage::Handler, 900),
        ];
        let stages = |apart: Vec<Said>| apart.iter().map(|said| said.by_stack).collect::<Vec<_>>();
        assert_eq!(stages(disagreements(&seen)), [Stage::Handler, Stage::Instrument], "4,000 bytes in all: 80 are 2 %");
        // Counters cannot tell what the stacks of a recording can.
        let moved = |from, bytes| {
            let tally = Tally { blocks: 1, bytes, ..Tally::default() };
            Moved { method: None, from, to: Stage::Marshal, tally }
        };
        seen.moved = vec![moved(Stage::Handler, 600), moved(Stage::Other, 700), moved(Stage::Dispatch, 80)];
        assert_eq!(stages(disagreements(&seen)), [Stage::Handler, Stage::Instrument]);
        assert_eq!(
            stages(disagreements_of_counters(&seen)),
            [Stage::Marshal, Stage::Handler, Stage::Instrument],
            "what no seam saw is disputed by none"
        );
    }
}
