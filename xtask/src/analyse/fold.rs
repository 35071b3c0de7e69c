//! From a dhat file to stacks by stage: what the flame graphs, the tables and the exports are made of.
//!
//! A [`Profile`] keeps every block and byte of the file it is made from: frames are shortened, folded away and
//! merged, counts never are, so the totals of everything rendered from it equal dhat's.

use std::collections::BTreeMap;
use std::fmt::Write;

use alloc_ladder::Stage;
use alloc_ladder::record::StackStage;

use crate::analyse::classify;
use crate::analyse::dhat::Dhat;
use crate::analyse::frame::name::Name;
use crate::analyse::frame::runtime;

/// Which count a graph's widths and a folded file's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Blocks,
}

impl Unit {
    /// Both, bytes first.
    pub(crate) const ALL: [Unit; 2] = [Unit::Bytes, Unit::Blocks];

    /// The unit's one name: the same in titles, file names and the page.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Blocks => "blocks",
        }
    }
}

/// What one distinct stack allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) stage: Stage,
    /// Root first, leaf last, shortened, without the stage.
    pub(crate) frames: Vec<String>,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Live when the whole heap was at its largest.
    pub(crate) peak_bytes: u64,
    pub(crate) peak_blocks: u64,
}

impl Site {
    /// What was allocated, in this unit.
    pub(crate) fn value(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Bytes => self.bytes,
            Unit::Blocks => self.blocks,
        }
    }
}

/// Every stack of one side of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Distinct in (stage, frames) and sorted by them, stages in the order of [`Stage::ALL`].
    pub(crate) sites: Vec<Site>,
}

/// Where a stack stands among others: the stage's place in [`Stage::ALL`], then the frames.
type Place = (usize, Vec<String>);

impl Profile {
    /// The profile people look at: short names, without the frames of the runtime.
    pub(crate) fn from_dhat(dhat: &Dhat) -> Profile {
        Profile::build(dhat, |stack| {
            let mut frames = shown(stack.iter().rev().copied());
            if frames.is_empty() {
                // Nothing but runtime: the innermost frame that is not allocator or std still says which part of it.
                let name = stack.iter().find(|name| !is_std(name)).or(stack.first());
                frames.push(name.map_or_else(|| "???".to_owned(), |name| name.short.clone()));
            }
            frames
        })
    }

    /// Every frame with its whole name, the runtime's included: the raw folded file.
    pub(crate) fn raw(dhat: &Dhat) -> Profile {
        Profile::build(dhat, |stack| stack.iter().rev().map(|name| name.full.clone()).collect())
    }

    /// `frames` turns a stack, leaf first, into the frames to keep, root first.
    fn build(dhat: &Dhat, frames: impl Fn(&[&Name]) -> Vec<String>) -> Profile {
        let names: Vec<Name> = dhat.names.iter().map(|name| Name::parse(name)).collect();
        let mut places: BTreeMap<Place, Site> = BTreeMap::new();
        for point in &dhat.points {
            let stack: Vec<&Name> = point.frames.iter().map(|frame| &names[*frame]).collect();
            let stage = match point.stage {
                // A seam knows better than a name.
                Some(stage) => stage,
                None if dhat.stages_mislead => Stage::Other,
                None => classify::stage(stack.iter().copied()),
            };
            let frames = frames(&stack);
            let site = places.entry((order(stage), frames.clone())).or_insert(Site {
                stage,
                frames,
                blocks: 0,
                bytes: 0,
                peak_bytes: 0,
                peak_blocks: 0,
            });
            site.blocks += point.blocks;
            site.bytes += point.bytes;
            site.peak_bytes += point.peak_bytes;
            site.peak_blocks += point.peak_blocks;
        }
        Profile { sites: places.into_values().collect() }
    }

    /// Blocks and bytes by stage: every stage, in the order of [`Stage::ALL`], zeros included.
    pub(crate) fn stages(&self) -> Vec<StackStage> {
        let mut stages = Stage::ALL.map(|stage| StackStage { stage, blocks: 0, bytes: 0 });
        for site in &self.sites {
            stages[order(site.stage)].blocks += site.blocks;
            stages[order(site.stage)].bytes += site.bytes;
        }
        stages.to_vec()
    }

