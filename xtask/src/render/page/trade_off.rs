//! What a step costs, in words and by the figure that the ladder says the cost shows in.

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use alloc_ladder::subject::ladder::{CostFigure, Step};
use maud::{Markup, html};

use super::figures::{self, Figure, FigureChange, Movement, StepView};
use super::parts;
use crate::analyse::marks::Against;
use crate::analyse::metric::{self, Metric, Whose};

/// The step's cost. A cost that no figure shows has none: a figure of something else would pass for it.
pub(crate) fn section(run: &Run, view: &StepView<'_>, step: &Step) -> Markup {
    html! {
        div.trade-off {
            h3 { "The trade-off" }
            p {
                (parts::prose(step.cost))
                @if let (Some(_), Some(cost)) = (view.previous, step.cost_figure) {
                    " " (price(run, view, cost))
                }
            }
        }
    }
}

/// How the figure went, side by side.
fn price(run: &Run, view: &StepView<'_>, cost: CostFigure) -> Markup {
    let metric = figure_of(cost, run);
    let words = in_a_sentence(&metric.title(figures::noun(run)));
    let change = |side| view.change(run, Figure::Metric(metric), Whose::Side(side), Against::Previous);
    let prices: Vec<(Side, FigureChange)> =
        Side::ALL.into_iter().filter_map(|side| Some((side, change(side)?))).collect();
    html! {
        @if prices.is_empty() {
            "Its effect on the " (words) " was not measured."
        } @else {
            "Measured, " (words) ":"
            @for (index, (side, change)) in prices.iter().enumerate() {
                @if index > 0 { "," }
                " " (side.name()) " " b { (metric.show(change.before)) " → " (metric.show(change.after)) }
                @if !matches!(change.verdict, Movement::Same) {
                    " " span.moved-by { "(" (parts::change(Some(change))) ")" }
                }
            }
            "."
        }
    }
}

/// The metric that a kind of cost shows in.
fn figure_of(cost: CostFigure, run: &Run) -> &'static Metric {
    match cost {
        CostFigure::PeakHeap => &metric::PEAK_HEAP,
        CostFigure::Reallocs => &metric::REALLOCS_PER_MESSAGE,
        CostFigure::ContextSwitches => &metric::SWITCHES_PER_MESSAGE,
        CostFigure::Cpu if run.subject.shape.has_payload() => &metric::CPU_PER_GB,
        CostFigure::Cpu => &metric::CPU_PER_MESSAGE,
        CostFigure::Resident => &metric::PEAK_RSS,
    }
}

/// A title as it stands inside a sentence: "Peak heap" is "peak heap", and "CPU" stays.
fn in_a_sentence(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => title.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::ladder;
    use alloc_ladder::subject::scenario::Scenario;

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
            let run = Run { subject: scenario.subject(), ..fixture::run() };
            for cost in ladder::ladder(scenario).iter().filter_map(|step| step.cost_figure) {
                let metric = figure_of(cost, &run);
                assert!(metric.is_meant_for(scenario.shape()), "{scenario} {metric:?}");
                assert!(metric.better == metric::Better::Less, "{metric:?}");
            }
        }
    }
}
