//! What stays live is known by the stage that allocated it, and what does not by the stage that freed it.

#![cfg(feature = "retained")]

use alloc_ladder::Stage;
use alloc_ladder::driver::retained::Ledger;
use alloc_ladder::record::{FreedBy, Retained};
use tracking_allocator::{AllocationRegistry, Allocator};

#[global_allocator]
static ALLOC: Allocator<std::alloc::System> = Allocator::system();

#[test]
fn blocks_are_known_by_who_allocated_and_who_freed_them() {
    let ledger = Ledger::install();
    AllocationRegistry::enable_tracking();
    let kept = {
        let _receiving = Stage::ReceiveBuffer.enter();
        vec![0u8; 4000]
    };
    let handed_on: Vec<Vec<u8>> = {
        let _constructing = Stage::MessageConstruction.enter();
        (0..3).map(|_| vec![1u8; 100]).collect()
    };
    let other_thread = std::thread::spawn(move || {
        let _handler = Stage::Handler.enter();
        drop(handed_on);
    });
    other_thread.join().expect("no panic");
    AllocationRegistry::disable_tracking();
    let rows = ledger.read();
    let row = |stage: Stage| rows.iter().find(|row| row.stage == stage).expect("the stage allocated something");
    let Retained { curr_blocks, curr_bytes, freed_by, .. } = row(Stage::ReceiveBuffer);
    assert_eq!((*curr_blocks, *curr_bytes, freed_by.len()), (1, 4000, 0));
    // The messages and the vector that held them.
    let Retained { curr_blocks, curr_bytes, freed_by, .. } = row(Stage::MessageConstruction);
    assert_eq!((*curr_blocks, *curr_bytes), (0, 0));
    let bytes = (3 * 100 + 3 * size_of::<Vec<u8>>()) as u64;
    assert_eq!(freed_by[..], [FreedBy { stage: Stage::Handler, blocks: 4, bytes }]);
    drop(kept);
    // Tracking is off: nothing is heard of it.
    assert_eq!(ledger.read(), rows);
}
