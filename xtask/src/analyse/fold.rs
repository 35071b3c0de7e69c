//! From a dhat file to stacks by stage: what the flame graphs, the tables and the exports are made of.
//!
//! A [`Profile`] keeps every block and byte of the file it is made from: frames are shortened, folded away and
//! merged, counts never are, so the totals of everything rendered from it equal dhat's.

mod joined;
mod said;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;

use alloc_ladder::Stage;

use crate::analyse::classify::{self, Rule, Works};
use crate::analyse::dhat::{Dhat, Measured, Point, Span};
use crate::analyse::frame::name::Name;
use crate::analyse::frame::runtime;

pub(crate) use joined::{joined, union};
pub(crate) use said::{Moved, Said};

/// One stage's share of what was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackStage {
    pub(crate) stage: Stage,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

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
    /// Root first, leaf last, without the stage: a part of the profile's frames. Of stacks that read the same, those of
    /// the one that allocated most bytes.
    frames: Span,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Live when the whole heap was at its largest.
    pub(crate) peak_bytes: u64,
    pub(crate) peak_blocks: u64,
    /// Live at the end.
    pub(crate) live_bytes: u64,
    pub(crate) live_blocks: u64,
    /// Blocks freed before their thread allocated again.
    pub(crate) temporary: u64,
}

impl Site {
    /// What was allocated, in this unit.
    pub(crate) fn value(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Bytes => self.bytes,
            Unit::Blocks => self.blocks,
        }
    }

    fn add(&mut self, other: &Site) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.peak_blocks += other.peak_blocks;
        self.peak_bytes += other.peak_bytes;
        self.live_blocks += other.live_blocks;
        self.live_bytes += other.live_bytes;
        self.temporary += other.temporary;
    }
}

/// Every stack of one side of one step.
///
/// PERF: stacks hold numbers and not names, and the numbers of all lie in one vector, so that a hundred thousand of them
/// are compared, merged and drawn in the time and in the memory that it takes to read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Sorted, each once, shortened.
    names: Vec<String>,
    /// Distinct in (stage, frames) and sorted by them, stages in the order of [`Stage::ALL`].
    pub(crate) sites: Vec<Site>,
    /// The frames of all sites, those of one after those of another, as the file numbers them.
    frames: Vec<u32>,
    /// Of each frame of the file its place in `names`.
    places: Vec<u32>,
    /// Of each frame of the file its source line, as `src/main.rs:40`; an empty text where it has none.
    positions: Vec<String>,
    /// Which figures the sites have beside what was allocated.
    pub(crate) measured: Measured,
    /// The names are too poor to read stages from: what no seam saw is other.
    pub(crate) stages_mislead: bool,
    /// What seams and stacks say of the same blocks; empty where no seam was.
    pub(crate) said: Vec<Said>,
    /// What a stack charges to another stage than its scope; empty where no seam was.
    pub(crate) moved: Vec<Moved>,
}

/// The figures of a site, for tests.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) peak_blocks: u64,
    pub(crate) live_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) temporary: u64,
}

/// The name of a frame that nobody knows.
const UNKNOWN: &str = "???";

/// A dhat file's names, taken apart once each.
///
/// PERF: each once, because a frame is an address and a line: the same name is there for each of its lines, and wherever it
/// was inlined.
struct Parsed<'a> {
    dhat: &'a Dhat,
    names: Vec<Name>,
    /// What a frame of this name is charged to, if it decides.
    rules: Vec<Option<&'static Rule>>,
    /// Of each frame of the file its place in the two above.
    of: Vec<u32>,
}

impl<'a> Parsed<'a> {
    fn of(dhat: &'a Dhat) -> Parsed<'a> {
        let mut names = Vec::new();
        let mut known: HashMap<&str, u32> = HashMap::new();
        let place = |name: &'a String| {
            *known.entry(name).or_insert_with(|| {
                names.push(Name::parse(name));
                names.len() as u32 - 1
            })
        };
        let of = dhat.names.iter().map(place).collect();
        let rules = names.iter().map(classify::decide).collect();
        Parsed { dhat, names, rules, of }
    }

