//! The live endpoints over real sockets, and against clients that mean no good.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;
#[path = "support/pprof.rs"]
mod pprof;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use alloc_ladder::live::{Builder, ServeError, TOKEN, TOKEN_FILE, Token};
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage};

use http::{ask, connect, get};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// A path nobody serves.
const FLOOD: &str = "/flood.Service/Method";
/// A name nobody should register, to see that it harms nobody.
const HOSTILE: &str = "/x.Y/\"} 1\ngrpc_alloc_bytes_total{stage=\"\\\x1b[31m";

// One test function: counters are the process's, and the garbage test looks at all of them.
#[test]
fn the_endpoints_answer_and_survive() {
    let scope = Scope::new(Method::register(Side::Server, "/live.Test/Put"), Stage::Marshal);
    let blocks: Vec<Vec<u8>> = {
        let _guard = scope.enter();
        (0..10).map(|_| black_box(Vec::with_capacity(1000))).collect()
    };
    {
        let _guard = Scope::new(Method::register(Side::Client, HOSTILE), Stage::Handler).enter();
        black_box(vec![0u8; 77]);
    }
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let addr = live.addr();
    metrics_are_the_counters_and_escaped(addr);
    the_table_is_text_or_json_and_sums_to_its_total(addr);
    rows_make_a_profile(addr);
    profiles_are_bounded_and_keep_nobody_waiting(addr);
    only_local_names_are_answered_to(addr);
    only_reading_is_allowed(addr);
    garbage_floods_and_aborted_scrapes_lose_nothing(addr);
    what_the_endpoint_allocates_is_the_instruments(addr);
    live.stop();
    assert!(std::net::TcpStream::connect(addr).is_err(), "still listening after stop");
    other_addresses_need_permission();
    a_token_is_asked_for();
    drop(blocks);
}

