//! One build carries every instrument: the environment says which one a process measures with, and its record names it.

#![cfg(feature = "subject")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::is_available;
use alloc_ladder::record::{Instrument, Listening, Measurement};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::peer::{Direction, Kind, PeerCase, Traffic};
use alloc_ladder::subject::scenario::{Scenario, Workload};

/// The study's program with every instrument. `cargo xtask ci` says where its own is, because others of this name are built
/// beside the tests.
fn program() -> PathBuf {
    std::env::var_os("ALLOC_LADDER_TESTED").map_or_else(|| env!("CARGO_BIN_EXE_ladder").into(), PathBuf::from)
}

fn ladder(role: &str, case: &str, instrument: &str) -> Child {
    let (variable, _) = Instrument::Time.environment();
    Command::new(program())
        .args([role, "--case", case])
        .env(variable, instrument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What both sides printed; `of` says what a side with this address is told.
fn pair(of: impl Fn(Side, &str) -> (&'static str, String), instrument: &str) -> [Measurement; 2] {
    let (role, case) = of(Side::Server, "127.0.0.1:0");
    let mut server = ladder(role, &case, instrument);
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("another line").expect("text");
    let Listening { address } = serde_json::from_str(&line()).expect("an address");
    let (role, case) = of(Side::Client, &address);
    let mut client = ladder(role, &case, instrument);
    // A process ends when its stdin does.
    let _stdin = client.stdin.take();
    let client = client.wait_with_output().expect("ends");
    assert!(client.status.success() && !client.stdout.is_empty());
    let measured = [line(), String::from_utf8(client.stdout).expect("text")];
    drop(server.stdin.take());
    assert!(server.wait().expect("ends").success());
    measured.map(|line| serde_json::from_str(&line).expect("a record"))
}

fn measured(asked: Instrument, value: &str, folder: &Path) -> [Measurement; 2] {
    let of = |side: Side, address: &str| {
        let case = Case {
            workload: Workload { messages: 64, warmup: 16, ..Workload::default() },
            instrument: asked,
            address: address.to_owned(),
            stacks_file: Some(folder.join(side.name())),
            ..Case::new(Scenario::Put)
        };
        (side.name(), case.to_json())
    };
    pair(of, value)
}

#[test]
fn each_value_of_the_variable_gives_a_record_of_that_instrument() {
    let asked = Instrument::ALL.into_iter().filter(|instrument| is_available(*instrument));
    let asked: Vec<Instrument> = asked.collect();
    assert!(asked.contains(&Instrument::Count) && asked.contains(&Instrument::Retained));
    for instrument in asked {
        let folder = tempfile::tempdir().expect("creates");
        for (side, measured) in Side::ALL.into_iter().zip(measured(instrument, instrument.name(), folder.path())) {
            let name = instrument.name();
            assert_eq!((measured.side, measured.instrument, measured.messages), (side, instrument, 64), "{name}");
            assert_eq!(measured.counts.is_some(), instrument == Instrument::Count, "{name}");
            assert_eq!(!measured.retained.is_empty(), instrument == Instrument::Retained, "{name}");
            let has_file = matches!(instrument, Instrument::Stacks | Instrument::Cpu);
            assert_eq!(folder.path().join(side.name()).is_file(), has_file, "{name}");
        }
    }
}

#[test]
fn what_names_no_instrument_means_time() {
    let folder = tempfile::tempdir().expect("creates");
    for value in ["", "counts", "instructions"] {
        let [server, client] = measured(Instrument::Time, value, folder.path());
        assert_eq!((server.instrument, client.instrument), (Instrument::Time, Instrument::Time), "`{value}`");
    }
}

#[test]
fn a_process_that_measures_something_else_than_its_case_says_so() {
    let case = Case { instrument: Instrument::Count, ..Case::new(Scenario::Put) };
    let output = Command::new(program())
        .args(["server", "--case", &case.to_json()])
        .env_remove("ALLOC_LADDER_INSTRUMENT")
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("set ALLOC_LADDER_INSTRUMENT=count"), "{error}");
}

#[test]
fn peers_measure_with_the_same_build() {
    let of = |side: Side, address: &str| {
        let case = PeerCase {
            side,
            kind: Kind::HyperTuned,
            direction: Direction::Get,
            traffic: Traffic { chunk: 65_536, messages: 64, warmup: 16 },
            instrument: Instrument::Count,
            address: address.to_owned(),
            rate_bits: None,
        };
        ("peer", case.to_json())
    };
    let measured = pair(of, "count");
    assert!(measured.iter().all(|measured| measured.instrument == Instrument::Count && measured.counts.is_some()));
}
