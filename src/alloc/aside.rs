//! Memory that measuring itself holds for a while: neither in the service's live bytes nor in their peak.
//!
//! Whoever reads a profile or serves a page enters here for as long as that takes: what the thread allocates and frees
//! meanwhile is in the rows of [`Stage::Instrument`], as ever, and moves a figure of its own instead of the process's.
//! What is allocated so must be freed so, or both figures drift: [`Aside`] holds a value and sees to it.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::Stage;
use crate::stage::StageGuard;

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

static BYTES: AtomicI64 = AtomicI64::new(0);

/// Until it is dropped, what this thread allocates and frees is the instrument's.
#[must_use = "it is left when the guard is dropped"]
pub(crate) struct AsideGuard {
    before: bool,
    _stage: StageGuard,
}

pub(crate) fn enter() -> AsideGuard {
    AsideGuard { _stage: Stage::Instrument.enter(), before: ENTERED.replace(true) }
}

impl Drop for AsideGuard {
    fn drop(&mut self) {
        ENTERED.set(self.before);
    }
}

/// Whether what is booked on [`Stage::Instrument`] is kept aside on this thread.
#[inline]
pub(super) fn is_entered() -> bool {
    ENTERED.get()
}

pub(super) fn add(bytes: i64) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes that are live aside.
#[cfg(feature = "live")]
pub(crate) fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed).max(0) as u64
}

/// A value that is made, kept and dropped aside.
#[derive(Debug)]
pub(crate) struct Aside<T>(Option<T>);

impl<T> Aside<T> {
    /// What `make` returns must hold memory from within `make` alone.
    pub(crate) fn new(make: impl FnOnce() -> T) -> Aside<T> {
        let _guard = enter();
        Aside(Some(make()))
    }

    /// Another value of this one, made and kept aside as well.
    #[cfg(feature = "live")]
    pub(crate) fn map<U>(mut self, make: impl FnOnce(T) -> U) -> Aside<U> {
        let _guard = enter();
        Aside(self.0.take().map(make))
    }
}

impl<T> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only where it is consumed")
    }
}

#[cfg(feature = "live")]
impl<T: AsRef<[u8]>> AsRef<[u8]> for Aside<T> {
    fn as_ref(&self) -> &[u8] {
        (**self).as_ref()
    }
}

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        let _guard = enter();
        self.0 = None;
    }
}
