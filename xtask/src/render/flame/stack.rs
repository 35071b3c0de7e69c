//! One stack of a graph, and what stacks are grouped by.

use alloc_ladder::Stage;

use super::colour::{spent_colour, stage_colour};
use crate::analyse::cpu::Spent;

/// What the stacks of a graph are grouped by: its uppermost frames, and the colour of everything below them.
pub(super) trait Group: Copy + PartialEq {
    /// What a graph's frames are places of.
    const PLACE: &'static str;
    /// What stands in place of a graph of nothing.
    const NOTHING: &'static str;
    fn name(self) -> &'static str;
    fn colour(self) -> &'static str;
}

impl Group for Stage {
    const PLACE: &'static str = "Allocated in:";
    const NOTHING: &'static str = "nothing is allocated here any more";

    fn name(self) -> &'static str {
        Stage::name(self)
    }

    fn colour(self) -> &'static str {
        stage_colour(self)
    }
}

impl Group for Spent {
    const PLACE: &'static str = "Spent in:";
    const NOTHING: &'static str = "no sample was taken: too little CPU time was spent";

    fn name(self) -> &'static str {
        Spent::name(self)
    }

    fn colour(self) -> &'static str {
        spent_colour(self)
    }
}

/// One stack as the graph shows it.
pub(super) struct Stack<G> {
    pub(super) group: G,
    /// Places among the graph's names, root first.
    pub(super) frames: Vec<u32>,
    pub(super) width: u64,
    /// `None` where the graph is not a differential.
    pub(super) before: Option<u64>,
    pub(super) after: u64,
}

impl<G> Stack<G> {
    pub(super) fn plain(group: G, frames: Vec<u32>, value: u64) -> Stack<G> {
        Stack { group, frames, width: value, before: None, after: value }
    }

    pub(super) fn changed(group: G, frames: Vec<u32>, before: u64, after: u64) -> Stack<G> {
        Stack { group, frames, width: before.max(after), before: Some(before), after }
    }
}
