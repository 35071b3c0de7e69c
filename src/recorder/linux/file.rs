//! The recording as the recorded process sees it: a file, mapped shared, and the structures in it.
//!
//! A page of the mapping that `/dev/shm` has no memory for would end the process with a `SIGBUS` when it is touched. So
//! nothing is touched that was not [reserved](Recording::reserve) before, chunk by chunk; what finds no room is counted.

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::recorder::layout;

/// Set-up that happens once.
#[repr(C)]
pub(super) struct Fixed {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) machine: AtomicU32,
    pub(super) process: AtomicU32,
    pub(super) door: AtomicU32,
    pub(super) began: AtomicU64,
    pub(super) began_monotonic: AtomicU64,
    pub(super) own: [AtomicU64; 2],
}

/// How much of each area is in use.
#[repr(C, align(64))]
pub(super) struct Used {
    pub(super) modules: AtomicU32,
    pub(super) shards: AtomicU32,
    pub(super) slots: AtomicU64,
    pub(super) frames: AtomicU64,
}

/// What went missing, or could not be told.
#[repr(C, align(64))]
pub(super) struct Missed {
    pub(super) homeless_blocks: AtomicU64,
    pub(super) homeless_bytes: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) reentered: AtomicU64,
    pub(super) untracked: AtomicU64,
    pub(super) forks: AtomicU64,
    pub(super) early: AtomicU64,
}

/// What is live, and the most that was.
#[repr(C, align(64))]
pub(super) struct Heap {
    live: AtomicI64,
    peak: AtomicI64,
    peak_monotonic: AtomicU64,
    /// How far a thread may be ahead of [`live`](Heap::live); in the file for want of a better place.
    slack: AtomicI64,
}

/// Read on every call, written when the peak rises: a line of its own.
#[repr(C, align(64))]
pub(super) struct Epoch(pub(super) AtomicU32);

#[repr(C)]
pub(super) struct Header {
    pub(super) fixed: Fixed,
    pub(super) used: Used,
    pub(super) missed: Missed,
    pub(super) heap: Heap,
    pub(super) epoch: Epoch,
    rest: [AtomicU8; layout::header::SIZE - 320],
}

#[repr(C)]
pub(super) struct ModuleEntry {
    pub(super) base: AtomicU64,
    pub(super) low: AtomicU64,
    pub(super) high: AtomicU64,
    pub(super) build_id_len: AtomicU32,
    pub(super) path_len: AtomicU32,
    pub(super) build_id: [AtomicU8; layout::module::BUILD_ID_MAX],
    pub(super) path: [AtomicU8; layout::module::PATH_MAX],
}

#[repr(C)]
pub(super) struct MethodEntry {
    pub(super) side: AtomicU32,
    pub(super) path_len: AtomicU32,
    pub(super) path: [AtomicU8; layout::method::PATH_MAX],
}

/// Totals of one thread, which alone writes them; of many in shard 0, whose every update is atomic.
#[repr(C, align(64))]
pub(super) struct Shard {
    blocks: AtomicU64,
    bytes: AtomicU64,
    freed_blocks: AtomicU64,
    freed_bytes: AtomicU64,
    reallocs: AtomicU64,
    taken: AtomicU32,
    shared: AtomicU32,
}

#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) key: AtomicU64,
    pub(super) blocks: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) freed_blocks: AtomicU64,
    pub(super) freed_bytes: AtomicU64,
    pub(super) temporary: AtomicU64,
    pub(super) at: AtomicU32,
    pub(super) depth: AtomicU16,
    pub(super) scope: AtomicU16,
    pub(super) epoch: AtomicU32,
}

#[repr(C)]
pub(super) struct Peak {
    pub(super) bytes: AtomicU64,
    pub(super) blocks: AtomicU64,
}

/// The whole file. Zeros are a valid value of everything in it.
#[repr(C)]
pub(super) struct Recording {
    pub(super) header: Header,
    pub(super) modules: [ModuleEntry; layout::MODULES],
    pub(super) methods: [MethodEntry; layout::METHODS],
    pub(super) shards: [Shard; layout::SHARDS],
    pub(super) slots: [Slot; layout::SLOTS],
    pub(super) peaks: [Peak; layout::SLOTS],
    pub(super) frames: [AtomicU64; layout::FRAMES],
}

