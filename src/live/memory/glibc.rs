//! What glibc's malloc says of itself: `mallinfo2`, which glibc has since 2.33.
//!
//! It takes the lock of one arena after the other and walks its free blocks, which takes longer the more there are. So
//! no more than a hundredth of the time is spent on it: a figure is used again while it is fresher than that allows. Where
//! the program has freed or allocated much since, it may be a tenth; what is older even so says that it is.

#![expect(unsafe_code, reason = "a function of the C library, looked up by name because older ones do not have it")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Allocator, GAP_MIN};

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// A reading.
struct Last {
    allocator: Allocator,
    /// What the program held.
    live_bytes: u64,
    at: Instant,
    /// The processor's time, not that of a thread that waits for its turn or for a lock.
    took: Duration,
}

/// What becomes of the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Again,
    /// Too early for another, and no longer true.
    Old,
    No,
}

impl Last {
    fn now(&self, live_bytes: u64, elapsed: Duration) -> Use {
        let is_true = live_bytes.abs_diff(self.live_bytes) < GAP_MIN;
        let times = if is_true { 100 } else { 10 };
        match elapsed < self.took * times {
            true if is_true => Use::Again,
            true => Use::Old,
            false => Use::No,
        }
    }
}

pub(super) fn read(live_bytes: u64) -> Option<Allocator> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = last.as_ref() {
        match last.now(live_bytes, last.at.elapsed()) {
            Use::Again => return Some(last.allocator),
            Use::Old => return Some(Allocator { is_old: true, ..last.allocator }),
            Use::No => {}
        }
    }
    let began = thread_time();
    let info = mallinfo2()?;
    let took = thread_time().saturating_sub(began);
    let allocator = Allocator {
        name: "glibc",
        in_use: (info.uordblks + info.hblkhd) as u64,
        kept: info.fordblks as u64,
        is_old: false,
        advice: "malloc_trim, MALLOC_ARENA_MAX=2 or another allocator",
    };
    *last = Some(Last { allocator, live_bytes, at: Instant::now(), took });
    Some(allocator)
}

/// The processor's time that this thread has had.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the place it is given, which outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn mallinfo2() -> Option<libc::mallinfo2> {
    // SAFETY: the name ends with a zero byte, and looking it up has no effect.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr()) };
    if function.is_null() {
        return None;
    }
    // SAFETY: glibc alone has a function of this name, and it has had this signature from the first.
    let function: unsafe extern "C" fn() -> libc::mallinfo2 = unsafe { std::mem::transmute(function) };
    // SAFETY: it may be called by any thread at any time.
    Some(unsafe { function() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_and_kept_is_found() {
        // Above the allocations of one thread's cache and below those that are mapped one by one.
        let blocks: Vec<Vec<u8>> = (0..4000).map(|_| vec![1; 16 * 1024]).collect();
        let last = blocks.last().map(|block| block.as_ptr());
        let held = mallinfo2().expect("a glibc of this decade");
        drop(blocks);
        let freed = mallinfo2().expect("a glibc of this decade");
        assert!(last.is_some() && held.uordblks + held.hblkhd >= 4000 * 16 * 1024, "{held:?}");
        assert!(freed.uordblks < held.uordblks, "{held:?} {freed:?}");
        assert_eq!(read(0).map(|glibc| (glibc.name, glibc.is_old)), Some(("glibc", false)));
    }

    #[test]
    fn a_reading_is_used_again_while_it_is_true() {
        let allocator = Allocator { name: "glibc", in_use: 0, kept: 0, is_old: false, advice: "" };
        let took = Duration::from_millis(10);
        let last = Last { allocator, live_bytes: 10 * GAP_MIN, at: Instant::now(), took };
        let (near, far) = (10 * GAP_MIN + 1, 0);
        for (live_bytes, elapsed, used) in [
            (near, took * 99, Use::Again),
            (near, took * 100, Use::No),
            (far, took * 9, Use::Old),
            (far, took * 10, Use::No),
        ] {
            assert_eq!(last.now(live_bytes, elapsed), used, "{live_bytes} {elapsed:?}");
        }
    }
}
