//! Which row is whose: rows with a name, rows that are lent to calls without an answer, and rows that are nobody's.
//!
//! A row's counters only grow, whoever it is lent to. So a snapshot keeps each row as counted together with the part of it
//! that is [settled](Standing), and takes them apart when it is looked at: by then a method that was called for the
//! first time may have its name.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Method, MethodName, Side};

static NAMES: [OnceLock<MethodName>; Method::MAX] = [const { OnceLock::new() }; Method::MAX];
/// [`Standing`] of each row that has no name.
static STANDING: [AtomicU8; Method::MAX] = [const { AtomicU8::new(FREE) }; Method::MAX];
const FREE: u8 = 0;
const LENT: u8 = 1;

/// What a row's counters belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The method whose row it is.
    Own,
    /// Calls that were not answered yet.
    Lent,
    /// No method: what it holds is left from calls that failed.
    Free,
}

/// What a row's counters belong to. Does not allocate or lock.
pub(crate) fn standing(method: Method) -> Standing {
    if matches!(method, Method::NONE | Method::UNANSWERED | Method::OVERFLOW) || name(method).is_some() {
        return Standing::Own;
    }
    match STANDING[method.index()].load(Ordering::Relaxed) {
        LENT => Standing::Lent,
        _ => Standing::Free,
    }
}

/// Where a row's counters are shown: under itself, or one of the rows that several share. Does not allocate or lock.
pub(crate) fn shown(method: Method) -> Method {
    match standing(method) {
        Standing::Own => method,
        Standing::Lent => Method::UNANSWERED,
        Standing::Free => Method::NONE,
    }
}

/// The rows whose counters are shown under `method`.
pub(super) fn shown_under(method: Method) -> impl Iterator<Item = Method> {
    let shares = matches!(method, Method::NONE | Method::UNANSWERED);
    let lent = all().filter(move |row| shares && standing(*row) != Standing::Own && shown(*row) == method);
    [method].into_iter().chain(lent)
}

pub(super) fn name(method: Method) -> Option<MethodName> {
    NAMES[method.index()].get().copied()
}

/// The rows that have a name, in their order.
pub(super) fn with_names() -> impl Iterator<Item = (Method, MethodName)> {
    all().filter_map(|method| Some((method, name(method)?)))
}

/// The rows that can have a name.
fn all() -> impl Iterator<Item = Method> {
    (1..Method::UNANSWERED.index() as u8).map(Method::from_index)
}

/// The first row that is nobody's.
pub(super) fn free() -> Option<Method> {
    all().find(|method| standing(*method) == Standing::Free)
}

/// How many rows of its own a side has.
pub(super) fn own(side: Side) -> usize {
    with_names().filter(|(_, name)| name.side == Some(side)).count()
}

/// Gives a row its name for good.
pub(super) fn set_name(method: Method, side: Side, path: Box<str>) {
    let _ = NAMES[method.index()].set(MethodName { side: Some(side), path: Box::leak(path) });
}

/// Says whether a row without a name is lent to calls.
#[cfg(feature = "tonic")]
pub(super) fn set_lent(method: Method, lent: bool) {
    STANDING[method.index()].store(if lent { LENT } else { FREE }, Ordering::Relaxed);
}
