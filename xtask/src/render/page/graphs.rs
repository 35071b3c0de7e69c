//! The flame graphs' data in the page, packed so that a whole ladder fits.
//!
//! Frames of all graphs of a side share one tree of nodes (name, parent, stage); a graph lists the nodes it shows in
//! order with their place as differences, which are mostly zero because most stacks run straight down. The page's
//! script undoes it (`unpack` in `page.js`).

use std::collections::{BTreeMap, HashMap};

use alloc_ladder::record::Run;
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};
use serde::Serialize;

use super::charts::{self, at};
use super::figures::StepView;
use super::sites::clipped;
use crate::analyse::fold::{Profile, Unit};
use crate::analyse::profiles::Profiles;
use crate::render::flame::{self, Frame, Layout};

/// Frames narrower than this share of their graph are left out, from the first of these that fits the budget.
const NARROWEST: [f64; 8] = [0.0, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.02];

/// What a frame takes in the page at least: three numbers of one digit, with commas.
const FRAME_MIN: usize = 6;

#[derive(Serialize)]
struct Page<'a> {
    noun: &'a str,
    steps: Vec<Step>,
    stages: Vec<&'static str>,
    names: Vec<String>,
    /// Frames narrower than this share were left out.
    narrowest: f64,
    sides: BTreeMap<&'static str, SideGraphs>,
}

#[derive(Serialize)]
struct Step {
    name: String,
    title: String,
}

/// One side's graphs, by step.
#[derive(Default, Serialize)]
struct SideGraphs {
    parents: Vec<i32>,
    names: Vec<usize>,
    stages: Vec<usize>,
    steps: Vec<Option<StepGraphs>>,
}

#[derive(Serialize)]
struct StepGraphs {
    messages: u64,
    bytes: UnitGraphs,
    blocks: UnitGraphs,
}

/// A unit's graphs: the step itself and its difference to the previous one.
#[derive(Serialize)]
struct UnitGraphs {
    this: Graph,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Graph>,
}

#[derive(Default, Serialize)]
struct Graph {
    /// How wide the graph is in its unit: the total, or of a difference the sum of the larger of before and after.
    whole: u64,
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    /// Node, as the difference to the frame before.
    n: Vec<i64>,
    /// Start, as the distance from where the previous sibling ends or the parent starts.
    x: Vec<i64>,
    /// Width, as what the parent has more; left out where it is the value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    w: Vec<i64>,
    /// Value, as what the parent has more.
    v: Vec<i64>,
    /// The previous step's value, as what the parent has more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    b: Vec<i64>,
}

