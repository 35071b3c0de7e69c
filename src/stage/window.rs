//! Windows, for those who write seams of their own: stages of code in which no guard can be held.
//!
//! Where a library calls one hook, does its work, and calls another, the first opens a window and the second closes it.
//! [`set_resolver`] says what code works for that neither a guard nor a window covers; an allocator asks
//! [`current_for`].

#[cfg(any(feature = "tonic", test))]
use super::current::resolve;
use super::current::{CURRENT, NEXT_WINDOW, NextWindow, UNSTAGED, WINDOW, guarded_scope};
#[cfg(any(feature = "tonic", test))]
use super::scope::Scope;
use super::{Stage, current};

pub use super::current::{current_for, set_resolver};

/// Charges what follows to `stage` until [`close_window`], the next window, or the end of the enclosing guard.
///
/// For code between two hooks of somebody else's function, where no guard can be held: tonic's decoder asks for
/// its buffer settings, then reserves and fills the receive buffer, then calls the codec.
pub fn open_window(stage: Stage) {
    if UNSTAGED {
        return;
    }
    if WINDOW.get().is_none() {
        WINDOW.set(Some(guarded_scope()));
    }
    CURRENT.set(current().with_stage(stage));
}

/// The scope the current thread works for when no window is open: what work handed to another task is for.
///
/// A window that tonic's `Streaming` leaves open while it is made lasts until the first message is asked for; a task
/// spawned in between must not inherit it.
#[cfg(any(feature = "tonic", test))]
pub(crate) fn outside_window() -> Scope {
    match WINDOW.get() {
        Some(Scope::NONE) => resolve(),
        Some(scope) => scope,
        None => current(),
    }
}

/// Goes on in stage `to` where the innermost guard's stage is `from`, until the end of that guard.
///
/// For one poll that goes from one stage to the next inside somebody else's function, where no guard can be held: from
/// the glue of a call to its handler.
#[cfg(any(feature = "tonic", test))]
pub(crate) fn go_on(from: Stage, to: Stage) {
    if UNSTAGED || !guarded() {
        return;
    }
    match WINDOW.get() {
        Some(scope) if scope.stage() == from => WINDOW.set(Some(scope.with_stage(to))),
        None if guarded_scope().stage() == from => CURRENT.set(CURRENT.get().with_stage(to)),
        _ => {}
    }
}

/// Charges the next allocation, and one more of its size, to `stage` until [`close_window`], the next window, or the
/// end of the enclosing guard; everything else stays where it is.
///
/// For one buffer between two hooks that lie far apart: tonic's encoder is asked for the size of its buffer, which is
/// allocated next, but no hook follows until the request's headers are made and its body is boxed.
pub fn open_window_for_next(stage: Stage) {
    open_next(1, stage);
}

/// As [`open_window_for_next`], for so many allocations of different sizes.
#[cfg(feature = "tonic")]
pub(crate) fn open_window_for_first(allocations: u8, stage: Stage) {
    open_next(allocations, stage);
}

fn open_next(allocations: u8, stage: Stage) {
    if UNSTAGED {
        return;
    }
    NEXT_WINDOW.set(NextWindow { stage, left: allocations, last: None, again: 0 });
    CURRENT.set(CURRENT.get().and_next_window());
}

/// As [`close_window`], but returns the stage of a window for one allocation too.
#[cfg(feature = "tonic")]
pub(crate) fn close_any_window() -> Option<Stage> {
    if UNSTAGED {
        return None;
    }
    let next = (CURRENT.get().has_next_window()).then(|| NEXT_WINDOW.get().stage);
    close_window().or(next)
}

/// Goes back to the scope before the window was opened; returns the window's stage if one was open (and not for one
/// allocation alone).
pub fn close_window() -> Option<Stage> {
    if UNSTAGED {
        return None;
    }
    CURRENT.set(guarded_scope());
    let before = WINDOW.take()?;
    Some(CURRENT.replace(before).stage())
}

/// True if a guard is entered on this thread: dropping it closes any window opened inside it. A window alone is not a
/// guard.
#[cfg(any(feature = "tonic", test))]
pub(crate) fn guarded() -> bool {
    WINDOW.get().unwrap_or_else(guarded_scope) != Scope::NONE
}
