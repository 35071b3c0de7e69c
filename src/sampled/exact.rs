//! Every allocation's stack, counted exactly, for as long as somebody asks: a window in the life of a program whose
//! allocator can be told to open one.
//!
//! A table of its own: what a window saw takes no place from the stacks that are sampled. It is not emptied between
//! windows, of which each is the difference of two readings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::profile::shown;
use super::stacks::{FRAMES, Slot, find_in, ready};
use super::{BUSY, capture, unsampled};
use crate::Stage;
use crate::stage::{self, Scope};

/// How many different stacks are told apart; further ones share a row without frames for each stage and RPC method.
pub(crate) const STACKS: usize = 16_384;

/// What a stack allocated.
struct Total {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Total {
    const fn new() -> Total {
        Total { blocks: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn add(&self, size: usize) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size as u64, Ordering::Relaxed);
    }
}

static SLOTS: [Slot<Total>; STACKS] = [const { Slot::new(Total::new()) }; STACKS];
/// The rows without frames, by scope.
static REST: [Total; Scope::COUNT] = [const { Total::new() }; Scope::COUNT];

/// A block of this size was allocated while a window is open. A reallocation is a block of its new size.
#[cold]
#[inline(never)]
pub(crate) fn allocated(size: usize) {
    if BUSY.replace(true) {
        return;
    }
    let scope = stage::window::current_for(size);
    let mut frames = [0usize; FRAMES];
    let (depth, truncated) = capture(&mut frames);
    match find_in(&SLOTS, scope, &frames[..depth], truncated) {
        Some(index) => SLOTS[index].sums.add(size),
        None => REST[scope.index()].add(size),
    }
    BUSY.set(false);
}

/// One stack of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    index: usize,
    pub(crate) scope: Scope,
    /// Return addresses, innermost first; empty for stacks beyond [`STACKS`].
    pub(crate) frames: Vec<usize>,
    pub(crate) truncated: bool,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

/// What the windows so far saw, or one of them.
#[derive(Debug)]
pub(crate) struct Exact(pub(crate) Vec<Row>);

impl Exact {
    /// Reads the table. What that allocates is charged to [`Stage::Instrument`], and is in no window.
    pub(crate) fn read() -> Exact {
        let _guard = Stage::Instrument.enter();
        let row = |index: usize, scope: Scope, (frames, truncated): (Vec<usize>, bool), total: &Total| Row {
            index,
            scope: shown(scope),
            frames,
            truncated,
            blocks: total.blocks.load(Ordering::Relaxed),
            bytes: total.bytes.load(Ordering::Relaxed),
        };
        unsampled(|| {
            let stacks = ready(&SLOTS).map(|(index, slot)| row(index, slot.scope(), slot.stack(), &slot.sums));
            let rest = REST
                .iter()
                .enumerate()
                .map(|(index, total)| row(STACKS + index, Scope::from_index(index as u16), (Vec::new(), false), total));
            Exact(stacks.chain(rest).filter(|row| row.blocks > 0).collect())
        })
    }

    /// What was allocated since `earlier`.
    pub(crate) fn since(mut self, earlier: &Exact) -> Exact {
        let _guard = Stage::Instrument.enter();
        let before: HashMap<usize, &Row> = earlier.0.iter().map(|row| (row.index, row)).collect();
        for row in &mut self.0 {
            if let Some(before) = before.get(&row.index) {
                row.blocks -= before.blocks;
                row.bytes -= before.bytes;
            }
        }
        self.0.retain(|row| row.blocks > 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_what_came_between_two_readings_and_nothing_is_lost_where_the_table_is_full() {
        let blocks = |exact: &Exact| {
            exact.0.iter().map(|row| (row.blocks, row.bytes)).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
        };
        let before = Exact::read();
        for size in [10, 20, 30] {
            allocated(size);
        }
        let window = Exact::read().since(&before);
        assert_eq!(blocks(&window), (3, 60));
        assert!(window.0.iter().all(|row| !row.frames.is_empty()), "{window:?}");
        for stack in 0..2 * STACKS {
            match find_in(&SLOTS, Scope::NONE, &[1, 2, stack], false) {
                Some(index) => SLOTS[index].sums.add(1),
                None => REST[Scope::NONE.index()].add(1),
            }
        }
        let filled = Exact::read().since(&before);
        assert_eq!(blocks(&filled).0, 3 + 2 * STACKS as u64);
        assert!(filled.0.iter().any(|row| row.frames.is_empty() && row.blocks >= STACKS as u64));
        assert_eq!(Exact::read().since(&Exact::read()).0, []);
    }
}
