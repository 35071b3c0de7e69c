//! What a program's page says of its stacks as a whole: where its memory went in one line, and as time went by.

use alloc_ladder::record::{Measurement, Moment, Recorded, Run, Stacks};
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};

use super::figures::{self, FigureChange, StepView};
use super::sites::{self, SeenSites};
use super::{charts, parts};
use crate::analyse::by_stack;
use crate::analyse::fold::{Profile, Site};
use crate::analyse::profiles::Profiles;
use crate::analyse::symbols::Quality;
use crate::cli::numbers;

/// How many sites are named of those that were live at the peak.
const AT_PEAK: usize = 5;

/// The sums of one side's stacks; what was not measured is `None`.
#[derive(Clone, Copy)]
struct Sums {
    blocks: u64,
    bytes: u64,
    /// Blocks and bytes.
    live: Option<(u64, u64)>,
    temporary: Option<u64>,
    peak_bytes: Option<u64>,
    rss_bytes: Option<u64>,
}

impl Sums {
    fn of(profile: &Profile, stacks: &Stacks) -> Sums {
        let measured = profile.measured;
        let recorded = stacks.recorded.as_ref();
        // The instrument's own is in no table, and so in no sum above one.
        let sum = |figure: fn(&Site) -> u64| -> u64 {
            profile.sum(|site| if site.stage == Stage::Instrument { 0 } else { figure(site) })
        };
        let peak_bytes = recorded.map_or_else(|| sum(|site| site.peak_bytes), |recorded| recorded.peak_bytes);
        Sums {
            blocks: sum(|site| site.blocks),
            bytes: sum(|site| site.bytes),
            live: measured.live.then(|| (sum(|site| site.live_blocks), sum(|site| site.live_bytes))),
            temporary: measured.temporary.then(|| sum(|site| site.temporary)),
            peak_bytes: measured.peak.then_some(peak_bytes),
            // A program that ended between two looks was never seen at its largest.
            rss_bytes: recorded.map(|recorded| recorded.rss_bytes_max).filter(|rss| *rss >= peak_bytes.max(1)),
        }
    }

    fn temporary_share(&self) -> Option<f64> {
        Some(self.temporary? as f64 / self.blocks.max(1) as f64)
    }
}

/// The side of a program's step that has stacks.
fn seen<'a>(
    run: &'a Run,
    profiles: &'a Profiles,
    step: usize,
) -> impl Iterator<Item = (Side, &'a Profile, &'a Stacks)> {
    let of = move |side| Some((side, profiles.get(step, side)?, run.steps.get(step)?.stacks(side)?));
    Side::ALL.into_iter().filter_map(of)
}

