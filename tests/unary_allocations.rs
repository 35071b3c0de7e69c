//! What a unary call allocates, on both sides together: on the first step and on the last, and compressed, before and after
//! compressors are kept.

#![cfg(feature = "subject")]

#[path = "support/unary.rs"]
mod unary;

use alloc_ladder::CountingAlloc;
use alloc_ladder::record::Compression;
use alloc_ladder::subject::ladder::{StepSet, ladder};
use alloc_ladder::subject::scenario::Scenario;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// One after the other: each counts all of its process.
#[test]
fn calls_allocate_what_their_step_leaves() {
    the_last_step_keeps_a_fifth_of_the_blocks_and_a_sixteenth_of_the_bytes();
    no_call_makes_a_compressor_where_they_are_kept();
}

fn the_last_step_keeps_a_fifth_of_the_blocks_and_a_sixteenth_of_the_bytes() {
    let (blocks, bytes) = unary::per_call(StepSet::Baseline, None);
    assert!((82.9..83.2).contains(&blocks), "baseline: {blocks} blocks a call");
    assert!((46_000.0..48_000.0).contains(&bytes), "baseline: {bytes} bytes a call");
    let last = ladder(Scenario::Unary).last().expect("a ladder has steps").name;
    let (least_blocks, least_bytes) = unary::per_call(StepSet::UpTo(last.to_owned()), None);
    // Header maps that h2 takes or gives for request, response and trailers are 12 of them, and no call can use another's.
    assert!(least_blocks < 17.1, "{last}: {least_blocks} blocks a call");
    assert!(least_bytes < 2950.0, "{last}: {least_bytes} bytes a call");
}

fn no_call_makes_a_compressor_where_they_are_kept() {
    for compression in Compression::ALL {
        let (_, stock) = unary::per_call(StepSet::Baseline, Some(compression));
        assert!(stock > 500_000.0, "{}: {stock} bytes a call as tonic comes", compression.name());
        let (blocks, kept) = unary::per_call(StepSet::Only("pooled-compression".to_owned()), Some(compression));
        assert!(kept < 16_000.0, "{}: {kept} bytes a call in {blocks} blocks", compression.name());
    }
}
