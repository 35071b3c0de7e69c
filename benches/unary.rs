//! The talk's `BenchmarkUnary`: the time of one `CreateUser` call on every step of the unary ladder.
//!
//! Client and server are threads of one process, each with a runtime of its own, joined by the socket the step asks
//! for. Connecting and warming up are not timed. A global allocator cannot be switched at run time without a test on
//! every allocation, which would be in these times: so this binary has the plain one, and `unary-counts` beside it
//! prints what a call allocates. `cargo bench --bench 'unary*'` runs both.

#[path = "support/unary.rs"]
mod unary;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unary");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for (step, tuning) in unary::steps() {
        let running = unary::Running::start(tuning);
        group.bench_function(step.name, |bench| {
            bench.iter_custom(|times| Duration::from_nanos(running.calls(times).wall_ns));
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
