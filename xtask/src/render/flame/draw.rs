//! Has inferno lay out and draw a graph, then reads its SVG to know every frame and to colour it.
//!
//! inferno says where a frame is in samples, exactly; which stacks those samples are is known here. So a frame's name,
//! stage and counts are looked up by its place, never parsed back from a title.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use alloc_ladder::Stage;
use anyhow::{Context, Result, ensure};
use inferno::flamegraph::color::{BackgroundColor, Color};
use inferno::flamegraph::{Direction, Options, TextTruncateDirection};
use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

use super::colour::delta_colours;
use super::stack::{Group, Stack};
use super::{Delta, Frame, Layout, prune};
use crate::analyse::fold;
use crate::analyse::frame::name;
use crate::analyse::stats;
use crate::cli::numbers;

const FRAME_HEIGHT: usize = 16;

/// Stacks from left to right, none of them of width 0.
pub(super) struct Graph<'a, G> {
    /// What the widths count: `bytes`.
    counted: &'static str,
    names: Vec<&'a str>,
    stacks: Vec<Stack<G>>,
    /// What lies left of each stack, and last of the end: one longer than the stacks.
    sums: Vec<Sums>,
    /// The width below which frames were left out; 0 where none were.
    narrowest: u64,
}

/// What lies left of a stack.
#[derive(Clone, Copy, Default)]
struct Sums {
    width: u64,
    before: u64,
    after: u64,
}

/// A frame's place in samples; depth 0 is the frame for everything.
struct Place {
    from: u64,
    to: u64,
    depth: usize,
}

impl<'a, G: Group> Graph<'a, G> {
    pub(super) fn new(counted: &'static str, names: Vec<&'a str>, mut stacks: Vec<Stack<G>>) -> Graph<'a, G> {
        stacks.retain(|stack| stack.width > 0);
        let narrowest = prune::prune(&mut stacks);
        let mut sum = Sums::default();
        let mut sums = vec![sum];
        for stack in &stacks {
            sum.width += stack.width;
            sum.before += stack.before.unwrap_or(0);
            sum.after += stack.after;
            sums.push(sum);
        }
        Graph { counted, names, stacks, sums, narrowest }
    }

    fn total(&self) -> u64 {
        self.sums.last().map_or(0, |sums| sums.width)
    }

    /// The width below which frames were left out, as a share of the graph.
    fn narrowest(&self) -> f64 {
        self.narrowest as f64 / self.total().max(1) as f64
    }

    /// The stacks between two places, as indexes.
    fn between(&self, place: &Place) -> Range<usize> {
        let index = |at: u64| self.sums.partition_point(|sums| sums.width < at);
        index(place.from)..index(place.to)
    }

    /// What was allocated between two places: before, in a differential, and after.
    fn counts(&self, place: &Place) -> (Option<u64>, u64) {
        let Range { start, end } = self.between(place);
        let (from, to) = (self.sums[start], self.sums[end]);
        let differential = self.stacks.first().is_some_and(|stack| stack.before.is_some());
        (differential.then_some(to.before - from.before), to.after - from.after)
    }

    /// The group and name of the frame at a place; `None` for the frame for everything.
    fn named(&self, place: &Place) -> Option<(G, &'a str)> {
        let first = self.stacks.get(self.between(place).start)?;
        let name = match place.depth {
            0 => return None,
            1 => first.group.name(),
            depth => self.names[*first.frames.get(depth - 2)? as usize],
        };
        Some((first.group, name))
    }

    /// Every frame's place, by the stacks that share it.
    fn laid_out(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut open: Vec<u64> = Vec::new();
        let close = |open: &mut Vec<u64>, keep: usize, to: u64, places: &mut Vec<Place>| {
            while open.len() > keep {
                let depth = open.len();
                places.extend(open.pop().map(|from| Place { from, to, depth }));
            }
        };
        let mut previous = None;
        for (stack, sums) in self.stacks.iter().zip(&self.sums) {
            close(&mut open, prune::shared(previous, stack), sums.width, &mut places);
            open.resize(stack.frames.len() + 1, sums.width);
            previous = Some(stack);
        }
        close(&mut open, 0, self.total(), &mut places);
        places.sort_unstable_by_key(|place| (place.depth, place.from));
        places
    }

    /// inferno's SVG of the graph.
    fn render(&self, title: &str, subtitle: &str) -> Result<String> {
        let mut options = Options::default();
        options.direction = Direction::Inverted;
        options.title = title.to_owned();
        options.subtitle = (!subtitle.is_empty()).then(|| subtitle.to_owned());
        options.count_name = self.counted.to_owned();
        options.name_type = G::PLACE.to_owned();
        options.frame_height = FRAME_HEIGHT;
        options.text_truncate_direction = TextTruncateDirection::Right;
        options.bgcolors = Some(BackgroundColor::Flat(Color { r: 255, g: 255, b: 255 }));
        options.deterministic = true;
        // Which frames are kept was decided above; here none is lost, and totals are exact down to the last block.
        options.min_width = 0.0;
        // A flame chart keeps the order it is given (back to front) where a flame graph sorts lines as text, which
        // tears a frame in two when another's name begins with its name.
        options.flame_chart = true;
        let clean: Vec<String> = self.names.iter().map(|name| name::clean(name)).collect();
        let lines: Vec<String> = self
            .stacks
            .iter()
            .map(|stack| {
                let frames = stack.frames.iter().map(|place| clean[*place as usize].as_str());
                format!("{} {}", fold::line(stack.group.name(), frames), stack.width)
            })
            .collect();
        let mut svg = Vec::new();
        inferno::flamegraph::from_lines(&mut options, lines.iter().rev().map(String::as_str), &mut svg)
            .context("inferno could not draw the stacks")?;
        String::from_utf8(svg).context("inferno's SVG is not UTF-8")
    }

    /// Where inferno put the frames, in the order it drew them.
    fn places(&self, svg: &str) -> Result<Vec<Place>> {
        let mut reader = Reader::from_str(svg);
        let mut places: Vec<(u64, u64, usize)> = Vec::new();
        loop {
            match reader.read_event().context("inferno's SVG is not XML")? {
                Event::Eof => break,
                Event::Empty(rect) if rect.name().as_ref() == "rect" => {
                    if let [Some(x), Some(width), y] = texts(&rect, ["fg:x", "fg:w", "y"])? {
                        let y = y.context("a frame of inferno's SVG has no y")?;
                        let (x, width) = (number(&x)?, number(&width)?);
                        places.push((x, x + width, number(&y)? as usize));
                    }
                }
                _ => {}
            }
        }
        let top = places.iter().map(|place| place.2).min().unwrap_or(0);
        let widest = places.iter().map(|place| place.1 - place.0).max().unwrap_or(0);
        // A line inferno could not parse would be left out silently, and every frame behind it would be another's.
        ensure!(widest == self.total(), "inferno drew {widest} of {}", self.total());
        Ok(places.into_iter().map(|(from, to, y)| Place { from, to, depth: (y - top) / FRAME_HEIGHT }).collect())
    }
}

