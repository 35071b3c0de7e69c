//! Counting what a block or a future allocates, for a test to assert.
//!
//! ```
//! use alloc_ladder::assert::{measure, measure_future};
//! use alloc_ladder::{CountingAlloc, assert_allocs};
//!
//! #[global_allocator]
//! static ALLOC: CountingAlloc = CountingAlloc::new();
//!
//! # fn main() {
//! let mut line = String::with_capacity(64);
//! assert_allocs!(measure(|| line.push_str("reused")), blocks == 0);
//! let list = assert_allocs!(measure(|| vec![0u64; 8]), blocks == 1, bytes <= 64, blocks in Marshal == 0);
//! assert_eq!(list.len(), 8);
//! # fn block_on<F: Future>(future: F) -> F::Output {
//! #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
//! #     let mut future = std::pin::pin!(future);
//! #     loop { if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) { break value } }
//! # }
//! # block_on(async {
//! let answer = assert_allocs!(measure_future(async { Box::new(42) }).await, blocks == 1, freed_blocks == 0);
//! # assert_eq!(*answer, 42);
//! # });
//! # }
//! ```
//!
//! # What is counted
//! [`measure`] and [`measure_future`] count the current thread's work alone: other tests of the same binary run beside
//! it without being seen, so it works under `cargo test` as it does under nextest. A future is counted around each of
//! its polls, on whichever thread polls it. [`measure_in`] and [`measure_future_in`] with [`Reach::Process`] count
//! every thread, the harness's and other tests' too: keep such a test alone in its file, or assert only stages that
//! nobody else enters.
//!
//! # Limits
//! - The test's binary must install [`CountingAlloc`](crate::CountingAlloc) as its `#[global_allocator]`. Where it does
//!   not, measuring panics and says so; it never returns a silent zero.
//! - [`Reach::Thread`] does not see what a block hands to other threads (`spawn`, `spawn_blocking`, a thread pool), nor
//!   what other futures do between two polls of the measured one.
//! - Only [`SHARDS`](crate::alloc::SHARDS) threads at a time have counters of their own; on any further thread
//!   [`Reach::Thread`] panics and says so.
//! - What the C library or the kernel allocates is not counted. What the [seams](crate::stage) themselves allocate is in
//!   the snapshot under [`Stage::Instrument`], and `assert_allocs!` leaves it out.
//! - `CountingAlloc` knows no call sites: a failure shows stages. See below for the stacks behind them.
//!
//! # Call sites
//! With the feature `sampled`, on Linux, in a test binary that installs [`Alloc`](crate#modules-and-features) instead, a
//! failed assertion shows the call sites too, the largest first, each with its stage:
//!
//! ```
//! # #[cfg(feature = "sampled")]
//! # mod test {
//! #[global_allocator]
//! static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new().for_tests();
//! # }
//! ```
//!
//! Everything else is as with `CountingAlloc`. Every stack of the program is walked, some hundred nanoseconds a block, and
//! kept in the process's memory. Names are looked up when an assertion fails: that takes seconds in a large binary.
//!
//! # Call sites by dhat
//! With the feature `stacks`, in a test binary that installs dhat's allocator instead
//! (`static ALLOC: dhat::Alloc = dhat::Alloc`), the same scopes count with dhat, and a failed assertion shows the call
//! sites of what was allocated, the largest first. dhat has one profile for the whole process: measured blocks of several
//! threads then wait for one another, and within one thread a block measured inside another, or two measured futures
//! that are joined, panic and say so. A thread that waits is blocked, so measure one future at a time on a runtime of
//! several threads. [`Reach::Process`] is the only reach there is, stages are not known and asserting one panics, and
//! frees and reallocs are not counted.
//!
//! # What it costs
//! Two readings of a thread's counters a block, and two a poll: some microseconds each, and no allocation. Nothing
//! is counted of it, but do not take times around it.

use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::{Snapshot, Stage, Tally};

#[cfg_attr(not(feature = "stacks"), allow(dead_code, reason = "what names call sites asks"))]
mod plumbing;
#[cfg_attr(not(feature = "sampled"), path = "assert/no_recorded.rs")]
mod recorded;
#[cfg(feature = "stacks")]
mod stacks;
#[cfg(not(feature = "stacks"))]
#[path = "assert/no_stacks.rs"]
mod stacks;

