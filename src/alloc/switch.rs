//! One allocator for every instrument, chosen when the program starts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

use super::shard;
use crate::recorder::{self, Kept};
#[cfg(feature = "sampled")]
use crate::sampled;
use crate::stage::{self, Scope};

/// What [`Alloc`] does with an allocation, beside asking the inner allocator for the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Nothing.
    Off = 1,
    /// Counts it per stage and RPC method, as [`CountingAlloc`](crate::CountingAlloc) does: [`Snapshot`](crate::Snapshot)
    /// reads the counters.
    Count = 2,
    /// Takes the stack of one allocation in so many bytes, as `SampledAlloc` does. Needs the feature `sampled`.
    Sampled = 3,
    /// Counts it, and writes its stack with its stage and method into a recording that `cargo alloc-ladder open` reads.
    /// On Linux, x86-64 and aarch64; elsewhere it counts.
    Stacks = 4,
}

impl Mode {
    /// Every mode, the cheapest first.
    pub const ALL: [Mode; 4] = [Mode::Off, Mode::Count, Mode::Sampled, Mode::Stacks];

    /// The mode's one name, the value of [`VARIABLE`].
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Count => "count",
            Mode::Sampled => "sampled",
            Mode::Stacks => "stacks",
        }
    }
}

/// The environment variable that chooses a [`Mode`] when the program starts.
pub const VARIABLE: &str = "ALLOC_LADDER";

/// A global allocator that does nothing, counts, samples or records every stack, as the environment says when the
/// program starts, and asks `A` for the memory. One build serves every instrument, in production too.
///
/// ```
/// #[global_allocator]
/// static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();
///
/// # fn main() {
/// assert_eq!(ALLOC.mode(), alloc_ladder::alloc::Mode::Off, "unless ALLOC_LADDER says otherwise");
/// # }
/// ```
///
/// `ALLOC_LADDER=stacks service` writes a recording into `/dev/shm`, or into the folder that `ALLOC_LADDER_RECORDINGS`
/// names; `cargo alloc-ladder profile -- service` does so and shows it.
#[derive(Debug)]
pub struct Alloc<A = System> {
    inner: A,
    unasked: Mode,
    kept: Kept,
    #[cfg(feature = "sampled")]
    every: u64,
    /// A [`Mode`]; 0 before the first allocation.
    chosen: AtomicU8,
}

impl Alloc<System> {
    /// Asks the system's allocator.
    pub const fn new() -> Self {
        Alloc::wrapping(System)
    }
}

impl Default for Alloc<System> {
    fn default() -> Self {
        Alloc::new()
    }
}

impl<A> Alloc<A> {
    /// Asks `inner`, which may be any allocator (mimalloc, jemalloc, …).
    pub const fn wrapping(inner: A) -> Self {
        Alloc {
            inner,
            unasked: Mode::Off,
            kept: Kept::InFile,
            #[cfg(feature = "sampled")]
            every: sampled::EVERY_BYTES,
            chosen: AtomicU8::new(0),
        }
    }

    /// What to do where the environment does not say: [`Mode::Off`] unless this is called.
    pub const fn unless_asked(mut self, mode: Mode) -> Self {
        self.unasked = mode;
        self
    }

    /// For tests: records every stack where the environment does not say otherwise, in the process's memory alone and not
    /// in a file. [`assert_allocs!`](crate::assert_allocs) then shows call sites.
    #[cfg(feature = "sampled")]
    pub const fn for_tests(self) -> Self {
        let mut alloc = self.unless_asked(Mode::Stacks);
        alloc.kept = Kept::InMemory;
        alloc
    }

    /// Bytes between samples, on average, in [`Mode::Sampled`]; 1 at least.
    #[cfg(feature = "sampled")]
    pub const fn every(mut self, bytes: u64) -> Self {
        self.every = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// What it does. Decided by the program's first allocation, or by this call if that comes before.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        match self.chosen.load(Ordering::Relaxed) & !EXACT {
            1 => Mode::Off,
            2 => Mode::Count,
            3 => Mode::Sampled,
            4 => Mode::Stacks,
            _ => self.choose(),
        }
    }

    #[cold]
    #[inline(never)]
    fn choose(&self) -> Mode {
        // What starting allocates is nobody's.
        self.chosen.store(Mode::Off as u8, Ordering::Relaxed);
        let mode = match asked() {
            Some(mode) => available(mode, Kept::InFile),
            None => available(self.unasked, self.kept),
        };
        self.chosen.store(mode as u8, Ordering::Relaxed);
        mode
    }
}

/// Beside a [`Mode`]: every allocation's stack is taken for a while. What is compared with a mode alone then is not equal to
/// one, and goes the way out of line.
const EXACT: u8 = 0x80;

