//! Which call sites allocate more or less than before: two profiles of one side, stack by stack, per message.
//!
//! Stacks are compared as people read them, without the runtime's frames.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::PathBuf;

use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::fold::{self, Profile};

/// How many frames of a stack a table shows, the innermost first: enough to find the line, short enough to read.
const FRAMES_SHOWN: usize = 3;

/// What changed on one side.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) side: Side,
    /// Every stack that changed, the largest change in bytes first.
    pub(crate) changes: Vec<Site>,
    /// The differential flame graph, once written.
    pub(crate) flame: Option<PathBuf>,
}

/// One stack, before and after, per message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Site {
    pub(crate) stage: Stage,
    /// Root first.
    pub(crate) frames: Vec<String>,
    pub(crate) before: Amount,
    pub(crate) after: Amount,
    /// Its line, where it was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Source>,
}

/// A line of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    /// As the build named it.
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a stack allocates per message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Amount {
    pub(crate) blocks: f64,
    pub(crate) bytes: f64,
}

impl Amount {
    fn add(&mut self, other: Amount) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

impl Site {
    pub(crate) fn bytes_more(&self) -> f64 {
        self.after.bytes - self.before.bytes
    }

    pub(crate) fn blocks_more(&self) -> f64 {
        self.after.blocks - self.before.blocks
    }

    /// Whether it allocates more than before, in blocks or in bytes.
    pub(crate) fn grew(&self) -> bool {
        self.bytes_more() > 0.0 || self.blocks_more() > 0.0
    }

    /// The innermost frames, callee first.
    pub(crate) fn innermost(&self) -> String {
        let shown: Vec<&str> = self.frames.iter().rev().take(FRAMES_SHOWN).map(String::as_str).collect();
        shown.join(" ← ")
    }
}

/// What one side of a step allocated, and over how many messages.
pub(crate) struct Stacks {
    pub(crate) profile: Profile,
    pub(crate) messages: u64,
}

/// Every stack that changed, the largest change in bytes first.
pub(crate) fn changes(before: &Stacks, after: &Stacks) -> Vec<Site> {
    let joined = fold::joined(&before.profile, &after.profile);
    let messages = [before.messages, after.messages].map(|messages| messages.max(1) as f64);
    let mut changed = Vec::new();
    for stack in &joined.stacks {
        let (blocks, bytes) = (stack.both(|site| site.blocks), stack.both(|site| site.bytes));
        let amount = |end: usize| Amount {
            blocks: blocks[end] as f64 / messages[end],
            bytes: bytes[end] as f64 / messages[end],
        };
        let (before, after) = (amount(0), amount(1));
        if before != after {
            let frames = stack.frames.iter().map(|place| joined.names[*place as usize].to_owned()).collect();
            changed.push(Site { stage: stack.stage, frames, before, after, source: None });
        }
    }
    let mut changed = moved(changed);
    // Bytes first; sites that change in blocks alone follow.
    let size = |site: &Site| Reverse((ordered(site.bytes_more()), ordered(site.blocks_more())));
    changed.sort_by_cached_key(|site| size(site));
    changed
}

/// The same, where what one caller had and another has now is one change: what differs between the two stacks is far
/// from the allocation, and of no site that is gone and new at once can be said what it did.
fn moved(changed: Vec<Site>) -> Vec<Site> {
    let key = |site: &Site| (site.stage, site.innermost());
    // Whether some stacks that end so are gone, and others new.
    let mut ends: BTreeMap<(Stage, String), [bool; 2]> = BTreeMap::new();
    for site in &changed {
        let [gone, new] = ends.entry(key(site)).or_default();
        *gone |= site.after == Amount::default();
        *new |= site.before == Amount::default();
    }
    let mut merged: BTreeMap<(Stage, String), Site> = BTreeMap::new();
    let mut apart = Vec::new();
    for site in changed {
        let key = key(&site);
        if ends[&key] != [true, true] {
            apart.push(site);
            continue;
        }
        match merged.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(site)),
            Entry::Occupied(mut entry) => {
                let whole = entry.get_mut();
                if whole.after == Amount::default() {
                    whole.frames = site.frames;
                }
                whole.before.add(site.before);
                whole.after.add(site.after);
            }
        }
    }
    apart.extend(merged.into_values().filter(|site| site.before != site.after));
    apart
}

/// The stacks of a profile that allocate most bytes, the largest first: `before` is nothing.
pub(crate) fn largest(of: &Stacks, wanted: impl Fn(Stage) -> bool) -> Vec<Site> {
    let messages = of.messages.max(1) as f64;
    let mut sites: Vec<_> = of.profile.sites.iter().filter(|site| wanted(site.stage)).collect();
    sites.sort_by_key(|site| Reverse((site.bytes, site.blocks)));
    let site = |site: &fold::Site| Site {
        stage: site.stage,
        frames: of.profile.frames(site).map(str::to_owned).collect(),
        before: Amount::default(),
        after: Amount { blocks: site.blocks as f64 / messages, bytes: site.bytes as f64 / messages },
        source: None,
    };
    sites.into_iter().take(SITES_MAX).map(site).collect()
}

/// How many of the largest sites are looked at.
const SITES_MAX: usize = 20;

/// A magnitude as a key that sorts.
fn ordered(value: f64) -> u64 {
    // The bits of finite numbers from zero up sort as the numbers do.
    value.abs().to_bits()
}
