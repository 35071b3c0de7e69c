//! The last step of put allocates nothing per message, on neither side and in neither direction, where the messages come
//! back.

#![cfg(feature = "subject")]

#[path = "support/steady.rs"]
mod steady;

use alloc_ladder::CountingAlloc;
use alloc_ladder::subject::scenario::{Rpc, Scenario};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn the_last_step_allocates_nothing_per_message() {
    steady::assert_the_last_step_allocates_nothing_per_message(Scenario::Put, Rpc::Echo);
}
