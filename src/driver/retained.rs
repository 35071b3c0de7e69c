//! Retained bytes per stage, on tracking-allocator: what is live, which stage allocated it, which stage frees it.
//!
//! tracking-allocator calls the [`Ledger`] for every block; the ledger books each block's address under the
//! [`Scope`] it was allocated in, because the crate's own groups are entered by token and ours by stage. Blocks from
//! before tracking began are not known and not counted. Its cost (a lock and a hash map per block, and `realloc` and
//! `alloc_zeroed` without their fast paths, see tracking-allocator's `Allocator`) is why this instrument is never
//! used to count or to time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker};

use crate::Stage;
use crate::record::{FreedBy, Retained};
use crate::stage::{self, Scope};

/// Independent locks, so that threads rarely wait for each other.
const PARTS: usize = 64;

/// Every live block, and who freed the others.
#[derive(Debug)]
pub struct Ledger {
    parts: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    /// Address to scope and size.
    live: HashMap<usize, (Scope, usize)>,
    /// Blocks whose memory is in use again, and of whose release nothing was heard yet: tracking-allocator frees a block
    /// first and tells so then, and in between another thread may be given the same address.
    replaced: HashMap<usize, Vec<(Scope, usize)>>,
    /// Allocating scope and freeing stage to blocks and bytes.
    freed: HashMap<(Scope, Stage), (u64, u64)>,
}

static LEDGER: OnceLock<Ledger> = OnceLock::new();

impl Ledger {
    /// The process's ledger, made known to tracking-allocator on the first call.
    pub fn install() -> &'static Ledger {
        LEDGER.get_or_init(|| {
            // An error means that the process has another tracker: this ledger then stays empty.
            let _ = AllocationRegistry::set_global_tracker(Tracker);
            Ledger { parts: std::array::from_fn(|_| Mutex::default()) }
        })
    }

    /// Forgets who freed what so far; what is live stays known.
    pub fn forget_frees(&self) {
        self.parts.iter().for_each(|part| lock(part).freed.clear());
    }

    /// Live blocks and bytes by allocating stage and RPC method, largest first.
    pub fn read(&self) -> Vec<Retained> {
        let mut rows: HashMap<Scope, Retained> = HashMap::new();
        for part in &self.parts {
            let part = lock(part);
            for (scope, size) in part.live.values() {
                let row = rows.entry(*scope).or_insert_with(|| empty(*scope));
                row.curr_blocks += 1;
                row.curr_bytes += *size as u64;
            }
            for ((scope, stage), (blocks, bytes)) in &part.freed {
                let row = rows.entry(*scope).or_insert_with(|| empty(*scope));
                match row.freed_by.iter_mut().find(|freed| freed.stage == *stage) {
                    Some(freed) => {
                        freed.blocks += blocks;
                        freed.bytes += bytes;
                    }
                    None => row.freed_by.push(FreedBy { stage: *stage, blocks: *blocks, bytes: *bytes }),
                }
            }
        }
        let mut rows: Vec<Retained> = rows.into_values().collect();
        rows.iter_mut().for_each(|row| row.freed_by.sort_by_key(|freed| freed.stage));
        rows.sort_by(|a, b| (b.curr_bytes, a.stage, &a.rpc).cmp(&(a.curr_bytes, b.stage, &b.rpc)));
        rows
    }

    fn allocated(&self, address: usize, scope: Scope, size: usize) {
        let mut part = self.part(address);
        if let Some(before) = part.live.insert(address, (scope, size)) {
            part.replaced.entry(address).or_default().push(before);
        }
    }

    fn deallocated(&self, address: usize, stage: Stage) {
        let mut part = self.part(address);
        let replaced = part.replaced.get_mut(&address).map(|blocks| (blocks.remove(0), blocks.is_empty()));
        let block = match replaced {
            Some((block, last)) => {
                if last {
                    part.replaced.remove(&address);
                }
                Some(block)
            }
            None => part.live.remove(&address),
        };
        let Some((scope, size)) = block else { return };
        let (blocks, bytes) = part.freed.entry((scope, stage)).or_default();
        *blocks += 1;
        *bytes += size as u64;
    }

    fn part(&self, address: usize) -> MutexGuard<'_, Part> {
        // Blocks are at least 16 bytes apart.
        lock(&self.parts[(address >> 4) % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn empty(scope: Scope) -> Retained {
    Retained {
        stage: scope.stage(),
        rpc: scope.method().name().path.to_owned(),
        curr_blocks: 0,
        curr_bytes: 0,
        freed_by: Vec::new(),
    }
}

/// Hands tracking-allocator's calls to the ledger. What it allocates itself is not tracked: the crate sees to that.
struct Tracker;

impl AllocationTracker for Tracker {
    fn allocated(&self, address: usize, object_size: usize, _wrapped_size: usize, _group: AllocationGroupId) {
        let Some(ledger) = LEDGER.get() else { return };
        ledger.allocated(address, stage::window::current_for(object_size), object_size);
    }

    fn deallocated(
        &self,
        address: usize,
        _object_size: usize,
        _wrapped_size: usize,
        _source_group: AllocationGroupId,
        _current_group: AllocationGroupId,
    ) {
        let Some(ledger) = LEDGER.get() else { return };
        ledger.deallocated(address, stage::current().stage());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    #[test]
    fn a_release_that_is_told_late_is_of_the_block_before() {
        let ledger = Ledger { parts: std::array::from_fn(|_| Mutex::default()) };
        let scope = |stage| Scope::new(Method::NONE, stage);
        ledger.allocated(0x1000, scope(Stage::Marshal), 100);
        // Another thread is given the address before the release of the first block is told.
        ledger.allocated(0x1000, scope(Stage::Handler), 30);
        ledger.deallocated(0x1000, Stage::Transport);
        let rows = ledger.read();
        let row = |stage| rows.iter().find(|row| row.stage == stage).expect("a row");
        assert_eq!((row(Stage::Handler).curr_blocks, row(Stage::Handler).curr_bytes), (1, 30));
        assert!(row(Stage::Handler).freed_by.is_empty());
        let freed = FreedBy { stage: Stage::Transport, blocks: 1, bytes: 100 };
        assert_eq!((row(Stage::Marshal).curr_blocks, &row(Stage::Marshal).freed_by[..]), (0, &[freed][..]));
        ledger.deallocated(0x1000, Stage::Handler);
        assert!(ledger.read().iter().all(|row| row.curr_blocks == 0));
        // Of blocks from before the ledger nothing is known.
        ledger.deallocated(0x2000, Stage::Handler);
        assert_eq!(ledger.read().len(), 2);
    }
}
