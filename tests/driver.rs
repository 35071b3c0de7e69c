//! The driver in a process of its own: what it writes while the process runs and at its end.
#![cfg(feature = "driver")]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use alloc_ladder::record::Measurement;
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Stage, driver};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const RPC: &str = "/driver.Test/Put";

/// The program: this test binary started again with this one test.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn program() {
    let _driver = driver::install();
    let scope = Scope::new(Method::register(Side::Server, RPC), Stage::Handler);
    let allocate = || {
        let _guard = scope.enter();
        black_box(Vec::<u8>::with_capacity(10_000));
    };
    allocate();
    // Long enough for one write on the way.
    std::thread::sleep(3 * driver::INTERVAL);
    // A program with the line in it, which inherits the environment and counts less.
    let child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "child", "--ignored", "--quiet"])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(child.expect("starts").success());
    allocate();
}

/// What the program starts.
#[test]
#[ignore = "run by the program above, in a process of its own"]
fn child() {
    let _driver = driver::install();
}

/// A program that leaves `main` in a child that it forked.
#[test]
#[ignore = "run by the test below, in a process of its own"]
#[expect(unsafe_code, reason = "a fork")]
fn daemon() {
    let driver = driver::install();
    let parent = std::process::id();
    // SAFETY: what runs on in the child is this thread alone, and it waits for no other.
    assert_eq!(unsafe { libc::daemon(1, 1) }, 0, "forks");
    assert_ne!(std::process::id(), parent);
    drop(driver);
    let folder = std::env::var_os(driver::OUT).expect("set below");
    std::fs::write(std::path::Path::new(&folder).join("dropped"), "").expect("writes");
    // The harness's other threads were not forked.
    std::process::exit(0);
}

#[test]
fn a_forked_child_drops_the_driver_in_peace() {
    let scratch = tempfile::tempdir().expect("creates");
    let child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "daemon", "--ignored", "--quiet", "--nocapture"])
        .env(driver::OUT, scratch.path())
        .stdout(std::process::Stdio::null())
        // Inherited by the child: it is read to its end.
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let done = child.wait_with_output().expect("ends");
    assert!(scratch.path().join("dropped").exists(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "", "the child panics");
}

fn handled(measurement: &Measurement) -> u64 {
    let counts = measurement.counts.as_ref().expect("counts");
    assert_eq!(counts.rows.iter().map(|row| row.tally.bytes).sum::<u64>(), counts.total.bytes);
    counts.rows.iter().filter(|row| row.rpc == RPC).map(|row| row.tally.bytes).sum()
}

#[test]
fn counters_are_written_on_the_way_and_whole_at_the_end() {
    let scratch = tempfile::tempdir().expect("creates");
    let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "program", "--ignored", "--quiet"])
        .env(driver::OUT, scratch.path())
        .env(driver::SIDE, "client")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let own = std::env::current_exe().expect("this test has a file");
    let own = own.file_name().and_then(|name| name.to_str()).expect("cargo names it in ASCII");
    let file = driver::file(scratch.path(), child.id(), own);
    assert_eq!(driver::process_of(&file), Some((child.id(), own)));
    assert_eq!(driver::process_of(&file.with_extension("part")), None);
    let read = || -> Option<Measurement> {
        let text = std::fs::read_to_string(&file).ok()?;
        Some(serde_json::from_str(&text).expect("never half a file"))
    };
    let began = Instant::now();
    let first = loop {
        if let Some(first) = read() {
            break first;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is written");
    };
    assert_eq!((first.side, handled(&first)), (Side::Client, 10_000));
    assert!(child.wait().expect("ends").success());
    let last = read().expect("a file");
    assert_eq!(handled(&last), 20_000);
    assert!(last.wall_ns > first.wall_ns && last.usage.rss_bytes_max > 0);
    // Each wrote a file of its own.
    let files = std::fs::read_dir(scratch.path()).expect("reads").count();
    assert_eq!(files, 2);
}
