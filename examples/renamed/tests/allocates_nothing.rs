//! A service generated as with tonic itself, its `tonic` renamed in Cargo.toml, with `Http2` and aligned reads: put and get
//! allocate nothing per message, on either side; on a multi-thread runtime a server that receives keeps some blocks of h2's.

#![allow(clippy::print_stdout, reason = "what was counted")]

#[path = "../../support/toy/counted.rs"]
mod counted;

use alloc_ladder::CountingAlloc;
use counted::{Call, Case, Runtime};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn put_and_get_allocate_nothing_per_message() {
    for call in [Call::Put, Call::Get] {
        for size in [1024, 64 * 1024, 1 << 20] {
            counted::best_of_three(Case { call, size, streams: 1, runtime: Runtime::CurrentThread }, 0.01);
            // On several threads h2 replaces its read buffer where a handler still holds a frame of it, and
            // makes it grow again: how often is the schedule's doing. tonic's own bodies and reads make 13 at 64 KiB.
            counted::best_of_three(Case { call, size, streams: 1, runtime: Runtime::MultiThread }, 8.0);
        }
    }
    // Payloads of several streams share a connection's windows and its read buffer.
    for call in [Call::Put, Call::Get] {
        let case = Case { call, size: 64 * 1024, streams: 64, runtime: Runtime::CurrentThread };
        counted::best_of_three(case, 0.05);
    }
}