/// Four figures from the first step to the last, where a program's stacks are known; `None` elsewhere.
pub(crate) fn cards(run: &Run, profiles: &Profiles) -> Option<Markup> {
    // What was counted or timed stands in the head where there is any.
    let of_stacks = |measurement: &Measurement| measurement.counts.as_ref().is_some_and(by_stack::is_of_stacks);
    if !figures::is_program(run) || !run.steps.iter().flat_map(|step| &step.measurements).all(of_stacks) {
        return None;
    }
    let sums = |step: usize| seen(run, profiles, step).next().map(|(_, profile, stacks)| Sums::of(profile, stacks));
    let (first, last) = (sums(0)?, sums(run.steps.len() - 1)?);
    let first = (run.steps.len() > 1).then_some(first);
    let bytes = |bytes: u64| numbers::bytes(bytes as f64);
    let blocks = |blocks: u64| format!("{} {}", numbers::count(blocks), if blocks == 1 { "block" } else { "blocks" });
    let card = |title: &str, figure: &dyn Fn(&Sums) -> Option<f64>, show: &dyn Fn(f64) -> String, note: String| {
        let (before, after) = (first.as_ref().and_then(figure), figure(&last));
        html! {
            @if let Some(after) = after {
                div.card {
                    h2 { (title) }
                    p.from-to {
                        @if let Some(before) = before {
                            span.from { (show(before)) } " "
                            span.to-arrow aria-hidden="true" { "→" } span.spoken { "to" } " "
                        }
                        b { (show(after)) }
                    }
                    @if let Some(before) = before { p.delta { (parts::change(Some(&FigureChange::cost(before, after)))) } }
                    p.by-side { (note) }
                }
            }
        }
    };
    let whole = |value: f64| bytes(value as u64);
    let rss = match (last.peak_bytes, last.rss_bytes) {
        (Some(peak), Some(rss)) => {
            format!("{} resident at most: the heap is {} of it", bytes(rss), numbers::share(peak as f64 / rss as f64))
        }
        _ => String::new(),
    };
    // Folded stacks carry one number.
    let allocated = |sums: &Sums| (sums.bytes > 0).then_some(sums.bytes as f64);
    let only_blocks = |sums: &Sums| (sums.bytes == 0).then_some(sums.blocks as f64);
    let in_blocks = if last.blocks > 0 { blocks(last.blocks) } else { String::new() };
    Some(html! {
        section.cards aria-label="Where its memory went" {
            (card("Allocated", &allocated, &whole, in_blocks))
            (card("Allocations", &only_blocks, &|value| numbers::count(value as u64), String::new()))
            (card("Live at the end", &|sums| Some(sums.live?.1 as f64), &whole,
                last.live.map_or_else(String::new, |(live, _)| blocks(live))))
            (card("Temporary blocks", &Sums::temporary_share, &numbers::share,
                last.temporary.map_or_else(String::new, |number| {
                    format!("{} freed before their thread allocated again", blocks(number))
                })))
            (card("Live at the peak", &|sums| Some(sums.peak_bytes? as f64), &whole, rss))
        }
    })
}

/// `1 200 blocks and 3 MiB allocated, 1 block and 4 KiB live at the end, 800 temporary (66.7 %)`.
pub(crate) fn line(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    html! {
        @if figures::is_program(run) {
            @for (_, profile, stacks) in seen(run, profiles, view.index) {
                p.measured { (words(&Sums::of(profile, stacks))) }
                @if profile.stages_mislead {
                    p.notice role="note" {
                        "Stages are not told from names that are this poor: they would mislead. To see them, "
                        (parts::prose(Quality::HELP)) "."
                    }
                }
            }
        }
    }
}

fn words(sums: &Sums) -> String {
    let both = |blocks: u64, bytes: u64| match (blocks, bytes) {
        (0, bytes) if bytes > 0 => numbers::bytes(bytes as f64),
        (1, 0) => "1 block".to_owned(),
        (blocks, 0) => format!("{} blocks", numbers::count(blocks)),
        (1, bytes) => format!("1 block and {}", numbers::bytes(bytes as f64)),
        (blocks, bytes) => format!("{} blocks and {}", numbers::count(blocks), numbers::bytes(bytes as f64)),
    };
    let mut text = format!("{} allocated", both(sums.blocks, sums.bytes));
    if let Some((blocks, bytes)) = sums.live {
        text += &format!(", {} live at the end", both(blocks, bytes));
    }
    if let (Some(temporary), Some(share)) = (sums.temporary, sums.temporary_share()) {
        text += &format!(", {} temporary ({})", numbers::count(temporary), numbers::share(share));
    }
    text + "."
}

/// Live bytes and resident memory as time went by, and what was live at the peak.
pub(crate) fn timeline(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    html! {
        @if figures::is_program(run) {
            @for (_, profile, stacks) in seen(run, profiles, view.index) {
                @let drawn = stacks.recorded.as_ref().filter(|recorded| recorded.moments.len() > 1);
                @let peak = profile.measured.peak && profile.peak_bytes() > 0;
                @if drawn.is_some() || peak {
                    div.panel {
                        @if let Some(recorded) = drawn { (over_time(recorded)) }
                        @if peak { (at_peak(SeenSites { profile, stacks })) }
                    }
                }
            }
        }
    }
}

