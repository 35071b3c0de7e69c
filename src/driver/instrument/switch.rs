//! The global allocator that is one of several, chosen at the first allocation.
//!
//! The choice is made once and never changes, because a block must be freed by the allocator it came from:
//! tracking-allocator wraps layouts. What a program pays for the choice is a relaxed load and a comparison an
//! allocation; the plain allocator comes first.

#![expect(unsafe_code, reason = "a global allocator, and the environment read before anything is allocated")]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::libc;

use super::inner::{INNER, Inner};
use super::{retained, sampled, stacks};
use crate::CountingAlloc;
use crate::record::Instrument;

/// The global allocator of a program that is measured.
pub struct Global {
    plain: Inner,
    count: CountingAlloc<Inner>,
    stacks: stacks::Alloc,
    retained: retained::Alloc,
    sampled: sampled::Alloc,
}

/// The one instance a program installs.
pub const GLOBAL: Global = Global {
    plain: INNER,
    count: CountingAlloc::wrapping(INNER),
    stacks: stacks::ALLOC,
    retained: retained::ALLOC,
    sampled: sampled::ALLOC,
};

/// [`code`] of the chosen instrument; 0 before the first allocation. Written once, or several times the same.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

const COUNT: u8 = code(Instrument::Count);
const STACKS: u8 = code(Instrument::Stacks);
const RETAINED: u8 = code(Instrument::Retained);
const SAMPLED: u8 = code(Instrument::Sampled);

const fn code(instrument: Instrument) -> u8 {
    instrument as u8 + 1
}

/// The instrument this process measures with.
#[inline]
pub fn chosen() -> Instrument {
    Instrument::ALL[usize::from(chosen_code()) - 1]
}

#[inline]
fn chosen_code() -> u8 {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => choose(),
        code => code,
    }
}

/// Reads the environment variable. Runs inside the first allocation: allocates nothing, locks nothing, cannot panic.
#[cold]
#[inline(never)]
fn choose() -> u8 {
    // SAFETY: the name ends with a nul. `getenv` gives null or a string that ends with one, which stays as it is
    // until somebody changes the environment: the first allocation comes before a program can have a second thread.
    let value = unsafe {
        let value = libc::getenv(Instrument::VARIABLE.as_ptr());
        if value.is_null() { c"" } else { CStr::from_ptr(value) }
    };
    let named = |instrument: &Instrument| instrument.name().as_bytes() == value.to_bytes();
    let instrument =
        Instrument::ALL.into_iter().find(|instrument| named(instrument) && super::is_available(*instrument));
    let code = code(instrument.unwrap_or(Instrument::Time));
    CHOSEN.store(code, Ordering::Relaxed);
    code
}

/// The same call on the chosen allocator.
macro_rules! forward {
    ($global:ident, $method:ident($($argument:expr),+)) => {
        match chosen_code() {
            // SAFETY: the invariant below; the caller keeps the method's contract.
            COUNT => unsafe { $global.count.$method($($argument),+) },
            // SAFETY: as above.
            STACKS => unsafe { $global.stacks.$method($($argument),+) },
            // SAFETY: as above.
            RETAINED => unsafe { $global.retained.$method($($argument),+) },
            // SAFETY: as above.
            SAMPLED => unsafe { $global.sampled.$method($($argument),+) },
            // SAFETY: as above.
            _ => unsafe { $global.plain.$method($($argument),+) },
        }
    };
}

// SAFETY: (the invariant) every method hands its arguments unchanged to the same method of the one chosen allocator and
// returns its result unchanged. `chosen_code` gives the same answer to every call of a process and touches no memory
// that is handed out, so a block is freed and grown by the allocator it came from, whose guarantees hold for callers.
unsafe impl GlobalAlloc for Global {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        forward!(self, alloc(layout))
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        forward!(self, alloc_zeroed(layout))
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        forward!(self, dealloc(block, layout))
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        forward!(self, realloc(block, layout, new_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instrument_is_known_by_its_code() {
        for instrument in Instrument::ALL {
            assert_eq!(Instrument::ALL[usize::from(code(instrument)) - 1], instrument);
        }
    }
}
