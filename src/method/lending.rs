//! Rows that are lent to calls whose path has none, until one of them succeeds or all have failed.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "tonic")]
use super::calls;
use super::{Method, Side, counted, rows, spread};
use crate::alloc::settled;
use crate::stage::Stage;

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

fn lending() -> MutexGuard<'static, Lending> {
    LENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what the row holds that was nobody's, before somebody has it. To be called while [`LENDING`] is held.
fn settle(method: Method) {
    settled::settle(method);
    counted::settle(method);
    spread::settle(method);
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
    match rows::free() {
        Some(method) if rows::own(side) < most && path.len() <= Method::PATH_BYTES_MAX => {
            settle(method);
            rows::set_name(method, side, path.into());
            method
        }
        _ => Method::OVERFLOW,
    }
}

impl Lending {
    fn of(&mut self, side: Side, path: &str) -> Option<&mut Lent> {
        self.lent.iter_mut().flatten().find(|lent| lent.side == side && *lent.path == *path)
    }

    /// Gives a lent row to its path for good.
    fn give(&mut self, method: Method) {
        let place = self.lent.iter_mut().find(|lent| lent.as_ref().is_some_and(|lent| lent.method == method));
        if let Some(lent) = place.and_then(Option::take) {
            rows::set_name(method, lent.side, lent.path);
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
        let own = rows::own(side) + lending.lent.iter().flatten().filter(|lent| lent.side == side).count();
        let method = rows::free().filter(|method| own < Method::LEARNED && !calls::is_busy(*method))?;
        let place = lending.lent.iter_mut().find(|lent| lent.is_none())?;
        settle(method);
        rows::set_lent(method, true);
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
        if rows::name(self.0).is_some() {
            return;
        }
        let _guard = Stage::Instrument.enter();
        let mut lending = lending();
        let is_own = |lent: &Lent| lent.method == self.0;
        let Some(place) = lending.lent.iter_mut().find(|lent| lent.as_ref().is_some_and(is_own)) else { return };
        if let Some(lent) = place {
            lent.calls -= 1;
            if lent.calls == 0 {
                rows::set_lent(self.0, false);
                *place = None;
            }
        }
    }
}
