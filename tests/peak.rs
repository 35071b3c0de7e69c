//! The peak and the live bytes are right to the slack they state.

use std::hint::black_box;
use std::thread;

use alloc_ladder::{CountingAlloc, Snapshot};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// Asserts that the peak rose by `rise` over what was live before, to its slack.
#[track_caller]
fn peaks(rise: u64, work: impl FnOnce()) {
    let live = Snapshot::live_bytes();
    Snapshot::reset_peak();
    work();
    let (peak, slack) = Snapshot::peak_bytes();
    // Both ends are off by as much: the peak starts from what threads had told, too.
    assert!(slack < 100_000, "a slack of {slack} hides everything this test looks for");
    assert!(peak.abs_diff(live + rise) <= slack, "peak {peak}, live {live} + {rise}, slack {slack}");
}

#[test]
fn the_peak_is_right_to_its_slack() {
    peaks(3_000_000, || {
        for _ in 0..3 {
            drop((black_box(vec![0u8; 2_000_000]), black_box(vec![0u8; 1_000_000])));
        }
    });
    // Many small blocks: none alone is worth telling the process about.
    peaks(100_000 * 32, || {
        // A node is two words of links and two of payload.
        let list: std::collections::LinkedList<[usize; 2]> = (0..100_000).map(|index| [index; 2]).collect();
        drop(black_box(list));
    });
    // Freed on another thread than it was allocated on.
    let live = Snapshot::live_bytes();
    let block = black_box(vec![0u8; 500_000]);
    assert_eq!(Snapshot::live_bytes(), live + 500_000);
    thread::scope(|scope| {
        scope.spawn(move || drop(block));
    });
    let slack = Snapshot::peak_bytes().1;
    assert!(Snapshot::live_bytes().abs_diff(live) <= slack, "{} and {live}", Snapshot::live_bytes());
    // The peak starts anew.
    Snapshot::reset_peak();
    let (peak, slack) = Snapshot::peak_bytes();
    assert!(peak.abs_diff(live) <= 2 * slack, "peak {peak}, live {live}");
}
