//! What a thread keeps for itself, when that begins and when it ends.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

use super::arch;
use super::current;
use super::file::{Recording, Shard, errno, set_errno};
use super::memo::{self, Memos};
use super::watched::Table;

/// A thread's own words; zeros when it begins.
#[repr(C, align(64))]
pub(super) struct Thread {
    state: Cell<State>,
    /// Stacks walked so far.
    pub(super) walks: Cell<u32>,
    shard: Cell<Option<&'static Shard>>,
    /// Above the outermost frame of the thread's stack; 0 before anybody asked.
    top: Cell<usize>,
    /// The block allocated last.
    pub(super) last: Cell<usize>,
    /// Bytes allocated or freed that the process has not been told of.
    pub(super) untold: Cell<i64>,
    pub(super) memos: Cell<*mut Memos>,
    /// Where blocks are counted once more; null unless somebody watches.
    pub(super) watch: Cell<*const Table>,
}

const _: () = assert!(size_of::<Thread>() <= arch::THREAD_BYTES);

/// This thread's words.
#[inline(always)]
pub(super) fn thread() -> &'static Thread {
    // SAFETY: zeros are a valid `Thread`; only this thread and its signal handlers refer to it, and it is made of cells.
    // It lives as long as anything of the thread runs.
    unsafe { &*arch::thread_words().cast::<Thread>() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct State(u32);

impl State {
    /// Nothing is set up. What a zeroed thread is.
    const NEW: State = State(0);
    /// May record.
    pub(super) const READY: State = State(1);
    /// The recorder is at work on this thread: what is allocated now is its own, or a signal handler's.
    pub(super) const BUSY: State = State(2);
    /// The thread's destructors have run; what comes after is counted in the shared shard.
    const ENDED: State = State(3);
}

/// The key whose destructor is called at the end of a thread, plus one.
static KEY: AtomicU32 = AtomicU32::new(0);
/// Above the first thread's outermost frame.
static MAIN_TOP: AtomicUsize = AtomicUsize::new(0);

/// Sets up what threads need. To be called once, with the calling thread [busy](Thread::hold).
pub(super) fn start() {
    let mut key = 0;
    // SAFETY: writes a local value; `ended` takes what `begin` stores.
    if unsafe { libc::pthread_key_create(&mut key, Some(ended)) } == 0 {
        KEY.store(key + 1, Ordering::Relaxed);
    }
}

/// Keeps the thread busy for as long as it lives.
pub(super) struct Busy<'a>(&'a Thread, State);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.0.state.set(self.1);
    }
}

impl Thread {
    #[inline(always)]
    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// From now on the recorder is at work on this thread.
    #[inline(always)]
    pub(super) fn hold(&self) -> Busy<'_> {
        let busy = Busy(self, self.state.replace(State::BUSY));
        compiler_fence(Ordering::SeqCst);
        busy
    }

    /// Where this thread counts.
    #[inline(always)]
    pub(super) fn shard(&self, recording: &'static Recording) -> &'static Shard {
        self.shard.get().unwrap_or_else(|| recording.shared_shard())
    }

    /// Whether the thread may record, once it was set up; false while the recorder is at work on it.
    #[cold]
    #[inline(never)]
    pub(super) fn enter(&'static self, recording: &'static Recording) -> bool {
        if self.state.get() == State::NEW {
            self.begin(recording);
        }
        self.state.get() != State::BUSY
    }

    fn begin(&'static self, recording: &'static Recording) {
        let errno = errno();
        {
            // Setting a value for the key may allocate.
            let _busy = self.hold();
            self.shard.set(Some(recording.take_shard()));
            if let Some(key) = KEY.load(Ordering::Relaxed).checked_sub(1) {
                // SAFETY: the key was made by `start`.
                unsafe { libc::pthread_setspecific(key, (&raw const *self).cast()) };
            }
        }
        self.state.set(State::READY);
        set_errno(errno);
    }

    /// The address above the outermost frame of the stack.
    #[inline(always)]
    pub(super) fn top(&self) -> usize {
        let top = self.top.get();
        if top != 0 { top } else { self.find_top() }
    }

    /// `pthread_getattr_np` would say, but allocates and takes a lock that the thread's maker may hold.
    #[cold]
    #[inline(never)]
    fn find_top(&self) -> usize {
        // SAFETY: asks the kernel for two numbers.
        let first = unsafe { libc::getpid() == libc::gettid() };
        let main = if first { main_top() } else { 0 };
        let top = if main != 0 { main } else { arch::control_block() };
        self.top.set(top);
        top
    }
}

unsafe extern "C" {
    /// The C library's list of strings, which the kernel put above every frame of the first thread.
    static environ: *const *const std::ffi::c_char;
}

/// The top of the stack of a process's first thread, as the C library or the environment's place says.
fn main_top() -> usize {
    let known = MAIN_TOP.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: looks up a variable of the dynamic linker, and reads it where it exists.
    let top = unsafe {
        let end = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_stack_end".as_ptr()).cast::<usize>();
        if end.is_null() { environ as usize } else { *end }
    };
    MAIN_TOP.store(top, Ordering::Relaxed);
    top
}

/// The thread ends: others take over what it kept. Other destructors may still allocate after this one.
unsafe extern "C" fn ended(thread: *mut c_void) {
    // SAFETY: `begin` stored this thread's own words under the key.
    let thread = unsafe { &*thread.cast::<Thread>() };
    let errno = errno();
    let memos = {
        let _busy = thread.hold();
        if let (Some(recording), Some(shard)) = (current::recording(), thread.shard.take()) {
            shard.give_back();
            current::tell(recording, thread.untold.take());
        }
        thread.memos.replace(std::ptr::null_mut())
    };
    thread.state.set(State::ENDED);
    memo::unmap(memos);
    set_errno(errno);
}

/// Whether the thread's destructors have run, so that nothing is kept for it any more.
#[inline(always)]
pub(super) fn has_ended(state: State) -> bool {
    state == State::ENDED
}
