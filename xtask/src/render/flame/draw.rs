//! Has inferno lay out and draw a graph, then reads its SVG to know every frame and to colour it.
//!
//! inferno says where a frame is in samples, exactly; which stacks those samples are is known here. So a frame's name,
//! stage and counts are looked up by its place, never parsed back from a title. Its SVG is read once, and the rest of it
//! is copied as it is.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use alloc_ladder::Stage;
use anyhow::{Context, Result, bail, ensure};
use inferno::flamegraph::color::{BackgroundColor, Color};
use inferno::flamegraph::{Direction, Options, TextTruncateDirection};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

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
#[derive(Default)]
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

    /// The frames as inferno drew them, in its order.
    fn drawn(&self, svg: &str) -> Result<Vec<Drawn>> {
        let mut reader = Reader::from_str(svg);
        let mut frames = Vec::new();
        let mut open: Option<Drawn> = None;
        loop {
            let from = reader.buffer_position() as usize;
            let event = reader.read_event().context("inferno's SVG is not XML")?;
            let event_bytes = from..reader.buffer_position() as usize;
            // inferno writes a frame as `<g><title>…</title><rect/><text>…</text></g>`.
            match (event, &mut open) {
                (Event::Eof, _) => break,
                (Event::Start(start), open @ None) if start.name().as_ref() == "g" => *open = Some(Drawn::default()),
                (Event::Start(start), Some(frame)) => match start.name().as_ref() {
                    "title" => frame.title = event_bytes.end..event_bytes.end,
                    "text" => frame.label = event_bytes,
                    _ => {}
                },
                (Event::End(end), Some(frame)) if end.name().as_ref() == "title" => frame.title.end = event_bytes.start,
                (Event::Empty(rect), Some(frame)) if rect.name().as_ref() == "rect" => {
                    let [Some(x), Some(width), Some(y)] = texts(&rect, ["fg:x", "fg:w", "y"])? else {
                        bail!("inferno's SVG has a frame without a place")
                    };
                    let (from, width) = (number(&x)?, number(&width)?);
                    frame.place = Place { from, to: from + width, depth: number(&y)? as usize };
                    frame.rect = event_bytes;
                }
                (Event::End(end), open) if end.name().as_ref() == "g" => frames.extend(open.take()),
                _ => {}
            }
        }
        let top = frames.iter().map(|frame| frame.place.depth).min().unwrap_or(0);
        for frame in &mut frames {
            frame.place.depth = (frame.place.depth - top) / FRAME_HEIGHT;
        }
        let widest = frames.iter().map(|frame| frame.place.to - frame.place.from).max().unwrap_or(0);
        // A line inferno could not parse would be left out silently, and every frame behind it would be another's.
        ensure!(widest == self.total(), "inferno drew {widest} of {}", self.total());
        Ok(frames)
    }
}

/// A frame of inferno's SVG: where it is, and which bytes of the SVG are its title's text, its rectangle and the element
/// that its label is in.
#[derive(Default)]
struct Drawn {
    place: Place,
    title: Range<usize>,
    rect: Range<usize>,
    label: Range<usize>,
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
    let mut svg = String::with_capacity(drawn.len());
    let mut copied = 0;
    for frame in graph.drawn(&drawn)? {
        let Look { title, fill, ink } = look(graph, &frame.place);
        let title = quick_xml::escape::escape(&title);
        let (rect, label) = (filled(&drawn[frame.rect.clone()], fill), filled(&drawn[frame.label.clone()], ink));
        for (bytes, ours) in [(frame.title, &*title), (frame.rect, &*rect), (frame.label, &*label)] {
            svg.push_str(drawn.get(copied..bytes.start).context("inferno's SVG has a frame in another order")?);
            svg.push_str(ours);
            copied = bytes.end;
        }
    }
    svg.push_str(&drawn[copied..]);
    Ok(svg)
}

/// What we say of a frame.
struct Look {
    title: String,
    /// The colour of its rectangle, and that of its label.
    fill: &'static str,
    ink: &'static str,
}

/// A frame in our colour, with a title that says, in a differential, before and after.
fn look<G: Group>(graph: &Graph<'_, G>, place: &Place) -> Look {
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
    Look { title, fill, ink }
}

/// An element's text with this colour in place of the one it had. No value of an attribute has a quotation mark in it.
fn filled(element: &str, colour: &str) -> String {
    const FILL: &str = " fill=\"";
    let ends = |from: usize| element[from..].find('"').map(|length| from + length);
    match element.find(FILL).map(|at| at + FILL.len()).and_then(|from| Some((from, ends(from)?))) {
        Some((from, to)) => format!("{}{colour}{}", &element[..from], &element[to..]),
        None => {
            let name = element.find([' ', '/', '>']).unwrap_or(element.len());
            format!("{}{FILL}{colour}\"{}", &element[..name], &element[name..])
        }
    }
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
