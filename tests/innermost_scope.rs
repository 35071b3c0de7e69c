//! A nested scope's allocations land in the innermost stage, of the method around it.

use std::hint::black_box;

use alloc_ladder::assert::measure;
use alloc_ladder::{CountingAlloc, Method, Side, Stage, assert_allocs, stage};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

fn allocate(bytes: usize) {
    drop(black_box(vec![0u8; bytes]));
}

#[test]
fn the_innermost_stage_is_charged() {
    let method = Method::register(Side::Server, "/test.Scope/Nested");
    let measured = measure(|| {
        allocate(1);
        let _handler = stage::Scope::new(method, Stage::Handler).enter();
        allocate(10);
        {
            let _marshal = Stage::Marshal.enter();
            allocate(100);
            stage::window::open_window(Stage::ReceiveBuffer);
            allocate(1000);
            // The window ends with the guard around it.
        }
        allocate(10);
        stage::window::open_window(Stage::Transport);
        allocate(10_000);
        assert_eq!(stage::window::close_window(), Some(Stage::Transport));
        allocate(10);
    });
    let by_method = measured.snapshot.rows().filter(|row| row.method == method.name()).map(|row| row.tally.blocks);
    assert_eq!(by_method.sum::<u64>(), 6);
    assert_allocs!(
        measured,
        blocks == 7,
        bytes in Other == 1,
        bytes in Handler == 30,
        bytes in Marshal == 100,
        bytes in ReceiveBuffer == 1000,
        bytes in Transport == 10_000,
    );
}
