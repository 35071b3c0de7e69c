//! The top of the page: what was measured, the four figures from baseline to last, and the ladder.

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::ladder;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};

use super::figures::{self, Figure, Headline, StepView};
use super::{charts, environment, parts, recorded, stages, traffic};
use crate::analyse::judge::SETTLED;
use crate::analyse::marks::Against;
use crate::analyse::metric::{self, Whose};
use crate::analyse::profiles::Profiles;
use crate::cli::numbers;

/// The page's title and first heading in words.
pub(crate) fn title(run: &Run) -> String {
    match Scenario::of(&run.subject) {
        Some(scenario) => format!("{scenario}: {}", scenario.words()),
        None if run.subject.name.is_empty() => run.id.clone(),
        None => run.subject.name.clone(),
    }
}

pub(crate) fn head(run: &Run, steps: &[StepView<'_>], profiles: &Profiles) -> Markup {
    html! {
        header.top {
            p.eyebrow { "allocation profile · " (run.id) }
            h1 {
                @match Scenario::of(&run.subject) {
                    Some(scenario) => { (scenario.name()) " " small { (scenario.words()) } }
                    None if figures::is_climbed(run) => { (title(run)) " " small { (steps.len()) " steps of alloc-ladder.toml" } }
                    None if steps.len() > 1 && traffic::is_opened(run) => {
                        (title(run)) " " small { "and " (steps.len() - 1) " more, in the order they were named" }
                    }
                    None => { (title(run)) " " small { "a program of its own" } }
                }
            }
            p.lead { (traffic::traffic(run)) }
            @if run.partial { (partial(run)) }
        }
        @if steps.is_empty() {
            p.notice { "This run ended before its first step was measured: there is nothing to show." }
        } @else {
            (recorded::cards(run, profiles).unwrap_or_else(|| cards(run, steps)))
        }
        (environment::environment(run))
    }
}

fn partial(run: &Run) -> Markup {
    let missing: Vec<&str> = Scenario::of(&run.subject).map_or_else(Vec::new, |scenario| {
        let measured = |name: &str| run.steps.iter().any(|step| step.name == name && figures::is_measured(step));
        ladder::ladder(scenario).iter().map(|step| step.name).filter(|name| !measured(name)).collect()
    });
    html! {
        p.notice role="note" {
            b { "Partial run." }
            @if run.steps.iter().any(|step| step.failure.is_some()) {
                " Not every step was measured to the end: figures are of the rounds that were"
            } @else {
                " It ended early: what is here was measured to the end, the rest was not measured"
            }
            @if !missing.is_empty() { " (no figures of " (missing.join(", ")) ")" }
            "."
            @for step in run.steps.iter().filter(|step| step.failure.is_some()) {
                br; b { (step.name) } ": " (step.failure.as_deref().unwrap_or_default()) "."
            }
        }
    }
}

fn cards(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    let Some(first) = run.steps.first() else { return html! {} };
    html! {
        section.cards aria-label="From the first step to the last" {
            @for figure in Headline::of(run).shown(run) {
                // A run that ended early still went from somewhere to somewhere.
                @let view = steps.iter().rfind(|view| figure.pair(run, view.record).is_some());
                @let last = view.map_or(first, |view| view.record);
                @let (before, after) = (figure.pair(run, first), figure.pair(run, last));
                div.card {
                    h2 { (capitalised(&figure.label(noun))) }
                    p.from-to {
                        @match (&before, &after) {
                            (Some(before), Some(after)) if last != first => {
                                span.from { (figure.format(before.median())) }
                                " " span.to-arrow aria-hidden="true" { "→" } span.spoken { "to" } " "
                                b { (figure.format(after.median())) }
                            }
                            (_, Some(after)) => { b { (figure.format(after.median())) } }
                            _ => { (parts::not_measured()) }
                        }
                    }
                    @if last != first {
                        @let change = view.and_then(|view| view.change(run, figure, Whose::Pair, Against::First));
                        p.delta { (parts::change(change.as_ref())) }
                    }
                    p.by-side {
                        @if after.is_some() { (by_side(run, figure, first, last)) }
                        @if run.partial && last != first { span { "up to " (last.name) } }
                    }
                }
            }
        }
    }
}

/// What each side has of a figure that both pay; a rate belongs to the pair.
fn by_side(run: &Run, figure: Figure, first: &StepRecord, last: &StepRecord) -> Markup {
    if figure.more_is_better() {
        return html! { (figure.seen_by(run)) };
    }
    let of = |step: &StepRecord, side| figure.sample(step, side).map(|sample| figure.format(sample.median()));
    html! {
        @for side in Side::ALL {
            @if let (Some(before), Some(after)) = (of(first, side), of(last, side)) {
                span { (side.name()) " " @if last != first { (before) " → " } (after) }
            }
        }
    }
}

/// The text with a capital first letter.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

pub(crate) fn ladder_section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    let Headline { blocks, bytes, cpu, rate } = Headline::of(run);
    let timed_columns: Vec<Figure> =
        Headline::of(run).shown(run).into_iter().filter(|figure| [cpu, rate, figures::LIVE].contains(figure)).collect();
    let bar_max = |side| figures::largest(run, |step| figures::subject_per_message(step, side).map(|sum| sum.bytes));
    let dot_max = |figure: Figure| {
        figures::largest(run, |step| {
            figure.pair(run, step).map(|sample| sample.values.iter().copied().fold(0.0, f64::max))
        })
    };
    let max: Vec<(Side, f64)> = figures::sides(run).into_iter().map(|side| (side, bar_max(side))).collect();
    html! {
        section.panel.ladder.three[timed_columns.len() > 2] aria-labelledby="ladder" {
            div.panel-head {
                h2 id="ladder" {
                    @if !figures::is_program(run) { "The ladder" }
                    @else if steps.len() == 1 { "What it allocates" }
                    @else { "The steps" }
                }
                (charts::legend(stages::shown(run).filter(|stage| *stage != Stage::Instrument)))
            }
            table role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th.step-name role="columnheader" scope="col" { "Step" }
                        @for &(side, max) in &max {
                            th role="columnheader" scope="col" {
                                "Allocated" (figures::of_side(run, side)) @if max > 0.0 { br; small { "full bar: " (numbers::bytes(max)) } }
                            }
                        }
                        th.number role="columnheader" scope="col" { "Allocations" br; small { "per " (noun) } }
                        th.number role="columnheader" scope="col" {
                            @if bytes == Figure::Metric(&metric::AMPLIFICATION) { "Bytes" br; small { "per payload byte" } }
                            @else { "Bytes" br; small { "per " (noun) } }
                        }
                        @for figure in &timed_columns {
                            th role="columnheader" scope="col" {
                                (capitalised(&figure.label(noun))) br;
                                @if !figures::is_program(run) {
                                    small { @if *figure == cpu { "client + server" } @else { "of the pair" } }
                                }
                            }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for view in steps {
                        tr role="row" data-row=(view.index) {
                            th.step-name role="rowheader" scope="row" {
                                a href={ "#" (view.anchor()) } data-step=(view.index) {
                                    span.index { (view.index + 1) } " " (view.title())
                                }
                                @if let Some(changed) = run.elsewhere(view.index) {
                                    small { " from " (figures::clipped(changed, 60)) }
                                }
                            }
                            @for &(side, max) in &max {
                                td.bars role="cell" data-label={ "Allocated" (figures::of_side(run, side)) } {
                                    (bar(run, view.record, side, max))
                                }
                            }
                            td.number role="cell" data-label={ "Allocations per " (noun) } { (exact(run, blocks, view)) }
                            td.number role="cell" data-label=(bytes.label(noun)) { (exact(run, bytes, view)) }
                            @for figure in &timed_columns {
                                td role="cell" data-label={
                                    (capitalised(&figure.label(noun)))
                                    @if *figure == cpu && !figures::is_program(run) { ", client + server" }
                                } {
                                    (timed(run, *figure, view, dot_max(*figure), noun))
                                }
                            }
                        }
                    }
                }
            }
            (ladder_note(run, steps))
        }
    }
}

