//! What a counter over any allocator counts of a piece of work whose blocks are known.

use std::hint::black_box;

use alloc_ladder::assert::{Reach, measure, measure_in};
use alloc_ladder::{Snapshot, Stage, assert_allocs};

pub(crate) fn every_block_is_counted() {
    let live = Snapshot::live_bytes();
    let block = assert_allocs!(
        measure(|| {
            let _guard = Stage::Handler.enter();
            let mut plain = black_box(Vec::<u8>::with_capacity(5000));
            plain.extend([7; 5000]);
            let zeroed = black_box(vec![0u8; 6000]);
            assert!(zeroed.iter().all(|byte| *byte == 0));
            plain.reserve_exact(7000);
            assert!(plain.iter().all(|byte| *byte == 7));
            plain
        }),
        blocks == 3,
        bytes == 5000 + 6000 + 12_000,
        blocks in Handler == 3,
        reallocs == 1,
        freed_blocks == 2,
    );
    assert_eq!(Snapshot::live_bytes(), live + 12_000);
    drop(block);

    // Blocks that another thread frees.
    let work = || {
        let blocks: Vec<Box<[u8; 100]>> = (0..1000).map(|_| black_box(Box::new([1; 100]))).collect();
        std::thread::spawn(move || drop(blocks)).join().expect("no panic");
    };
    assert_allocs!(measure_in(Reach::Process, work), blocks >= 1001, blocks <= 1020, freed_blocks >= 1001);
}
