//! What a step costs, in words and by the figure that the ladder says the cost shows in.

use alloc_ladder::Side;
use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::ladder::{CostFigure, Step};
use alloc_ladder::subject::scenario::Scenario;
use maud::{Markup, html};

use super::figures::{self, Change, Figure, Sample, StepView, Verdict};
use super::parts;
use crate::analyse::metric::{self, Kind, Metric};
use crate::cli::numbers;

/// The step's cost. A cost that no figure shows has none: a figure of something else would pass for it.
pub(crate) fn section(run: &Run, view: &StepView<'_>, step: &Step) -> Markup {
    html! {
        div.trade-off {
            h3 { "The trade-off" }
            p {
                (parts::prose(step.cost))
                @if let (Some(previous), Some(cost)) = (view.previous, step.cost_figure) {
                    " " (price(run, previous, view.record, cost))
                }
            }
        }
    }
}

/// How the figure went, side by side.
fn price(run: &Run, previous: &StepRecord, this: &StepRecord, cost: CostFigure) -> Markup {
    let shown = Shown::of(cost, run);
    let prices: Vec<(Side, Change)> =
        Side::ALL.into_iter().filter_map(|side| Some((side, shown.change(previous, this, side)?))).collect();
    html! {
        @if prices.is_empty() {
            "Its effect on the " (shown.words) " was not measured."
        } @else {
            "Measured, " (shown.words) ":"
            @for (index, (side, change)) in prices.iter().enumerate() {
                @if index > 0 { "," }
                " " (side.name()) " " b { ((shown.format)(change.before)) " → " ((shown.format)(change.after)) }
                @if !matches!(change.verdict, Verdict::Same) {
                    " " span.moved-by { "(" (parts::change(Some(change))) ")" }
                }
            }
            "."
        }
    }
}

/// A figure as the sentence shows it.
struct Shown {
    metric: Option<&'static Metric>,
    words: String,
    format: fn(f64) -> String,
}

impl Shown {
    fn of(cost: CostFigure, run: &Run) -> Shown {
        let noun = figures::noun(run);
        let (name, words, format): (_, _, fn(f64) -> String) = match cost {
            CostFigure::PeakHeap => ("peak-heap", "peak heap".to_owned(), numbers::bytes),
            CostFigure::Reallocs => ("reallocs-per-message", format!("reallocations per {noun}"), numbers::number),
            CostFigure::ContextSwitches => {
                ("switches-per-message", format!("context switches per {noun}"), numbers::number)
            }
            CostFigure::Cpu if run.scenario == Some(Scenario::Unary) => {
                ("cpu-per-message", format!("CPU per {noun}"), |value| numbers::nanoseconds(value * 1e3))
            }
            CostFigure::Cpu => ("cpu-per-gb", "CPU-seconds per GB".to_owned(), numbers::number),
        };
        Shown { metric: metric::find(name), words, format }
    }

    fn change(&self, previous: &StepRecord, this: &StepRecord, side: Side) -> Option<Change> {
        let [before, after] = [previous, this].map(|step| sample(self.metric?, step, side));
        // Of every one of these figures less is better, as of the peak heap.
        Change::between(Figure::PeakHeap, before.as_ref(), after.as_ref())
    }
}

fn sample(metric: &Metric, step: &StepRecord, side: Side) -> Option<Sample> {
    let values = metric.samples(step, side, None);
    match metric.kind {
        Kind::Sampled => Sample::timed(values),
        Kind::Exact | Kind::ExactWithin(_) if values.is_empty() => None,
        Kind::Exact | Kind::ExactWithin(_) => Some(Sample { values, exact: true, slack: metric.slack(step, side) }),
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::ladder;

    use super::super::fixture;
    use super::*;

    /// The trade-off of a step as it reads, without its tags.
    fn text(run: &Run, index: usize) -> String {
        let steps = figures::steps(run);
        let html = section(run, &steps[index], steps[index].step.expect("a step of the ladder")).into_string();
        regex::Regex::new("<[^>]*>").expect("a pattern").replace_all(&html, "").replace('\u{202f}', " ")
    }

    #[test]
    fn a_cost_is_measured_by_its_own_figure_or_by_none() {
        let run = fixture::run();
        let of = |name: &str| text(&run, run.steps.iter().position(|step| step.name == name).expect("a step"));
        let pooled = of("pooled-message");
        assert!(pooled.contains("Measured, peak heap: server 1.31 MiB → 1.37 MiB"), "{pooled}");
        let aligned = of("aligned-reads");
        assert!(aligned.contains("Measured, context switches per message: server 0.710 → 0.760"), "{aligned}");
        assert!(!aligned.contains("heap"), "{aligned}");
        assert!(of("sized-encode").contains("Measured, CPU-seconds per GB: server 0.3"));
        assert!(!of("core-runtime").contains("Measured"), "nothing shows where the kernel put a connection");
        assert!(!of("baseline").contains("Measured"));
    }

    #[test]
    fn what_was_not_measured_is_said_of_the_figure_it_would_be() {
        let run = fixture::bare();
        assert!(text(&run, 2).ends_with("Its effect on the peak heap was not measured."));
    }

    #[test]
    fn every_figure_a_cost_shows_in_is_a_metric_of_its_scenario() {
        for scenario in Scenario::ALL {
            let run = Run { scenario: Some(scenario), ..fixture::run() };
            for cost in ladder::ladder(scenario).iter().filter_map(|step| step.cost_figure) {
                let metric = Shown::of(cost, &run).metric.expect("a metric");
                assert!(metric::of(Some(scenario)).any(|other| other == metric), "{scenario} {metric:?}");
                assert!(metric.better == metric::Better::Less, "{metric:?}");
            }
        }
    }
}
