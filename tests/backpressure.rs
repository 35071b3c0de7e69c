//! A peer that stops reading stops the sender, in every step of put and get: neither side's memory grows with time.

#![cfg(feature = "subject")]

#[path = "support/checked.rs"]
mod checked;

use std::sync::Arc;

use alloc_ladder::subject::ladder::{Http2, Reads, Tuning};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{CountingAlloc, Snapshot};
use checked::{Caller, End, Plan, Running, Sending, Then, block_on, step_sets};
use tokio::sync::watch;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const MESSAGE: u64 = 65_536;

/// The window of a stream to a peer that does not read, in bytes. A sender uses it up and then waits.
fn window(scenario: Scenario, tuning: &Tuning) -> u64 {
    match (tuning.http2, scenario) {
        // hyper's, of a client and of a server.
        (Http2::Stock, Scenario::Get) => 2 << 20,
        (Http2::Stock, _) => 1 << 20,
        (Http2::Tuned, _) => 4 << 20,
        // hyper widens none beyond this.
        (Http2::Adaptive, _) => 16 << 20,
    }
}

/// What a sender may have taken from its source: the window and a few messages. Sockets hold nothing, because the
/// connection reads on until the window is used up.
fn in_flight_max(scenario: Scenario, tuning: &Tuning) -> u64 {
    window(scenario, tuning) + 8 * MESSAGE
}

/// What both sides may hold in this process: that, in blocks of up to twice the size where reads are aligned, the
/// buffers of a sender's ring, and what a connection has.
fn live_max(scenario: Scenario, tuning: &Tuning) -> u64 {
    let blocks = match tuning.reads {
        Reads::Stock => 1,
        Reads::Aligned => 2,
    };
    blocks * in_flight_max(scenario, tuning) + (2 << 20)
}

/// Calls on the same connection after the window was used up: in each of them both ends of it run.
const CALLS_MEANWHILE: usize = 20;

/// Waits until the sender has used up its window, and checks that it stops there while other calls go by.
async fn assert_bounded(
    (scenario, name, tuning): (Scenario, &str, &Tuning),
    caller: &Caller,
    sent: &watch::Sender<u64>,
    live_before: u64,
) {
    let used_up = |sent: &u64| sent * MESSAGE >= window(scenario, tuning);
    sent.subscribe().wait_for(used_up).await.expect("the test keeps the sender");
    for _ in 0..CALLS_MEANWHILE {
        let sent = *sent.borrow();
        let max = in_flight_max(scenario, tuning);
        assert!(sent * MESSAGE <= max, "{name}: {sent} messages were sent to one who does not read");
        let live = Snapshot::live_bytes().saturating_sub(live_before);
        assert!(live <= live_max(scenario, tuning), "{name}: {live} bytes are live after {sent} messages");
        // It carries no message, so that it needs no window.
        let empty = Plan::of(0, &[]);
        let end = match scenario {
            Scenario::Get => caller.get(&empty).await.map(drop),
            _ => caller.put(&empty).await.map(drop),
        };
        end.expect("the connection serves other calls");
    }
}

#[test]
fn a_peer_that_stops_reading_stops_the_sender() {
    // What is made once is not growth.
    drop(checked::content(0, 0, 1));
    let at_first = Snapshot::live_bytes();
    let plan = Plan::of(0, &[65_536]).then(Then::Stop);
    for (name, tuning) in step_sets(Scenario::Get) {
        let server = Running::new(tuning);
        block_on(async {
            let caller = Caller::connect(Scenario::Get, tuning, &server).await;
            let before = Snapshot::live_bytes();
            let checked = (Scenario::Get, &*name, &tuning);
            tokio::select! {
                end = caller.get_slowly(&plan, |_| std::future::pending()) => panic!("{name}: ended with {end:?}"),
                () = assert_bounded(checked, &caller, &server.seen.messages, before) => {}
            }
        });
    }
    for (name, tuning) in step_sets(Scenario::Put) {
        let server = Running::new(tuning);
        block_on(async {
            let caller = Caller::connect(Scenario::Put, tuning, &server).await;
            let before = Snapshot::live_bytes();
            let sent = Arc::new(watch::Sender::new(0));
            let counted = Arc::clone(&sent);
            let count = Arc::new(move || counted.send_modify(|sent| *sent += 1));
            let upload = Sending { plan: &plan, end: End::Endless, before: count };
            let checked = (Scenario::Put, &*name, &tuning);
            tokio::select! {
                end = caller.send(&upload) => panic!("{name}: answered {end:?}"),
                () = assert_bounded(checked, &caller, &sent, before) => {}
            }
        });
    }
    // Nothing of all that is still held, but what this thread, the client's, recycles: the servers are gone.
    let recycled = alloc_ladder::steps::ring::kept().1 as u64;
    let left = Snapshot::live_bytes().saturating_sub(at_first + recycled);
    assert!(left < 1 << 20, "{left} bytes are live after all calls ended");
}
