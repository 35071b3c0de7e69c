//! The thread's own words: which scope it works for, and which window is open.
//!
//! Read on the allocator's path: nothing here allocates, locks or panics.

use std::cell::Cell;
use std::sync::OnceLock;

use super::Stage;
use super::scope::Scope;

/// No seam does anything: everything is charged to nothing.
pub(crate) const UNSTAGED: bool = cfg!(feature = "unstaged");

thread_local! {
    pub(super) static CURRENT: Cell<Scope> = const { Cell::new(Scope::NONE) };
    /// The scope to go back to when the open window closes.
    pub(super) static WINDOW: Cell<Option<Scope>> = const { Cell::new(None) };
    /// Means something only while [`NEXT`] is set.
    pub(super) static NEXT_WINDOW: Cell<NextWindow> = const { Cell::new(NextWindow { stage: Stage::Other, left: 0, last: None, again: 0 }) };
    static RESOLVING: Cell<bool> = const { Cell::new(false) };
}

/// A window for one allocation, or a few.
#[derive(Clone, Copy)]
pub(super) struct NextWindow {
    pub(super) stage: Stage,
    /// Allocations it is still for.
    pub(super) left: u8,
    /// The size of the last one, in bytes: an allocator that wraps another asks about each twice.
    pub(super) last: Option<usize>,
    /// How often that size may still be asked about: where no hook closes the window, it must end by itself.
    pub(super) again: u8,
}

/// Two buffers of one size, one of them compressed into the other, each asked about by two allocators.
pub(super) const AGAIN: u8 = 3;

/// Asked by [`current`] where no guard is entered.
static RESOLVER: OnceLock<fn() -> Scope> = OnceLock::new();

/// The scope the current thread works for.
///
/// Where no guard is entered, the [resolver](set_resolver) (if any) is asked.
#[inline]
pub fn current() -> Scope {
    let scope = CURRENT.get();
    if is_settled(scope) { scope } else { resolve() }
}

/// Whether the thread's word says all: a guard is entered, or none is and there is nobody to ask.
///
/// PERF: inlined, so that a program without seams pays for no call.
#[inline]
fn is_settled(scope: Scope) -> bool {
    scope.is_plain() || (scope == Scope::NONE && RESOLVER.get().is_none())
}

/// The scope an allocation of `bytes` is charged to: [`current`], or the [window](super::window::open_window_for_next) open for it.
///
/// For allocators; the first call after a window was opened says which size it is about, so that an allocator that
/// wraps another is told the same.
#[inline]
pub fn current_for(bytes: usize) -> Scope {
    let scope = CURRENT.get();
    if is_settled(scope) { scope } else { resolve_for(scope, bytes) }
}

#[inline(never)]
fn resolve_for(scope: Scope, bytes: usize) -> Scope {
    if !scope.has_next_window() {
        return current();
    }
    let mut window = NEXT_WINDOW.get();
    if window.last == Some(bytes) && window.again > 0 {
        window.again -= 1;
    } else if window.left > 0 {
        window = NextWindow { left: window.left - 1, last: Some(bytes), again: AGAIN, ..window };
    } else {
        return current();
    }
    NEXT_WINDOW.set(window);
    current().with_stage(window.stage)
}

#[inline(never)]
pub(super) fn resolve() -> Scope {
    let scope = guarded_scope();
    if scope != Scope::NONE {
        return scope;
    }
    let Some(resolver) = RESOLVER.get() else { return Scope::NONE };
    if RESOLVING.replace(true) {
        return Scope::NONE;
    }
    let scope = resolver();
    RESOLVING.set(false);
    scope
}

/// Installs the one function that says what unscoped code works for; later calls change nothing.
///
/// It runs on the allocator's path: it must not allocate, lock or panic. The tonic seams install one that looks
/// up the running tokio task, because the tasks of connections are spawned by tonic and hyper and take no guard.
pub fn set_resolver(resolver: fn() -> Scope) {
    let _ = RESOLVER.set(resolver);
}

/// The scope of the innermost guard or window, without asking the resolver.
pub(super) fn guarded_scope() -> Scope {
    CURRENT.get().without_next_window()
}
