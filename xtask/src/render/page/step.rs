//! One step: what changed, what it costs, and every figure against the previous step and the baseline.

use alloc_ladder::record::{Counts, CpuProfile, Instrument, Retained, Run, StepRecord};
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};

use super::figures::{self, Figure, FigureChange, StepView};
use super::{charts, overview, parts, raw, recorded, trade_off};
use crate::analyse::by_stack::{self, AGREEMENT};
use crate::analyse::cpu::{Samples, Spent, margin};
use crate::analyse::marks::Against;
use crate::analyse::metric::Whose;
use crate::analyse::profiles::Profiles;
use crate::cli::numbers;
use crate::render::files;

/// What changed, why, the switch, and the trade-off with its measured number.
pub(crate) fn story(run: &Run, view: &StepView<'_>, count: usize, profiles: &Profiles) -> Markup {
    html! {
        @if count > 1 || !figures::is_program(run) { p.eyebrow { "Step " (view.index + 1) " of " (count) } }
        h2.step-title id={ (view.anchor()) "-title" } tabindex="-1" { (view.title()) }
        @match view.step {
            Some(step) => {
                p.lead { (parts::prose(step.hypothesis)) }
                @if view.previous.is_some() { p.measured { (outcome(run, view)) } }
                p.switch { code { (step.switch) } " " span.file { (step.file) } }
                (trade_off::section(run, view, step))
            }
            None => {
                @if !figures::is_program(run) {
                  p.lead {
                    "Not a step of this version's ladders: the record says "
                    code { (figures::clipped(&view.record.set, 200)) } "."
                  }
                }
                @if let Some(changed) = run.elsewhere(view.index) {
                    p.lead { "Changes " b { (figures::clipped(changed, 200)) } ", and is compared with it." }
                }
                @if let Some(about) = &view.record.about { p.lead { (figures::clipped(about, 1000)) } }
                @if let Some(failure) = &view.record.failure {
                    p.notice role="note" { b { "Not measured to the end: " } (figures::clipped(failure, 1000)) "." }
                }
                (recorded::line(run, view, profiles))
                @if view.previous.is_some() { p.measured { (outcome(run, view)) } }
            }
        }
    }
}

/// The stage the step is there for, or the one that moved most, in one measured sentence.
fn outcome(run: &Run, view: &StepView<'_>) -> Markup {
    let Some(previous) = view.previous else { return html! {} };
    let noun = figures::noun(run);
    let promised = view.step.and_then(|step| step.reduces);
    let target = promised.or_else(|| most_moved(view.record, previous));
    let Some((side, stage)) = target else {
        return html! { b { "Measured: " } "no stage moved." };
    };
    let before = figures::stage_per_message(previous, side, stage);
    let after = figures::stage_per_message(view.record, side, stage);
    html! {
        b { "Measured: " }
        @match (before, after) {
            (Some(before), Some(after)) => {
                (charts::words(stage)) " on the " (side.name()) " " (numbers::bytes(before.bytes)) " → "
                (numbers::bytes(after.bytes)) " per " (noun) " ("
                (parts::change(Some(&FigureChange::cost(before.bytes, after.bytes)))) ")"
                @if promised.is_none() { ", the stage that moved most" }
                "."
            }
            _ => { (parts::not_measured()) " (no exact counts of this step)." }
        }
    }
}

fn most_moved(record: &StepRecord, previous: &StepRecord) -> Option<(Side, Stage)> {
    let moved = |side, stage| {
        let before = figures::stage_per_message(previous, side, stage)?.bytes;
        Some((figures::stage_per_message(record, side, stage)?.bytes - before).abs())
    };
    Side::ALL
        .into_iter()
        .flat_map(|side| figures::subject_stages().map(move |stage| (side, stage)))
        .filter_map(|(side, stage)| Some((moved(side, stage)?, (side, stage))))
        .filter(|(bytes, _)| *bytes > 0.0)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, target)| target)
}

