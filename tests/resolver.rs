//! Where no guard is entered the resolver says what is worked for, and a stage entered there keeps its method.

use std::hint::black_box;
use std::sync::OnceLock;

use alloc_ladder::assert::measure;
use alloc_ladder::stage::{self, Scope};
use alloc_ladder::{CountingAlloc, Method, Side, Stage, assert_allocs};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

static TASK: OnceLock<Method> = OnceLock::new();

#[test]
fn a_stage_entered_in_an_unscoped_task_keeps_the_resolved_method() {
    let method = *TASK.get_or_init(|| Method::register(Side::Client, "/test.Resolver/Task"));
    stage::window::set_resolver(|| TASK.get().map_or(Scope::NONE, |method| Scope::new(*method, Stage::Transport)));
    let measured = measure(|| {
        drop(black_box(vec![0u8; 1]));
        drop((Stage::Marshal.enter(), black_box(vec![0u8; 10])));
        stage::window::open_window(Stage::ReceiveBuffer);
        drop(black_box(vec![0u8; 100]));
        stage::window::close_window();
        drop(black_box(vec![0u8; 1000]));
    });
    let strange = measured.snapshot.rows().filter(|row| row.method != method.name()).count();
    assert_eq!(strange, 0, "{}", measured.snapshot);
    assert_allocs!(measured, bytes in Transport == 1001, bytes in Marshal == 10, bytes in ReceiveBuffer == 100);
}
