//! Names for instruction pointers, looked up when a profile is read and remembered for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::unsampled;
use crate::Stage;
use crate::alloc::aside::{self, Aside};

/// One function an instruction pointer lies in; inlined functions give several for one pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function's name without its hash.
    pub function: String,
    /// The source file; empty where the program carries no line tables.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
}

/// The names known so far, and when somebody last asked.
struct Known {
    names: HashMap<usize, Arc<[Frame]>>,
    asked: Instant,
}

/// Touched aside alone.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// The functions each of `pointers` lies in, innermost first; none where nothing is known of it, as in a program that is
/// stripped.
///
/// The first call reads the program's debug information, which takes from milliseconds to seconds; the service's own
/// threads do not wait for it. Names stay in memory until [`forget_symbols`] is called, at most as many as there are
/// pointers in the table of stacks: some tens of megabytes. What is looked up and kept is charged to
/// [`Stage::Instrument`], is not sampled, and is neither in the process's live bytes nor in their peak; the answer is.
pub fn symbolise(pointers: impl IntoIterator<Item = usize>) -> HashMap<usize, Arc<[Frame]>> {
    let _guard = Stage::Instrument.enter();
    unsampled(|| {
        let pointers: Vec<usize> = pointers.into_iter().collect();
        let names = Aside::new(|| known_symbols(pointers.iter().copied()));
        names.iter().map(|(pointer, frames)| (*pointer, frames.iter().cloned().collect())).collect()
    })
}

/// As [`symbolise`], for callers that are aside already: the answer is shared with what is remembered.
pub(crate) fn known_symbols(pointers: impl IntoIterator<Item = usize>) -> HashMap<usize, Arc<[Frame]>> {
    let _guard = aside::enter();
    unsampled(|| {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| Known { names: HashMap::new(), asked: Instant::now() });
        let mut looked_up = false;
        let names = pointers
            .into_iter()
            .map(|pointer| {
                let frames = known.names.entry(pointer).or_insert_with(|| {
                    looked_up = true;
                    look_up(pointer)
                });
                (pointer, Arc::clone(frames))
            })
            .collect();
        if looked_up {
            // The parsed debug information is many times larger than the names taken from it.
            backtrace::clear_symbol_cache();
        }
        known.asked = Instant::now();
        names
    })
}

/// Frees the names that [`symbolise`] remembers: the next call looks them up again.
pub fn forget_symbols() {
    let _guard = aside::enter();
    *KNOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Frees the names if nobody asked for so long; else says how long that is still to be waited for.
#[cfg(feature = "live")]
pub(crate) fn forget_unused(after: std::time::Duration) -> Option<std::time::Duration> {
    let _guard = aside::enter();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let left = after.checked_sub(known.as_ref()?.asked.elapsed()).filter(|left| !left.is_zero());
    if left.is_none() {
        *known = None;
    }
    left
}

fn look_up(pointer: usize) -> Arc<[Frame]> {
    let mut frames = Vec::new();
    // `resolve` takes the byte before a return address itself.
    backtrace::resolve(pointer as *mut std::ffi::c_void, |symbol| {
        let Some(name) = symbol.name() else { return };
        frames.push(Frame {
            function: format!("{name:#}"),
            file: symbol.filename().map(|file| file.display().to_string()).unwrap_or_default(),
            line: symbol.lineno().unwrap_or(0),
        });
    });
    frames.into()
}

#[cfg(all(test, feature = "live"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_forgotten_when_nobody_asks() {
        let own = names_are_forgotten_when_nobody_asks as fn() as usize + 1;
        let frames = symbolise([own]).remove(&own).expect("asked for");
        assert!(frames.iter().any(|frame| frame.function.contains("names_are_forgotten")), "{frames:?}");
        // Of the first page of memory nothing is known, and nothing is said.
        assert!(symbolise([16])[&16].is_empty());
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(forget_unused(day).is_some_and(|left| left <= day));
        assert!(KNOWN.lock().expect("no test panics").is_some());
        assert_eq!(forget_unused(Duration::ZERO), None);
        assert!(KNOWN.lock().expect("no test panics").is_none());
        assert_eq!(forget_unused(day), None, "there is nothing to wait for");
    }
}
