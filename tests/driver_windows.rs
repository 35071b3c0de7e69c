//! Windows in a process of its own: opened and closed by what the seams count, or by the clock, with `Alloc` in any mode.
#![cfg(all(feature = "driver", feature = "recorder", feature = "tonic"))]

use std::convert::Infallible;
use std::future::Ready;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use alloc_ladder::record::{Instrument, Measurement};
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{Alloc, Side, Stage, driver};
use prost::Message;
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tower_layer::Layer;

#[global_allocator]
static ALLOC: Alloc = Alloc::new();

const RPC: &str = "/driver.Windows/Echo";
const ROUNDS: u32 = 3;
const MESSAGES: u64 = 100;

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(string, tag = "1")]
    text: String,
}

type Codec = tonic_prost::ProstCodec<Chunk, Chunk>;

#[derive(Clone, Copy)]
struct Echo;

impl tower_service::Service<Request<Chunk>> for Echo {
    type Response = Response<Chunk>;
    type Error = Status;
    type Future = Ready<Result<Response<Chunk>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Chunk>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

/// So many calls of one message, within this process.
async fn calls(count: u64) {
    let service = tower::service_fn(|request: http::Request<Body>| async move {
        Ok::<_, Infallible>(tonic::server::Grpc::new(Codec::default()).unary(Echo, request).await)
    });
    let mut client = tonic::client::Grpc::new(ServerLayer::new().methods([RPC]).layer(service));
    for _ in 0..count {
        let request = Request::new(Chunk { text: "x".repeat(10) });
        client.unary(request, RPC.parse().expect("a path"), Codec::default()).await.expect("answers");
    }
}

fn own_name() -> String {
    let own = std::env::current_exe().expect("this test has a file");
    own.file_name().and_then(|name| name.to_str()).expect("cargo names it in ASCII").to_owned()
}

fn folder() -> PathBuf {
    std::env::var_os(driver::OUT).expect("set below").into()
}

fn wait(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read(file: &Path) -> Option<Measurement> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(&text).expect("never half a file"))
}

fn window(n: u32) -> PathBuf {
    driver::window_file(&folder(), std::process::id(), &own_name(), n)
}

/// The program: in each window as many calls as it is long, and none while one opens or closes.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn serves() {
    let _driver = driver::install();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let whole = driver::file(&folder(), std::process::id(), &own_name());
    let written = || read(&whole).map_or(0, |measurement| measurement.wall_ns);
    for n in 0..ROUNDS {
        // The driver opens a window before it writes the counters of the process.
        let before = written();
        wait("a fresh file", || written() > before);
        runtime.block_on(calls(MESSAGES));
        wait("the window", || window(n).exists());
    }
}

/// A program without a seam, until it has two windows.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn sleeps() {
    let _driver = driver::install();
    wait("two windows", || window(1).exists());
}

/// A program that ends at once, after ten calls where it is asked for a seam.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn ends() {
    let _driver = driver::install();
    if std::env::var_os("WITH_A_SEAM").is_some() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(calls(10));
    }
}

/// Runs one of the programs above; gives its id.
fn run(program: &str, folder: &Path, environment: &[(&str, &str)]) -> u32 {
    let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", program, "--ignored", "--quiet"])
        .env(driver::OUT, folder)
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let process = child.id();
    assert!(child.wait().expect("ends").success());
    process
}

