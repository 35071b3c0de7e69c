//! The stacks of two profiles, side by side: what a difference is made of.

use std::cmp::Ordering;
use std::fmt::Write;

use alloc_ladder::Stage;

use super::{Profile, Site, Unit, line, order};

/// The stacks of two profiles under one set of names.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    /// Sorted, each once.
    pub(crate) names: Vec<&'a str>,
    /// In the order of [`Profile::sites`].
    pub(crate) stacks: Vec<JoinedStack<'a>>,
}

/// One stack of two profiles: it is there if either of them has it.
#[derive(Debug)]
pub(crate) struct JoinedStack<'a> {
    pub(crate) stage: Stage,
    /// Root first: places in [`Joined::names`].
    pub(crate) frames: Vec<u32>,
    before: Option<&'a Site>,
    after: Option<&'a Site>,
}

impl JoinedStack<'_> {
    /// A figure of either profile's site, 0 where it has none.
    pub(crate) fn both(&self, figure: impl Fn(&Site) -> u64) -> [u64; 2] {
        [self.before, self.after].map(|site| site.map_or(0, &figure))
    }
}

/// Joins the stacks of two profiles, which are sorted alike.
pub(crate) fn joined<'a>(before: &'a Profile, after: &'a Profile) -> Joined<'a> {
    let mut names: Vec<&str> = before.names.iter().chain(&after.names).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let places = |profile: &Profile| -> Vec<u32> {
        let place = |name: &String| names.binary_search(&name.as_str()).expect("every name is listed") as u32;
        profile.names.iter().map(place).collect()
    };
    let renumbered = |profile: &'a Profile| {
        let joined = places(profile);
        profile.sites.iter().map(move |site| {
            let frames: Vec<u32> = profile.places(site).map(|place| joined[place as usize]).collect();
            (site, frames)
        })
    };
    let (mut old, mut new) = (renumbered(before).peekable(), renumbered(after).peekable());
    let mut stacks = Vec::with_capacity(before.sites.len().max(after.sites.len()));
    loop {
        let ordering = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, frames)), Some((b, others))) => (order(a.stage), frames).cmp(&(order(b.stage), others)),
        };
        let before = if ordering.is_le() { old.next() } else { None };
        let after = if ordering.is_ge() { new.next() } else { None };
        let sites = (before.as_ref().map(|(site, _)| *site), after.as_ref().map(|(site, _)| *site));
        let Some((site, frames)) = before.or(after) else { break };
        stacks.push(JoinedStack { stage: site.stage, frames, before: sites.0, after: sites.1 });
    }
    Joined { names, stacks }
}

/// Differential folded stacks in which what vanished stays visible: `stage;frame;…;leaf first second`.
///
/// A graph is as wide as its second column, so the second is the larger of before and after, and the first is that
/// less the change: `second − first` is exactly `after − before`, and nothing that either side allocated has no width.
pub(crate) fn union(before: &Profile, after: &Profile, unit: Unit) -> String {
    let mut text = String::new();
    let joined = joined(before, after);
    for stack in &joined.stacks {
        let [before, after] = stack.both(|site| site.value(unit));
        let second = before.max(after);
        if second > 0 {
            let frames = stack.frames.iter().map(|place| joined.names[*place as usize]);
            let _ = writeln!(text, "{} {} {second}", line(stack.stage.name(), frames), second - after + before);
        }
    }
    text
}