/// The frames of a graph, top to bottom and left to right.
pub(super) fn layout(graph: &Graph<'_, Stage>) -> Layout {
    let share = |samples: u64| samples as f64 / graph.total() as f64;
    let frame = |place: &Place| {
        let (stage, name) = graph.named(place)?;
        let (before, value) = graph.counts(place);
        Some(Frame {
            x: share(place.from),
            width: share(place.to - place.from),
            depth: place.depth as u32 - 1,
            name: name.to_owned(),
            stage,
            value,
            before,
        })
    };
    let frames = graph.laid_out().iter().filter_map(frame).collect();
    Layout { frames, whole: graph.total(), narrowest: graph.narrowest() }
}

/// A standalone SVG of a graph.
pub(super) fn svg<G: Group>(graph: &Graph<'_, G>, title: &str, subtitle: &str) -> Result<String> {
    let (title, mut subtitle) = (name::printable(title), name::printable(subtitle));
    if graph.narrowest > 0 {
        let _ = write!(subtitle, "; frames below {:.4} % are left out", graph.narrowest() * 100.0);
    }
    if graph.total() == 0 {
        return Ok(empty(&title, &subtitle, G::NOTHING));
    }
    let drawn = graph.render(&title, &subtitle)?;
    let mut places = graph.places(&drawn)?.into_iter();
    let mut reader = Reader::from_str(&drawn);
    let mut writer = Writer::new(Vec::with_capacity(drawn.len()));
    // inferno writes a frame as `<g><title>…</title><rect/><text>…</text></g>`; the title comes before the place.
    let mut group: Vec<Event<'_>> = Vec::new();
    loop {
        match reader.read_event().context("inferno's SVG is not XML")? {
            Event::Eof => break,
            Event::End(end) if end.name().as_ref() == "g" => {
                let place = places.next().context("inferno's SVG has a group that is no frame")?;
                for event in paint(group.drain(..), graph, &place) {
                    writer.write_event(event)?;
                }
                writer.write_event(Event::End(end))?;
            }
            event if !group.is_empty() => group.push(event),
            Event::Start(start) if start.name().as_ref() == "g" => group.push(Event::Start(start)),
            event => writer.write_event(event)?,
        }
    }
    Ok(String::from_utf8(writer.into_inner())?)
}