use recorded::{Stacks, Watching};
use stacks::Recorder;

/// What a measured block or future came to, and what it allocated and freed.
#[derive(Clone, Debug)]
pub struct Measured<T> {
    /// What it returned.
    pub value: T,
    /// What was counted meanwhile.
    pub snapshot: Snapshot,
    found: Found,
}

/// What is known of the call sites.
#[derive(Clone, Debug)]
enum Found {
    Nothing,
    /// By `Alloc`, beside its counters.
    Stacks(Stacks),
    /// By dhat, without its counters.
    Sites(Vec<CallSite>),
}

impl<T> Measured<T> {
    /// The call sites of what was allocated, the largest first, but for [`Stage::Instrument`]; `None` where neither
    /// `Alloc` nor dhat records stacks. Looks their names up, which takes from milliseconds to seconds.
    pub fn sites(&self) -> Option<Vec<CallSite>> {
        self.largest(None, usize::MAX)
    }

    fn largest(&self, stage: Option<Stage>, most: usize) -> Option<Vec<CallSite>> {
        match &self.found {
            Found::Nothing => None,
            Found::Stacks(stacks) => Some(stacks.sites(stage, most)),
            Found::Sites(sites) => Some(sites.iter().take(most).cloned().collect()),
        }
    }
}

/// What was allocated by one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
    /// The stage it was in; `None` where dhat counts.
    pub stage: Option<Stage>,
    /// Function, file and line, the innermost first.
    pub frames: Vec<String>,
}

/// Whose allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the thread that runs the block or polls the future.
    Thread,
    /// Those of every thread of the process.
    Process,
}

impl Reach {
    fn read(self, snapshot: &mut Snapshot) {
        match self {
            Reach::Thread => snapshot.read_thread(),
            Reach::Process => snapshot.read(),
        }
    }
}

/// Why nothing can be counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// An allocation was made and no counter moved.
    NoAllocator,
    /// The current thread came after all per-thread counters were taken.
    SharedCounters,
}

impl fmt::Display for NotCounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotCounted::NoAllocator => f.write_str(
                "nothing is counted: this binary does not install CountingAlloc. Add to the test's file:\n    \
                 #[global_allocator]\n    \
                 static ALLOC: alloc_ladder::CountingAlloc = alloc_ladder::CountingAlloc::new();",
            ),
            NotCounted::SharedCounters => write!(
                f,
                "this thread has no counters of its own: {} threads had taken them all when it began. Measure with \
                 Reach::Process, or on an earlier thread",
                crate::alloc::SHARDS
            ),
        }
    }
}

impl std::error::Error for NotCounted {}

/// Whether what the current thread does next can be counted: makes one small allocation to find out, booked on
/// [`Stage::Instrument`].
///
/// # Errors
/// [`NotCounted`] says why not.
pub fn check(reach: Reach) -> Result<(), NotCounted> {
    let _guard = Stage::Instrument.enter();
    let owned = Snapshot::thread_is_counted();
    if reach == Reach::Thread && !owned {
        return Err(NotCounted::SharedCounters);
    }
    // Other threads may allocate meanwhile; only where this thread has no counters of its own can they be mistaken
    // for the probe, and then the process has a counting allocator all the same.
    let reach = if owned { Reach::Thread } else { Reach::Process };
    let (mut before, mut after) = (Snapshot::empty(), Snapshot::empty());
    reach.read(&mut before);
    drop(black_box(Box::new(black_box(0u8))));
    reach.read(&mut after);
    if (after - before).total().blocks == 0 { Err(NotCounted::NoAllocator) } else { Ok(()) }
}

/// Counting under way.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a box would be one more allocation in the scope around this one")]
enum Counting {
    /// By this crate's allocator. Allocated once, so that polls allocate nothing of their own.
    Stages { before: Snapshot, after: Snapshot, sum: Snapshot, watching: Option<Watching> },
    /// By dhat.
    Stacks(Recorder),
}