fn over_time(recorded: &Recorded) -> Markup {
    html! {
        h3 { "Heap and resident memory " small { "as time went by" } }
        (chart(recorded))
        ul.legend aria-label="Lines" {
            li { span.stroke.live-line {} " live bytes" }
            @if recorded.rss_bytes_max > 0 { li { span.stroke.rss-line {} " resident memory, without what is shared" } }
            li { span.stroke.peak-line {} " the peak, as the recorder itself saw it" }
        }
    }
}

const WIDTH: f64 = 1150.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 1140.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 206.0;

fn chart(recorded: &Recorded) -> Markup {
    let moments = &recorded.moments;
    let end = moments.iter().map(|moment| moment.ms).max().unwrap_or(0).max(recorded.peak_ms).max(1) as f64;
    let most = moments.iter().map(|moment| moment.live_bytes.max(moment.rss_bytes)).max().unwrap_or(0);
    let ceiling = charts::nice_ceiling(most.max(recorded.peak_bytes).max(1) as f64);
    let x = |ms: u64| LEFT + ms as f64 / end * (RIGHT - LEFT);
    let y = |bytes: u64| BOTTOM - bytes as f64 / ceiling * (BOTTOM - TOP);
    let line = |of: fn(&Moment) -> u64| -> String {
        let points = moments.iter().map(|moment| format!("{},{}", charts::at(x(moment.ms)), charts::at(y(of(moment)))));
        points.collect::<Vec<_>>().join(" ")
    };
    let live = line(|moment| moment.live_bytes);
    let ends = [moments.first(), moments.last()].map(|moment| charts::at(x(moment.map_or(0, |moment| moment.ms))));
    let peak = (x(recorded.peak_ms), y(recorded.peak_bytes));
    let (anchor, beside) = if peak.0 > f64::midpoint(LEFT, RIGHT) { ("end", -8.0) } else { ("", 8.0) };
    let peak_words =
        format!("peak {} at {}", numbers::bytes(recorded.peak_bytes as f64), seconds(recorded.peak_ms as f64));
    let label = format!(
        "Live bytes as time went by: {peak_words}, {} at the end; resident at most {}",
        numbers::bytes(moments.last().map_or(0, |moment| moment.live_bytes) as f64),
        numbers::bytes(recorded.rss_bytes_max as f64),
    );
    html! {
        div.scroll tabindex="0" role="region" aria-label="Heap and resident memory as time went by" {
            svg.plot.timeline viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
                @for quarter in 0..=4 {
                    @let value = ceiling * f64::from(quarter) / 4.0;
                    line.grid x1=(LEFT) x2=(RIGHT) y1=(charts::at(y(value as u64))) y2=(charts::at(y(value as u64))) {}
                    @if quarter % 2 == 0 && quarter > 0 {
                        text.tick.end x=(LEFT - 6.0) y=(charts::at(y(value as u64) + 4.0)) { (numbers::bytes(value)) }
                    }
                }
                polygon.area points={ (ends[0]) "," (BOTTOM) " " (live) " " (ends[1]) "," (BOTTOM) } {}
                @if recorded.rss_bytes_max > 0 { polyline.outline points=(line(|moment| moment.rss_bytes)) {} }
                polyline.line points=(live) {}
                line.peak x1=(charts::at(peak.0)) x2=(charts::at(peak.0)) y1=(charts::at(peak.1)) y2=(BOTTOM) {}
                circle.peak-dot cx=(charts::at(peak.0)) cy=(charts::at(peak.1)) r="4" {}
                text class={ "tick strong " (anchor) } x=(charts::at(peak.0 + beside))
                    y=(charts::at((peak.1 - 8.0).max(12.0))) { (peak_words) }
                @for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    text class={ "tick " (if part == 1.0 { "end" } else { "middle" }) }
                        x=(charts::at(LEFT + part * (RIGHT - LEFT))) y="226" { (seconds(end * part)) }
                }
            }
        }
    }
}

