//! A peer that stops reading stops the sender, in every step of put and get: neither side's memory grows with time.

#![cfg(feature = "subject")]

#[path = "support/checked.rs"]
mod checked;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloc_ladder::subject::ladder::{Http2, Reads, Tuning};
use alloc_ladder::subject::pb::bytes::Chunk;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{CountingAlloc, Snapshot};
use checked::{Caller, Plan, Running, Then, block_on, step_sets};
use tokio::time::sleep;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const MESSAGE: u64 = 65_536;

/// What may be on its way to a peer that does not read, in bytes: a stream's window and a few messages. Sockets hold
/// nothing, because the connection reads on until the window is used up.
fn in_flight_max(tuning: &Tuning) -> u64 {
    let window = match tuning.http2 {
        // hyper's: 1 MiB on a server, 2 MiB on a client.
        Http2::Stock => 2 << 20,
        Http2::Tuned => 4 << 20,
    };
    window + 4 * MESSAGE
}

/// What both sides may hold in this process: that, in blocks of up to twice the size where reads are aligned, the
/// buffers of a sender's ring, and what a connection has.
fn live_max(tuning: &Tuning) -> u64 {
    let blocks = match tuning.reads {
        Reads::Stock => 1,
        Reads::Aligned => 2,
    };
    blocks * in_flight_max(tuning) + (2 << 20)
}

/// Waits until `sent` stands still; returns it.
async fn stands_still(sent: &AtomicU64) -> u64 {
    loop {
        let before = sent.load(Ordering::Relaxed);
        sleep(Duration::from_millis(60)).await;
        if before > 3 && sent.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

async fn assert_bounded(name: &str, tuning: &Tuning, sent: &AtomicU64, live_before: u64) {
    let stood = stands_still(sent).await;
    assert!(stood * MESSAGE <= in_flight_max(tuning), "{name}: {stood} messages were sent to one who does not read");
    let live = Snapshot::live_bytes().saturating_sub(live_before);
    assert!(live <= live_max(tuning), "{name}: {live} bytes are live after {stood} messages");
    sleep(Duration::from_millis(40)).await;
    assert_eq!(sent.load(Ordering::Relaxed), stood, "{name}: it goes on");
}

#[test]
fn a_peer_that_stops_reading_stops_the_sender() {
    // What is made once is not growth.
    drop(checked::content(0, 0, 1));
    let at_first = Snapshot::live_bytes();
    for (name, tuning) in step_sets(Scenario::Get) {
        let server = Running::new(tuning);
        block_on(async {
            let mut caller = Caller::connect(tuning, &server.address).await;
            let before = Snapshot::live_bytes();
            let plan = Plan::of(0, &[65_536]).then(Then::Stop);
            let sent = Arc::clone(&server.seen);
            let reads = caller.get_slowly(&plan, |_| std::future::pending());
            tokio::select! {
                end = reads => panic!("{name}: ended with {end:?}"),
                () = assert_bounded(&name, &tuning, &sent.messages, before) => {}
            }
        });
    }
    for (name, tuning) in step_sets(Scenario::Put) {
        let server = Running::new(tuning);
        block_on(async {
            let mut caller = Caller::connect(tuning, &server.address).await;
            let before = Snapshot::live_bytes();
            let plan = Plan::of(0, &[65_536]).then(Then::Stop);
            let sent = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&sent);
            let payload = checked::content(0, 0, 65_536);
            let source = std::iter::repeat_with(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Chunk { data: payload.clone() }
            });
            tokio::select! {
                end = caller.put_stream(&plan, tokio_stream::iter(source)) => panic!("{name}: answered {end:?}"),
                () = assert_bounded(&name, &tuning, &sent, before) => {}
            }
        });
    }
    // Nothing of all that is still held: the servers are gone.
    let left = Snapshot::live_bytes().saturating_sub(at_first);
    assert!(left < 1 << 20, "{left} bytes are live after all calls ended");
}
