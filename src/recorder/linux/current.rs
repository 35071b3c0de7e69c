//! The recording of this process, which hooks write to while there is one.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::file::Recording;

/// Points to a word that is zeroed in a forked child: the recording's address. Null before recording begins.
static RECORDING: AtomicPtr<AtomicUsize> = AtomicPtr::new(std::ptr::null_mut());

/// What this process records into.
#[inline(always)]
pub(super) fn recording() -> Option<&'static Recording> {
    let word = RECORDING.load(Ordering::Acquire);
    if word.is_null() {
        return None;
    }
    // SAFETY: `record_into` stored a pointer to a word that is never unmapped; what the word holds, unless it is zero,
    // is the address of a recording that is never unmapped.
    unsafe { std::ptr::with_exposed_provenance::<Recording>((*word).load(Ordering::Relaxed)).as_ref() }
}

/// From now on the hooks record. `word` is never unmapped.
pub(super) fn record_into(recording: &'static Recording, word: &'static AtomicUsize) {
    word.store((&raw const *recording).expose_provenance(), Ordering::Relaxed);
    RECORDING.store((&raw const *word).cast_mut(), Ordering::Release);
}

/// From now on the hooks do nothing.
pub(super) fn stop() {
    RECORDING.store(std::ptr::null_mut(), Ordering::Release);
}

/// Adds to what is live in the process. Where that is a new peak, every slot keeps what it has live before it changes.
pub(super) fn tell(recording: &Recording, bytes: i64) {
    if recording.header.heap.tell(bytes) {
        recording.header.epoch.0.fetch_add(1, Ordering::Relaxed);
    }
}