#[test]
fn each_window_has_what_the_seams_counted_in_it_exactly() {
    for mode in ["count", "off"] {
        let scratch = tempfile::tempdir().expect("creates");
        let asked = format!("warmup=0,messages={MESSAGES},rounds={ROUNDS}");
        let process = run("serves", scratch.path(), &[("ALLOC_LADDER", mode), (driver::WINDOW, &asked)]);
        let windows: Vec<Measurement> = (0..ROUNDS)
            .map(|n| read(&driver::window_file(scratch.path(), process, &own_name(), n)).expect("a window"))
            .collect();
        for (window, round) in windows.iter().zip(0..) {
            assert_eq!((window.round, window.messages, window.side), (round, MESSAGES, Side::Server));
            // 12 bytes either way: a tag, a length and ten letters.
            assert_eq!(window.payload_bytes, 2 * 12 * MESSAGES);
            let [row] = &window.calls[..] else { panic!("one method: {:?}", window.calls) };
            assert_eq!((row.rpc.as_str(), row.side, row.calls, row.errors), (RPC, Some(Side::Server), MESSAGES, 0));
            assert_eq!((row.messages_received, row.messages_sent), (MESSAGES, MESSAGES));
            assert!(window.wall_ns > 0 && window.usage.rss_bytes_max > 0);
            if mode == "off" {
                assert_eq!((window.instrument, window.counts.is_none()), (Instrument::Time, true));
                continue;
            }
            assert_eq!(window.instrument, Instrument::Count);
            let handled = |window: &Measurement| {
                let rows = &window.counts.as_ref().expect("counted").rows;
                let own = rows.iter().filter(|row| row.rpc == RPC && row.stage == Stage::Handler);
                own.map(|row| row.tally.blocks).sum::<u64>()
            };
            assert_eq!(window.setup.is_some(), round == 0, "set-up is before the first window");
            assert!(handled(window) >= MESSAGES && handled(window).is_multiple_of(MESSAGES), "{:?}", window.counts);
            assert_eq!(handled(window), handled(&windows[0]), "every window is alike");
            let counts = window.counts.as_ref().expect("counted");
            assert!(counts.peak_bytes > 0 && counts.heap.first().is_some_and(|sample| sample.messages == 0));
        }
        let whole = read(&driver::file(scratch.path(), process, &own_name())).expect("a file");
        let calls = u64::from(ROUNDS) * MESSAGES;
        assert_eq!((whole.messages, whole.payload_bytes, whole.calls.len()), (calls, 24 * calls, 1));
        assert!(!driver::window_error_file(scratch.path(), process, &own_name()).exists());
        let peaks = windows.iter().filter_map(|window| window.counts.as_ref()).map(|counts| counts.peak_bytes);
        assert!(whole.counts.is_none_or(|counts| peaks.max().is_none_or(|peak| counts.peak_bytes >= peak)));
    }
}

#[test]
fn a_program_without_a_seam_is_measured_by_the_clock() {
    let scratch = tempfile::tempdir().expect("creates");
    let asked = [("ALLOC_LADDER", "count"), (driver::WINDOW, "warmup=0.05s,seconds=0.1,rounds=2")];
    let process = run("sleeps", scratch.path(), &asked);
    for n in 0..2 {
        let window = read(&driver::window_file(scratch.path(), process, &own_name(), n)).expect("a window");
        assert!(window.wall_ns >= 100_000_000 && window.messages == 0 && window.calls.is_empty());
    }
    let whole = read(&driver::file(scratch.path(), process, &own_name())).expect("a file");
    assert_eq!((whole.messages, whole.payload_bytes), (1, 0), "what nobody counted");
}

#[test]
fn what_is_missing_is_said_and_the_program_runs_on() {
    for (asked, seam, words) in [
        ("messages=nought", true, "ALLOC_LADDER_WINDOW: messages=nought: not a number from 1"),
        ("message=5", false, "`message=5` is not a part of a window"),
        ("warmup=256,messages=5", true, "the warm-up had 10 of 256 messages when the program ended; make more calls"),
        ("messages=500,rounds=2", true, "0 of 2 windows closed"),
        ("warmup=1,messages=5", false, "no seam counts calls on this side"),
        ("warmup=60s,seconds=1", true, "the warm-up, of 60 s, had not passed"),
    ] {
        let scratch = tempfile::tempdir().expect("creates");
        let mut environment = vec![(driver::WINDOW, asked)];
        environment.extend(seam.then_some(("WITH_A_SEAM", "1")));
        let process = run("ends", scratch.path(), &environment);
        let said = std::fs::read_to_string(driver::window_error_file(scratch.path(), process, &own_name()));
        let said = said.unwrap_or_else(|error| panic!("{asked}: {error}"));
        assert!(said.contains(words), "{asked}: {said}");
        let files = std::fs::read_dir(scratch.path()).expect("reads").flatten();
        assert_eq!(files.filter(|file| driver::window_of(&file.path()).is_some()).count(), 0);
        assert!(driver::file(scratch.path(), process, &own_name()).exists(), "{asked}: the process's own file");
    }
}
