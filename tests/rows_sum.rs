//! The rows of a snapshot sum to its total, and every allocation is in exactly one of them.

use std::hint::black_box;

use alloc_ladder::assert::measure;
use alloc_ladder::{CountingAlloc, Method, Side, Stage, Tally, stage::Scope};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn every_block_is_in_one_row_and_the_rows_are_the_total() {
    let method = Method::register(Side::Server, "/test.Rows/Sum");
    let counted = measure(|| {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            let _guard = Scope::new(method, stage).enter();
            for _ in 0..=index {
                drop(black_box(vec![0u8; 100 << index]));
            }
        }
        drop(black_box(vec![1u8; 10_000]));
    });
    let snapshot = counted.snapshot;
    for (index, stage) in Stage::ALL.into_iter().enumerate() {
        let blocks = index as u64 + 1;
        let bytes = blocks * (100 << index);
        let expected = Tally { blocks, bytes, freed_blocks: blocks, freed_bytes: bytes, ..Tally::default() };
        let rows: Vec<_> = snapshot.rows().filter(|row| row.stage == stage && row.method == method.name()).collect();
        assert_eq!(rows.len(), 1, "{stage}");
        assert_eq!(rows[0].tally, expected, "{stage}");
    }
    let sum: Tally = snapshot.rows().map(|row| row.tally).sum();
    assert_eq!(sum, snapshot.total());
    assert_eq!(sum.blocks, (1..=Stage::ALL.len() as u64).sum::<u64>() + 1);
    assert_eq!(snapshot.sizes().iter().sum::<u64>(), sum.blocks);
    assert_eq!(snapshot.total_without_instrument(), sum - snapshot.stage(Stage::Instrument));
}
