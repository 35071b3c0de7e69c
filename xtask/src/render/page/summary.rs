//! The talk's own closing table, regenerated: for each workload what it gained and what to do in one's own service.

use alloc_ladder::record::Run;
use maud::{Markup, html};

use super::figures::{self, Figure, FigureChange, Headline, Movement, StepView};
use super::{overview, parts, traffic};
use crate::analyse::marks::Against;
use crate::analyse::metric::Whose;

pub(crate) fn section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    // A run that ended early ends with what it measured.
    let measured =
        &steps[..steps.iter().rposition(|view| figures::is_measured(view.record)).map_or(0, |last| last + 1)];
    let Some(last) = measured.last() else { return html! {} };
    let metrics = Headline::of(run);
    // Opened files and single runs have one round a step, of which nothing is told from noise: their table says it all.
    let judged =
        |view: &StepView<'_>| [Against::Previous, Against::First].iter().any(|to| has_moved(run, metrics, view, *to));
    if figures::is_program(run) && !figures::is_climbed(run) && !measured.iter().any(judged) {
        return html! {};
    }
    html! {
        section.panel aria-labelledby="summary" {
            h2 id="summary" { "In one table" }
            (parts::scrolling("Summary", html! {
                table.summary {
                    thead {
                        tr {
                            th scope="col" { @if figures::is_program(run) { "step" } @else { "workload" } }
                            th scope="col" { "benefit" }
                            @if !figures::is_program(run) { th scope="col" { "what to do" } }
                        }
                    }
                    tbody {
                        @for view in &measured[1..] {
                            tr {
                                th scope="row" { (view.title()) }
                                td { (benefit(run, metrics, view, Against::Previous)) }
                                @if !figures::is_program(run) {
                                    td {
                                        @match view.step {
                                            Some(step) => { code { (step.switch) } br; small { (parts::prose(step.cost)) } }
                                            None => { "–" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    tfoot {
                        tr.total {
                            th scope="row" {
                                (overview::title(run)) br; small { (traffic::workload(run.subject.shape, &run.workload)) }
                            }
                            td {
                                @if measured.len() > 1 { (benefit(run, metrics, last, Against::First)) }
                                @else { "one step: nothing to compare" }
                            }
                            @if !figures::is_program(run) { td { "all of the above" } }
                        }
                    }
                }
            }))
            p.note {
                @if figures::is_program(run) {
                    "Each step against the one before, the last row against the first."
                } @else {
                    "Server and client together, each step against the one before, the last row against the baseline. "
                    "Timed figures appear only where they are beyond noise."
                }
            }
        }
    }
}

/// Every figure that both steps have, with its name.
fn changes(run: &Run, metrics: Headline, view: &StepView<'_>, against: Against) -> Vec<(&'static str, FigureChange)> {
    let named = [
        (metrics.blocks, "allocations"),
        (metrics.bytes, "bytes allocated"),
        (metrics.cpu, "CPU"),
        (metrics.rate, "throughput"),
    ];
    // What a service keeps of its calls; the study's keep nothing.
    let kept = figures::is_climbed(run).then_some((figures::LIVE, "bytes left live"));
    let change = |figure: Figure| view.change(run, figure, Whose::Pair, against);
    named.into_iter().chain(kept).filter_map(|(figure, words)| Some((words, change(figure)?))).collect()
}

const fn is_beyond_noise(change: &FigureChange) -> bool {
    matches!(change.verdict, Movement::Better | Movement::Worse)
}

fn has_moved(run: &Run, metrics: Headline, view: &StepView<'_>, against: Against) -> bool {
    changes(run, metrics, view, against).iter().any(|(_, change)| is_beyond_noise(change))
}

/// What moved for better or worse, in words; what is within noise stays out.
fn benefit(run: &Run, metrics: Headline, view: &StepView<'_>, against: Against) -> Markup {
    let changes = changes(run, metrics, view, against);
    if changes.is_empty() {
        return parts::not_measured();
    }
    let moved: Vec<&(&str, FigureChange)> = changes.iter().filter(|(_, change)| is_beyond_noise(change)).collect();
    html! {
        @if moved.is_empty() { span.quiet { "none that was measurable here" } }
        ul.benefit { @for (words, change) in moved { li { (parts::change(Some(change))) " " (words) } } }
    }
}
