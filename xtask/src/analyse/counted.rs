//! Exact rows of a program that was recorded from outside: from its stacks, by the stages that they tell.
//!
//! A recording has every block, so its sums are counts. Of a file of another tool they are what that file says.

use alloc_ladder::Tally;
use alloc_ladder::record::{CountRow, Counts, Instrument, Measurement, Run};
use alloc_ladder::subject::scenario::Scenario;

use crate::analyse::fold::Profile;
use crate::analyse::profiles::Profiles;

/// The run with rows by stage also where it has stacks alone. The study's runs stay as they are: their stacks were taken
/// with another workload than their counts.
pub(crate) fn counted(mut run: Run, profiles: &Profiles) -> Run {
    if Scenario::of(&run.subject).is_some() {
        return run;
    }
    for (index, step) in run.steps.iter_mut().enumerate() {
        for stacks in step.stacks.clone() {
            let Some(profile) = profiles.get(index, stacks.side) else { continue };
            if step.counts(stacks.side).is_none() {
                step.measurements.push(Measurement {
                    messages: stacks.messages,
                    payload_bytes: stacks.payload_bytes,
                    counts: Some(counts(profile)),
                    ..Measurement::new(stacks.side, Instrument::Count)
                });
            }
        }
    }
    run
}

fn counts(profile: &Profile) -> Counts {
    let stages = profile.stages().into_iter().filter(|stage| stage.blocks > 0 || stage.bytes > 0);
    let rows: Vec<CountRow> = stages
        .map(|of| CountRow {
            rpc: String::new(),
            side: None,
            stage: of.stage,
            tally: Tally { blocks: of.blocks, bytes: of.bytes, ..Tally::default() },
        })
        .collect();
    let total = rows.iter().map(|row| row.tally).sum();
    let peak_bytes = profile.sites.iter().map(|site| site.peak_bytes).sum();
    Counts { rows, total, peak_bytes, ..Counts::default() }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::{Shape, Subject};
    use alloc_ladder::{Side, Stage};

    use crate::analyse::fold::Figures;
    use crate::fixture;

    use super::*;

    #[test]
    fn stacks_of_a_program_become_rows_and_those_of_the_study_do_not() {
        let folder = tempfile::tempdir().expect("creates");
        let mut run = fixture::run("profile-1", Scenario::Put);
        run.steps = vec![fixture::step("srv", Vec::new())];
        run.steps[0].stacks = vec![fixture::stacks(folder.path(), "srv", 10, &[])];
        let mut profiles = Profiles::default();
        let figures =
            |blocks| Figures { blocks, bytes: 100 * blocks, peak_bytes: 7, peak_blocks: 1, ..Figures::default() };
        let stacks = [(Stage::Marshal, vec!["main", "encode"], figures(20)), (Stage::Other, vec!["main"], figures(5))];
        profiles.insert_folded(0, Side::Server, Profile::of(&stacks));
        assert_eq!(counted(run.clone(), &profiles), run, "of another workload");
        run.subject = Subject { name: "srv".to_owned(), shape: Shape::Program };
        let seen = counted(run, &profiles);
        let measured = seen.steps[0].counts(Side::Server).expect("counted");
        assert_eq!((measured.messages, measured.blocks_per_message()), (10, Some(2.5)));
        let counts = measured.counts.as_ref().expect("counted");
        assert_eq!((counts.stage(Stage::Marshal).bytes, counts.peak_bytes), (2000, 14));
        assert_eq!(counted(seen.clone(), &profiles), seen, "once is enough");
    }
}
