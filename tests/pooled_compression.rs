//! What a compressed unary call allocates, on both sides together, before and after compressors are kept.

#![cfg(feature = "subject")]

#[path = "support/unary.rs"]
mod unary;

use alloc_ladder::CountingAlloc;
use alloc_ladder::record::Compression;
use alloc_ladder::subject::ladder::StepSet;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn no_call_makes_a_compressor_where_they_are_kept() {
    for compression in Compression::ALL {
        let (_, stock) = unary::per_call(StepSet::Baseline, Some(compression));
        assert!(stock > 500_000.0, "{}: {stock} bytes a call as tonic comes", compression.name());
        let (blocks, kept) = unary::per_call(StepSet::Only("pooled-compression".to_owned()), Some(compression));
        assert!(kept < 16_000.0, "{}: {kept} bytes a call in {blocks} blocks", compression.name());
    }
}
