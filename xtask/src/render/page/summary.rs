//! The talk's own closing table, regenerated: for each workload what it gained and what to do in one's own service.

use alloc_ladder::record::{Run, StepRecord};
use maud::{Markup, html};

use super::figures::{self, Change, Figure, StepView, Verdict};
use super::{overview, parts};
use crate::cli::numbers;

pub(crate) fn section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    // A run that ended early ends with what it measured.
    let measured =
        &steps[..steps.iter().rposition(|view| figures::is_measured(view.record)).map_or(0, |last| last + 1)];
    let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return html! {} };
    let metrics = Figure::headline(run);
    html! {
        section.panel aria-labelledby="summary" {
            h2 id="summary" { "In one table" }
            (parts::scrolling("Summary", html! {
                table.summary {
                    thead {
                        tr {
                            th scope="col" { "workload" }
                            th scope="col" { "benefit" }
                            th scope="col" { "what to do" }
                        }
                    }
                    tbody {
                        @for view in &measured[1..] {
                            tr {
                                th scope="row" { (view.title()) }
                                td { (benefit(&metrics, view.previous, view)) }
                                td {
                                    @match view.step {
                                        Some(step) => { code { (step.switch) } br; small { (parts::prose(step.cost)) } }
                                        None => { "–" }
                                    }
                                }
                            }
                        }
                    }
                    tfoot {
                        tr.total {
                            th scope="row" {
                                (overview::title(run)) br; small { (overview::workload(run.scenario, &run.workload)) }
                            }
                            td {
                                @if measured.len() > 1 { (benefit(&metrics, Some(first.record), last)) }
                                @else { "one step: nothing to compare" }
                            }
                            td { "all of the above" }
                        }
                    }
                }
            }))
            p.note {
                "Server and client together, each step against the one before, the last row against the baseline. "
                "Timed figures appear only where they are beyond noise."
            }
        }
    }
}

/// What moved for better or worse, in words; what is within noise stays out.
fn benefit(metrics: &[Figure], before: Option<&StepRecord>, view: &StepView<'_>) -> Markup {
    let changes: Vec<(Figure, Change)> = metrics
        .iter()
        .filter_map(|figure| {
            let before = before.and_then(|step| figure.pair(step));
            Some((*figure, Change::between(*figure, before.as_ref(), figure.pair(view.record).as_ref())?))
        })
        .collect();
    if changes.is_empty() {
        return parts::not_measured();
    }
    let moved: Vec<&(Figure, Change)> =
        changes.iter().filter(|(_, change)| matches!(change.verdict, Verdict::Better | Verdict::Worse)).collect();
    html! {
        @if moved.is_empty() { span.quiet { "none that was measurable here" } }
        ul.benefit {
            @for (figure, change) in moved {
                li {
                    (parts::change(Some(&Change { p: None, ..*change }))) " " (short(*figure))
                    @if let Some(p) = change.p { " " span.p { (numbers::p_value(p)) } }
                }
            }
        }
    }
}

fn short(figure: Figure) -> &'static str {
    match figure {
        Figure::Blocks => "allocations",
        Figure::Amplification | Figure::BytesPerMessage => "bytes allocated",
        Figure::CpuPerGb | Figure::CpuPerMessage => "CPU",
        _ => "throughput",
    }
}