    /// `text` names a frame; `frames` turns a stack, leaf first, into the frames to keep, root first: all by their place
    /// in the file, whose last is followed by that of [`UNKNOWN`]. It is also given the places in the sorted names, and
    /// appends.
    fn profile(&self, text: fn(&Name) -> &str, frames: impl Fn(&[u32], &[u32], &mut Vec<u32>)) -> Profile {
        let listed: Vec<&str> = self.names.iter().map(text).chain([UNKNOWN]).collect();
        let mut names = listed.clone();
        names.sort_unstable();
        names.dedup();
        let place = |name: &&str| names.binary_search(name).expect("every name is listed") as u32;
        let listed: Vec<u32> = listed.iter().map(place).collect();
        let places: Vec<u32> =
            self.of.iter().map(|name| *name as usize).chain([self.names.len()]).map(|at| listed[at]).collect();
        let mut said: Vec<Said> = Vec::new();
        let mut moved: Vec<Moved> = Vec::new();
        let mut sites = Vec::with_capacity(self.dhat.points.len());
        let mut all = Vec::new();
        for point in &self.dhat.points {
            let by_stack = self.by_stack(point);
            let stage = match point.stage {
                // A seam knows better than a name.
                Some(scope) if self.dhat.stages_mislead => scope,
                Some(scope) => classify::refined(scope, by_stack, self.works(point)),
                None => by_stack,
            };
            // What the stack found in another's scope had no seam of its own; the glue and the handler share one.
            let is_shared = |stage| matches!(stage, Stage::Dispatch | Stage::Handler);
            let has_seam = |scope: &Stage| *scope == stage || is_shared(*scope) && is_shared(stage);
            let by_scope = point.stage.filter(has_seam).and(Some(stage));
            Moved::add(&mut moved, point, stage);
            let Point { blocks, bytes, .. } = *point;
            Said { by_scope, by_stack, blocks, bytes }.add_to(&mut said);
            let from = all.len();
            frames(self.dhat.frames(point), &places, &mut all);
            sites.push(site(stage, point, Span::since(from, &all)));
        }
        if self.dhat.points.iter().all(|point| point.stage.is_none()) {
            (said, moved) = (Vec::new(), Vec::new());
        }
        Profile {
            names: names.into_iter().map(str::to_owned).collect(),
            sites,
            frames: all,
            places,
            positions: self.dhat.positions.iter().cloned().chain([String::new()]).collect(),
            measured: self.dhat.measured,
            stages_mislead: self.dhat.stages_mislead,
            said,
            moved,
        }
        .merged()
    }

    fn works(&self, point: &Point) -> Works {
        classify::works(self.decided(point))
    }

    /// What the names on a stack say of it.
    fn by_stack(&self, point: &Point) -> Stage {
        if self.dhat.stages_mislead {
            return Stage::Other;
        }
        classify::first(self.decided(point))
    }

    /// The frames of a stack that decide, leaf first, each with its rule.
    fn decided(&self, point: &'a Point) -> impl Iterator<Item = (&Name, &'static Rule)> {
        self.dhat.frames(point).iter().filter_map(|frame| {
            let name = self.of[*frame as usize] as usize;
            Some((&self.names[name], self.rules[name]?))
        })
    }
}

/// A point's site.
fn site(stage: Stage, point: &Point, frames: Span) -> Site {
    Site {
        stage,
        frames,
        blocks: point.blocks,
        bytes: point.bytes,
        peak_bytes: point.peak_bytes,
        peak_blocks: point.peak_blocks,
        live_bytes: point.live_bytes,
        live_blocks: point.live_blocks,
        temporary: point.temporary,
    }
}

impl Profile {
    /// The profile people look at: short names, without the frames of the runtime.
    pub(crate) fn from_dhat(dhat: &Dhat) -> Profile {
        let parsed = Parsed::of(dhat);
        let each = |is: fn(&Name) -> bool| -> Vec<bool> {
            let names: Vec<bool> = parsed.names.iter().map(is).collect();
            parsed.of.iter().map(|name| names[*name as usize]).collect()
        };
        let (hidden, std) = (each(runtime::is_runtime), each(is_std));
        parsed.profile(
            |name| &name.short,
            |stack, places, frames| {
                let from = frames.len();
                for frame in stack.iter().rev().filter(|frame| !hidden[**frame as usize]) {
                    // A closure's frame above its function's, and a poll above the same poll, say nothing twice. The
                    // inner of two is where it happens.
                    match frames[from..].last_mut() {
                        Some(last) if places[*last as usize] == places[*frame as usize] => *last = *frame,
                        _ => frames.push(*frame),
                    }
                }
                if frames.len() == from {
                    // Nothing but runtime: the innermost frame that is not allocator or std says which part of it.
                    let inner = stack.iter().find(|frame| !std[**frame as usize]).or(stack.first());
                    frames.push(inner.copied().unwrap_or(places.len() as u32 - 1));
                }
            },
        )
    }

    /// Every frame with its whole name, the runtime's included: the raw folded file.
    pub(crate) fn raw(dhat: &Dhat) -> Profile {
        let whole = |stack: &[u32], _: &[u32], frames: &mut Vec<u32>| frames.extend(stack.iter().rev());
        Parsed::of(dhat).profile(|name| &name.full, whole)
    }

    /// Sorts the sites, and makes one of those that read the same.
    fn merged(mut self) -> Profile {
        let mut sites = std::mem::take(&mut self.sites);
        sites.sort_unstable_by(|a, b| self.order(a, b).then_with(|| b.bytes.cmp(&a.bytes)));
        sites.dedup_by(|next, site| {
            let same = self.order(next, site).is_eq();
            if same {
                site.add(next);
            }
            same
        });
        // The frames as the sites lie, without those of sites that are gone.
        let mut frames = Vec::with_capacity(self.frames.len());
        for site in &mut sites {
            let from = frames.len();
            frames.extend_from_slice(site.frames.of(&self.frames));
            site.frames = Span::since(from, &frames);
        }
        Profile { sites, frames, ..self }
    }