impl Counting {
    #[track_caller]
    fn begin(reach: Reach) -> Counting {
        match check(reach) {
            Ok(()) => {}
            Err(NotCounted::NoAllocator) if let Some(recorder) = Recorder::begin() => {
                return Counting::Stacks(recorder);
            }
            Err(why) => panic!("{why}"),
        }
        let mut counting = Counting::Stages {
            before: Snapshot::empty(),
            after: Snapshot::empty(),
            sum: Snapshot::empty(),
            watching: Watching::of(reach),
        };
        counting.resume(reach);
        counting
    }

    #[track_caller]
    fn resume(&mut self, reach: Reach) {
        match self {
            Counting::Stages { before, watching, .. } => {
                if reach == Reach::Thread && !Snapshot::thread_is_counted() {
                    // Each poll may be on another thread.
                    panic!("{}", NotCounted::SharedCounters);
                }
                reach.read(before);
                if let Some(watching) = watching {
                    watching.resume();
                }
            }
            Counting::Stacks(recorder) => recorder.go_on(),
        }
    }

    fn pause(&mut self, reach: Reach) {
        if let Counting::Stages { before, after, sum, watching } = self {
            if let Some(watching) = watching {
                watching.pause();
            }
            reach.read(after);
            sum.add_between(before, after);
        }
    }

    fn finish<T>(self, value: T) -> Measured<T> {
        match self {
            Counting::Stages { sum, watching, .. } => {
                let found = watching.map_or(Found::Nothing, |watching| Found::Stacks(watching.finish()));
                Measured { value, snapshot: sum, found }
            }
            Counting::Stacks(recorder) => {
                let (tally, sites) = recorder.finish();
                Measured { value, snapshot: Snapshot::of_other(tally), found: Found::Sites(sites) }
            }
        }
    }
}

/// Runs `block` and counts what the current thread allocates and frees meanwhile.
///
/// # Panics
/// Where nothing can be counted, see [`NotCounted`].
#[track_caller]
pub fn measure<T>(block: impl FnOnce() -> T) -> Measured<T> {
    measure_in(Reach::Thread, block)
}

/// Runs `block` and counts what is allocated and freed within `reach` meanwhile.
///
/// # Panics
/// Where nothing can be counted, see [`NotCounted`].
#[track_caller]
pub fn measure_in<T>(reach: Reach, block: impl FnOnce() -> T) -> Measured<T> {
    let mut counting = Counting::begin(reach);
    let value = block();
    counting.pause(reach);
    counting.finish(value)
}

/// Counts what `future` allocates and frees in its polls, on whichever threads they are.
///
/// # Panics
/// When polled where nothing can be counted, see [`NotCounted`].
pub fn measure_future<F: Future>(future: F) -> MeasuredFuture<F> {
    measure_future_in(Reach::Thread, future)
}

/// Counts what is allocated and freed within `reach` while `future` runs: in its polls ([`Reach::Thread`]), or
/// everywhere from its first poll to its last ([`Reach::Process`]).
///
/// # Panics
/// When polled where nothing can be counted, see [`NotCounted`].
pub fn measure_future_in<F: Future>(reach: Reach, future: F) -> MeasuredFuture<F> {
    MeasuredFuture { reach, counting: None, future }
}

pin_project! {
    /// A future that comes to what it wraps comes to, [`Measured`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct MeasuredFuture<F> {
        reach: Reach,
        // `None` before the first poll and after the last.
        counting: Option<Counting>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for MeasuredFuture<F> {
    type Output = Measured<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let reach = *this.reach;
        let mut counting = match this.counting.take() {
            None => Counting::begin(reach),
            Some(mut counting) => {
                if reach == Reach::Thread || matches!(counting, Counting::Stacks(_)) {
                    counting.resume(reach);
                }
                counting
            }
        };
        let polled = this.future.poll(cx);
        if reach == Reach::Thread || polled.is_ready() {
            counting.pause(reach);
        }
        match polled {
            Poll::Ready(value) => Poll::Ready(counting.finish(value)),
            Poll::Pending => {
                *this.counting = Some(counting);
                Poll::Pending
            }
        }
    }
}

