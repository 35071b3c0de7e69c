//! Names for instruction pointers, looked up when a profile is read and remembered after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::unsampled;
use crate::Stage;

/// One function an instruction pointer lies in; inlined functions give several for one pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function's name without its hash, or the pointer in hexadecimal where nothing is known of it.
    pub function: String,
    /// The source file; empty where the program carries no line tables.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
}

/// The functions each of `pointers` lies in, innermost first.
///
/// The first call reads the program's debug information, which takes from milliseconds to seconds; the service's own
/// threads do not wait for it. Names stay in memory: at most as many as there are pointers in the table of stacks.
/// What this allocates is charged to [`Stage::Instrument`] and not sampled.
pub fn symbolise(pointers: impl IntoIterator<Item = usize>) -> HashMap<usize, Arc<[Frame]>> {
    static KNOWN: Mutex<Option<HashMap<usize, Arc<[Frame]>>>> = Mutex::new(None);
    let _guard = Stage::Instrument.enter();
    unsampled(|| {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        let mut looked_up = false;
        let names = pointers
            .into_iter()
            .map(|pointer| {
                let frames = known.entry(pointer).or_insert_with(|| {
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
        names
    })
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
    if frames.is_empty() {
        frames.push(Frame { function: format!("{pointer:#x}"), file: String::new(), line: 0 });
    }
    frames.into()
}