fn metrics_are_the_counters_and_escaped(addr: SocketAddr) {
    let answer = get(addr, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let text = answer.text();
    let series = r#"{side="server",rpc="/live.Test/Put",stage="marshal"}"#;
    // Ten blocks and the vector that holds them.
    for (name, value) in
        [("blocks_total", 11), ("bytes_total", 10 * 1000 + 10 * 24), ("net_bytes", 10 * 1000 + 10 * 24)]
    {
        let line = format!("grpc_alloc_{name}{series} {value}");
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let hostile = r#"grpc_alloc_bytes_total{side="client",rpc="/x.Y/\"} 1\ngrpc_alloc_bytes_total{stage=\"\\"#;
    assert!(text.lines().any(|line| line.starts_with(hostile) && line.ends_with(r#"stage="handler"} 77"#)), "{text}");
    for line in text.lines() {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        assert!(name.starts_with("grpc_alloc_") || name.starts_with("process_resident_memory_"), "{line}");
    }
    for family in ["blocks_total", "bytes_total", "net_bytes"] {
        assert_eq!(text.matches(&format!("# TYPE grpc_alloc_{family} ")).count(), 1);
        assert_eq!(text.matches(&format!("# HELP grpc_alloc_{family} ")).count(), 1);
    }
}

fn the_table_is_text_or_json_and_sums_to_its_total(addr: SocketAddr) {
    let text = get(addr, "/debug/alloc");
    assert!(text.text().contains("/live.Test/Put") && text.text().contains("\ntotal "), "{}", text.text());
    assert!(!text.text().contains('\x1b'), "a method's name reaches the terminal");
    for answer in [get(addr, "/debug/alloc?format=json"), ask(addr, "GET /debug/alloc", "Accept: application/json\r\n")]
    {
        assert!(answer.head.contains("content-type: application/json"));
        let table: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        for field in ["blocks", "bytes", "freed_blocks", "freed_bytes"] {
            let rows = table["rows"].as_array().expect("rows").iter();
            let sum: u64 = rows.map(|row| row[field].as_u64().expect("a number")).sum();
            assert_eq!(sum, table["total"][field], "{field}");
        }
        assert!(table["rows"].as_array().expect("rows").iter().any(|row| row["rpc"] == HOSTILE));
    }
}

fn rows_make_a_profile(addr: SocketAddr) {
    const BETWEEN: &str = "/live.Test/Between";
    let between = Scope::new(Method::register(Side::Server, BETWEEN), Stage::Handler);
    let allocate = |bytes: usize| {
        let _guard = between.enter();
        black_box(Vec::<u8>::with_capacity(bytes))
    };
    drop(allocate(111));
    let began = Instant::now();
    let profile = std::thread::spawn(move || get(addr, "/debug/pprof/allocs?seconds=1"));
    // Nobody but the endpoint knows when its second begins and ends, so one block follows another until it has answered.
    let mut made = 0;
    while !profile.is_finished() {
        drop(allocate(2000));
        made += 1;
    }
    let answer = profile.join().expect("no panic");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((answer.status, &answer.body[..2]), (200, &[0x1f, 0x8b][..]), "gzip");
    let values =
        |body: &[u8], rpc: &str| ["alloc_objects", "alloc_space"].map(|kind| pprof::sum(body, kind, rpc).unwrap_or(0));
    let [blocks, bytes] = values(&answer.body, BETWEEN);
    assert!((1..=made).contains(&blocks), "{blocks} of {made} blocks");
    // The two counters are read one after the other, and blocks are made in between: few of all, wherever the reader stops.
    assert!(
        (bytes - 2000 * blocks).abs() <= 2000 + bytes / 10,
        "{bytes} bytes of {blocks} blocks: what was made in that second alone"
    );
    assert_eq!(pprof::sum(&answer.body, "alloc_space", "/live.Test/Put"), None, "nothing was allocated there");
    let heap = get(addr, "/debug/pprof/heap");
    assert_eq!(heap.status, 200);
    assert_eq!(values(&heap.body, BETWEEN), [1 + made, 111 + 2000 * made], "everything so far");
    assert_eq!(values(&heap.body, "/live.Test/Put"), [11, 10_240]);
    assert_eq!(get(addr, "/debug/pprof/heap?seconds=301").status, 400);
    assert_eq!(get(addr, "/debug/pprof/heap?seconds=x").status, 400);
}

/// A request for a profile that lasts, so far unanswered.
fn hold(addr: SocketAddr) -> std::net::TcpStream {
    let mut stream = connect(addr);
    stream
        .write_all(b"GET /debug/pprof/allocs?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("queued at least");
    stream
}

/// Longer than anything here takes on a machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for a profile until there is room for it.
fn a_profile_is_had(addr: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while get(addr, "/debug/pprof/heap").status != 200 {
        assert!(Instant::now() < deadline, "profiles that nobody waits for are still being taken");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a connection is open and has no answer yet.
fn waits(mut stream: &std::net::TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket can be asked without waiting");
    let read = stream.read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn profiles_are_bounded_and_keep_nobody_waiting(addr: SocketAddr) {
    let mut held = [hold(addr), hold(addr)];
    let busy = loop {
        let answer = get(addr, "/debug/pprof/heap");
        if answer.status == 503 {
            break answer;
        }
        // Refused itself, because the one above came first.
        for stream in &mut held {
            if !waits(stream) {
                *stream = hold(addr);
            }
        }
    };
    assert!(busy.text().contains("two profiles"), "{}", busy.text());
    // As many as connections may be, and refused each: nothing waits.
    let refused: Vec<_> = (0..16).map(|_| hold(addr)).collect();
    for path in ["/metrics", "/debug/alloc"] {
        assert_eq!(get(addr, path).status, 200);
    }
    assert!(held.iter().all(waits), "what was answered meanwhile waited for no profile");
    drop((held, refused));
    a_profile_is_had(addr);
    // Asked for and abandoned, over and over: nothing is left to do but for the two that may be under way.
    for _ in 0..200 {
        let mut stream = connect(addr);
        stream.write_all(b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("queued at least");
    }
    a_profile_is_had(addr);
}

fn only_local_names_are_answered_to(addr: SocketAddr) {
    for (host, status) in
        [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]", 200), ("rebound.example", 421), ("x", 421)]
    {
        let mut stream = connect(addr);
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        assert_eq!(answer.contains("grpc_alloc_"), status == 200, "{host}");
    }
}

fn only_reading_is_allowed(addr: SocketAddr) {
    for request in ["POST /metrics", "PUT /debug/alloc", "DELETE /debug/pprof/heap"] {
        let refused = ask(addr, request, "Content-Length: 0\r\n");
        assert_eq!(refused.status, 405, "{request}");
        assert!(refused.head.contains("allow: get, head"));
    }
    let head = ask(addr, "HEAD /metrics", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let missing = get(addr, "/debug/pprof/profile");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/debug/pprof/allocs"), "a 404 says what there is");
}

fn garbage_floods_and_aborted_scrapes_lose_nothing(addr: SocketAddr) {
    let before = Snapshot::of_process();
    let live_before = Snapshot::live_bytes();
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for round in 0..300 {
        let mut stream = connect(addr);
        let garbage: Vec<u8> = (0..2000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        // Writes may fail: the endpoint hangs up on what it cannot read.
        let _ = match round % 4 {
            0 => stream.write_all(&garbage),
            1 => stream.write_all(format!("GET {FLOOD} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()),
            2 => stream.write_all(format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000)).as_bytes()),
            _ => stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        };
        // Dropped unread: an aborted scrape.
    }
    // More profiles under way than connections are allowed, all abandoned.
    let abandoned: Vec<_> = (0..32).map(|_| hold(addr)).collect();
    drop(abandoned);
    let too_large = ask(addr, "GET /metrics", &format!("X: {}\r\n", "a".repeat(12_000)));
    assert_eq!(too_large.status, 200, "12 kB of headers are allowed");
    let mut stream = connect(addr);
    let _ = stream.write_all(format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64_000)).as_bytes());
    let mut refused = Vec::new();
    let _ = stream.read_to_end(&mut refused);
    assert!(refused.is_empty() || refused.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&refused));

    let answer = get(addr, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(r#"rpc="/live.Test/Put",stage="marshal"} 11"#), "a count was lost");
    assert!(!answer.text().contains(FLOOD), "what was asked for became a row");
    // The connections' tasks end soon after their sockets do.
    let deadline = Instant::now() + PATIENCE;
    while Snapshot::live_bytes() > live_before + 256 * 1024 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = Snapshot::live_bytes().saturating_sub(live_before);
    assert!(grown <= 256 * 1024, "{grown} bytes stay after the flood");
    let counted = Snapshot::of_process() - before;
    assert!(counted.stage(Stage::Instrument).blocks > 1000, "the flood was not counted\n{counted}");
}

fn what_the_endpoint_allocates_is_the_instruments(addr: SocketAddr) {
    let before = Snapshot::of_process();
    for path in ["/metrics", "/debug/alloc", "/debug/alloc?format=json", "/debug/pprof/heap"] {
        let mut stream = connect(addr);
        let _guard = Stage::Handler.enter();
        stream.write_all(b"GET ").and_then(|()| stream.write_all(path.as_bytes())).expect("writes");
        stream.write_all(b" HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("writes");
        let mut chunk = [0u8; 4096];
        while stream.read(&mut chunk).expect("reads") > 0 {}
    }
    let counted = Snapshot::of_process() - before;
    assert!(counted.stage(Stage::Instrument).blocks > 100);
    let rest = counted.total_without_instrument();
    assert_eq!(rest.blocks, 0, "{:?}", counted.rows().collect::<Vec<_>>());
}

fn other_addresses_need_permission() {
    match alloc_ladder::serve("0.0.0.0:0") {
        Err(error @ ServeError::Remote(_)) => assert!(error.to_string().contains("allow_remote"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(alloc_ladder::serve("nowhere"), Err(ServeError::Address(_))));
    let program = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "answers_other_machines", "--ignored", "--quiet", "--nocapture"])
        .output()
        .expect("starts");
    let warning = String::from_utf8(program.stderr).expect("text");
    assert!(program.status.success(), "{warning}");
    assert!(warning.starts_with("warning: alloc-ladder answers on 0.0.0.0:"), "{warning}");
    assert!(warning.contains("other machines may reach, without authentication"), "{warning}");
}

/// The program: this test binary started again with this one test.
#[test]
#[ignore = "run by the test above, in a process of its own"]
fn answers_other_machines() {
    let refused = Builder::new().allow_remote().serve("0.0.0.0:0");
    assert!(matches!(refused, Err(ServeError::NoToken(_))), "{refused:?}");
    let live = Builder::new().allow_remote().without_token().serve("0.0.0.0:0").expect("allowed");
    let addr = SocketAddr::from(([127, 0, 0, 1], live.addr().port()));
    assert_eq!(get(addr, "/").status, 200);
    // Machines have names that are not known here.
    let mut stream = connect(addr);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: service.example:9464\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    live.stop();
}

fn a_token_is_asked_for() {
    let live = Builder::new().token(Token::new("s3cret").expect("a token")).serve("127.0.0.1:0").expect("serves");
    only_those_with_the_token_are_answered(live.addr());
    live.stop();
    // Beyond loopback it is enough, and the environment may have it.
    let folder = tempfile::tempdir().expect("creates");
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("writes");
    let program = |variable: &str, value: &std::ffi::OsStr| {
        Command::new(std::env::current_exe().expect("this test has a file"))
            .args(["--exact", "answers_those_with_a_token", "--ignored", "--quiet", "--nocapture"])
            .env(variable, value)
            .output()
            .expect("starts")
    };
    for (variable, value) in [(TOKEN_FILE, file.as_os_str()), (TOKEN, "s3cret".as_ref())] {
        let done = program(variable, value);
        assert!(done.status.success(), "{variable}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "nothing to warn of");
    }
    let done = program(TOKEN, "two words".as_ref());
    assert!(!done.status.success(), "no token, no answers");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("Text(\"ALLOC_LADDER_LIVE_TOKEN\")") && !said.contains("words"), "{said}");
}

fn only_those_with_the_token_are_answered(addr: SocketAddr) {
    for path in ["/", "/metrics", "/debug/alloc", "/debug/pprof/heap", "/nothing"] {
        let refused = get(addr, path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        for wrong in ["Bearer s3cre", "s3cret", "Basic s3cret"] {
            let refused = ask(addr, &format!("GET {path}"), &format!("Authorization: {wrong}\r\n"));
            assert_eq!(refused.status, 401, "{path} {wrong}");
        }
        let answer = ask(addr, &format!("GET {path}"), "Authorization: Bearer s3cret\r\n");
        assert_eq!(answer.status, if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
}

/// The program: this test binary started again with this one test.
#[test]
#[ignore = "run by the test above, in a process of its own"]
fn answers_those_with_a_token() {
    let live = Builder::new().allow_remote().serve("0.0.0.0:0").expect("there is a token");
    only_those_with_the_token_are_answered(SocketAddr::from(([127, 0, 0, 1], live.addr().port())));
    live.stop();
}
