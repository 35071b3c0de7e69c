//! Which row is whose: names, rows that are lent to calls without an answer, and what those leave behind.
//!
//! A row's counters only grow, whoever it is lent to. So a snapshot keeps each row as counted together with the part of it
//! that is [settled](Standing), and takes them apart when it is looked at: by then a method that was called for the
//! first time may have its name.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Method, MethodName, Side};
use crate::alloc::settled::settle;
use crate::stage::Stage;

static NAMES: [OnceLock<MethodName>; Method::MAX] = [const { OnceLock::new() }; Method::MAX];
/// [`Standing`] of each row that has no name.
static STANDING: [AtomicU8; Method::MAX] = [const { AtomicU8::new(FREE) }; Method::MAX];
const FREE: u8 = 0;
const LENT: u8 = 1;

/// What is being decided about rows without a name. Whoever gives a row a name holds it.
static LENDING: Mutex<Lending> = Mutex::new(Lending { lent: [const { None }; LENT_MAX] });

/// Paths that may wait for their first answer at once: more than a service has methods that are first called in one
/// moment, and few enough that a flood of paths nobody serves finds most rows for others.
const LENT_MAX: usize = 16;

struct Lending {
    lent: [Option<Lent>; LENT_MAX],
}

/// A row lent to the calls of a path that has no answer yet.
struct Lent {
    method: Method,
    side: Side,
    path: Box<str>,
    #[cfg_attr(not(feature = "tonic"), expect(dead_code, reason = "only the seams lend rows"))]
    calls: u32,
}

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

fn lending() -> MutexGuard<'static, Lending> {
    LENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The row of a path, which gets one if there is a free one and `side` has fewer than `most`.
pub(super) fn register(side: Side, path: &str, most: usize) -> Method {
    let _guard = Stage::Instrument.enter();
    let mut lending = lending();
    if let Some(method) = Method::find(side, path) {
        return method;
    }
    if let Some(lent) = lending.of(side, path) {
        let method = lent.method;
        lending.give(method);
        return method;
    }
    match free() {
        Some(method) if own(side) < most && path.len() <= Method::PATH_BYTES_MAX => {
            settle(method);
            set_name(method, side, path.into());
            method
        }
        _ => Method::OVERFLOW,
    }
}

fn set_name(method: Method, side: Side, path: Box<str>) {
    let _ = NAMES[method.index()].set(MethodName { side: Some(side), path: Box::leak(path) });
}

impl Lending {
    fn of(&mut self, side: Side, path: &str) -> Option<&mut Lent> {
        self.lent.iter_mut().flatten().find(|lent| lent.side == side && *lent.path == *path)
    }

    /// Gives a lent row to its path for good.
    fn give(&mut self, method: Method) {
        let place = self.lent.iter_mut().find(|lent| lent.as_ref().is_some_and(|lent| lent.method == method));
        if let Some(lent) = place.and_then(Option::take) {
            set_name(method, lent.side, lent.path);
        }
    }
}

/// A call of a path without a row, which has not been answered yet.
#[cfg(feature = "tonic")]
#[derive(Debug)]
pub(crate) struct Proposal(Method);

#[cfg(feature = "tonic")]
impl Proposal {
    /// Lends a row to the call; `None` where none can be lent: the path is too long, the side has rows enough, or too
    /// many paths wait for an answer.
    pub(crate) fn of(side: Side, path: &str) -> Option<Proposal> {
        if path.len() > Method::PATH_BYTES_MAX {
            return None;
        }
        let _guard = Stage::Instrument.enter();
        let mut lending = lending();
        if let Some(lent) = lending.of(side, path) {
            lent.calls += 1;
            return Some(Proposal(lent.method));
        }
        let own = own(side) + lending.lent.iter().flatten().filter(|lent| lent.side == side).count();
        let method = free().filter(|method| own < Method::LEARNED && !super::calls::is_busy(*method))?;
        let place = lending.lent.iter_mut().find(|lent| lent.is_none())?;
        settle(method);
        STANDING[method.index()].store(LENT, Ordering::Relaxed);
        *place = Some(Lent { method, side, path: path.into(), calls: 1 });
        Some(Proposal(method))
    }

    /// The lent row.
    pub(crate) fn method(&self) -> Method {
        self.0
    }

    /// The call succeeded: the row is the path's from now on, with all that it holds.
    pub(crate) fn accept(self) -> Method {
        lending().give(self.0);
        self.0
    }
}

#[cfg(feature = "tonic")]
impl Drop for Proposal {
    /// The last call without a success gives the row back.
    fn drop(&mut self) {
        if name(self.0).is_some() {
            return;
        }
        let _guard = Stage::Instrument.enter();
        let mut lending = lending();
        let is_own = |lent: &Lent| lent.method == self.0;
        let Some(place) = lending.lent.iter_mut().find(|lent| lent.as_ref().is_some_and(is_own)) else { return };
        if let Some(lent) = place {
            lent.calls -= 1;
            if lent.calls == 0 {
                STANDING[self.0.index()].store(FREE, Ordering::Relaxed);
                *place = None;
            }
        }
    }
}
