//! What lies beside a record, read once: its dhat files, folded, and the names of all files.

use std::collections::{BTreeMap, BTreeSet};

use alloc_ladder::Side;

use crate::analyse::fold::Profile;

/// What lies beside a record: its dhat files, folded, by step (counted from 0) and side, and the names of all files.
/// What is not here was not measured.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    pub(crate) folded: BTreeMap<(usize, Side), Profile>,
    pub(crate) files: BTreeSet<String>,
}

impl Profiles {
    pub(crate) fn insert(&mut self, step: usize, side: Side, profile: Profile) {
        self.folded.insert((step, side), profile);
    }

    pub(crate) fn get(&self, step: usize, side: Side) -> Option<&Profile> {
        self.folded.get(&(step, side))
    }

    /// Whether a file, named relative to the run's folder, is there to be linked.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }
}
