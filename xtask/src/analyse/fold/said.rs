//! What seams and stacks say of the same blocks.

use alloc_ladder::{Side, Stage, Tally};

use crate::analyse::dhat::Point;

/// Blocks that the seams charged to one stage and the names on their stacks to one, the same or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// `None` where no seam was.
    pub(crate) by_scope: Option<Stage>,
    pub(crate) by_stack: Stage,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Said {
    /// Adds it to what was said before.
    pub(crate) fn add_to(self, all: &mut Vec<Said>) {
        match all.iter_mut().find(|said| (said.by_scope, said.by_stack) == (self.by_scope, self.by_stack)) {
            Some(said) => {
                said.blocks += self.blocks;
                said.bytes += self.bytes;
            }
            None => all.push(self),
        }
    }
}

/// Blocks of one method that were allocated in the scope of one stage and are of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) method: Option<(Side, String)>,
    /// The scope's: [`Stage::Other`] where no seam was.
    pub(crate) from: Stage,
    pub(crate) to: Stage,
    pub(crate) tally: Tally,
}

impl Moved {
    pub(super) fn add(moved: &mut Vec<Moved>, point: &Point, to: Stage) {
        let from = point.stage.unwrap_or(Stage::Other);
        if from == to {
            return;
        }
        let tally = Tally {
            blocks: point.blocks,
            bytes: point.bytes,
            freed_blocks: point.blocks.saturating_sub(point.live_blocks),
            freed_bytes: point.bytes.saturating_sub(point.live_bytes),
            ..Tally::default()
        };
        match moved.iter_mut().find(|other| (other.from, other.to, &other.method) == (from, to, &point.method)) {
            Some(other) => other.tally += tally,
            None => moved.push(Moved { method: point.method.clone(), from, to, tally }),
        }
    }
}
