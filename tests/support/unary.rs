//! What unary calls allocate, on the subject's own service and client in one process.

use std::net::SocketAddr;
use std::sync::Arc;

use alloc_ladder::driver::instrument::Options;
use alloc_ladder::record::Compression;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::ladder::{StepSet, Tuning};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::{Side, Snapshot};

/// Calls that are counted; fewer of those that a debug build compresses.
const CALLS: u64 = 4000;
const COMPRESSED_CALLS: u64 = 100;

/// What a whole case allocates in this process, connecting and all, with so many calls.
pub(crate) fn case(tuning: Tuning, compress: Option<Compression>, calls: u64) -> Snapshot {
    let workload = Workload { messages: calls, warmup: 64, compress, ..Workload::default() };
    let before = Snapshot::of_process();
    let ladder = Ladder::new(tuning, Arc::new(Meter::new(Side::Server, &workload, 0, Options::default()).0), 0)
        .carrying(workload);
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
pub(crate) fn per_call(set: StepSet, compress: Option<Compression>) -> (f64, f64) {
    let tuning = set.tuning(Scenario::Unary).expect("a step of unary");
    let calls = if compress.is_some() { COMPRESSED_CALLS } else { CALLS };
    // The first case allocates what later ones share.
    case(tuning, compress, 20);
    let few = case(tuning, compress, 20);
    let counted = (case(tuning, compress, 20 + calls) - few).total_without_instrument();
    (counted.blocks as f64 / calls as f64, counted.bytes as f64 / calls as f64)
}
