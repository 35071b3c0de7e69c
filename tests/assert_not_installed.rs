//! A binary that does not install the counting allocator is told so; it never reads a silent zero.

use alloc_ladder::assert::{NotCounted, Reach, check, measure, measure_future, measure_in};
use std::pin::pin;
use std::task::{Context, Waker};

fn message(block: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(block).expect_err("nothing can be counted here");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn measuring_without_the_allocator_says_what_is_missing() {
    let expected = "\
nothing is counted: this binary does not install CountingAlloc. Add to the test's file:
    #[global_allocator]
    static ALLOC: alloc_ladder::CountingAlloc = alloc_ladder::CountingAlloc::new();";
    assert_eq!(check(Reach::Thread), Err(NotCounted::NoAllocator));
    assert_eq!(check(Reach::Process), Err(NotCounted::NoAllocator));
    assert_eq!(message(|| drop(measure(|| 1))), expected);
    assert_eq!(message(|| drop(measure_in(Reach::Process, || 1))), expected);
    let poll = || {
        let future = pin!(measure_future(async {}));
        let _ = future.poll(&mut Context::from_waker(Waker::noop()));
    };
    assert_eq!(message(poll), expected);
}
