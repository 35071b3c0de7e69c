//! One call, from its request to the end of its answer, and what tonic is about to make of it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderMap, Response, Uri};
use tonic::Code;

use super::task;
use crate::alloc;
use crate::method::{self, OpenCall, Proposal};
use crate::stage::{self, UNSTAGED};
use crate::wire::status;
use crate::{Method, Side, Stage};

/// An open call, what is known of it so far, and what is to be done when it ends.
#[derive(Debug)]
pub(super) struct Call {
    _open: OpenCall,
    /// Of a path without a row: held until the answer's body ends, because that is charged to the lent row too.
    proposal: Option<Proposal>,
    side: Side,
    method: Method,
    began: Instant,
    /// What it ended with; `None` until that is known.
    code: Option<Code>,
    /// Blocks and bytes that were allocated while it was polled; `None` once they cannot be known.
    spent: Option<(u64, u64)>,
}

impl Call {
    pub(super) fn new(side: Side, method: Method, proposal: Option<Proposal>) -> Call {
        let (began, spent) = (Instant::now(), Some((0, 0)));
        Call { _open: OpenCall::new(method), proposal, side, method, began, code: None, spent }
    }

    /// What is allocated on this thread until [`after`](Call::after) is the call's.
    #[inline]
    pub(super) fn before(&self) -> Option<(u64, u64)> {
        if UNSTAGED { None } else { alloc::spent(self.method) }
    }

    /// Takes what [`before`](Call::before) gave.
    #[inline]
    pub(super) fn after(&mut self, before: Option<(u64, u64)>) {
        self.spent = match (self.spent, before, self.before()) {
            (Some((blocks, bytes)), Some(before), Some(after)) => {
                Some((blocks + (after.0 - before.0), bytes + (after.1 - before.1)))
            }
            _ => None,
        };
    }

    /// The head of its answer, and the status that is in it.
    pub(super) fn head<B>(&mut self, response: &Response<B>, code: Option<Code>) {
        let http = response.status();
        self.code = code.or_else(|| (!http.is_success()).then(|| status::code_of_http(http)));
    }

    /// The last of its answer.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = status::code(trailers).or(self.code).or(Some(Code::Unknown));
    }

    /// Its answer's body is over. A status is there by now, or never.
    pub(super) fn ended(&mut self) {
        self.code.get_or_insert(Code::Unknown);
    }

    /// What carries it failed.
    pub(super) fn broke(&mut self) {
        self.code = Some(match self.side {
            Side::Server => Code::Unknown,
            Side::Client => Code::Unavailable,
        });
    }

    /// The call succeeded: its path gets its row, if it has none.
    pub(super) fn answered(&mut self) {
        if let Some(proposal) = self.proposal.take() {
            proposal.accept();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !UNSTAGED {
            // Dropped before its status: the caller went away, or the deadline passed.
            method::add_call(self.method, self.code.unwrap_or(Code::Cancelled) as u8);
            method::add_figures(self.method, self.began.elapsed(), self.spent);
        }
        match self.side {
            // The task hyper spawned for it ends with the answer.
            Side::Server => task::end_call(),
            // tonic may have refused the answer, and made no `Streaming` of it.
            Side::Client => {
                making_streaming(false);
            }
        }
    }
}

thread_local! {
    /// tonic makes a `Streaming` next: it asks a decoder for its settings then too, and not for a message.
    static MAKING: Cell<bool> = const { Cell::new(false) };
}

/// Tells the thread's next decoder whether it is asked by a `Streaming` that is being made; returns what was told
/// before.
pub(super) fn making_streaming(making: bool) -> bool {
    MAKING.replace(making)
}

/// What the thread's decoder was told; it is told no second time.
pub(super) fn is_making_streaming() -> bool {
    MAKING.take()
}

/// What the thread's next decoder will be told.
pub(super) fn will_make_streaming() -> bool {
    MAKING.get()
}

/// How far a served call has come through the glue around its handler; kept by the call between its polls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// tonic has not made the request's `Streaming` yet.
    pub(super) making: bool,
    /// Where the codec is that tonic decodes the request with, as an address.
    codec: usize,
}

