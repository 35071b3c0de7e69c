//! What jemalloc says of itself, where the program is built with it.

use tikv_jemalloc_ctl::{epoch, stats};

use super::Allocator;

pub(super) fn read(live_bytes: u64) -> Option<Allocator> {
    // The figures are those of the last epoch.
    epoch::advance().ok()?;
    let (allocated, resident) = (stats::allocated::read().ok()?, stats::resident::read().ok()?);
    // Linked in, and not what allocates: it holds what reading its figures takes. The program goes on meanwhile, so that what
    // does allocate may have somewhat less than was live before.
    if (allocated as u64) < live_bytes / 2 {
        return None;
    }
    Some(Allocator {
        name: "jemalloc",
        in_use: allocated as u64,
        kept: resident.saturating_sub(allocated) as u64,
        is_old: false,
        advice: "background_thread:true,dirty_decay_ms:1000 in _RJEM_MALLOC_CONF",
    })
}