/// What the ladder's bars, plots and colours mean.
fn ladder_note(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    let against = match (0..run.steps.len()).any(|step| run.elsewhere(step).is_some()) {
        true => " Changes are against the step above, or the one that a step is said to be from: ",
        false => " Changes are against the step above: ",
    };
    html! {
        p.note {
            @if figures::is_program(run) {
                "Bars are bytes per " (noun) " on one scale."
                @if steps.len() > 1 {
                    (against) span.better { "blue" } " is better, "
                    span.worse { "orange" } " worse."
                }
            } @else {
                "Bars are bytes per " (noun) " on one scale per column, so they shrink from step to step. "
                (parts::plot_words(run)) "; plots begin at zero." (against)
                span.better { "blue" } " is better, " span.worse { "orange" } " worse, of times as a multiple with its 95 % "
                "interval; ~ is unsettled: no mark, and an interval that reaches further than ±"
                (numbers::share(SETTLED)) "."
                (unsettled(run, steps))
            }
        }
    }
}

/// The steps of which more rounds would tell more, by name.
fn unsettled(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let wide = steps.first().map(|view| view.unsettled(run)).unwrap_or_default();
    html! {
        @if !wide.is_empty() {
            " Unsettled against the step above, CPU: "
            @for (index, view) in steps.iter().filter(|view| wide.iter().any(|of| of.step == view.index)).enumerate() {
                @if index > 0 { "; " }
                (view.title())
                " ("
                @for (nth, of) in wide.iter().filter(|of| of.step == view.index).enumerate() {
                    @if nth > 0 { ", " }
                    (of.whose.name()) @if of.reach.is_finite() { " " (numbers::plus_minus(of.reach)) }
                }
                ")"
            }
            "."
        }
    }
}

fn bar(run: &Run, step: &StepRecord, side: Side, max: f64) -> Markup {
    let parts: Option<Vec<(Stage, f64)>> = figures::subject_stages()
        .map(|stage| Some((stage, figures::stage_per_message(step, side, stage)?.bytes)))
        .collect();
    match parts {
        Some(parts) => charts::stage_bar(&format!("Allocated{}", figures::of_side(run, side)), &parts, max),
        None => parts::not_measured(),
    }
}

fn exact(run: &Run, figure: Figure, view: &StepView<'_>) -> Markup {
    let sample = figure.pair(run, view.record);
    html! {
        span.value { (parts::figure(figure, sample.as_ref())) }
        @if view.previous.is_some() && sample.is_some() {
            span.delta { (parts::change(view.change(run, figure, Whose::Pair, Against::Previous).as_ref())) }
        }
    }
}

fn timed(run: &Run, figure: Figure, view: &StepView<'_>, max: f64, noun: &str) -> Markup {
    let sample = figure.pair(run, view.record);
    html! {
        div.timed {
            @match &sample {
                Some(sample) => {
                    (charts::dots(&figure.label(noun), sample, max))
                    span.value { b { (figure.format(sample.median())) } }
                    @if view.previous.is_some() {
                        span.delta { (parts::change(view.change(run, figure, Whose::Pair, Against::Previous).as_ref())) }
                    }
                }
                None => { (parts::not_measured()) }
            }
        }
    }
}