/// No codec was asked for anything yet.
const UNASKED: usize = 0;
/// The first codec that was asked was a client's: the one that decodes the request is not staged.
const NONE_OF_OURS: usize = usize::MAX;
/// No served call is polled.
const OUTSIDE: usize = usize::MAX - 1;

thread_local! {
    /// The codec of the call that is being polled.
    static CODEC: Cell<usize> = const { Cell::new(OUTSIDE) };
}

impl Progress {
    pub(super) fn begun() -> Progress {
        Progress { making: true, codec: UNASKED }
    }

    /// Does a part of the call's work, which may take it further.
    pub(super) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let outer = (making_streaming(self.making), CODEC.replace(self.codec));
        let done = work();
        *self = Progress { making: making_streaming(outer.0), codec: CODEC.replace(outer.1) };
        done
    }
}

/// The glue is done with: what follows in this poll may be the service's own code.
pub(super) fn handler_begins() {
    if CODEC.get() == OUTSIDE {
        return;
    }
    stage::window::go_on(Stage::Dispatch, Stage::Handler);
}

/// The rows whose calls are known to tell where their handler begins, as bits.
static TELLING: AtomicU64 = AtomicU64::new(0);

const _: () = assert!(Method::MAX <= 64);

/// Calls of the current row tell where their handler begins, so that this need not be guessed of the next one.
pub(crate) fn handler_will_be_told() {
    let bit = 1 << stage::window::outside_window().method().index();
    if TELLING.load(Ordering::Relaxed) & bit == 0 {
        TELLING.fetch_or(bit, Ordering::Relaxed);
    }
}

/// The row is another path's from now on.
pub(super) fn forget(method: Method) {
    TELLING.fetch_and(!(1 << method.index()), Ordering::Relaxed);
}

/// Somebody asks what is left of the request's body: tonic does as it makes a `Streaming` for the handler, but so does its
/// router, long before.
pub(super) fn body_asked(method: Method) {
    if TELLING.load(Ordering::Relaxed) & (1 << method.index()) == 0 {
        handler_begins();
    }
}

/// tonic asks a codec for its decoder: of a served call first of all, of one that is made after its encoder.
pub(super) fn decoder_asked<C>(codec: &C) {
    if CODEC.get() == UNASKED && matches!(stage::window::outside_window().stage(), Stage::Dispatch | Stage::Handler) {
        CODEC.set(std::ptr::from_ref(codec).addr());
        handler_will_be_told();
    }
}

/// tonic asks a codec for its encoder. Where the codec is the one that decoded the request, the service has answered; else
/// it is that of a client the service calls.
pub(super) fn encoder_asked<C>(codec: &C) {
    match CODEC.get() {
        UNASKED => CODEC.set(NONE_OF_OURS),
        asked if asked == std::ptr::from_ref(codec).addr() => {
            stage::window::go_on(Stage::Handler, Stage::Dispatch);
        }
        _ => {}
    }
}

thread_local! {
    /// The call that a layer on this thread is handing on.
    static PASSING: Cell<Option<Passing>> = const { Cell::new(None) };
}

/// Which call a layer hands on, so that the same layer below it knows that the call is counted already.
///
/// Layers hand on the request's URI as it is, so its place in memory tells one call from another without a look at its
/// bytes. Told on the thread and not in the request's extensions, because those allocate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    side: Side,
    path: usize,
    inside: bool,
}

impl Passing {
    /// A call that reaches a layer of `side`.
    pub(super) fn of(side: Side, uri: &Uri) -> Passing {
        let path = uri.path().as_ptr() as usize;
        let inside = PASSING.get().is_some_and(|outer| outer.side == side && outer.path == path);
        Passing { side, path, inside }
    }

    /// A layer of the same side counts the call already.
    pub(super) fn is_inside_another(&self) -> bool {
        self.inside
    }

    /// Does what hands the call on.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.inside {
            return work();
        }
        /// Goes back to the outer call, also where `work` panics.
        struct Back(Option<Passing>);
        impl Drop for Back {
            fn drop(&mut self) {
                PASSING.set(self.0);
            }
        }
        let _back = Back(PASSING.replace(Some(*self)));
        work()
    }
}