/// This step, against the previous one, against the baseline: a table a side and one for the pair.
pub(crate) fn metrics(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    let noun = figures::noun(run);
    let (of_side, of_pair) = (Figure::of_side(run, profiles), Figure::of_pair(run));
    // What stacks say of a program's one step stands in the head.
    let of_stacks = |side| view.record.counts(side).and_then(|m| m.counts.as_ref()).is_some_and(by_stack::is_of_stacks);
    if figures::is_program(run) && run.steps.len() == 1 && figures::sides(run).into_iter().all(of_stacks) {
        return html! {};
    }
    let change = |figure, side, against| match figure {
        Figure::Metric(_) => view.change(run, figure, Whose::Side(side), against),
        Figure::Share(_) => {
            let other = match against {
                Against::Previous => run.before(view.index)?,
                Against::First => view.previous.map(|_| 0)?,
            };
            let [before, after] = [other, view.index].map(|step| figure.sample_at(run, profiles, step, side));
            FigureChange::between(figure, before.as_ref(), after.as_ref())
        }
    };
    html! {
        div.sides {
            @for side in figures::sides(run) {
                (metric_table(view, noun, &Shown {
                    name: side.name(),
                    figures: &of_side,
                    sample: &|figure| figure.sample_at(run, profiles, view.index, side),
                    change: &|figure, against| change(figure, side, against),
                }))
            }
        }
        @if !of_pair.is_empty() {
            (metric_table(view, noun, &Shown {
                name: "the pair",
                figures: &of_pair,
                sample: &|figure| figure.pair(run, view.record),
                change: &|figure, against| view.change(run, figure, Whose::Pair, against),
            }))
        }
    }
}

/// What a table of figures shows of a step.
struct Shown<'a> {
    name: &'a str,
    figures: &'a [Figure],
    sample: &'a dyn Fn(Figure) -> Option<figures::Sample>,
    change: &'a dyn Fn(Figure, Against) -> Option<FigureChange>,
}

fn metric_table(view: &StepView<'_>, noun: &str, shown: &Shown<'_>) -> Markup {
    html! {
        table.metrics {
            thead {
                tr {
                    th.caption scope="col" { (shown.name) }
                    th.number scope="col" { "this step" }
                    th.number scope="col" { "vs previous" }
                    th.number scope="col" { "vs " (figures::first_is(view)) }
                }
            }
            tbody {
                @for figure in shown.figures {
                    tr {
                        th scope="row" { (overview::capitalised(&figure.label(noun))) }
                        td.number { (parts::figure(*figure, (shown.sample)(*figure).as_ref())) }
                        td.number { (parts::change((shown.change)(*figure, Against::Previous).as_ref())) }
                        td.number { (parts::change((shown.change)(*figure, Against::First).as_ref())) }
                    }
                }
            }
        }
    }
}

/// Where CPU time goes, a row a side; nothing where no sampler ran on this step.
pub(crate) fn cpu(view: &StepView<'_>, profiles: &Profiles) -> Markup {
    let record = view.record;
    let sampled: Vec<(&CpuProfile, &Samples)> =
        record.cpu.iter().filter_map(|cpu| Some((cpu, profiles.samples(view.index, cpu.side)?))).collect();
    html! {
        @if !sampled.is_empty() {
            h3 { "Where CPU time goes " small { "shares of samples" } }
            (parts::scrolling("Where CPU time goes", html! {
                table.metrics {
                    thead {
                        tr {
                            th.caption scope="col" { "side" }
                            th.number scope="col" { "samples" }
                            th.number scope="col" { "± at worst" }
                            th.number scope="col" { "allocator" }
                            th.number scope="col" { "copying" }
                            th.number scope="col" { "kernel" }
                            th.number scope="col" { "own code" }
                            th.number scope="col" { "system time" }
                            th scope="col" { "stacks" }
                        }
                    }
                    tbody {
                        @for (profile, samples) in &sampled {
                            @let used = record.of(profile.side, Instrument::Cpu).next().map(|measurement| measurement.usage);
                            tr {
                                th scope="row" { (profile.side.name()) }
                                td.number { (numbers::count(samples.total())) }
                                td.number { (numbers::share(margin(samples.total()))) }
                                td.number { (numbers::share(samples.share(Spent::Allocator))) }
                                td.number { (numbers::share(samples.share(Spent::Copy))) }
                                td.number { (numbers::share(samples.share(Spent::Kernel))) }
                                td.number { (numbers::share(samples.own_share())) }
                                td.number {
                                    @match used.and_then(|usage| usage.system_share()) {
                                        Some(share) => (numbers::share(share)),
                                        None => (parts::not_measured()),
                                    }
                                }
                                td {
                                    (raw::link(profiles, &files::cpu_graph(profile), "flame graph")) ", "
                                    (raw::link(profiles, &files::cpu_folded(profile), "folded"))
                                }
                            }
                        }
                    }
                }
            }))
            p.note {
                "A sample in the allocator is the allocator's, with what it copies and asks the kernel for. System time is "
                "what " code { "getrusage" } " charged for the same messages: page faults and interrupts are in it, and "
                "in the samples they are wherever they happened."
            }
        }
    }
}

