//! Without the `stacks` instrument nothing records call sites.

use super::CallSite;
use crate::Tally;

/// Never made.
#[derive(Debug)]
pub(super) enum Recorder {}

impl Recorder {
    pub(super) fn begin() -> Option<Recorder> {
        None
    }

    pub(super) fn go_on(&self) {
        match *self {}
    }

    pub(super) fn finish(self) -> (Tally, Vec<CallSite>) {
        match self {}
    }
}
