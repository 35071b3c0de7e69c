//! Where the bytes of a step come from, stage by stage.

use alloc_ladder::record::{Counts, Run};
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};

use super::figures::{self, FigureChange, StepView};
use super::{charts, parts};
use crate::analyse::by_stack;
use crate::analyse::fold::Profile;
use crate::analyse::profiles::Profiles;
use crate::cli::numbers;

/// Where the bytes come from: a table a side, rows that sum to the total, the previous step outlined.
pub(crate) fn section(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    let noun = figures::noun(run);
    let poor = |side: &Side| profiles.get(view.index, *side).is_some_and(|profile| profile.stages_mislead);
    let sides: Vec<Side> = figures::sides(run).into_iter().filter(|side| !poor(side)).collect();
    if sides.is_empty() {
        return html! {};
    }
    if is_all_other(run) {
        return html! {
            h3 { "Where the bytes come from" }
            p.note { "No stack passes through tonic, prost, hyper or h2: all of it is " (charts::words(Stage::Other)) "." }
        };
    }
    let instrument = |side: &Side| {
        figures::stage_per_message(view.record, *side, Stage::Instrument).is_some_and(|row| row.blocks > 0.0)
    };
    let seams = |side: &Side| {
        profiles.get(view.index, *side).is_some_and(|profile| rows(run, view, Some(profile), *side) == Rows::Both)
    };
    html! {
        h3 { "Where the bytes come from" }
        div.sides { @for side in &sides { (stage_table(run, view, profiles.get(view.index, *side), *side, noun)) } }
        p.note {
            @if sides.iter().any(seams) {
                "By stack: the part of a row that no seam saw, and that the names on its stacks put there. "
            }
            @if run.steps.len() > 1 || !figures::is_program(run) {
                "Bars share one scale over all steps; the dashed outline is the previous step. "
            }
            @if !figures::is_program(run) || sides.iter().any(instrument) {
                "The instrument's own row is outside the total, and outside every figure of allocations and bytes."
            }
        }
    }
}

/// Whether a program's stacks, which say the stages, name no other stage than `other` in any step.
pub(crate) fn is_all_other(run: &Run) -> bool {
    let counted = || run.steps.iter().flat_map(|step| &step.measurements).filter_map(|m| m.counts.as_ref());
    let all_other = |counts: &Counts| {
        let mut named =
            figures::subject_stages().filter(|stage| *stage != Stage::Other).map(|stage| counts.stage(stage));
        by_stack::is_of_stacks(counts) && named.all(|tally| tally.blocks == 0)
    };
    figures::is_program(run) && counted().next().is_some() && counted().all(all_other)
}

/// The stages that the page's legends name.
pub(crate) fn shown(run: &Run) -> impl Iterator<Item = Stage> + use<> {
    let all_other = is_all_other(run);
    Stage::ALL.into_iter().filter(move |stage| *stage == Stage::Other || !all_other)
}

/// How the rows of a side came about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// The counters of its seams.
    Counted,
    /// The names on its stacks.
    ByStack,
    /// Its seams, and the names on the stacks of what no seam saw.
    Both,
}

fn rows(run: &Run, view: &StepView<'_>, profile: Option<&Profile>, side: Side) -> Rows {
    let counts = view.record.counts(side).and_then(|counted| counted.counts.as_ref());
    match (profile, counts) {
        (_, Some(counts)) if !figures::is_program(run) || !by_stack::is_of_stacks(counts) => Rows::Counted,
        (Some(profile), Some(_)) if !profile.said.is_empty() => Rows::Both,
        (Some(_), Some(_)) => Rows::ByStack,
        _ => Rows::Counted,
    }
}

fn stage_table(run: &Run, view: &StepView<'_>, profile: Option<&Profile>, side: Side, noun: &str) -> Markup {
    let Some(total) = figures::subject_per_message(view.record, side) else {
        return html! { div { h4 { (side.name()) } p.empty { "Not measured: no exact counts of this side." } } };
    };
    let made = rows(run, view, profile, side);
    let compares = view.previous.is_some() || made == Rows::Counted;
    let previous = |stage| view.previous.and_then(|step| figures::stage_per_message(step, side, stage));
    let previous_total = view.previous.and_then(|step| figures::subject_per_message(step, side));
    let max = figures::subject_stages()
        .map(|stage| figures::largest(run, |step| figures::stage_per_message(step, side, stage).map(|row| row.bytes)))
        .fold(0.0, f64::max);
    let delta = |before: Option<figures::PerMessage>, after: figures::PerMessage| {
        before.map(|before| FigureChange::cost(before.bytes, after.bytes))
    };
    let instrument = figures::stage_per_message(view.record, side, Stage::Instrument).unwrap_or_default();
    let share = |stage| profile.map_or(0.0, |profile| by_stack::named_by_stack(profile, stage) as f64);
    html! {
        table.stages {
            thead {
                tr {
                    th.caption scope="col" {
                        @let words = format!("{}, per {noun}", figures::of_side(run, side));
                        (words.trim_start_matches([',', ' '])) @if made == Rows::ByStack { ", by stack" }
                    }
                    td {}
                    th.number scope="col" { "bytes" }
                    th.number scope="col" { "allocs" }
                    @if made == Rows::Both { th.number scope="col" { "by stack" } }
                    @if compares { th.number scope="col" { "bytes vs prev." } }
                }
            }
            tbody {
                @for stage in figures::subject_stages() {
                    @let row = figures::stage_per_message(view.record, side, stage).unwrap_or_default();
                    tr {
                        th scope="row" { (charts::swatch(stage)) " " (charts::words(stage)) }
                        td.bars { (charts::outlined_bar(stage, row.bytes, previous(stage).map(|row| row.bytes), max)) }
                        td.number { b { (numbers::bytes(row.bytes)) } }
                        td.number { (numbers::number(row.blocks)) }
                        @if made == Rows::Both {
                            td.number { @if row.bytes > 0.0 { (numbers::share(share(stage) / row.bytes)) } @else { "–" } }
                        }
                        @if compares { td.number { (parts::change(delta(previous(stage), row).as_ref())) } }
                    }
                }
            }
            tfoot {
                tr.total {
                    th scope="row" { "total" }
                    td {}
                    td.number { b { (numbers::bytes(total.bytes)) } }
                    td.number { b { (numbers::number(total.blocks)) } }
                    @if made == Rows::Both { td {} }
                    @if compares { td.number { (parts::change(delta(previous_total, total).as_ref())) } }
                }
                @if made == Rows::Counted || instrument.blocks > 0.0 {
                    tr.aside {
                        th scope="row" { (charts::swatch(Stage::Instrument)) " instrument" }
                        td {}
                        td.number { (numbers::bytes(instrument.bytes)) }
                        td.number { (numbers::number(instrument.blocks)) }
                        @if made == Rows::Both { td {} }
                        @if compares { td {} }
                    }
                }
            }
        }
    }
}
