//! What lies beside a record, read once: its dhat files, also folded, the samples of CPU time, and the names of all
//! files. Whatever a report says of call sites and CPU time is made from these, by today's rules.

use std::collections::{BTreeMap, BTreeSet};

use alloc_ladder::Side;

use crate::analyse::cpu::Samples;
use crate::analyse::dhat::Dhat;
use crate::analyse::fold::Profile;

/// What lies beside a record: its dhat files and samples by step (counted from 0) and side, and the names of all files.
/// What is not here was not measured.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    sides: BTreeMap<(usize, Side), Stored>,
    cpu: BTreeMap<(usize, Side), Samples>,
    pub(crate) files: BTreeSet<String>,
}

/// One dhat file.
#[derive(Debug)]
struct Stored {
    /// As it was read: what the raw files are made of.
    dhat: Dhat,
    folded: Profile,
}

impl Profiles {
    /// Keeps a dhat file, and folds it.
    pub(crate) fn insert(&mut self, step: usize, side: Side, dhat: Dhat) -> &Profile {
        let folded = Profile::from_dhat(&dhat);
        let stored = Stored { dhat, folded };
        &self.sides.entry((step, side)).insert_entry(stored).into_mut().folded
    }

    /// Nothing but the names of files.
    #[cfg(test)]
    pub(crate) fn beside(files: Vec<String>) -> Profiles {
        Profiles { files: files.into_iter().collect(), ..Profiles::default() }
    }

    /// Keeps a profile that no file is behind.
    #[cfg(test)]
    pub(crate) fn insert_folded(&mut self, step: usize, side: Side, folded: Profile) {
        self.sides.insert((step, side), Stored { dhat: Dhat::default(), folded });
    }

    pub(crate) fn get(&self, step: usize, side: Side) -> Option<&Profile> {
        self.sides.get(&(step, side)).map(|stored| &stored.folded)
    }

    /// The file as it was read.
    pub(crate) fn dhat(&self, step: usize, side: Side) -> Option<&Dhat> {
        self.sides.get(&(step, side)).map(|stored| &stored.dhat)
    }

    /// Keeps what the sampling profiler took.
    pub(crate) fn insert_samples(&mut self, step: usize, side: Side, samples: Samples) {
        self.cpu.insert((step, side), samples);
    }

    /// The samples of CPU time.
    pub(crate) fn samples(&self, step: usize, side: Side) -> Option<&Samples> {
        self.cpu.get(&(step, side))
    }

    /// Whether a file, named relative to the run's folder, is there to be linked.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }
}
