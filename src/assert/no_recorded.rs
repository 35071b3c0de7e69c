//! Without the feature `sampled` no stack that was recorded has a name.

use super::{CallSite, Reach};
use crate::Stage;

/// Never made.
#[derive(Debug)]
pub(super) enum Watching {}

impl Watching {
    pub(super) fn of(_reach: Reach) -> Option<Watching> {
        None
    }

    pub(super) fn resume(&mut self) {
        match *self {}
    }

    pub(super) fn pause(&mut self) {
        match *self {}
    }

    pub(super) fn finish(self) -> Stacks {
        match self {}
    }
}

/// Never made.
#[derive(Clone, Debug)]
pub(super) enum Stacks {}

impl Stacks {
    pub(super) fn sites(&self, _of: Option<Stage>, _most: usize) -> Vec<CallSite> {
        match *self {}
    }
}