/// Asserts what a [`Measured`] block or future allocated, and gives its value.
///
/// After the measured expression come one or more conditions: a field of [`Tally`] (`blocks`, `bytes`,
/// `reallocs`, `freed_blocks`, …), a comparison and a figure; or such a field `in` a [`Stage`]:
///
/// ```
/// # use alloc_ladder::{CountingAlloc, assert_allocs, assert::measure, Stage};
/// # #[global_allocator]
/// # static ALLOC: CountingAlloc = CountingAlloc::new();
/// # fn main() {
/// let work = || {
///     let _guard = Stage::Marshal.enter();
///     vec![0u8; 100]
/// };
/// let bytes = assert_allocs!(measure(work), blocks == 1, bytes in Marshal <= 128, blocks in Handler == 0);
/// assert_eq!(bytes.len(), 100);
/// # }
/// ```
///
/// Without `in`, all stages but [`Stage::Instrument`] count together. A failure shows the
/// condition, what was counted instead, and the table of stages:
///
/// ```should_panic
/// # use alloc_ladder::{CountingAlloc, assert_allocs, assert::measure};
/// # #[global_allocator]
/// # static ALLOC: CountingAlloc = CountingAlloc::new();
/// # fn main() {
/// assert_allocs!(measure(|| vec![0u8; 100]), blocks == 0);
/// # }
/// ```
#[macro_export]
macro_rules! assert_allocs {
    (@ $measured:ident,) => {};
    (@ $measured:ident, $field:ident in $stage:ident $op:tt $figure:expr $(, $($more:tt)*)?) => {
        $crate::assert_allocs!(@ $measured, $field, ::core::option::Option::Some($crate::Stage::$stage), $op, $figure);
        $crate::assert_allocs!(@ $measured, $($($more)*)?);
    };
    (@ $measured:ident, $field:ident, $stage:expr, $op:tt, $figure:expr) => {
        let (counted, figure) = ($crate::assert::__tally(&$measured, $stage).$field, $figure);
        if !(counted $op figure) {
            let field = ::core::stringify!($field);
            let condition = ::std::format!("{field} {} {figure}", ::core::stringify!($op));
            $crate::assert::__failed(&$measured, $stage, &condition, counted);
        }
    };
    (@ $measured:ident, $field:ident $op:tt $figure:expr $(, $($more:tt)*)?) => {
        $crate::assert_allocs!(@ $measured, $field, ::core::option::Option::None, $op, $figure);
        $crate::assert_allocs!(@ $measured, $($($more)*)?);
    };
    ($measured:expr, $($conditions:tt)+) => {{
        let measured: $crate::assert::Measured<_> = $measured;
        $crate::assert_allocs!(@ measured, $($conditions)+);
        measured.value
    }};
}

#[doc(hidden)]
#[track_caller]
pub fn __tally<T>(measured: &Measured<T>, stage: Option<Stage>) -> Tally {
    match stage {
        None => measured.snapshot.total_without_instrument(),
        Some(stage) if matches!(measured.found, Found::Sites(_)) => {
            panic!("dhat counts here, and knows nothing of the stage `{stage}`")
        }
        Some(stage) => measured.snapshot.stage(stage),
    }
}

#[doc(hidden)]
#[track_caller]
pub fn __failed<T>(measured: &Measured<T>, stage: Option<Stage>, condition: &str, counted: u64) -> ! {
    let place = stage.map_or_else(|| "all stages but instrument".to_owned(), |stage| stage.to_string());
    let table = match &measured.found {
        Found::Sites(_) => String::new(),
        Found::Nothing | Found::Stacks(_) => measured.snapshot.to_string(),
    };
    let sites = measured.largest(stage, SITES_SHOWN).unwrap_or_default();
    let sites: String = sites.iter().map(CallSite::to_string).collect();
    let between = if table.is_empty() || sites.is_empty() { "" } else { "\n" };
    panic!("assertion failed: {condition} in {place}\n counted: {counted}\n\n{table}{between}{sites}");
}

/// How many call sites a failure shows, and how many frames of each.
const SITES_SHOWN: usize = 10;
const FRAMES_SHOWN: usize = 5;

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} blocks", self.bytes, self.blocks)?;
        match self.stage {
            Some(stage) => writeln!(f, ", {stage}")?,
            None => writeln!(f)?,
        }
        self.frames.iter().take(FRAMES_SHOWN).try_for_each(|frame| writeln!(f, "    {frame}"))
    }
}
