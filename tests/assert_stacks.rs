//! Where dhat is the allocator, the measuring scopes count with it and a failure names the call sites.

#![cfg(feature = "stacks")]

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use alloc_ladder::assert::{measure, measure_future};
use alloc_ladder::assert_allocs;

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

#[inline(never)]
fn an_unwanted_copy(bytes: &[u8]) -> Vec<u8> {
    black_box(bytes.to_vec())
}

#[test]
#[cfg_attr(miri, ignore = "dhat walks the stack at every allocation, which Miri cannot")]
fn a_failure_names_the_call_site() {
    let bytes = vec![0u8; 12_345];
    let copy = assert_allocs!(measure(|| an_unwanted_copy(&bytes)), blocks == 1, bytes == 12_345);
    assert_eq!(copy.len(), bytes.len());

    let failing = || assert_allocs!(measure(|| an_unwanted_copy(&bytes)), blocks == 0);
    let message = message(catch_unwind(AssertUnwindSafe(failing)));
    assert!(
        message.starts_with("assertion failed: blocks == 0 in all stages but instrument\n counted: 1\n"),
        "{message}"
    );
    assert!(message.contains("12345 bytes in 1 blocks\n    assert_stacks::an_unwanted_copy ("), "{message}");

    // A scope that panics gives dhat's one profile back.
    assert!(catch_unwind(|| measure(|| panic!("within"))).is_err());
    let mut future = pin!(measure_future(async { an_unwanted_copy(&bytes) }));
    let Poll::Ready(measured) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it does not wait")
    };
    assert_eq!(measured.sites().map(|sites| sites[0].bytes), Some(12_345));
    let failing = || assert_allocs!(measured.clone(), blocks in Handler == 0);
    let message = self::message(catch_unwind(AssertUnwindSafe(failing)));
    assert_eq!(message, "dhat counts here, and knows nothing of the stage `handler`");
    one_thread_does_not_wait_for_itself();
    a_profiler_of_the_programs_own_is_named_and_leaves_the_next_its_turn();
}

/// Whether dhat's one profile can be had: it would be waited for, or refused, where it was not given back.
fn measures() {
    assert_allocs!(measure(|| drop(an_unwanted_copy(&[0; 7]))), blocks == 1, bytes == 7);
}

fn one_thread_does_not_wait_for_itself() {
    const NESTED: &str = "this thread is being measured already";
    let nested = catch_unwind(|| measure(|| measure(|| ())));
    let said = message(nested.map(|measured| measured.value.value));
    assert!(said.starts_with(NESTED), "{said}");
    measures();

    // The first waits, as a future does, while the second is polled.
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = Box::pin(measure_future(std::future::pending::<()>()));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let second = catch_unwind(AssertUnwindSafe(|| pin!(measure_future(async {})).poll(&mut cx).is_ready()));
    let said = message(second);
    assert!(said.starts_with(NESTED), "{said}");
    // Another thread waits its turn, and gets it.
    let other = std::thread::spawn(measures);
    drop(first);
    other.join().expect("it was given its turn");
}

fn a_profiler_of_the_programs_own_is_named_and_leaves_the_next_its_turn() {
    let own = dhat::Profiler::builder().testing().build();
    assert!(catch_unwind(|| measure(|| ())).is_err(), "dhat has one profile, and it is taken");
    drop(own);
    measures();
}

fn message<T>(result: std::thread::Result<T>) -> String {
    let Err(panic) = result else { panic!("it was meant to fail") };
    panic.downcast_ref::<String>().expect("a message").clone()
}
