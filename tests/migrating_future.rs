//! A future that is polled on two threads keeps its stage, and what it allocates is counted on both.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use alloc_ladder::assert::measure_future;
use alloc_ladder::stage::{self, FutureExt};
use alloc_ladder::{CountingAlloc, Stage, assert_allocs};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[test]
fn a_task_that_changes_threads_keeps_its_stage() {
    let work = async {
        let kept = black_box(vec![0u8; 100]);
        yield_once().await;
        drop(black_box(vec![0u8; 1000]));
        let nested = async {
            drop(black_box(vec![0u8; 10_000]));
            yield_once().await;
            drop(black_box(vec![0u8; 20_000]));
        };
        nested.staged(Stage::Marshal).await;
        drop(kept);
        thread::current().id()
    };
    let mut future = Box::pin(measure_future(work.staged(Stage::Handler)));
    assert!(poll(future.as_mut()).is_pending());
    // Nothing stays behind on the thread that polled first.
    assert_eq!(stage::current().stage(), Stage::Other);
    drop(black_box(vec![0u8; 7777]));
    let elsewhere = thread::spawn(move || {
        assert!(poll(future.as_mut()).is_pending());
        drop(black_box(vec![0u8; 8888]));
        assert_eq!(stage::current().stage(), Stage::Other);
        future
    });
    let mut future = elsewhere.join().expect("the second thread's poll succeeds");
    let Poll::Ready(measured) = poll(future.as_mut()) else { panic!("three polls are enough") };
    assert_eq!(measured.value, thread::current().id());
    // What either thread did between the polls is not the future's.
    assert_allocs!(
        measured,
        blocks == 4,
        bytes in Handler == 1100,
        bytes in Marshal == 30_000,
        bytes in Other == 0,
        freed_bytes == 31_100,
    );
}