const _: () = {
    use layout::{header, module, peak, shard, slot};
    assert!(size_of::<Recording>() == layout::SIZE);
    assert!(offset_of!(Recording, modules) == layout::MODULES_AT);
    assert!(offset_of!(Recording, methods) == layout::METHODS_AT);
    assert!(offset_of!(Recording, shards) == layout::SHARDS_AT);
    assert!(offset_of!(Recording, slots) == layout::SLOTS_AT);
    assert!(offset_of!(Recording, peaks) == layout::PEAKS_AT);
    assert!(offset_of!(Recording, frames) == layout::FRAMES_AT);
    assert!(offset_of!(Header, fixed.machine) == header::MACHINE && offset_of!(Header, fixed.own) == header::OWN);
    assert!(offset_of!(Header, used) == header::MODULES && offset_of!(Header, used.frames) == header::FRAMES);
    assert!(offset_of!(Header, missed) == header::HOMELESS_BLOCKS && offset_of!(Header, missed.early) == header::EARLY);
    assert!(
        offset_of!(Header, heap) == header::LIVE && offset_of!(Header, heap.peak_monotonic) == header::PEAK_MONOTONIC
    );
    assert!(offset_of!(Header, epoch) == header::EPOCH);
    assert!(size_of::<ModuleEntry>() == module::SIZE && offset_of!(ModuleEntry, path) == module::PATH);
    assert!(size_of::<MethodEntry>() == layout::method::SIZE);
    assert!(size_of::<Shard>() == shard::SIZE && offset_of!(Shard, reallocs) == shard::REALLOCS);
    assert!(
        size_of::<Slot>() == slot::SIZE && offset_of!(Slot, at) == slot::AT && offset_of!(Slot, epoch) == slot::EPOCH
    );
    assert!(size_of::<Peak>() == peak::SIZE);
};

impl Shard {
    /// Counts a block.
    #[inline(always)]
    pub(super) fn allocated(&self, size: usize) {
        self.add(&self.blocks, 1);
        self.add(&self.bytes, size as u64);
    }

    /// Counts a block as freed.
    #[inline(always)]
    pub(super) fn freed(&self, size: u64) {
        self.add(&self.freed_blocks, 1);
        self.add(&self.freed_bytes, size);
    }

    /// Says of a block that is counted that it was a reallocation.
    #[inline(always)]
    pub(super) fn reallocated(&self) {
        self.add(&self.reallocs, 1);
    }

    #[inline(always)]
    fn add(&self, counter: &AtomicU64, amount: u64) {
        if self.shared.load(Ordering::Relaxed) == 0 {
            // PERF: one writer, so no `lock` prefix.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        } else {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Leaves the shard, with its counts, to the next thread.
    pub(super) fn give_back(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

impl Heap {
    /// How many bytes a thread may keep to itself: a thousandth of the peak, so that the peak is that exact per thread
    /// that allocates.
    #[inline(always)]
    pub(super) fn slack(&self) -> i64 {
        self.slack.load(Ordering::Relaxed)
    }

    /// Adds what a thread allocated or freed; says whether there was never more live.
    #[cold]
    #[inline(never)]
    pub(super) fn tell(&self, bytes: i64) -> bool {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if live <= self.peak.load(Ordering::Relaxed) {
            return false;
        }
        self.peak.fetch_max(live, Ordering::Relaxed);
        self.slack.store((live >> 10).min(4096), Ordering::Relaxed);
        self.peak_monotonic.store(monotonic(), Ordering::Relaxed);
        true
    }
}

impl Recording {
    /// A shard for this thread; the shared one when all are taken.
    pub(super) fn take_shard(&self) -> &Shard {
        for (index, shard) in self.shards.iter().enumerate().skip(1) {
            if shard.taken.load(Ordering::Relaxed) == 0
                && shard.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                self.header.used.shards.fetch_max(index as u32 + 1, Ordering::Relaxed);
                return shard;
            }
        }
        self.shared_shard()
    }

    /// Everybody's shard.
    pub(super) fn shared_shard(&self) -> &Shard {
        &self.shards[0]
    }

    /// Makes sure that there is memory for the first `bytes` of an area; false where there is none.
    ///
    /// `reserved` says for how many there is. Threads that find too few reserve the same chunk, each for itself.
    pub(super) fn reserve(&self, area: *const c_void, bytes: usize, reserved: &AtomicUsize) -> bool {
        let have = reserved.load(Ordering::Relaxed);
        if bytes <= have {
            return true;
        }
        let want = bytes.next_multiple_of(CHUNK);
        let errno = errno();
        let made = populate(area.wrapping_byte_add(have), want - have);
        set_errno(errno);
        if made {
            reserved.fetch_max(want, Ordering::Relaxed);
        }
        made
    }
}

/// Bytes of an area that are reserved at once.
const CHUNK: usize = 64 * 1024;

/// Allocates the pages of a shared mapping, which begin at a page; false, and no signal, where that cannot be.
fn populate(at: *const c_void, bytes: usize) -> bool {
    // SAFETY: asks the kernel to touch pages of a mapping; what lies in them stays.
    if unsafe { libc::madvise(at.cast_mut(), bytes, libc::MADV_POPULATE_WRITE) } == 0 {
        return true;
    }
    // Before Linux 5.14 the kernel does not know how: then through the file, by its name. Where there is no file, memory
    // comes when it is touched.
    let has_file = NAME[0].load(Ordering::Relaxed) != 0;
    errno() == libc::EINVAL && (!has_file || allocate_by_name(at as usize, bytes))
}

static BASE: AtomicUsize = AtomicUsize::new(0);
/// The name of the file, for those who reserve more of it. Written before [`BASE`].
static NAME: [AtomicU8; PATH_MAX] = [const { AtomicU8::new(0) }; PATH_MAX];
const PATH_MAX: usize = 512;

/// The file is opened anew each time: a program that closes all descriptors, as daemons do, would close a kept one.
fn allocate_by_name(at: usize, bytes: usize) -> bool {
    let mut name = [0u8; PATH_MAX];
    for (byte, stored) in name.iter_mut().zip(&NAME) {
        *byte = stored.load(Ordering::Relaxed);
    }
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the name ends with a zero; the descriptor is closed and used by nobody else.
    unsafe {
        let file = libc::open(name.as_ptr().cast(), flags);
        if file < 0 {
            return false;
        }
        let offset = (at - BASE.load(Ordering::Relaxed)) as libc::off64_t;
        let made = libc::fallocate64(file, 0, offset, bytes as libc::off64_t) == 0;
        libc::close(file);
        made
    }
}

/// Why there is no recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFile {
    /// The name is too long.
    Name,
    /// The file cannot be made: another has the name, or the folder refuses.
    Create,
    /// There is no memory for its first pages.
    Full,
}

/// Makes the file, which nobody else may read, and maps it.
pub(super) fn create(path: &CStr) -> Result<&'static Recording, NoFile> {
    let bytes = path.to_bytes();
    if bytes.len() >= PATH_MAX {
        return Err(NoFile::Name);
    }
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let mode: libc::c_uint = 0o600;
    // SAFETY: the mapping is fresh, shared and never unmapped; the descriptor is closed here and used by nobody else.
    let base = unsafe {
        let file = libc::open(path.as_ptr(), flags, mode);
        if file < 0 {
            return Err(NoFile::Create);
        }
        let mut base = libc::MAP_FAILED;
        if libc::ftruncate64(file, layout::SIZE as libc::off64_t) == 0 {
            let access: c_int = libc::PROT_READ | libc::PROT_WRITE;
            base = libc::mmap(std::ptr::null_mut(), layout::SIZE, access, libc::MAP_SHARED, file, 0);
        }
        libc::close(file);
        if base == libc::MAP_FAILED {
            libc::unlink(path.as_ptr());
            return Err(NoFile::Create);
        }
        base
    };
    write(&NAME, path.to_bytes_with_nul());
    BASE.store(base as usize, Ordering::Relaxed);
    if !populate(base, layout::SLOTS_AT) {
        // SAFETY: nothing refers to the mapping yet.
        unsafe {
            libc::munmap(base, layout::SIZE);
            libc::unlink(path.as_ptr());
        }
        return Err(NoFile::Full);
    }
    Ok(begin_in(base))
}

/// Makes a recording without a file.
pub(super) fn create_in_memory() -> Result<&'static Recording, NoFile> {
    map_private(layout::SIZE).map(begin_in).ok_or(NoFile::Full)
}