/// What the scopes say beside what the stacks say.
pub(crate) fn attribution(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    if figures::is_program(run) && figures::sides(run).iter().any(|side| profiles.get(view.index, *side).is_some()) {
        return recorded::disagreements(run, view, profiles);
    }
    let sides: Vec<(Side, Vec<Attributed>)> =
        Side::ALL.into_iter().filter_map(|side| Some((side, attributed(view, profiles, side)?))).collect();
    if sides.is_empty() && figures::is_program(run) {
        return html! {};
    }
    if sides.is_empty() {
        return html! {
            p.note { b { "Scopes and stacks: " } (parts::not_measured()) ", this step needs both exact counts and call sites." }
        };
    }
    html! {
        details.attribution {
            summary {
                "Scopes and stacks, two ways to say whose a byte is: "
                @for (index, (side, rows)) in sides.iter().enumerate() {
                    @if index > 0 { ", " }
                    (side.name()) " "
                    @let worst = worst(rows);
                    @if worst <= AGREEMENT { "agree (within " (numbers::share(worst)) ")" }
                    @else { b { "differ by " (numbers::share(worst)) } }
                }
            }
            div.sides {
                @for (side, rows) in &sides {
                    table {
                        thead {
                            tr {
                                th.caption scope="col" { (side.name()) ", share of bytes" }
                                th.number scope="col" { "scopes" }
                                th.number scope="col" { "stacks" }
                                th.number scope="col" { "apart" }
                            }
                        }
                        tbody {
                            @for row in rows {
                                tr {
                                    th scope="row" { (charts::swatch(row.stage)) " " (charts::words(row.stage)) }
                                    td.number { (numbers::share(row.scopes)) }
                                    td.number { (numbers::share(row.stacks)) }
                                    td.number {
                                        @if row.apart() <= AGREEMENT { span.quiet { (numbers::share(row.apart())) } }
                                        @else { b { (numbers::share(row.apart())) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            p.note {
                "Scopes are the stage the code had entered when it allocated; stacks are judged by their frames. "
                "h2 reserves its read buffer inside the connection task, where no scope can stand: scopes then say "
                "transport or other, stacks say receive buffer. The two must agree within "
                (numbers::share(AGREEMENT)) " of bytes elsewhere."
            }
        }
    }
}

struct Attributed {
    stage: Stage,
    scopes: f64,
    stacks: f64,
}

impl Attributed {
    fn apart(&self) -> f64 {
        (self.scopes - self.stacks).abs()
    }
}

fn worst(rows: &[Attributed]) -> f64 {
    rows.iter().map(Attributed::apart).fold(0.0, f64::max)
}

fn attributed(view: &StepView<'_>, profiles: &Profiles, side: Side) -> Option<Vec<Attributed>> {
    let counts = view.record.counts(side)?.counts.as_ref()?;
    let stacks = profiles.get(view.index, side)?;
    let stages = stacks.stages();
    let of_stacks = |stage| stages.iter().filter(|row| row.stage == stage).map(|row| row.bytes).sum::<u64>();
    let scopes_total = counts.subject().bytes as f64;
    let stacks_total = (stacks.total_bytes() - of_stacks(Stage::Instrument).min(stacks.total_bytes())) as f64;
    let share = |bytes: u64, total: f64| if total > 0.0 { bytes as f64 / total } else { 0.0 };
    let rows = figures::subject_stages().map(|stage| Attributed {
        stage,
        scopes: share(counts.stage(stage).bytes, scopes_total),
        stacks: share(of_stacks(stage), stacks_total),
    });
    Some(rows.collect())
}

/// Sizes and heap of one side, with the previous step outlined.
pub(crate) fn distributions(run: &Run, view: &StepView<'_>, side: Side) -> Markup {
    let counts = |step: &'_ StepRecord| -> Option<Counts> { step.counts(side)?.counts.clone() };
    let this = counts(view.record);
    let previous = view.previous.and_then(counts);
    let sizes = this.as_ref().is_some_and(|counts| !counts.sizes.is_empty());
    html! {
        @if sizes || !figures::is_program(run) { section.panel.half {
            h3 { "Sizes, " (side.name()) " " small { "blocks by size in bytes, log₂ buckets, √ scale" } }
            @match &this {
                Some(this) => {
                    (charts::size_histogram(&format!("Sizes of blocks, {}", side.name()), this, previous.as_ref()))
                }
                None => { p.empty { "Not measured: no exact counts of this side." } }
            }
        } }
        // Nobody looks at a program's heap between its messages.
        @let looked_at = this.as_ref().is_some_and(|counts| !counts.heap.is_empty());
        @if looked_at || !figures::is_program(run) { section.panel.half {
            h3 { "Heap, " (side.name()) " " small { "live bytes as messages go by" } }
            @match &this {
                Some(this) => { (charts::heap(&format!("Heap, {}", side.name()), this, previous.as_ref())) }
                None => { p.empty { "Not measured: no exact counts of this side." } }
            }
        } }
    }
}

/// Live bytes by allocating stage, and who frees what.
pub(crate) fn retained(run: &Run, view: &StepView<'_>, side: Side) -> Markup {
    let of = |step: &StepRecord| step.of(side, Instrument::Retained).next().map(|m| by_stage(&m.retained));
    let rows = of(view.record);
    let previous = view.previous.and_then(of);
    html! {
        h3 { "Retained, " (side.name()) " " small { "still live at the end, by the stage that allocated" } }
        @match rows {
            None => { p.empty { "Not measured: no build with the " code { "retained" } " instrument ran on this side of this step." } }
            Some(rows) if rows.is_empty() => { p.empty { "Nothing was live at the end." } }
            Some(rows) => {
                @let max = figures::largest(run, |step| of(step)?.iter().map(|row| row.bytes as f64).reduce(f64::max));
                (parts::scrolling(&format!("Retained bytes, {}", side.name()), html! {
                    table.retained {
                        thead {
                            tr {
                                th scope="col" { "stage" }
                                td {}
                                th.number scope="col" { "live bytes" }
                                th.number scope="col" { "live blocks" }
                                th.number scope="col" { "vs previous" }
                                th scope="col" { "its blocks were freed in" }
                            }
                        }
                        tbody {
                            @for row in &rows {
                                @let before = previous.as_ref()
                                    .map(|rows| rows.iter().find(|old| old.stage == row.stage).map_or(0, |old| old.bytes));
                                tr {
                                    th scope="row" { (charts::swatch(row.stage)) " " (charts::words(row.stage)) }
                                    td.bars {
                                        (charts::outlined_bar(row.stage, row.bytes as f64, before.map(|b| b as f64), max))
                                    }
                                    td.number { b { (numbers::bytes(row.bytes as f64)) } }
                                    td.number { (numbers::count(row.blocks)) }
                                    td.number {
                                        (parts::change(before.map(|b| FigureChange::cost(b as f64, row.bytes as f64)).as_ref()))
                                    }
                                    td { (row.freed_words()) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

struct RetainedRow {
    stage: Stage,
    bytes: u64,
    blocks: u64,
    freed: Vec<(Stage, u64)>,
}

impl RetainedRow {
    fn freed_words(&self) -> String {
        let total: u64 = self.freed.iter().map(|(_, blocks)| blocks).sum();
        if total == 0 {
            return "none were freed".to_owned();
        }
        let mut freed: Vec<&(Stage, u64)> = self.freed.iter().filter(|(_, blocks)| *blocks > 0).collect();
        freed.sort_by_key(|(_, blocks)| std::cmp::Reverse(*blocks));
        let words = freed.iter().map(|(stage, blocks)| {
            format!("{} {}", charts::words(*stage), numbers::share(*blocks as f64 / total as f64))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// One row a stage, methods added up, in the order tables show stages.
fn by_stage(retained: &[Retained]) -> Vec<RetainedRow> {
    let row = |stage: Stage| {
        let of_stage: Vec<&Retained> = retained.iter().filter(|row| row.stage == stage).collect();
        let freed = Stage::ALL.map(|by| {
            let blocks = of_stage.iter().flat_map(|row| &row.freed_by).filter(|freed| freed.stage == by);
            (by, blocks.map(|freed| freed.blocks).sum())
        });
        (!of_stage.is_empty()).then(|| RetainedRow {
            stage,
            bytes: of_stage.iter().map(|row| row.curr_bytes).sum(),
            blocks: of_stage.iter().map(|row| row.curr_blocks).sum(),
            freed: freed.to_vec(),
        })
    };
    Stage::ALL.into_iter().filter_map(row).collect()
}
