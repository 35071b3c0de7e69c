//! Every step of put and get carries every message as it was sent, alone and with the steps before it.

#![cfg(feature = "subject")]
#![expect(clippy::print_stderr, reason = "a failure shows the step it happened in")]

#[path = "support/checked.rs"]
mod checked;
#[path = "steps/faults.rs"]
mod faults;

use alloc_ladder::subject::scenario::{CHUNK_MAX, Scenario};
use checked::{Caller, Plan, Running, Then, block_on, step_sets};
use tonic::Code;

/// Around every limit, and shorter after longer: what one message leaves behind must not show in the next.
const SIZES: [usize; 20] = [
    0, 1, 65_536, 3, 0, 4096, 262_144, 100, 32_760, 32_768, 16_383, 16_384, 70_000, 1, 81_915, 130_000, 7, 8191, 8192,
    0,
];

async fn exchange(scenario: Scenario, caller: &Caller, plan: &Plan) -> Result<usize, tonic::Status> {
    match scenario {
        Scenario::Put => {
            let summary = caller.put(plan).await?;
            assert_eq!(summary.bytes, plan.sizes.iter().sum::<usize>() as u64);
            Ok(summary.messages as usize)
        }
        _ => caller.get(plan).await,
    }
}

fn every_step(scenario: Scenario, work: impl AsyncFn(&Running, Caller)) {
    for (name, tuning) in step_sets(scenario) {
        let server = Running::new(tuning);
        eprintln!("{name}");
        block_on(async { work(&server, Caller::connect(scenario, tuning, &server).await).await });
    }
}

fn carries_every_size(scenario: Scenario) {
    every_step(scenario, async |_, caller| {
        for sizes in [&SIZES[..], &[], &[0], &[0, 0, 0], &[CHUNK_MAX, 1, CHUNK_MAX]] {
            let plan = Plan::of(sizes.len() as u8, sizes);
            assert_eq!(exchange(scenario, &caller, &plan).await.expect("nothing fails"), sizes.len());
        }
        // Many short ones go together.
        let sizes: Vec<usize> = (0..1000).map(|index| index * 7 % 90).collect();
        assert_eq!(exchange(scenario, &caller, &Plan::of(9, &sizes)).await.expect("nothing fails"), 1000);
    });
}

#[test]
fn every_step_of_put_carries_every_size() {
    carries_every_size(Scenario::Put);
}

#[test]
fn every_step_of_get_carries_every_size() {
    carries_every_size(Scenario::Get);
}

fn fails_as_tonic_does(scenario: Scenario) {
    every_step(scenario, async |_, caller| {
        let plan = Plan::of(1, &[10, 70_000, 3]);
        let code =
            async |caller: &Caller, plan: Plan| exchange(scenario, caller, &plan).await.expect_err("it fails").code();
        assert_eq!(code(&caller, Plan::of(1, &[5, CHUNK_MAX + 1, 5])).await, Code::OutOfRange);
        assert_eq!(code(&caller, plan.clone().then(Then::Refuse)).await, Code::FailedPrecondition);
        assert_eq!(code(&caller, plan.clone().then(Then::Fail)).await, Code::Aborted);
        // The connection is as good as before.
        assert_eq!(exchange(scenario, &caller, &plan).await.expect("nothing fails"), 3);
    });
}

#[test]
fn every_step_of_put_fails_as_tonic_does() {
    fails_as_tonic_does(Scenario::Put);
}

#[test]
fn every_step_of_get_fails_as_tonic_does() {
    fails_as_tonic_does(Scenario::Get);
}

async fn many_streams(scenario: Scenario, callers: &[Caller]) {
    let mut streams = tokio::task::JoinSet::new();
    for stream in 0..64usize {
        let caller = callers[stream % callers.len()].clone();
        streams.spawn(async move {
            let sizes: Vec<usize> = (0..8).map(|index| SIZES[(stream + index) % SIZES.len()]).collect();
            exchange(scenario, &caller, &Plan::of(stream as u8, &sizes)).await
        });
    }
    while let Some(stream) = streams.join_next().await {
        assert_eq!(stream.expect("no panic").expect("nothing fails"), 8);
    }
}

#[test]
fn many_streams_do_not_mix() {
    for scenario in [Scenario::Put, Scenario::Get] {
        let mut tunings: Vec<_> = step_sets(scenario);
        // The baseline is tonic's own.
        tunings.retain(|(name, _)| name.contains("up-to") && !name.contains("baseline"));
        for (name, tuning) in tunings {
            eprintln!("{name}");
            let server = Running::new(tuning);
            block_on(async {
                let one = [Caller::connect(scenario, tuning, &server).await];
                many_streams(scenario, &one).await;
                let mut eight = Vec::new();
                for _ in 0..8 {
                    eight.push(Caller::connect(scenario, tuning, &server).await);
                }
                many_streams(scenario, &eight).await;
            });
        }
    }
}
