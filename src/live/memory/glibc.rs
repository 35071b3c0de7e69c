//! What glibc's malloc says of itself: `mallinfo2`, which glibc has since 2.33.
//!
//! It takes the lock of one arena after the other and walks its free blocks, which takes longer the more there are. So
//! no more than a hundredth of the time is spent on it: a figure is used again while it is fresher than that allows.

#![expect(unsafe_code, reason = "a function of the C library, looked up by name because older ones do not have it")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Allocator;

/// A reading, when it was taken, and how long it took.
static LAST: Mutex<Option<(Allocator, Instant, Duration)>> = Mutex::new(None);
const SHARE: u32 = 100;

pub(super) fn read() -> Option<Allocator> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((allocator, at, took)) = *last
        && at.elapsed() < took * SHARE
    {
        return Some(allocator);
    }
    let began = Instant::now();
    let info = mallinfo2()?;
    let allocator = Allocator {
        name: "glibc",
        in_use: (info.uordblks + info.hblkhd) as u64,
        kept: info.fordblks as u64,
        advice: "malloc_trim, MALLOC_ARENA_MAX=2 or another allocator",
    };
    *last = Some((allocator, began, began.elapsed()));
    Some(allocator)
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
        assert_eq!(read().map(|glibc| glibc.name), Some("glibc"));
    }
}
