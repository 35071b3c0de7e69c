//! Where `Alloc` records stacks, a failed assertion names the call sites, without dhat.

#![cfg(all(feature = "sampled", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use alloc_ladder::alloc::Mode;
use alloc_ladder::assert::{CallSite, Reach, measure, measure_future, measure_in};
use alloc_ladder::{Alloc, Stage, assert_allocs};

#[global_allocator]
static ALLOC: Alloc = Alloc::new().for_tests();

#[inline(never)]
fn an_unwanted_copy(bytes: &[u8]) -> Vec<u8> {
    black_box(bytes.to_vec())
}

#[inline(never)]
fn marshalled(bytes: &[u8]) -> Vec<u8> {
    let _guard = Stage::Marshal.enter();
    black_box(bytes.to_vec())
}

fn message<T>(result: std::thread::Result<T>) -> String {
    let Err(panic) = result else { panic!("it was meant to fail") };
    panic.downcast_ref::<String>().expect("a message").clone()
}

/// Blocks and bytes, and the name of the innermost function of the program's own.
fn plain(site: &CallSite) -> (u64, u64, &str) {
    (site.blocks, site.bytes, site.frames.first().and_then(|frame| frame.split(" (").next()).unwrap_or(""))
}

const COPY: &str = "assert_recorded::an_unwanted_copy";
const MARSHALLED: &str = "assert_recorded::marshalled";

#[test]
fn a_failure_names_the_call_sites_and_their_stages() {
    let bytes = vec![0u8; 12_345];
    let copy = assert_allocs!(measure(|| an_unwanted_copy(&bytes)), blocks == 1, bytes == 12_345);
    let both = || (an_unwanted_copy(&bytes), marshalled(&bytes[..77]));
    let said = message(catch_unwind(|| assert_allocs!(measure(both), blocks == 0)));
    assert!(said.starts_with("assertion failed: blocks == 0 in all stages but instrument\n counted: 2\n"), "{said}");
    let line = |name| format!("    {name} (tests/assert_recorded.rs:");
    assert!(said.contains(&format!("12345 bytes in 1 blocks, other\n{}", line(COPY))), "{said}");
    assert!(said.contains(&format!("77 bytes in 1 blocks, marshal\n{}", line(MARSHALLED))), "{said}");

    // The counters' table stands above them, and of a stage that was asked about its own sites stand alone.
    let said = message(catch_unwind(|| assert_allocs!(measure(both), freed_blocks == 0, bytes in Marshal <= 76)));
    let (table, sites) = said.split_once("\n\n77 bytes in 1 blocks, marshal\n").expect(&said);
    assert!(table.contains("marshal") && !sites.contains(COPY), "{said}");
    drop(copy);
}

#[test]
fn each_thread_sees_its_own_and_a_block_within_another_is_in_both() {
    let measured: Vec<_> = std::thread::scope(|scope| {
        let of = |blocks: usize| move || measure(|| (0..blocks).map(|_| an_unwanted_copy(&[0; 33])).for_each(drop));
        let threads: Vec<_> = [300, 500].into_iter().map(|blocks| scope.spawn(of(blocks))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for (measured, blocks) in measured.iter().zip([300, 500]) {
        let sites = measured.sites().expect("stacks are recorded");
        assert_eq!(sites.iter().map(plain).collect::<Vec<_>>(), [(blocks, 33 * blocks, COPY)]);
    }

    let outer = measure(|| (an_unwanted_copy(&[0; 10]), measure(|| marshalled(&[0; 20])), an_unwanted_copy(&[0; 10])));
    let inner = outer.value.1.sites().expect("stacks are recorded");
    assert_eq!(inner.iter().map(plain).collect::<Vec<_>>(), [(1, 20, MARSHALLED)]);
    let mut outer: Vec<CallSite> = outer.sites().expect("stacks are recorded");
    outer.sort_by_key(|site| site.bytes);
    let outer: Vec<_> = outer.iter().map(plain).collect();
    assert_eq!(outer, [(1, 10, COPY), (1, 10, COPY), (1, 20, MARSHALLED)], "each of two lines is a call site");
}

#[test]
fn a_future_is_watched_in_its_polls_alone_on_whichever_threads() {
    let poll = |future: std::pin::Pin<&mut (dyn Future<Output = alloc_ladder::assert::Measured<()>> + Send)>| {
        future.poll(&mut Context::from_waker(Waker::noop()))
    };
    let mut polls = 0;
    let mut future = Box::pin(measure_future(std::future::poll_fn(move |_| {
        polls += 1;
        drop(an_unwanted_copy(&[0; 44]));
        if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
    })));
    assert!(poll(future.as_mut()).is_pending());
    drop(marshalled(&[0; 55]));
    let thread = std::thread::spawn(move || {
        assert!(poll(future.as_mut()).is_pending());
        drop(marshalled(&[0; 55]));
        future
    });
    let mut future = thread.join().expect("no panic");
    let Poll::Ready(measured) = poll(future.as_mut()) else { panic!("three polls are enough") };
    let sites = measured.sites().expect("stacks are recorded");
    assert!(sites.iter().all(|site| plain(site).2 == COPY), "{sites:?}");
    assert_eq!(sites.iter().map(|site| site.blocks).sum::<u64>(), 3);
}

#[test]
fn a_block_that_panics_is_watched_no_longer() {
    let bytes = vec![0u8; 66];
    assert!(catch_unwind(|| measure(|| panic!("within"))).is_err());
    let within = measure(|| {
        assert!(catch_unwind(AssertUnwindSafe(|| measure(|| panic!("within the inner")))).is_err());
        an_unwanted_copy(&bytes)
    });
    let sites = within.sites().expect("stacks are recorded");
    assert!(sites.iter().any(|site| plain(site) == (1, 66, COPY)), "the outer one goes on: {sites:?}");
}

#[test]
fn the_whole_process_is_watched_on_request() {
    let measured = measure_in(Reach::Process, || {
        std::thread::spawn(|| drop(an_unwanted_copy(&[0; 7_777]))).join().expect("no panic");
    });
    let sites = measured.sites().expect("stacks are recorded");
    assert!(sites.iter().any(|site| plain(site) == (1, 7_777, COPY)), "{sites:?}");
}

#[test]
fn no_file_is_left() {
    assert_eq!(ALLOC.mode(), Mode::Stacks);
    let own = format!("alloc-ladder-{}", std::process::id());
    let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let left = files.filter(|file| file.file_name().to_string_lossy().starts_with(&own)).count();
    assert_eq!(left, 0);
}