fn seconds(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

/// The sites that held most when the heap was at its largest.
fn at_peak(seen: SeenSites<'_>) -> Markup {
    // The instrument's own sites are no rows.
    let of_instrument = |site: &Site| if site.stage == Stage::Instrument { site.peak_bytes } else { 0 };
    let own = seen.profile.sum(of_instrument);
    let total = seen.profile.peak_bytes() - own;
    let rows = sites::at_peak(seen);
    html! {
        h3 {
            "Live at the peak "
            small {
                (numbers::bytes(total as f64)) " by call site"
                @if own > 0 { ", beside " (numbers::bytes(own as f64)) " of the instrument" }
            }
        }
        (parts::scrolling("Live at the peak", html! {
            table.sites.held role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th role="columnheader" scope="col" { "allocated in" }
                        th role="columnheader" scope="col" { "called by" }
                        th.number role="columnheader" scope="col" { "bytes" }
                        th.number role="columnheader" scope="col" { "share" }
                        th.number role="columnheader" scope="col" { "blocks" }
                    }
                }
                tbody role="rowgroup" {
                    @for row in rows.iter().take(AT_PEAK) {
                        tr role="row" {
                            (row.names())
                            td.number role="cell" data-label="bytes" { (numbers::bytes(row.after.peak_bytes)) }
                            td.number role="cell" data-label="share" {
                                (numbers::share(row.after.peak_bytes / total.max(1) as f64))
                            }
                            td.number role="cell" data-label="blocks" { (numbers::number(row.after.peak_blocks)) }
                        }
                    }
                }
            }
        }))
        @let rest = rows.len().saturating_sub(AT_PEAK);
        @if rest > 0 {
            @let bytes: f64 = rows.iter().skip(AT_PEAK).map(|row| row.after.peak_bytes).sum();
            p.note { "And " (numbers::bytes(bytes)) " in " (numbers::count(rest as u64)) " smaller sites." }
        }
    }
}

/// Where seams and stacks say of the same bytes that they are different stages'.
pub(crate) fn disagreements(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    html! {
        @for (side, profile, _) in seen(run, profiles, view.index).filter(|(_, profile, _)| !profile.said.is_empty()) {
            @let counts = view.record.counts(side).and_then(|counted| counted.counts.as_ref());
            @let apart = match counts {
                Some(counts) if !by_stack::is_of_stacks(counts) => by_stack::disagreements_of_counters(profile),
                _ => by_stack::disagreements(profile),
            };
            @let share = |bytes: u64| numbers::share(bytes as f64 / profile.total_bytes().max(1) as f64);
            h3 { "Scopes and stacks, two ways to say whose a byte is" }
            @if apart.is_empty() {
                p.note { "They agree: of no pair of stages do they differ by more than " (numbers::share(by_stack::AGREEMENT))
                    " of the bytes." }
            } @else {
                (parts::scrolling("Scopes and stacks", html! {
                    table.metrics.apart {
                        thead {
                            tr {
                                th.caption scope="col" { "the scope says" }
                                th scope="col" { "the stack says" }
                                th.number scope="col" { "bytes" }
                                th.number scope="col" { "share" }
                                th.number scope="col" { "allocs" }
                            }
                        }
                        tbody {
                            @for said in &apart {
                                tr {
                                    th scope="row" { (stage(said.by_scope.unwrap_or(Stage::Other))) }
                                    td { (stage(said.by_stack)) }
                                    td.number { b { (numbers::bytes(said.bytes as f64)) } }
                                    td.number { (share(said.bytes)) }
                                    td.number { (numbers::count(said.blocks)) }
                                }
                            }
                        }
                    }
                }))
                p.note {
                    "A scope is the stage the code had entered when it allocated; a stack is judged by its frames. The "
                    "tables go by the scope. Pairs below " (numbers::share(by_stack::AGREEMENT)) " of the bytes are left out."
                }
            }
        }
    }
}

fn stage(stage: Stage) -> Markup {
    html! { (charts::swatch(stage)) " " (charts::words(stage)) }
}
