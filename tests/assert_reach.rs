//! What the measuring scopes see of other threads, and what a failed assertion says.

use std::hint::black_box;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use alloc_ladder::assert::{Reach, measure, measure_future_in, measure_in};
use alloc_ladder::{CountingAlloc, Method, Side, Stage, assert_allocs, stage::Scope};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// 1,000 bytes of the handler stage, allocated on another thread while the caller waits.
fn elsewhere() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = Stage::Handler.enter();
            drop(black_box(vec![0u8; 1000]));
        });
    });
}

fn here() {
    let _guard = Stage::Marshal.enter();
    drop(black_box(vec![0u8; 10]));
}

#[test]
fn a_thread_sees_its_own_work_and_the_process_sees_all() {
    let both = || {
        here();
        elsewhere();
    };
    assert_allocs!(measure(both), bytes in Marshal == 10, bytes in Handler == 0);
    assert_allocs!(measure_in(Reach::Process, both), bytes in Marshal == 10, bytes in Handler == 1000);

    // Between two polls: the process's reach takes it in.
    let (send, receive) = mpsc::channel::<()>();
    let future = measure_future_in(Reach::Process, async {
        here();
        std::future::poll_fn(|_| match receive.try_recv() {
            Ok(()) => Poll::Ready(()),
            Err(_) => Poll::Pending,
        })
        .await;
    });
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    elsewhere();
    send.send(()).expect("the future listens");
    let Poll::Ready(measured) = future.as_mut().poll(&mut cx) else { panic!("it was sent to") };
    assert_allocs!(measured, bytes in Marshal == 10, bytes in Handler == 1000);

    a_failure_shows_the_condition_and_the_stages();
    nothing_is_counted_of_measuring_itself();
}

fn nothing_is_counted_of_measuring_itself() {
    let nested = measure(|| measure(here));
    assert_allocs!(nested.value, blocks == 1, freed_blocks == 1);
    let outer = nested.snapshot;
    assert_eq!(outer.total_without_instrument().blocks, 1, "{outer}");
    assert!(measure(|| ()).snapshot.total().is_zero());
}

fn a_failure_shows_the_condition_and_the_stages() {
    let method = Method::register(Side::Server, "/test.Reach/Fails");
    let failed = thread::spawn(move || {
        let work = || {
            let _handler = Scope::new(method, Stage::Handler).enter();
            let kept = black_box(vec![0u8; 100]);
            here();
            kept
        };
        assert_allocs!(measure(work), blocks == 2, bytes in Handler <= 64);
    });
    let panic = failed.join().expect_err("100 is more than 64");
    let message = panic.downcast_ref::<String>().expect("a message");
    let expected = "\
assertion failed: bytes <= 64 in handler
 counted: 100

stage                    blocks          bytes  reallocs  freed blocks    freed bytes
marshal                       1             10         0             1             10  /test.Reach/Fails
handler                       1            100         0             0              0  /test.Reach/Fails
total                         2            110         0             1             10
";
    assert_eq!(message, expected);
}
