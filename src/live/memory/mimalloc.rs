//! What mimalloc says of itself, where the program is built with it: what it took, and not what it handed out.

#![expect(unsafe_code, reason = "mimalloc's figures are behind a function of C")]

use std::ptr::null_mut;

use super::Allocator;

pub(super) fn read(live_bytes: u64) -> Option<Allocator> {
    let mut committed = 0;
    // SAFETY: each pointer is null, which the function allows, or leads to a number that outlives the call.
    unsafe {
        libmimalloc_sys::mi_process_info(
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut committed,
            null_mut(),
            null_mut(),
        );
    }
    // Linked in, and not what allocates.
    let kept = (committed as u64).checked_sub(live_bytes)?;
    let advice = "MIMALLOC_PURGE_DELAY=0 or mi_collect";
    Some(Allocator { name: "mimalloc", in_use: live_bytes, kept, is_old: false, advice })
}