    /// Folded stacks, a line each: `stage;frame;…;leaf N`. Sites of nothing in this unit have no line.
    pub(crate) fn folded(&self, unit: Unit) -> String {
        let mut text = String::new();
        for site in self.sites.iter().filter(|site| site.value(unit) > 0) {
            let _ = writeln!(text, "{} {}", line(site.stage.name(), &site.frames), site.value(unit));
        }
        text
    }

    /// Blocks allocated.
    pub(crate) fn total_blocks(&self) -> u64 {
        self.total(Unit::Blocks)
    }

    /// Bytes allocated.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total(Unit::Bytes)
    }

    /// Bytes live at the global peak.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.sites.iter().map(|site| site.peak_bytes).sum()
    }

    /// Everything allocated, in this unit.
    pub(crate) fn total(&self, unit: Unit) -> u64 {
        self.sites.iter().map(|site| site.value(unit)).sum()
    }
}

/// One stack of two profiles, in one unit. It is there if either of them has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) stage: Stage,
    pub(crate) frames: Vec<String>,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// The stacks of either profile, in the order of [`Profile::sites`]; stacks of nothing in this unit are left out.
pub(crate) fn pairs(before: &Profile, after: &Profile, unit: Unit) -> Vec<Pair> {
    let mut places: BTreeMap<Place, Pair> = BTreeMap::new();
    let mut add = |profile: &Profile, field: fn(&mut Pair) -> &mut u64| {
        for site in profile.sites.iter().filter(|site| site.value(unit) > 0) {
            let place = (order(site.stage), site.frames.clone());
            let empty = Pair { stage: site.stage, frames: site.frames.clone(), before: 0, after: 0 };
            *field(places.entry(place).or_insert(empty)) += site.value(unit);
        }
    };
    add(before, |pair| &mut pair.before);
    add(after, |pair| &mut pair.after);
    places.into_values().collect()
}

/// Differential folded stacks in which what vanished stays visible: `stage;frame;…;leaf first second`.
///
/// A graph is as wide as its second column, so the second is the larger of before and after, and the first is that
/// less the change: `second − first` is exactly `after − before`, and nothing that either side allocated has no width.
pub(crate) fn union(before: &Profile, after: &Profile, unit: Unit) -> String {
    let mut text = String::new();
    for pair in pairs(before, after, unit) {
        let second = pair.before.max(pair.after);
        let first = second + pair.before - pair.after;
        let _ = writeln!(text, "{} {first} {second}", line(pair.stage.name(), &pair.frames));
    }
    text
}

/// The short names of a stack, root first, without the frames of the runtime.
pub(crate) fn shown<'a>(stack: impl IntoIterator<Item = &'a Name>) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for name in stack.into_iter().filter(|name| !runtime::is_runtime(name)) {
        // A closure's frame above its function's, and a poll above the same poll, say nothing twice.
        if frames.last() != Some(&name.short) {
            frames.push(name.short.clone());
        }
    }
    frames
}

/// The innermost frame of a stack, root first, that is more than the standard library's.
pub(crate) fn innermost(stack: &[Name]) -> Option<&Name> {
    stack.iter().rev().find(|name| !is_std(name))
}

fn is_std(name: &Name) -> bool {
    ["alloc", "core", "std"].iter().any(|std| runtime::below(&name.path, std))
}

/// `group;frame;…;leaf`.
pub(crate) fn line(group: &str, frames: &[String]) -> String {
    let mut line = String::from(group);
    for frame in frames {
        line.push(';');
        line.push_str(frame);
    }
    line
}

/// The stage's place in [`Stage::ALL`].
fn order(stage: Stage) -> usize {
    Stage::ALL.iter().position(|other| *other == stage).unwrap_or(Stage::ALL.len() - 1)
}

#[cfg(test)]
mod tests;
