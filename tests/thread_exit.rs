//! No count is lost when threads end, one after another or more at once than there are shards.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use alloc_ladder::alloc::SHARDS;
use alloc_ladder::assert::{NotCounted, Reach, check};
use alloc_ladder::{CountingAlloc, Snapshot, Stage};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const BLOCKS: u64 = 100;

/// `BLOCKS` blocks of `size` bytes, allocated and freed in the handler stage, which nothing else here enters.
fn work(size: usize) {
    let _guard = Stage::Handler.enter();
    for _ in 0..BLOCKS {
        drop(black_box(vec![0u8; size]));
    }
}

/// What `threads` threads counted, of whom those that must share counters say so.
fn counted(threads: usize, run: impl FnOnce()) {
    let before = Snapshot::of_process();
    run();
    let counted = (Snapshot::of_process() - before).stage(Stage::Handler);
    let blocks = BLOCKS * threads as u64;
    assert_eq!((counted.blocks, counted.bytes), (blocks, 64 * blocks));
    assert_eq!((counted.freed_blocks, counted.freed_bytes), (blocks, 64 * blocks));
}

#[test]
fn thread_exit_loses_nothing() {
    let many = 3 * SHARDS;
    counted(many, || {
        for _ in 0..many {
            let own = thread::spawn(|| {
                work(64);
                check(Reach::Thread)
            });
            // One at a time, each thread finds a shard that was given back.
            assert_eq!(own.join().expect("the thread succeeds"), Ok(()));
        }
    });
    counted(many, || {
        // All at once, and each again when all have counters: none may end before the last has begun.
        let all_began = Barrier::new(many);
        let shared = thread::scope(|scope| {
            let threads: Vec<_> = (0..many)
                .map(|_| {
                    scope.spawn(|| {
                        let owned = check(Reach::Thread);
                        all_began.wait();
                        work(64);
                        owned
                    })
                })
                .collect();
            let owned = threads.into_iter().map(|thread| thread.join().expect("the thread succeeds"));
            owned.filter(|owned| *owned == Err(NotCounted::SharedCounters)).count()
        });
        assert!(shared >= many - SHARDS, "only {shared} of {many} threads shared counters");
    });
    // A thread that begins now has counters of its own again.
    assert_eq!(thread::spawn(|| check(Reach::Thread)).join().expect("the thread succeeds"), Ok(()));
}