/// The recording in a fresh mapping of its size.
fn begin_in(base: *mut c_void) -> &'static Recording {
    // SAFETY: the mapping is as large as `Recording`, page-aligned, lives as long as the process, holds zeros, which are
    // a valid value, and everything in it is an atomic. Pages beyond what is reserved are not touched.
    let recording = unsafe { &*base.cast::<Recording>() };
    recording.shards[0].shared.store(1, Ordering::Relaxed);
    recording
}

/// Takes the file's name away, as if nothing had been recorded.
pub(super) fn unlink() {
    let mut name = [0u8; PATH_MAX];
    for (byte, stored) in name.iter_mut().zip(&NAME) {
        *byte = stored.load(Ordering::Relaxed);
    }
    // SAFETY: the name ends with a zero.
    unsafe { libc::unlink(name.as_ptr().cast()) };
}

/// Copies bytes, as many as find room; says how many.
pub(super) fn write(to: &[AtomicU8], from: &[u8]) -> u32 {
    for (to, from) in to.iter().zip(from) {
        to.store(*from, Ordering::Relaxed);
    }
    to.len().min(from.len()) as u32
}

/// Nanoseconds of the monotonic clock, to a tick of the kernel.
pub(super) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds since 1970.
pub(super) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local value.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The thread's `errno`, which is the program's: kept around every system call.
pub(super) fn errno() -> c_int {
    // SAFETY: the C library gives the address of the thread's own word.
    unsafe { *libc::__errno_location() }
}

/// Puts it back.
pub(super) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Maps memory that nobody else sees, zeroed, of which only what is touched is taken.
pub(super) fn map_private(bytes: usize) -> Option<*mut c_void> {
    let access: c_int = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // A huge page for a handful of words would show in the process's resident set.
    // SAFETY: advice about the mapping just made.
    unsafe { libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE) };
    Some(at)
}
