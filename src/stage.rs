//! Which stage the current thread is working for.
//!
//! A [`Stage`] is entered by a [`StageGuard`] around synchronous code or by [`Staged`] around a future; the
//! innermost one wins. The allocator reads the current [`Scope`] on every allocation, so this module must not
//! allocate, lock or panic on [`current`]; it knows nothing of tonic, tokio or of who counts.
//!
//! # Implementation
//! One const-initialised thread-local word holds the scope and one the open window: entering a stage is two
//! loads and two stores, and reading it is one load (`benches/overhead.rs` states the cost in nanoseconds). The feature
//! `unstaged` leaves all of it out: the service without seams, against which `cargo xtask cost` measures them.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::method::Method;

/// Where an allocation is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize, clap::ValueEnum))]
#[cfg_attr(feature = "record", serde(rename_all = "kebab-case"))]
#[repr(u8)]
pub enum Stage {
    /// Turning a message into bytes: the codec's encoder and the body it writes into.
    Marshal = 1,
    /// Memory that received bytes wait in: h2's read buffer and the buffer a message is gathered in.
    ReceiveBuffer = 2,
    /// Turning bytes into a message: the codec's decoder.
    MessageConstruction = 3,
    /// Connections, HTTP/2 frames, channel layers.
    Transport = 4,
    /// The service's own code and the glue that calls it.
    Handler = 5,
    /// What measuring itself allocates.
    Instrument = 6,
    /// Everything no scope covers. Always shown, never hidden.
    Other = 0,
}

impl Stage {
    /// Every stage, in the order tables show them.
    pub const ALL: [Stage; 7] = [
        Stage::Marshal,
        Stage::ReceiveBuffer,
        Stage::MessageConstruction,
        Stage::Transport,
        Stage::Handler,
        Stage::Instrument,
        Stage::Other,
    ];

    /// The stage's one name: kebab-case, the same in JSON, flags, folders and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Marshal => "marshal",
            Stage::ReceiveBuffer => "receive-buffer",
            Stage::MessageConstruction => "message-construction",
            Stage::Transport => "transport",
            Stage::Handler => "handler",
            Stage::Instrument => "instrument",
            Stage::Other => "other",
        }
    }

    /// The stage with this [`name`](Stage::name).
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.name() == name)
    }

    const fn from_bits(bits: u16) -> Stage {
        match bits & 7 {
            1 => Stage::Marshal,
            2 => Stage::ReceiveBuffer,
            3 => Stage::MessageConstruction,
            4 => Stage::Transport,
            5 => Stage::Handler,
            6 => Stage::Instrument,
            _ => Stage::Other,
        }
    }

    /// Enters the stage until the guard is dropped, keeping the current RPC method.
    ///
    /// ```
    /// use alloc_ladder::Stage;
    /// let _guard = Stage::Marshal.enter();
    /// assert_eq!(alloc_ladder::stage::current().stage(), Stage::Marshal);
    /// ```
    #[must_use = "the stage is left when the guard is dropped"]
    pub fn enter(self) -> StageGuard {
        // Where no guard is entered yet, the method is the one the resolver knows.
        current().with_stage(self).enter()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A stage together with the RPC method it works for: the key of one row of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope(u16);

impl Scope {
    /// No stage and no method: [`Stage::Other`] of [`Method::NONE`].
    pub const NONE: Scope = Scope(0);
    /// How many scopes there are: eight slots a method, of which [`Stage::ALL`] fills seven.
    pub const COUNT: usize = Method::MAX * Scope::STAGE_SLOTS;
    pub(crate) const STAGE_SLOTS: usize = 8;

    /// The scope of this stage and method.
    pub const fn new(method: Method, stage: Stage) -> Scope {
        Scope((method.index() as u16) << 3 | stage as u16)
    }

    /// The stage.
    pub const fn stage(self) -> Stage {
        Stage::from_bits(self.0)
    }

    /// The RPC method.
    pub const fn method(self) -> Method {
        Method::from_index((self.0 >> 3) as u8)
    }

    /// The same method in another stage.
    pub const fn with_stage(self, stage: Stage) -> Scope {
        Scope(self.0 & !7 | stage as u16)
    }

    /// The row of counters this scope writes, below [`Scope::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg_attr(
        not(any(feature = "sampled", feature = "tonic")),
        expect(dead_code, reason = "only tables store scopes as bits")
    )]
    pub(crate) const fn from_index(index: u16) -> Scope {
        Scope(index % Scope::COUNT as u16)
    }

    /// Whether [`CURRENT`] needs no second look: a guard is entered and no window for one allocation is open.
    #[inline]
    const fn is_plain(self) -> bool {
        // One comparison: neither 0 nor above `NEXT`.
        self.0.wrapping_sub(1) < NEXT - 1
    }

    /// Enters the scope until the guard is dropped.
    #[must_use = "the scope is left when the guard is dropped"]
    pub fn enter(self) -> StageGuard {
        if UNSTAGED {
            return StageGuard { previous: Scope::NONE, window: None, not_send: PhantomData };
        }
        StageGuard { previous: CURRENT.replace(self), window: WINDOW.replace(None), not_send: PhantomData }
    }
}

