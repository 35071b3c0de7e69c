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
    /// Allocating scope and freeing stage to blocks and bytes.
    freed: HashMap<(Scope, Stage), (u64, u64)>,
}

static LEDGER: OnceLock<Ledger> = OnceLock::new();

impl Ledger {
    /// The process's ledger, made known to tracking-allocator on the first call.
    pub fn install() -> &'static Ledger {
        LEDGER.get_or_init(|| {
            // An error means that somebody else's tracker is installed: the ledger then stays empty, and says so.
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
        ledger.part(address).live.insert(address, (stage::current_for(object_size), object_size));
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
        let mut part = ledger.part(address);
        let Some((scope, size)) = part.live.remove(&address) else { return };
        let (blocks, bytes) = part.freed.entry((scope, stage::current().stage())).or_default();
        *blocks += 1;
        *bytes += size as u64;
    }
}