/// What an [`Alloc`] does, for whoever may ask it for every stack while the program runs.
#[cfg(feature = "live")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch(&'static AtomicU8);

/// Every stack is taken until this is dropped.
#[cfg(feature = "live")]
#[derive(Debug)]
pub(crate) struct Exactly(&'static AtomicU8);

/// Who has every stack taken now: the program has one allocator.
#[cfg(feature = "live")]
static ASKING: std::sync::Mutex<u32> = std::sync::Mutex::new(0);

#[cfg(feature = "live")]
impl Switch {
    /// Whether it is the program's: nothing was ever asked of any other [`Alloc`].
    pub(crate) fn is_in_use(self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Takes every stack from now on.
    pub(crate) fn exactly(self) -> Exactly {
        let mut asking = ASKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.0.fetch_or(EXACT, Ordering::Relaxed);
        *asking += 1;
        Exactly(self.0)
    }
}

#[cfg(feature = "live")]
impl Drop for Exactly {
    fn drop(&mut self) {
        let mut asking = ASKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *asking -= 1;
        if *asking == 0 {
            self.0.fetch_and(!EXACT, Ordering::Relaxed);
        }
    }
}

#[cfg(feature = "live")]
impl<A> Alloc<A> {
    /// Where it keeps what it does.
    pub(crate) fn switch(&'static self) -> Switch {
        Switch(&self.chosen)
    }

    /// Takes the stack of a block where somebody asks for every one.
    #[inline(always)]
    fn taken(&self, block: *mut u8, size: usize) {
        if self.chosen.load(Ordering::Relaxed) & EXACT != 0 && !block.is_null() {
            sampled::exact::allocated(size);
        }
    }
}

#[cfg(not(feature = "live"))]
impl<A> Alloc<A> {
    #[inline(always)]
    fn taken(&self, _: *mut u8, _: usize) {}
}

/// The mode that the environment names.
fn asked() -> Option<Mode> {
    let value = recorder::Variable::Mode.value()?.to_bytes();
    let mode = Mode::ALL.into_iter().find(|mode| mode.name().as_bytes() == value);
    if mode.is_none() && !value.is_empty() {
        recorder::say("ALLOC_LADDER is neither off, count, sampled nor stacks, and is ignored");
    }
    mode
}

/// The mode, or what comes closest to it in this build.
fn available(mode: Mode, kept: Kept) -> Mode {
    match mode {
        Mode::Sampled if cfg!(not(feature = "sampled")) => {
            recorder::say("ALLOC_LADDER=sampled needs the feature `sampled`, which this program was built without");
            Mode::Off
        }
        Mode::Stacks if !recorder::start(recorder::Door::Program, kept) => Mode::Count,
        mode => mode,
    }
}

/// The scope's index in a recording, whose method the recording can name.
#[inline(always)]
fn recorded(scope: Scope) -> u16 {
    if recorder::is_new_method(scope.method().index()) {
        name(scope);
    }
    scope.index() as u16
}

#[cold]
#[inline(never)]
fn name(scope: Scope) {
    let name = scope.method().name();
    let side = match name.side {
        Some(crate::Side::Server) => 1,
        Some(crate::Side::Client) => 2,
        None => return,
    };
    recorder::name_method(scope.method().index(), side, name.path);
}

// PERF: sampling is on in production, where a call for every block is most of what it costs.
#[cfg(feature = "sampled")]
impl<A> Alloc<A> {
    /// Where samples are taken and nothing else is done: takes one if it is time. Whether it is so.
    #[inline(always)]
    fn may_sample(&self, chosen: u8, block: *mut u8, size: usize) -> bool {
        let samples = chosen == Mode::Sampled as u8;
        if samples {
            sampled::allocated(block, size, self.every);
        }
        samples
    }

    /// The same of a block that is about to be freed.
    #[inline(always)]
    fn may_forget(&self, chosen: u8, block: *mut u8) -> bool {
        let samples = chosen == Mode::Sampled as u8;
        if samples {
            sampled::freed(block, self.every);
        }
        samples
    }
}

#[cfg(not(feature = "sampled"))]
impl<A> Alloc<A> {
    #[inline(always)]
    fn may_sample(&self, _: u8, _: *mut u8, _: usize) -> bool {
        false
    }

    #[inline(always)]
    fn may_forget(&self, _: u8, _: *mut u8) -> bool {
        false
    }
}

// What neither does nothing nor only counts. Out of line, so that what a program calls everywhere stays small.
impl<A: GlobalAlloc> Alloc<A> {
    /// A block was allocated, or not: null.
    #[inline(never)]
    fn allocated(&self, block: *mut u8, size: usize) {
        self.taken(block, size);
        match self.mode() {
            Mode::Count if !block.is_null() => shard::allocated(stage::window::current_for(size), size),
            #[cfg(feature = "sampled")]
            Mode::Sampled => sampled::allocated(block, size, self.every),
            Mode::Stacks if !block.is_null() => {
                let scope = stage::window::current_for(size);
                shard::allocated(scope, size);
                recorder::allocated(block, size, recorded(scope));
            }
            _ => {}
        }
    }

    /// A block is about to be freed.
    #[inline(never)]
    fn freed(&self, block: *mut u8, size: usize) {
        match self.mode() {
            Mode::Count => shard::freed(stage::current(), size),
            #[cfg(feature = "sampled")]
            Mode::Sampled => sampled::freed(block, self.every),
            Mode::Stacks => {
                shard::freed(stage::current(), size);
                recorder::freed(block, size);
            }
            _ => {}
        }
    }

    /// # Safety
    /// As [`GlobalAlloc::realloc`].
    #[inline(never)]
    unsafe fn reallocate(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let mode = self.mode();
        let was = (mode == Mode::Stacks).then(|| recorder::reallocating(block, layout.size()));
        #[cfg(feature = "sampled")]
        let sample = if mode == Mode::Sampled { sampled::reallocating(block) } else { None };
        // SAFETY: the caller keeps `realloc`'s contract.
        let moved = unsafe { self.inner.realloc(block, layout, new_size) };
        #[cfg(feature = "sampled")]
        if mode == Mode::Sampled {
            sampled::reallocated(sample, block, moved, new_size, self.every);
        }
        let scope = if moved.is_null() { Scope::NONE } else { stage::window::current_for(new_size) };
        if matches!(mode, Mode::Count | Mode::Stacks) && !moved.is_null() {
            shard::reallocated(scope, layout.size(), new_size);
        }
        if let Some(was) = was {
            recorder::reallocated(was, block, moved, new_size, recorded(scope));
        }
        self.taken(moved, new_size);
        moved
    }
}

const OFF: u8 = Mode::Off as u8;
const COUNT: u8 = Mode::Count as u8;

// SAFETY: (the invariant) every method hands its arguments unchanged to the same method of `inner` and returns its
// result unchanged. What happens beside is what `CountingAlloc`, `SampledAlloc` and the recorder do, none of which
// unwinds or touches the memory handed out; what comes back to this allocator from there finds a mode that does nothing,
// or a recorder that is at work on the thread and returns at once. A block is forgotten before `inner` can hand it out
// anew.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if chosen == OFF {
            // PERF: one comparison, after which the inner allocator is all there is.
            // SAFETY: the invariant above; the caller keeps `alloc`'s contract.
            return unsafe { self.inner.alloc(layout) };
        }
        // The first allocation chooses, and is the first that is counted or recorded.
        // SAFETY: as above.
        let block = unsafe { self.inner.alloc(layout) };
        if chosen == COUNT && !block.is_null() {
            shard::allocated(stage::window::current_for(layout.size()), layout.size());
        } else if !self.may_sample(chosen, block, layout.size()) {
            self.allocated(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let chosen = self.chosen.load(Ordering::Relaxed);
        // SAFETY: the invariant above; the caller keeps `alloc_zeroed`'s contract.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if chosen != OFF {
            self.allocated(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if chosen == OFF {
            // SAFETY: the invariant above; the caller keeps `dealloc`'s contract.
            return unsafe { self.inner.dealloc(block, layout) };
        }
        if chosen == COUNT {
            shard::freed(stage::current(), layout.size());
        } else if !self.may_forget(chosen, block) {
            self.freed(block, layout.size());
        }
        // SAFETY: the invariant above; the caller keeps `dealloc`'s contract.
        unsafe { self.inner.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if self.chosen.load(Ordering::Relaxed) == OFF {
            // SAFETY: the invariant above; the caller keeps `realloc`'s contract.
            return unsafe { self.inner.realloc(block, layout, new_size) };
        }
        // SAFETY: as above.
        unsafe { self.reallocate(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environments_names_are_the_modes() {
        for mode in Mode::ALL {
            assert_eq!(Mode::ALL.into_iter().find(|other| other.name() == mode.name()), Some(mode));
        }
        assert_eq!(VARIABLE, recorder::Variable::Mode.name());
    }

    #[test]
    fn the_builder_chooses_where_nobody_asks() {
        let alloc: Alloc = Alloc::new().unless_asked(Mode::Count);
        assert_eq!(alloc.mode(), asked().unwrap_or(Mode::Count));
        assert_eq!(Alloc::default().mode(), asked().unwrap_or(Mode::Off));
    }
}
