//! What rows held before they were lent or given to somebody: nobody's for good.
//!
//! Counters only grow and are written without a lock, so a row that is given to another method cannot be emptied. What it
//! held by then is noted here instead, and taken off when a [`Snapshot`](super::Snapshot) is looked at.

use std::sync::{Mutex, PoisonError};

use super::shard;
use super::tally::Tally;
use crate::stage::{Method, Scope};

static SETTLED: Mutex<[Tally; Scope::COUNT]> = Mutex::new([Tally::ZERO; Scope::COUNT]);

/// The rows of one method among all rows.
pub(super) fn rows_of(method: Method) -> std::ops::Range<usize> {
    let first = method.index() * Scope::STAGE_SLOTS;
    first..first + Scope::STAGE_SLOTS
}

/// Notes what the rows of `method` hold now. Allocates nothing.
pub(crate) fn settle(method: Method) {
    let mut settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows_of(method) {
        settled[row] = shard::read_row(row);
    }
}

/// Copies what is settled of one method's rows. Allocates nothing.
pub(super) fn read(method: Method, into: &mut [Tally]) {
    let settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    into.copy_from_slice(&settled[rows_of(method)]);
}