    /// How two sites lie to each other: by stage, then by the names of their frames.
    fn order(&self, a: &Site, b: &Site) -> Ordering {
        let (left, right) = (a.frames.of(&self.frames), b.frames.of(&self.frames));
        // PERF: a loop, because the command is built without optimisation and this runs some twenty times a site.
        let by_frames = || {
            for (a, b) in left.iter().zip(right) {
                if a != b && self.places[*a as usize] != self.places[*b as usize] {
                    return self.places[*a as usize].cmp(&self.places[*b as usize]);
                }
            }
            left.len().cmp(&right.len())
        };
        order(a.stage).cmp(&order(b.stage)).then_with(by_frames)
    }

    /// A profile made up for a test: of each stack its stage, its frames and its figures.
    #[cfg(test)]
    pub(crate) fn of<F: AsRef<str>>(stacks: &[(Stage, Vec<F>, Figures)]) -> Profile {
        let mut names: Vec<String> =
            stacks.iter().flat_map(|(_, frames, _)| frames).map(|frame| frame.as_ref().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let place =
            |name: &F| names.binary_search_by(|other| other.as_str().cmp(name.as_ref())).expect("listed") as u32;
        let mut all = Vec::new();
        let mut site = |(stage, frames, figures): &(Stage, Vec<F>, Figures)| {
            let from = all.len();
            all.extend(frames.iter().map(place));
            Site {
                stage: *stage,
                frames: Span::since(from, &all),
                blocks: figures.blocks,
                bytes: figures.bytes,
                peak_bytes: figures.peak_bytes,
                peak_blocks: figures.peak_blocks,
                live_bytes: figures.live_bytes,
                live_blocks: figures.live_blocks,
                temporary: figures.temporary,
            }
        };
        let sites = stacks.iter().map(&mut site).collect();
        let places = (0..names.len() as u32).collect();
        Profile { names, sites, frames: all, places, ..Profile::default() }.merged()
    }

    /// The names of frames, sorted, each once.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// A site's frames, root first: places in [`Profile::names`].
    pub(crate) fn places(&self, site: &Site) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + Clone {
        site.frames.of(&self.frames).iter().map(|frame| self.places[*frame as usize])
    }

    /// The names of a site's frames, root first.
    pub(crate) fn frames(&self, site: &Site) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.places(site).map(|place| self.names[place as usize].as_str())
    }

    /// The source lines of a site's frames, root first; empty texts in a profile that has none.
    pub(crate) fn lines(&self, site: &Site) -> impl DoubleEndedIterator<Item = &str> + Clone {
        let frames = site.frames.of(&self.frames).iter();
        frames.map(|frame| self.positions.get(*frame as usize).map_or("", String::as_str))
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
    ///
    /// # Errors
    /// Those of `into`.
    pub(crate) fn fold(&self, unit: Unit, into: &mut dyn io::Write) -> io::Result<()> {
        // PERF: sites are sorted, so that a line begins as the one before it: what they share is not written again.
        let mut line = String::new();
        let mut ends: Vec<(u32, usize)> = Vec::new();
        let mut last = None;
        for site in self.sites.iter().filter(|site| site.value(unit) > 0) {
            let frames = site.frames.of(&self.frames);
            if last != Some(site.stage) {
                last = Some(site.stage);
                ends.clear();
                line.clear();
                line.push_str(site.stage.name());
            }
            let mut shared = 0;
            while shared < ends.len() && shared < frames.len() && ends[shared].0 == frames[shared] {
                shared += 1;
            }
            ends.truncate(shared);
            line.truncate(ends.last().map_or(site.stage.name().len(), |(_, end)| *end));
            for frame in &frames[shared..] {
                line.push(';');
                line.push_str(&self.names[self.places[*frame as usize] as usize]);
                ends.push((*frame, line.len()));
            }
            let stack = line.len();
            let _ = writeln!(line, " {}", site.value(unit));
            into.write_all(line.as_bytes())?;
            line.truncate(stack);
        }
        Ok(())
    }

    /// What [`Profile::fold`] writes.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn folded(&self, unit: Unit) -> String {
        let mut text = Vec::new();
        self.fold(unit, &mut text).expect("memory takes it");
        String::from_utf8(text).expect("names are text")
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

    /// The sum of one figure over all sites.
    pub(crate) fn sum(&self, figure: impl Fn(&Site) -> u64) -> u64 {
        self.sites.iter().map(figure).sum()
    }

    /// Everything allocated, in this unit.
    pub(crate) fn total(&self, unit: Unit) -> u64 {
        self.sites.iter().map(|site| site.value(unit)).sum()
    }
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
pub(crate) fn innermost<'a>(stack: &[&'a Name]) -> Option<&'a Name> {
    stack.iter().rev().copied().find(|name| !is_std(name))
}

fn is_std(name: &Name) -> bool {
    ["alloc", "core", "std"].iter().any(|std| runtime::below(&name.path, std))
}

/// `group;frame;…;leaf`.
pub(crate) fn line<'a>(group: &str, frames: impl IntoIterator<Item = &'a str>) -> String {
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