/// A frame's events with our colour and a title that says, in a differential, before and after.
fn paint<'a, G: Group>(group: impl Iterator<Item = Event<'a>>, graph: &Graph<'_, G>, place: &Place) -> Vec<Event<'a>> {
    let frame = graph.named(place);
    let (before, after) = graph.counts(place);
    let (fill, ink) = match (frame, before) {
        (_, Some(before)) => delta_colours(Delta::of(before, after)),
        (Some((group, _)), None) => (group.colour(), "#000000"),
        (None, None) => ("#e3e6ea", "#000000"),
    };
    let counts = match before {
        Some(before) => change(before, after, graph.counted),
        None => {
            let share = numbers::share(after as f64 / graph.total() as f64);
            format!("{} {}, {share}", numbers::count(after), graph.counted)
        }
    };
    // Nothing in parentheses but the counts at the end: inferno's search and labels cut a title at the last `(`.
    let title = format!("{} ({counts})", frame.map_or("all".to_owned(), |(_, frame)| name::clean(frame)));
    let mut events = Vec::new();
    let mut in_title = false;
    for event in group {
        match event {
            Event::Start(start) if start.name().as_ref() == "title" => {
                in_title = true;
                events.push(Event::Start(start));
                events.push(Event::Text(BytesText::new(&title).into_owned()));
            }
            Event::End(end) if end.name().as_ref() == "title" => {
                in_title = false;
                events.push(Event::End(end));
            }
            _ if in_title => {}
            Event::Empty(rect) => events.push(Event::Empty(with(&rect, "fill", fill))),
            Event::Start(text) if text.name().as_ref() == "text" => events.push(Event::Start(with(&text, "fill", ink))),
            event => events.push(event),
        }
    }
    events
}

/// The element with this attribute in place of the one it had.
fn with<'a>(element: &BytesStart<'a>, key: &str, value: &str) -> BytesStart<'a> {
    let name = element.name().as_ref().to_owned();
    let mut copy = BytesStart::new(name);
    for attribute in element.attributes().with_checks(false).flatten().filter(|attribute| attribute.key.as_ref() != key)
    {
        copy.push_attribute(attribute);
    }
    copy.push_attribute((key, value));
    copy
}

/// Some of an element's attributes.
///
/// PERF: read once, and without asking of each whether it was there before: inferno writes none twice.
fn texts<'a, const N: usize>(element: &'a BytesStart<'_>, keys: [&str; N]) -> Result<[Option<Cow<'a, str>>; N]> {
    let mut found = [const { None }; N];
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.context("an attribute of inferno's SVG is not XML")?;
        if let Some(place) = keys.iter().position(|key| *key == attribute.key.as_ref()) {
            found[place] = Some(attribute.value);
        }
    }
    Ok(found)
}

fn number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("{text:?} in inferno's SVG is no count"))
}

/// `12 345 → 678 bytes, −94.5%`.
fn change(before: u64, after: u64, counted: &str) -> String {
    let share = match stats::change(before as f64, after as f64) {
        stats::Change::Same => "same".to_owned(),
        change => change.to_string(),
    };
    format!("{} → {} {counted}, {share}", numbers::count(before), numbers::count(after))
}

/// The picture of a graph without stacks; inferno has none.
fn empty(title: &str, subtitle: &str, nothing: &str) -> String {
    let title = quick_xml::escape::escape(title);
    let subtitle = quick_xml::escape::escape(subtitle);
    format!(
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="140" viewBox="0 0 1200 140" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#ffffff"/>
<g font-family="monospace" text-anchor="middle">
<text x="600" y="30" font-size="17">{title}</text>
<text x="600" y="52" font-size="12">{subtitle}</text>
<text x="600" y="96" font-size="14" fill="#5b636d">{nothing}</text>
</g>
</svg>
"##
    )
}
