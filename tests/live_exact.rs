//! Every stack of a window, asked of a service whose allocator does nothing otherwise.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;
#[path = "support/pprof.rs"]
mod pprof;

use std::hint::black_box;
use std::net::SocketAddr;
use std::thread;

use alloc_ladder::live::Builder;
use alloc_ladder::stage::Scope;
use alloc_ladder::wire::pprof::Profile;
use alloc_ladder::{Alloc, Method, Side, Stage};

use http::{Answer, get};
use pprof::sum;

#[global_allocator]
static ALLOC: Alloc = Alloc::new();

const ONE: &str = "/exact.Test/One";
const OTHER: &str = "/exact.Test/Other";
const BLOCK_BYTES: usize = 4321;
const WINDOW: &str = "/debug/pprof/allocs?seconds=1&every=1";

#[inline(never)]
fn block_of_a_call() -> Vec<u8> {
    black_box(Vec::with_capacity(BLOCK_BYTES))
}

/// Two methods that allocate in turn, until the answer is there; how often each did.
fn turns_until(addr: SocketAddr, path: &'static str) -> (Answer, i64) {
    let scopes = [ONE, OTHER].map(|rpc| Scope::new(Method::register(Side::Server, rpc), Stage::Handler));
    let asked = thread::spawn(move || get(addr, path));
    let mut turns = 0;
    while !asked.is_finished() {
        for scope in scopes {
            let _guard = scope.enter();
            drop(block_of_a_call());
        }
        turns += 1;
    }
    (asked.join().expect("answered"), turns)
}

fn functions(gzipped: &[u8]) -> Vec<String> {
    let profile = Profile::read(gzipped).expect("a profile");
    profile.function.iter().map(|function| profile.string(function.name).to_owned()).collect()
}

// One test function: the allocator is the process's.
#[test]
fn every_stack_of_a_window_is_there_and_none_before_or_after() {
    // Whoever runs the tests may have asked for a mode.
    let mode = ALLOC.mode();
    let live = Builder::new().exact_stacks(&ALLOC).serve("127.0.0.1:0").expect("serves");
    let addr = live.addr();

    for refused in
        ["/debug/pprof/allocs?every=1", "/debug/pprof/allocs?seconds=1&every=2", "/debug/pprof/heap?seconds=1&every=1"]
    {
        let answer = get(addr, refused);
        assert_eq!(answer.status, 400, "{refused}: {}", answer.text());
    }

    let (answer, turns) = turns_until(addr, WINDOW);
    assert_eq!((answer.status, ALLOC.mode()), (200, mode));
    let [one, other] = [ONE, OTHER].map(|rpc| sum(&answer.body, "alloc_objects", rpc).expect("samples"));
    // A window begins and ends in the middle of a turn, and loses nothing in between.
    assert!(one > 0 && one <= turns && (one - other).abs() <= 1, "{one} and {other} of {turns} turns");
    assert_eq!(sum(&answer.body, "alloc_space", ONE), Some(one * BLOCK_BYTES as i64));
    assert_eq!(sum(&answer.body, "inuse_space", ONE), Some(0));
    let names = functions(&answer.body);
    assert!(names.iter().any(|name| name.contains("block_of_a_call")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("alloc_ladder::alloc::switch")), "{names:?}");

    // What came after the window is in none; nor is what it saw in the next one.
    let quiet = get(addr, WINDOW);
    assert_eq!((quiet.status, sum(&quiet.body, "alloc_objects", ONE)), (200, None));

    // Two at once see the same, and the first to end leaves the other its stacks.
    let beside = thread::spawn(move || get(addr, "/debug/pprof/allocs?seconds=2&every=1"));
    let (short, _) = turns_until(addr, WINDOW);
    let (long, _) = (beside.join().expect("answered"), ());
    assert_eq!((short.status, long.status, ALLOC.mode()), (200, 200, mode));
    assert!(sum(&long.body, "alloc_objects", ONE) > Some(0));
    live.stop();

    // An allocator that nobody asked for anything is not the program's.
    static OTHER_ONE: Alloc = Alloc::new();
    for builder in [Builder::new(), Builder::new().exact_stacks(&OTHER_ONE)] {
        let live = builder.serve("127.0.0.1:0").expect("serves");
        let answer = get(live.addr(), WINDOW);
        assert_eq!(answer.status, 501);
        assert!(answer.text().contains("exact_stacks(&ALLOC)"), "{}", answer.text());
        live.stop();
    }
}
