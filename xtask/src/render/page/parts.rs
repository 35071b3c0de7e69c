//! Small pieces several sections share: a change, a figure that is not there, a sentence with code in it.

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Run, StepRecord};
use maud::{Markup, html};

use super::figures::{Figure, FigureChange, Movement, Sample};
use crate::analyse::stats;
use crate::cli::numbers;

/// What stands in place of a figure nobody measured.
pub(crate) fn not_measured() -> Markup {
    html! { span.absent { "not measured" } }
}

/// A change: direction by arrow, sign and word, good or bad by colour on top; with its interval where rounds were timed.
pub(crate) fn change(change: Option<&FigureChange>) -> Markup {
    let Some(change) = change else {
        return html! { span.quiet { "–" } };
    };
    let arrow = if change.rises() { "▲" } else { "▼" };
    let rounds = change.ratio.map_or(0, |ratio| ratio.rounds);
    html! {
        @match change.verdict {
            Movement::Same => { span.quiet title="exactly the same" { "=" } }
            Movement::Close => { span.quiet title=(change.words()) { "≈" } }
            Movement::Settled => { span.quiet title="no difference to speak of" { (amount(change)) } }
            Movement::Noise => { span.quiet title="unsettled" { "~ " (amount(change)) } }
            Movement::TooFew if rounds > 1 => {
                span.quiet title="unsettled" { "~ " (amount(change)) } " " span.p { "n too small" }
            }
            Movement::TooFew => { span.quiet title=(change.words()) { "~" } " " span.p { "one run" } }
            Movement::OneRound => {
                span.quiet title="not comparable with one round" { (change.words()) } " " span.p { "one round" }
            }
            verdict => {
                span class=(match verdict { Movement::Better => "better", Movement::Worse => "worse", _ => "moved" }) {
                    span.arrow aria-hidden="true" { (arrow) }
                    (amount(change))
                    @match verdict {
                        Movement::Better => { span.spoken { " better" } }
                        Movement::Worse => { span.spoken { " worse" } }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// How much a figure changed: a multiple with its interval, which a narrow column breaks before, or a percentage.
fn amount(change: &FigureChange) -> Markup {
    html! {
        @match &change.ratio {
            Some(ratio) => { (ratio.multiple()) " " span.p { (ratio.interval()) } }
            None => { (change.words()) }
        }
    }
}

/// A figure with how far its rounds spread.
pub(crate) fn figure(figure: Figure, sample: Option<&Sample>) -> Markup {
    match sample {
        None => not_measured(),
        Some(sample) => html! {
            b { (figure.format(sample.median())) }
            @if let Some(spread) = sample.spread() { " " span.p { (numbers::plus_minus(spread)) } }
        },
    }
}

/// What an interval between `rounds` values may be called: few of them miss the median more often than 1 time in 20.
pub(crate) fn interval_words(rounds: usize) -> String {
    let covered = stats::coverage(rounds).min(0.95) * 100.0;
    format!("{} % interval", format!("{covered:.1}").trim_end_matches(".0"))
}

/// The same of everything timed in a run, the fewest rounds deciding; `None` where nothing has an interval.
pub(crate) fn interval_words_of(run: &Run) -> Option<String> {
    let rounds = |step: &StepRecord| Side::ALL.map(|side| step.of(side, Instrument::Time).count());
    Some(interval_words(run.steps.iter().flat_map(rounds).filter(|rounds| *rounds > 1).min()?))
}

/// How a plot of timed runs reads.
pub(crate) fn plot_words(run: &Run) -> String {
    match interval_words_of(run) {
        Some(interval) => format!("Every timed run is a dot, the tick is the median, the band its {interval}"),
        None => "Every timed run is a dot, the tick is the median".to_owned(),
    }
}

/// A sentence in which backticks mark code.
pub(crate) fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A table that scrolls sideways by itself where the window is narrow, and can be reached by keyboard for it.
pub(crate) fn scrolling(label: &str, table: Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}

#[cfg(test)]
mod tests {
    use crate::analyse::judge::Ratio;

    use super::*;

    #[test]
    fn backticks_become_code_and_everything_is_escaped() {
        let html = prose("`Vec<u8>` & `Bytes`").into_string();
        assert_eq!(html, "<code>Vec&lt;u8&gt;</code> &amp; <code>Bytes</code>");
    }

    #[test]
    fn an_interval_is_called_what_it_covers() {
        let words = [2, 3, 5, 6, 10].map(interval_words);
        assert_eq!(words, ["50 % interval", "75 % interval", "93.8 % interval", "95 % interval", "95 % interval"]);
        let mut run = crate::render::page::fixture::run();
        assert!(plot_words(&run).ends_with("the band its 95 % interval"));
        for step in &mut run.steps {
            step.measurements.retain(|m| m.instrument != Instrument::Time || m.round < 3);
        }
        assert!(plot_words(&run).ends_with("the band its 75 % interval"));
        for step in &mut run.steps {
            step.measurements.retain(|m| m.instrument != Instrument::Time || m.round < 1);
        }
        assert!(!plot_words(&run).contains("interval"), "one run has none");
    }

    #[test]
    fn what_too_few_rounds_cannot_tell_says_so() {
        let of = |verdict, rounds| {
            let ratio = (rounds > 0).then_some(Ratio { rounds, middle: 2.0, low: 1.5, high: 2.5 });
            let shown = change(Some(&FigureChange { before: 3.0, after: 6.0, ratio, verdict })).into_string();
            assert!(!shown.contains("better") && !shown.contains("worse"), "{shown}");
            shown
        };
        assert!(of(Movement::TooFew, 3).contains("~ ×2.000 <span class=\"p\">[1.500, 2.500]</span>"));
        assert!(of(Movement::TooFew, 3).contains("n too small"));
        assert!(of(Movement::TooFew, 1).contains("one run") && !of(Movement::TooFew, 1).contains("too small"));
        assert!(of(Movement::Noise, 12).contains("~ ×2.000"));
        assert!(!of(Movement::Settled, 12).contains('~'), "only what is unsettled has the sign");
        let once = of(Movement::OneRound, 0);
        assert!(once.contains("+100%") && once.contains("not comparable with one round"), "{once}");
    }

    #[test]
    fn what_was_not_measured_is_never_a_number() {
        assert!(!figure(Figure::Metric(&crate::analyse::metric::ALLOCS_PER_MESSAGE), None).into_string().contains('0'));
        assert!(!change(None).into_string().contains('0'));
    }
}
