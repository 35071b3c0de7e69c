//! The last step of put allocates nothing per message, on neither side.

#![cfg(feature = "subject")]

#[path = "support/checked.rs"]
mod checked;
#[path = "support/steady.rs"]
mod steady;

use std::sync::{Arc, Mutex};

use alloc_ladder::CountingAlloc;
use alloc_ladder::subject::ladder::Tuning;
use alloc_ladder::subject::pb::bytes::Chunk;
use alloc_ladder::subject::scenario::Scenario;
use checked::{Caller, Plan, Running, block_on, last_step};
use steady::{Steady, measured, warmup};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn the_last_step_allocates_nothing_per_message() {
    let tuning = last_step(Scenario::Put);
    for chunk in [4096, 16_384, 32_760, 32_768, 65_536, 262_144, 1 << 20] {
        stream(tuning, chunk).unwrap_or_else(|counted| panic!("{counted}"));
    }
    // The subject itself, whose handlers and runtimes are the measured ones.
    steady::subject_allocates_nothing_per_message(Scenario::Put, tuning);
    // The first step does, or else nothing was counted here.
    steady::subject_allocates(Scenario::Put);
}

/// One stream of messages of `chunk` bytes.
fn stream(tuning: Tuning, chunk: usize) -> Result<(), String> {
    let plan = Plan::of(1, &vec![chunk; warmup(chunk) + measured(chunk) + 256]);
    let counts = Arc::new(Mutex::new(Steady::of(chunk)));
    let server = Running::for_chunk(tuning, chunk);
    block_on(async {
        let mut caller = Caller::for_chunk(tuning, chunk, &server.address).await;
        let counts = Arc::clone(&counts);
        let messages = plan.contents::<Chunk>().enumerate().map(move |(index, message)| {
            counts.lock().expect("no panic").at(index);
            message
        });
        let summary = caller.put_stream(&plan, tokio_stream::iter(messages)).await.expect("nothing fails");
        assert_eq!(summary.messages as usize, plan.sizes.len());
    });
    let counts = counts.lock().expect("no panic");
    counts.nothing_per_message(chunk)
}
