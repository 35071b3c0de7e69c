//! The live endpoints against clients that are slow, gone, or ask by a name that is not the endpoints'.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use alloc_ladder::CountingAlloc;
use alloc_ladder::live::Builder;

use http::{connect, get};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// Connections that send these bytes, and nothing more.
fn slow(addr: SocketAddr, count: usize, starts: &[&str]) -> Vec<TcpStream> {
    let start = |index: usize| {
        let mut stream = connect(addr);
        // The endpoint may have hung up already: others came after it.
        let _ = stream.write_all(starts[index % starts.len()].as_bytes());
        stream
    };
    (0..count).map(start).collect()
}

/// Whether the endpoint still waits for this client.
fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0; 1024]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[test]
fn a_thousand_slow_connections_keep_nobody_waiting() {
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let addr = live.addr();
    let heads = ["", "G", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: "];
    let mut held = slow(addr, 1000, &heads);
    for round in 0..3 {
        assert_eq!(get(addr, "/metrics").status, 200, "round {round}");
        // Fed, and replaced where they were cut off.
        for stream in &mut held {
            if stream.write_all(b"a").is_err() {
                *stream = connect(addr);
                let _ = stream.write_all(heads[3].as_bytes());
            }
        }
        assert_eq!(get(addr, "/debug/alloc").status, 200, "round {round}");
    }
    // They were not waited for: the newest ones are still there.
    let mut newest = slow(addr, 16, &heads);
    assert_eq!(get(addr, "/metrics").status, 200);
    assert!(newest.iter_mut().all(is_open));
    // Nor for those that asked, and do not read the answer.
    let unread = slow(addr, 200, &["GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
    assert_eq!(get(addr, "/metrics").status, 200);
    drop((held, unread));
    live.stop();
}

#[test]
fn an_unfinished_head_is_cut_off_however_it_is_fed() {
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let mut fed = connect(live.addr());
    let began = Instant::now();
    fed.write_all(b"GET /metrics HTTP/1.1\r\nX: ").expect("writes");
    fed.set_read_timeout(Some(Duration::from_millis(100))).expect("a read timeout");
    // The event: the endpoint hangs up. A head that may take for ever is never hung up on.
    let closed = loop {
        let _ = fed.write_all(b"a");
        match fed.read(&mut [0; 64]) {
            Ok(0) => break true,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break true,
            _ if began.elapsed() > Duration::from_secs(60) => break false,
            _ => {}
        }
    };
    assert!(closed);
    live.stop();
}

#[test]
fn a_profile_nobody_waits_for_is_given_up() {
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let addr = live.addr();
    let megabyte = vec![b'x'; 1 << 20];
    let body = b"Content-Length: 100\r\n\r\n0123";
    for behind in [&b"\r\n"[..], b"\r\nX", b"\r\nGET / HTTP/1.1\r\n\r\n", body, &[b"\r\n", &megabyte[..]].concat()] {
        let ask = || {
            let mut stream = connect(addr);
            stream.write_all(b"GET /debug/pprof/allocs?seconds=300 HTTP/1.1\r\nHost: localhost\r\n").expect("queued");
            stream.write_all(behind).expect("read and thrown away");
            stream
        };
        let held = [ask(), ask()];
        // Both places are taken, and given back when both clients are gone.
        wait_for(addr, 503);
        drop(held);
        wait_for(addr, 200);
    }
    live.stop();
}

/// Asks for a profile until it is answered so.
fn wait_for(addr: SocketAddr, status: u16) {
    let began = Instant::now();
    while get(addr, "/debug/pprof/heap").status != status {
        assert!(began.elapsed() < Duration::from_secs(60), "never {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn status(addr: SocketAddr, request: &str) -> String {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).expect("writes");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_request_names_one_host() {
    let local = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let any = Builder::new().allow_remote().serve("127.0.0.1:0").expect("serves");
    for live in [&local, &any] {
        let addr = live.addr();
        for request in [
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: evil@localhost\r\n\r\n",
            "GET http://evil@localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.0\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost:\r\n\r\n",
        ] {
            assert_eq!(status(addr, request), "400", "{request}");
        }
        assert_eq!(status(addr, "GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"), "200");
    }
    let evil = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!((status(local.addr(), evil).as_str(), status(any.addr(), evil).as_str()), ("421", "200"));
    local.stop();
    any.stop();
}