/// No seam does anything: everything is charged to nothing.
pub(crate) const UNSTAGED: bool = cfg!(feature = "unstaged");

/// The bit of [`CURRENT`] that says a [window for one allocation](open_window_for_next) is open; no scope has it.
const NEXT: u16 = 1 << 15;

thread_local! {
    static CURRENT: Cell<Scope> = const { Cell::new(Scope::NONE) };
    /// The scope to go back to when the open window closes.
    static WINDOW: Cell<Option<Scope>> = const { Cell::new(None) };
    /// Means something only while [`NEXT`] is set.
    static NEXT_WINDOW: Cell<NextWindow> = const { Cell::new(NextWindow { stage: Stage::Other, left: 0, last: None, again: 0 }) };
    static RESOLVING: Cell<bool> = const { Cell::new(false) };
}

/// A window for one allocation, or a few.
#[derive(Clone, Copy)]
struct NextWindow {
    stage: Stage,
    /// Allocations it is still for.
    left: u8,
    /// The size of the last one, in bytes: an allocator that wraps another asks about each twice.
    last: Option<usize>,
    /// How often that size may still be asked about: where no hook closes the window, it must end by itself.
    again: u8,
}

/// Two buffers of one size, one of them compressed into the other, each asked about by two allocators.
const AGAIN: u8 = 3;

/// Asked by [`current`] where no guard is entered.
static RESOLVER: OnceLock<fn() -> Scope> = OnceLock::new();

/// The scope the current thread works for.
///
/// Where no guard is entered, the [resolver](set_resolver) (if any) is asked.
#[inline]
pub fn current() -> Scope {
    let scope = CURRENT.get();
    if scope.is_plain() { scope } else { resolve() }
}

/// The scope an allocation of `bytes` is charged to: [`current`], or the [window](open_window_for_next) open for it.
///
/// For allocators; the first call after a window was opened says which size it is about, so that an allocator that
/// wraps another is told the same.
#[inline]
pub fn current_for(bytes: usize) -> Scope {
    let scope = CURRENT.get();
    if scope.is_plain() { scope } else { resolve_for(scope, bytes) }
}

