//! What a unary call allocates on the first step and on the last, on both sides together.

#![cfg(feature = "subject")]

use std::net::SocketAddr;
use std::sync::Arc;

use alloc_ladder::driver::instrument::Options;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::ladder::{StepSet, Tuning, ladder};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::{CountingAlloc, Side, Snapshot};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const CALLS: u64 = 4000;

/// What a whole case allocates in this process, connecting and all, with so many calls.
fn case(tuning: Tuning, calls: u64) -> Snapshot {
    let workload = Workload { messages: calls, warmup: 64, ..Workload::default() };
    let before = Snapshot::of_process();
    let ladder = Ladder::new(tuning, Arc::new(Meter::new(Side::Server, &workload, 0, Options::default()).0), 0);
    let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || serve::run(tuning, None, ladder, listener, stopped));
    let meter = Arc::new(Meter::new(Side::Client, &workload, 0, Options::default()).0);
    let client = Client { tuning, workload, meter };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client.run(Scenario::Unary, &address)).expect("no call fails");
    drop(stop);
    server.join().expect("no panic").expect("serves to the end").expect_err("the sender was dropped");
    Snapshot::of_process() - before
}

/// Blocks and bytes a call, both sides.
fn per_call(set: StepSet) -> (f64, f64) {
    let tuning = set.tuning(Scenario::Unary).expect("a step of unary");
    // The first case allocates what later ones share.
    case(tuning, 100);
    let few = case(tuning, 100);
    let counted = (case(tuning, 100 + CALLS) - few).total_without_instrument();
    (counted.blocks as f64 / CALLS as f64, counted.bytes as f64 / CALLS as f64)
}

#[test]
fn the_last_step_keeps_a_fifth_of_the_blocks_and_a_sixteenth_of_the_bytes() {
    let (blocks, bytes) = per_call(StepSet::Baseline);
    assert!((82.9..83.2).contains(&blocks), "baseline: {blocks} blocks a call");
    assert!((46_000.0..48_000.0).contains(&bytes), "baseline: {bytes} bytes a call");
    let last = ladder(Scenario::Unary).last().expect("a ladder has steps").name;
    let (least_blocks, least_bytes) = per_call(StepSet::UpTo(last.to_owned()));
    // Header maps that h2 takes or gives for request, response and trailers are 12 of them, and no call can use another's.
    assert!(least_blocks < 17.1, "{last}: {least_blocks} blocks a call");
    assert!(least_bytes < 2950.0, "{last}: {least_bytes} bytes a call");
}
