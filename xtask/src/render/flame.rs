//! Flame graphs: inferno lays them out and brings zoom and search, the colours are ours.
//!
//! Icicles: the stages on top (of CPU time: what it was spent on), callers above callees, widths by bytes, blocks or
//! samples. A differential is as wide as the larger of before and after, so what a step removed stays visible.
//! Standalone files only: two of inferno's SVGs in one page collide by id, so a page draws [`layout`]'s frames itself.
//! A graph of more frames than anybody can see leaves out the narrowest, and says so.

mod colour;
mod draw;
mod prune;
mod stack;

use alloc_ladder::Stage;
use anyhow::Result;

use crate::analyse::cpu::{Samples, Spent};
use crate::analyse::fold::{self, Profile, Unit};
use draw::Graph;
use stack::Stack;

/// One frame of a graph, for a page to draw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Left edge, 0 to 1.
    pub(crate) x: f64,
    /// 0 to 1.
    pub(crate) width: f64,
    /// 0 for the stages.
    pub(crate) depth: u32,
    /// The stage's name at depth 0, else the function's.
    pub(crate) name: String,
    pub(crate) stage: Stage,
    /// What was allocated in and below this frame; of a differential, after the step.
    pub(crate) value: u64,
    /// Of a differential: the same before the step.
    pub(crate) before: Option<u64>,
}

/// The frames of a graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// Top to bottom and left to right.
    pub(crate) frames: Vec<Frame>,
    /// How wide the whole graph is, in its unit.
    pub(crate) whole: u64,
    /// Frames narrower than this share of the graph were left out; 0 where none were.
    pub(crate) narrowest: f64,
}

#[cfg(test)]
impl Frame {
    /// What the step did to this frame; `None` where the graph is no differential.
    pub(crate) fn delta(&self) -> Option<Delta> {
        self.before.map(|before| Delta::of(before, self.value))
    }
}

/// What a step did to a frame, in seven words: the classes a differential is coloured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Delta {
    /// Nothing is allocated here any more.
    Gone,
    /// Less than half of before.
    MuchLess,
    Less,
    /// Within half a percent.
    Same,
    More,
    /// More than twice before.
    MuchMore,
    /// Nothing was allocated here before.
    New,
}

impl Delta {
    /// All, from least to most.
    #[cfg(test)]
    pub(crate) const ALL: [Delta; 7] =
        [Delta::Gone, Delta::MuchLess, Delta::Less, Delta::Same, Delta::More, Delta::MuchMore, Delta::New];

    pub(crate) fn of(before: u64, after: u64) -> Delta {
        // In f64, because twice a large count must not wrap.
        let (b, a) = (before as f64, after as f64);
        match (before, after) {
            (before, after) if before == after => Delta::Same,
            (_, 0) => Delta::Gone,
            (0, _) => Delta::New,
            _ if (a - b).abs() <= b.max(a) * 0.005 => Delta::Same,
            _ if a < b / 2.0 => Delta::MuchLess,
            _ if a < b => Delta::Less,
            _ if a <= b * 2.0 => Delta::More,
            _ => Delta::MuchMore,
        }
    }

    /// The class's one name: kebab-case, the same in CSS and legends.
    #[cfg(test)]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Delta::Gone => "gone",
            Delta::MuchLess => "much-less",
            Delta::Less => "less",
            Delta::Same => "same",
            Delta::More => "more",
            Delta::MuchMore => "much-more",
            Delta::New => "new",
        }
    }
}

/// A standalone flame graph, coloured by stage. A profile of nothing gives a picture that says so.
///
/// # Errors
/// When inferno cannot draw the stacks; names never are the reason.
pub(crate) fn svg(profile: &Profile, unit: Unit, title: &str, subtitle: &str) -> Result<String> {
    draw::svg(&plain(profile, unit), title, subtitle)
}

/// A standalone differential flame graph, blue for less, orange for more. Widths are the larger of before and after.
///
/// # Errors
/// As [`svg`].
pub(crate) fn differential_svg(
    before: &Profile,
    after: &Profile,
    unit: Unit,
    title: &str,
    subtitle: &str,
) -> Result<String> {
    draw::svg(&differential(before, after, unit), title, subtitle)
}

/// A standalone flame graph of CPU time, coloured by what it was spent on. No samples give a picture that says so.
///
/// # Errors
/// As [`svg`].
pub(crate) fn cpu_svg(samples: &Samples, title: &str, subtitle: &str) -> Result<String> {
    let mut names: Vec<&str> = samples.stacks.iter().flat_map(|stack| &stack.frames).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let place = |name: &String| names.binary_search(&name.as_str()).expect("every name is listed") as u32;
    let stacks = samples
        .stacks
        .iter()
        .map(|stack| Stack::plain(stack.spent, stack.frames.iter().map(place).collect(), stack.samples));
    let stacks = stacks.collect();
    draw::svg(&Graph::<Spent>::new("samples", names, stacks), title, subtitle)
}

/// The frames of [`svg`], without the one for everything; none for a profile of nothing.
pub(crate) fn layout(profile: &Profile, unit: Unit) -> Layout {
    draw::layout(&plain(profile, unit))
}

/// The frames of [`differential_svg`], without the one for everything; none if both profiles are of nothing.
pub(crate) fn differential_layout(before: &Profile, after: &Profile, unit: Unit) -> Layout {
    draw::layout(&differential(before, after, unit))
}

fn plain(profile: &Profile, unit: Unit) -> Graph<'_, Stage> {
    let names = profile.names().iter().map(String::as_str).collect();
    let stacks = profile.sites.iter();
    let stacks = stacks.map(|site| Stack::plain(site.stage, profile.places(site).collect(), site.value(unit)));
    Graph::new(unit.name(), names, stacks.collect())
}

fn differential<'a>(before: &'a Profile, after: &'a Profile, unit: Unit) -> Graph<'a, Stage> {
    let joined = fold::joined(before, after);
    let stacks = joined.stacks.into_iter().map(|stack| {
        let [before, after] = stack.both(|site| site.value(unit));
        Stack::changed(stack.stage, stack.frames, before, after)
    });
    Graph::new(unit.name(), joined.names, stacks.collect())
}

#[cfg(test)]
mod tests;