#[inline(never)]
fn resolve_for(scope: Scope, bytes: usize) -> Scope {
    if scope.0 & NEXT == 0 {
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
fn resolve() -> Scope {
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
#[cfg(feature = "tonic")]
pub(crate) fn outside_window() -> Scope {
    match WINDOW.get() {
        Some(Scope::NONE) => resolve(),
        Some(scope) => scope,
        None => current(),
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
    CURRENT.set(Scope(CURRENT.get().0 | NEXT));
}

/// As [`close_window`], but returns the stage of a window for one allocation too.
#[cfg(feature = "tonic")]
pub(crate) fn close_any_window() -> Option<Stage> {
    if UNSTAGED {
        return None;
    }
    let next = (CURRENT.get().0 & NEXT != 0).then(|| NEXT_WINDOW.get().stage);
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

/// The scope of the innermost guard or window, without asking the resolver.
fn guarded_scope() -> Scope {
    Scope(CURRENT.get().0 & !NEXT)
}

/// Whether a guard is entered on this thread, which ends what is opened inside it. An open window is none.
#[cfg_attr(not(feature = "tonic"), expect(dead_code, reason = "asked by the tonic seams"))]
pub(crate) fn guarded() -> bool {
    WINDOW.get().unwrap_or_else(guarded_scope) != Scope::NONE
}

/// Leaves a stage when dropped. Not `Send`: a guard must never be held across an `.await`.
#[derive(Debug)]
pub struct StageGuard {
    previous: Scope,
    window: Option<Scope>,
    not_send: PhantomData<*const ()>,
}

impl Drop for StageGuard {
    fn drop(&mut self) {
        if UNSTAGED {
            return;
        }
        CURRENT.set(self.previous);
        WINDOW.set(self.window);
    }
}

pin_project! {
    /// A future that enters its scope on every poll, whichever thread polls it.
    ///
    /// Without it a task that migrates between worker threads would leave its stage behind.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Staged<F> {
        scope: Scope,
        #[pin]
        future: F,
    }
}

impl<F> Staged<F> {
    /// Wraps `future` so that its polls work for `scope`.
    pub fn new(scope: Scope, future: F) -> Self {
        Staged { scope, future }
    }

    /// The scope every poll enters.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) fn parts(self: Pin<&mut Self>) -> (Scope, Pin<&mut F>) {
        let this = self.project();
        (*this.scope, this.future)
    }
}

impl<F: Future> Future for Staged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (scope, future) = self.parts();
        let _guard = scope.enter();
        future.poll(cx)
    }
}

/// Adds [`staged`](FutureExt::staged) to every future.
pub trait FutureExt: Future + Sized {
    /// Charges this future's polls to `stage` of the RPC method that is current here.
    ///
    /// ```
    /// use alloc_ladder::{Stage, stage::FutureExt};
    /// let work = async { vec![0u8; 64] }.staged(Stage::Handler);
    /// # let _ = work;
    /// ```
    fn staged(self, stage: Stage) -> Staged<Self> {
        Staged::new(current().with_stage(stage), self)
    }
}

impl<F: Future> FutureExt for F {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_one_name_and_one_row() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
            assert_eq!(Stage::from_bits(stage as u16), stage);
        }
    }

    #[test]
    fn the_innermost_guard_wins_and_the_outer_returns() {
        assert_eq!(current(), Scope::NONE);
        let outer = Stage::Handler.enter();
        {
            let _inner = Stage::Marshal.enter();
            assert_eq!(current().stage(), Stage::Marshal);
        }
        assert_eq!(current().stage(), Stage::Handler);
        drop(outer);
        assert_eq!(current(), Scope::NONE);
    }

    #[test]
    fn a_window_ends_with_the_guard_around_it() {
        {
            let _handler = Stage::Handler.enter();
            open_window(Stage::ReceiveBuffer);
            open_window(Stage::Marshal);
            assert_eq!(current().stage(), Stage::Marshal);
            assert_eq!(close_window(), Some(Stage::Marshal));
            assert_eq!(current().stage(), Stage::Handler);
            assert_eq!(close_window(), None);
            open_window(Stage::ReceiveBuffer);
        }
        assert_eq!(current(), Scope::NONE);
        assert_eq!(close_window(), None);
    }

    #[test]
    fn a_window_for_one_allocation_is_about_that_one_alone() {
        let _handler = Stage::Handler.enter();
        open_window_for_next(Stage::Marshal);
        assert_eq!(current().stage(), Stage::Handler);
        assert_eq!(current_for(8192).stage(), Stage::Marshal);
        assert_eq!(current_for(8192).stage(), Stage::Marshal, "asked again by an allocator around the first");
        assert_eq!(current_for(8191).stage(), Stage::Handler);
        {
            let _inner = Stage::Transport.enter();
            assert_eq!(current_for(8192).stage(), Stage::Transport);
        }
        assert_eq!(current_for(8192).stage(), Stage::Marshal);
        open_window(Stage::ReceiveBuffer);
        assert_eq!(current_for(8192).stage(), Stage::ReceiveBuffer);
        assert_eq!(close_window(), Some(Stage::ReceiveBuffer));
        assert_eq!(current_for(8192).stage(), Stage::Handler);
        open_window_for_next(Stage::Marshal);
        assert_eq!(close_window(), None);
        assert_eq!(current_for(8192).stage(), Stage::Handler);
    }

    #[test]
    fn a_window_for_one_allocation_opens_without_a_guard_too() {
        open_window_for_next(Stage::Marshal);
        assert!(!guarded());
        assert_eq!(current_for(64).stage(), Stage::Marshal);
        assert_eq!(current_for(65), Scope::NONE);
        close_window();
        assert_eq!(current_for(64), Scope::NONE);
    }

    #[test]
    fn a_window_for_one_allocation_ends_by_itself() {
        open_window_for_next(Stage::ReceiveBuffer);
        let charged = (0..100).filter(|_| current_for(8192).stage() == Stage::ReceiveBuffer).count();
        assert_eq!(charged, 1 + AGAIN as usize);
        close_window();
    }

    #[test]
    fn an_open_window_is_no_guard() {
        open_window(Stage::ReceiveBuffer);
        assert!(!guarded());
        let _handler = Stage::Handler.enter();
        assert!(guarded());
        open_window(Stage::ReceiveBuffer);
        assert!(guarded());
    }

    #[test]
    fn a_guard_inside_a_window_returns_to_the_window() {
        let _handler = Stage::Handler.enter();
        open_window(Stage::ReceiveBuffer);
        drop(Stage::Instrument.enter());
        assert_eq!(current().stage(), Stage::ReceiveBuffer);
        assert_eq!(close_window(), Some(Stage::ReceiveBuffer));
    }
}