/// The page's data as JSON that is safe inside a `<script>`, at most `budget` bytes if leaving out frames too narrow
/// to see can make it so.
pub(crate) fn json(run: &Run, steps: &[StepView<'_>], profiles: &Profiles, noun: &str, budget: usize) -> String {
    let drawn = all_drawn(run, profiles);
    let mut text = String::new();
    for (index, narrowest) in NARROWEST.into_iter().enumerate() {
        // Not even tried where the frames cannot fit, unless nothing narrower is left to leave out.
        let frames = drawn.iter().flat_map(|drawn| &drawn.frames).filter(|frame| frame.width >= narrowest).count();
        if frames * FRAME_MIN > budget && index + 1 < NARROWEST.len() {
            continue;
        }
        text = serde_json::to_string(&pack(run, steps, &drawn, noun, narrowest)).unwrap_or_else(|_| "null".to_owned());
        if text.len() <= budget {
            break;
        }
    }
    // `</script>` and `<!--` in a frame's name must not end the element; the two separators end a line of JavaScript.
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// One graph as it was laid out.
struct Drawn {
    step: usize,
    side: Side,
    unit: Unit,
    diff: bool,
    /// See [`Graph::whole`].
    whole: u64,
    frames: Vec<Frame>,
    /// See [`flame::Layout::narrowest`].
    narrowest: f64,
}

fn all_drawn(run: &Run, profiles: &Profiles) -> Vec<Drawn> {
    let mut all = Vec::new();
    for side in Side::ALL {
        for step in 0..run.steps.len() {
            let Some(this) = profiles.get(step, side) else { continue };
            // Two profiles of different lengths have no difference worth drawing.
            let messages = |step: usize| run.steps[step].stacks(side).map(|stacks| stacks.messages);
            let previous = run
                .before(step)
                .filter(|previous| messages(*previous) == messages(step))
                .and_then(|previous| profiles.get(previous, side));
            for unit in Unit::ALL {
                let drawn = |layout: Layout, before: Option<u64>| Drawn {
                    step,
                    side,
                    unit,
                    diff: before.is_some(),
                    whole: layout.whole,
                    frames: rooted(layout.frames, this.total(unit), before),
                    narrowest: layout.narrowest,
                };
                all.push(drawn(flame::layout(this, unit), None));
                if let Some(previous) = previous {
                    let layout = flame::differential_layout(previous, this, unit);
                    all.push(drawn(layout, Some(previous.total(unit))));
                }
            }
        }
    }
    all
}

/// The frames under one root, parents before children, from left to right.
fn rooted(mut frames: Vec<Frame>, value: u64, before: Option<u64>) -> Vec<Frame> {
    frames.retain(|frame| frame.width > 0.0);
    if frames.is_empty() {
        return frames;
    }
    for frame in &mut frames {
        if frame.depth == 0 {
            frame.name = charts::words(frame.stage);
        }
        frame.depth += 1;
    }
    frames.push(Frame { x: 0.0, width: 1.0, depth: 0, name: "all".to_owned(), stage: Stage::Other, value, before });
    // What starts at the same place may differ in the last digit of its `x`.
    let place = |frame: &Frame| (frame.x * 1e12).round() as i64;
    frames.sort_by_key(|frame| (place(frame), frame.depth));
    frames
}

fn pack<'a>(run: &Run, steps: &[StepView<'_>], drawn: &[Drawn], noun: &'a str, narrowest: f64) -> Page<'a> {
    let mut names = Names::default();
    let mut sides = BTreeMap::new();
    for side in Side::ALL {
        let mut tree = Tree::default();
        let mut of = |step: usize, unit: Unit, diff: bool| -> Option<Graph> {
            let found = |layout: &&Drawn| {
                layout.side == side && layout.step == step && layout.unit == unit && layout.diff == diff
            };
            Some(graph(drawn.iter().find(found)?, narrowest, &mut tree, &mut names))
        };
        let packed: Vec<Option<StepGraphs>> = (0..run.steps.len())
            .map(|step| {
                let mut pair = |unit| Some(UnitGraphs { this: of(step, unit, false)?, diff: of(step, unit, true) });
                let messages = run.steps[step].stacks(side)?.messages;
                Some(StepGraphs { messages, bytes: pair(Unit::Bytes)?, blocks: pair(Unit::Blocks)? })
            })
            .collect();
        let Tree { parents, names, stages, .. } = tree;
        sides.insert(side.name(), SideGraphs { parents, names, stages, steps: packed });
    }
    Page {
        noun,
        steps: steps.iter().map(|view| Step { name: clipped(&view.record.name), title: view.title() }).collect(),
        stages: Stage::ALL.map(Stage::name).to_vec(),
        names: names.list,
        narrowest: drawn.iter().map(|drawn| drawn.narrowest).fold(narrowest, f64::max),
        sides,
    }
}

#[derive(Default)]
struct Names {
    list: Vec<String>,
    index: HashMap<String, usize>,
}

impl Names {
    fn of(&mut self, name: &str) -> usize {
        let name = clipped(name);
        *self.index.entry(name).or_insert_with_key(|name| {
            self.list.push(name.clone());
            self.list.len() - 1
        })
    }
}

/// Every path of names that any graph of a side shows.
#[derive(Default)]
struct Tree {
    parents: Vec<i32>,
    names: Vec<usize>,
    stages: Vec<usize>,
    index: HashMap<(i32, usize, Stage), i32>,
}

impl Tree {
    fn node(&mut self, parent: i32, name: usize, stage: Stage) -> i32 {
        *self.index.entry((parent, name, stage)).or_insert_with(|| {
            self.parents.push(parent);
            self.names.push(name);
            self.stages.push(Stage::ALL.iter().position(|other| *other == stage).unwrap_or(0));
            self.parents.len() as i32 - 1
        })
    }
}

/// A frame that is still open, as the next ones are its children.
struct Open {
    node: i32,
    depth: u32,
    width: i64,
    value: i64,
    before: i64,
    /// Where the next child starts if nothing lies between.
    next: i64,
}

fn graph(layout: &Drawn, narrowest: f64, tree: &mut Tree, names: &mut Names) -> Graph {
    let Some(root) = layout.frames.first() else { return Graph::default() };
    let mut graph = Graph { whole: layout.whole, total: root.value, before: root.before, ..Graph::default() };
    let whole = layout.whole as f64;
    let mut open: Vec<Open> = Vec::new();
    let mut last_node = 0;
    for frame in layout.frames.iter().filter(|frame| frame.width >= narrowest) {
        while open.last().is_some_and(|above| above.depth >= frame.depth) {
            open.pop();
        }
        let parent = open.last();
        let node = tree.node(parent.map_or(-1, |parent| parent.node), names.of(&frame.name), frame.stage);
        let x = (frame.x * whole).round() as i64;
        let width = ((frame.x + frame.width) * whole).round() as i64 - x;
        let value = frame.value as i64;
        let before = frame.before.unwrap_or(0) as i64;
        graph.n.push(i64::from(node) - last_node);
        last_node = i64::from(node);
        graph.x.push(x - parent.map_or(0, |parent| parent.next));
        graph.v.push(parent.map_or(0, |parent| parent.value) - value);
        if layout.diff {
            graph.w.push(parent.map_or(0, |parent| parent.width) - width);
            graph.b.push(parent.map_or(0, |parent| parent.before) - before);
        }
        if let Some(parent) = open.last_mut() {
            parent.next = x + if layout.diff { width } else { value };
        }
        open.push(Open { node, depth: frame.depth, width, value, before, next: x });
    }
    graph
}

/// A graph that needs no script: the baseline.
pub(crate) fn still(profile: &Profile, unit: Unit, side: &str) -> Markup {
    const WIDTH: f64 = 1150.0;
    const ROW: f64 = 18.0;
    const CHARACTER: f64 = 7.3;
    /// Below this a frame is no wider than the gap between two.
    const VISIBLE: f64 = 1.0;
    let frames = rooted(flame::layout(profile, unit).frames, profile.total(unit), None);
    let Some(deepest) = frames.iter().filter(|frame| frame.width * WIDTH >= VISIBLE).map(|frame| frame.depth).max()
    else {
        return html! { p.empty { "Nothing is allocated here any more." } };
    };
    html! {
        svg.flame viewBox={ "0 0 " (WIDTH) " " (at(f64::from(deepest + 1) * ROW)) } role="img"
            aria-label={ "Flame graph of the first step" (side) ", bytes; the table of allocation sites says the same in words" } {
            @for frame in frames.iter().filter(|frame| frame.width * WIDTH >= VISIBLE) {
                @let (x, y, width) = (frame.x * WIDTH, f64::from(frame.depth) * ROW, frame.width * WIDTH);
                @let class = if frame.depth == 0 { "stage-all".to_owned() } else { charts::fill(frame.stage) };
                rect class=(class) x=(at(x)) y=(at(y)) width=(at((width - 1.0).max(0.5))) height="16" {}
                @let room = ((width - 8.0) / CHARACTER).max(0.0) as usize;
                @if room >= 4 { text x=(at(x + 4.0)) y=(at(y + 12.0)) { (cut(&frame.name, room)) } }
            }
        }
    }
}

fn cut(name: &str, room: usize) -> String {
    if name.chars().count() <= room { name.to_owned() } else { name.chars().take(room - 1).chain(['…']).collect() }
}
