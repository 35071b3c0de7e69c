//! The study's other traffic, on each step that takes it: what was sent arrives and is answered.

#![cfg(feature = "subject")]

use std::net::SocketAddr;
use std::sync::Arc;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::Options;
use alloc_ladder::record::Measurement;
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{StepSet, ladder};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;

/// Runs a case in this process: what the server measured.
fn run(case: &Case) -> Measurement {
    let (tuning, workload) = (case.tuning().expect("a valid case"), case.workload);
    let (meter, measured) = Meter::new(Side::Server, &workload, 0, Options::default());
    let ladder = Ladder::new(tuning, Arc::new(meter), 0).carrying(workload);
    let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address().expect("an address");
    let settings = http2::settings(&tuning, &workload);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || serve::run(tuning, settings, ladder, listener, stopped));
    let client =
        Client { tuning, workload, meter: Arc::new(Meter::new(Side::Client, &workload, 0, Options::default()).0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client.run(case.scenario, &address)).expect("every answer is what it should be");
    drop(runtime);
    let measured = measured.blocking_recv().expect("every message arrived");
    drop(stop);
    server.join().expect("no panic").expect("serves to the end").expect_err("the sender was dropped");
    measured
}

/// Every step of a scenario that takes the traffic: how many do.
fn on_each_step(scenario: Scenario, workload: Workload) -> usize {
    let sets = ladder(scenario).iter().map(|step| StepSet::UpTo(step.name.to_owned()));
    let cases = sets.map(|set| Case { set, workload, ..Case::new(scenario) }).filter(|case| case.tuning().is_ok());
    cases.map(|case| assert_eq!(run(&case).messages, workload.messages, "{}", case.set)).count()
}

#[test]
fn metadata_comes_back_with_every_answer() {
    let workload = Workload { messages: 20, warmup: 2, metadata: 10, ..Workload::default() };
    assert_eq!(on_each_step(Scenario::Unary, workload), ladder(Scenario::Unary).len() - 1, "all but what is by hand");
}

#[test]
fn exports_are_taken_whole_by_either_codec() {
    let workload = Workload { messages: 20, warmup: 2, spans: 512, ..Workload::default() };
    assert_eq!(on_each_step(Scenario::Unary, workload), ladder(Scenario::Unary).len());
}

#[test]
fn every_stream_gets_the_same_exports() {
    let workload = Workload { messages: 40, warmup: 2, streams: 4, spans: 512, ..Workload::default() };
    assert_eq!(on_each_step(Scenario::Get, workload), ladder(Scenario::Get).len());
    let set = StepSet::Only("encode-once".to_owned());
    assert_eq!(run(&Case { set, workload, ..Case::new(Scenario::Get) }).messages, workload.messages);
}

#[test]
fn messages_come_back_on_the_stream_they_were_sent_on() {
    let workload = Workload { chunk: 70_000, messages: 20, warmup: 2, streams: 2, echo: 3, ..Workload::default() };
    assert_eq!(on_each_step(Scenario::Put, workload), ladder(Scenario::Put).len());
    // Steps by themselves, which receive as one body does and send as the other.
    for only in ["rope", "zero-copy"] {
        let set = StepSet::Only(only.to_owned());
        assert_eq!(run(&Case { set, workload, ..Case::new(Scenario::Put) }).messages, workload.messages, "{only}");
    }
}

#[test]
fn streams_stay_open_and_what_they_hold_is_known() {
    let workload =
        Workload { chunk: 200, messages: 1, warmup: 1, streams: 30, connections: 3, idle: true, ..Workload::default() };
    let set = StepSet::UpTo("one-frame".to_owned());
    let measured = run(&Case { set, workload, ..Case::new(Scenario::Put) });
    assert_eq!((measured.messages, measured.open_streams), (1, Some(30)));
}

#[test]
fn sockets_count_what_goes_through_them() {
    // 20 MB: windows hold little of it.
    let workload = Workload { chunk: 1000, messages: 20_000, warmup: 100, ..Workload::default() };
    let socket = run(&Case { workload, ..Case::new(Scenario::Put) }).socket.expect("counted");
    // Both ends are in this process. tonic sends what is ready up to 32 KiB at a time, so a write has many messages.
    assert!((1..10_000).contains(&socket.writes), "{socket:?}");
    assert!((1..10_000).contains(&socket.reads), "{socket:?}");
}

#[cfg(feature = "tls")]
#[test]
fn connections_may_be_encrypted_on_every_step() {
    let workload = Workload { messages: 20, warmup: 2, tls: true, ..Workload::default() };
    for scenario in Scenario::ALL {
        assert_eq!(on_each_step(scenario, workload), ladder(scenario).len());
    }
}
