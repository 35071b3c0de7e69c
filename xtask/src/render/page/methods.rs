//! RPC methods × stages: what a call of each method allocates, and what the seams counted of its calls.

use std::collections::BTreeMap;

use alloc_ladder::record::{Instrument, Measurement, Run, StepRecord};
use alloc_ladder::{Side, Stage, Tally};
use maud::{Markup, html};

use super::figures::{self, FigureChange, StepView};
use super::{charts, parts};
use crate::cli::numbers;

/// How many methods a table has.
const ROWS: usize = 20;
/// A path can be as long as a page.
const NAME_MAX: usize = 120;

/// One method of one side, in one step.
#[derive(Clone, Debug, Default, PartialEq)]
struct OfMethod {
    stages: BTreeMap<Stage, Tally>,
    /// Calls that ended, and of them those with an error; `None` where no seam counted.
    calls: Option<(u64, u64)>,
    /// Messages in both directions.
    messages: u64,
    payload_bytes: u64,
}

impl OfMethod {
    fn total(&self) -> Tally {
        self.stages.values().copied().sum()
    }

    /// What its figures are per: its own calls, its messages where no call ended, or those of the whole window.
    fn divisor(&self, window: u64) -> (f64, &'static str) {
        match self.calls {
            Some((calls @ 1.., _)) => (calls as f64, "call"),
            _ if self.messages > 0 => (self.messages as f64, "message"),
            _ => (window.max(1) as f64, "message"),
        }
    }
}

/// The methods of a side, of all its rounds, and the messages of their windows.
fn methods(step: &StepRecord, side: Side) -> (BTreeMap<&str, OfMethod>, u64) {
    let mut methods: BTreeMap<&str, OfMethod> = BTreeMap::new();
    let mut window = 0;
    for measurement in step.of(side, Instrument::Count) {
        let Measurement { counts, calls, messages, .. } = measurement;
        window += messages;
        for row in counts.iter().flat_map(|counts| &counts.rows) {
            if row.stage != Stage::Instrument && !row.rpc.is_empty() {
                *methods.entry(&row.rpc).or_default().stages.entry(row.stage).or_default() += row.tally;
            }
        }
        for row in calls.iter().filter(|row| !row.rpc.is_empty()) {
            let method = methods.entry(&row.rpc).or_default();
            let (calls, errors) = method.calls.unwrap_or_default();
            method.calls = Some((calls + row.calls, errors + row.errors));
            method.messages += row.messages_received + row.messages_sent;
            method.payload_bytes += row.payload_bytes_received + row.payload_bytes_sent;
        }
    }
    (methods, window)
}

/// A table a side of a step; nothing where no method is known.
pub(crate) fn section(run: &Run, view: &StepView<'_>) -> Markup {
    // A ladder of the study calls one method, which its stages are of.
    if !figures::is_program(run) {
        return html! {};
    }
    let sides: Vec<Side> =
        figures::sides(run).into_iter().filter(|side| !methods(view.record, *side).0.is_empty()).collect();
    html! {
        @for side in sides {
            section.panel {
                h3 { "RPC methods, " (side.name()) }
                (table(view, side))
                p.note {
                    "Bytes a call, stage by stage, with the blocks below; a method whose calls did not end is per message. "
                    "What is allocated for no method (connections, the runtime) is in the stages alone."
                }
            }
        }
    }
}

fn table(view: &StepView<'_>, side: Side) -> Markup {
    let (this, window) = methods(view.record, side);
    let before = view.previous.map(|step| methods(step, side));
    let mut rows: Vec<(&str, &OfMethod)> = this.iter().map(|(rpc, method)| (*rpc, method)).collect();
    rows.sort_by_key(|(rpc, method)| (std::cmp::Reverse(method.total().bytes), *rpc));
    let stages: Vec<Stage> = Stage::ALL
        .into_iter()
        .filter(|stage| rows.iter().any(|(_, method)| method.stages.contains_key(stage)))
        .collect();
    let has_calls = rows.iter().any(|(_, method)| method.calls.is_some());
    parts::scrolling(
        &format!("RPC methods, {}", side.name()),
        html! {
            table.metrics {
                thead {
                    tr {
                        th scope="col" { "method" }
                        @if has_calls {
                            th.number scope="col" { "calls" }
                            th.number scope="col" { "errors" }
                            th.number scope="col" { "payload / call" }
                        }
                        th.number scope="col" { "bytes" }
                        th.number scope="col" { "allocs" }
                        th.number scope="col" { "bytes vs prev." }
                        @for stage in &stages { th.number scope="col" { (charts::swatch(*stage)) " " (charts::words(*stage)) } }
                    }
                }
                tbody {
                    @for (rpc, method) in rows.iter().take(ROWS) {
                        @let (divisor, per) = method.divisor(window);
                        @let bytes = method.total().bytes as f64 / divisor;
                        @let previous = before.as_ref().and_then(|(methods, window)| {
                            let method = methods.get(rpc)?;
                            Some(method.total().bytes as f64 / method.divisor(*window).0)
                        });
                        tr {
                            th scope="row" {
                                bdi.code { (figures::clipped(rpc, NAME_MAX)) }
                                @if per == "message" { " " small { "per message" } }
                            }
                            @if has_calls { (calls(method, divisor)) }
                            td.number { b { (numbers::bytes(bytes)) } }
                            td.number { (numbers::number(method.total().blocks as f64 / divisor)) }
                            td.number { (parts::change(previous.map(|before| FigureChange::cost(before, bytes)).as_ref())) }
                            @for stage in &stages {
                                td.number {
                                    @match method.stages.get(stage) {
                                        Some(tally) => {
                                            (numbers::bytes(tally.bytes as f64 / divisor)) br;
                                            small { (numbers::number(tally.blocks as f64 / divisor)) }
                                        }
                                        None => { "–" }
                                    }
                                }
                            }
                        }
                    }
                }
                @if rows.len() > ROWS {
                    tfoot { tr.aside { th scope="row" { (numbers::count((rows.len() - ROWS) as u64)) " smaller methods" } } }
                }
            }
        },
    )
}

fn calls(method: &OfMethod, divisor: f64) -> Markup {
    html! {
        @match method.calls {
            Some((calls, errors)) => {
                td.number { (numbers::count(calls)) }
                td.number { (numbers::count(errors)) }
                td.number { (numbers::bytes(method.payload_bytes as f64 / divisor)) }
            }
            None => { td.number { "–" } td.number { "–" } td.number { "–" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::{CallRow, CountRow, Counts};

    use super::*;
    use crate::fixture;

    fn step(name: &str, bytes: u64, calls: &[CallRow]) -> StepRecord {
        let row = |rpc: &str, stage, bytes| CountRow {
            rpc: rpc.to_owned(),
            side: Some(Side::Server),
            stage,
            tally: Tally { blocks: 20, bytes, ..Tally::default() },
        };
        let rows = vec![
            row("/a.B/Get", Stage::Marshal, bytes),
            row("/a.B/Get", Stage::Handler, 1000),
            row("/a.B/<Put>", Stage::Handler, 500),
            row("", Stage::Transport, 9999),
        ];
        let total = rows.iter().map(|row| row.tally).sum();
        let measurement = Measurement {
            messages: 100,
            counts: Some(Counts { rows, total, ..Counts::default() }),
            calls: calls.to_vec(),
            ..Measurement::new(Side::Server, Instrument::Count)
        };
        fixture::step(name, vec![measurement])
    }

    fn run(steps: Vec<StepRecord>) -> Run {
        let mut run = fixture::run("toy-a", alloc_ladder::subject::scenario::Scenario::Put);
        run.subject =
            alloc_ladder::record::Subject { name: "toy".to_owned(), shape: alloc_ladder::record::Shape::Program };
        run.steps = steps;
        run
    }

    #[test]
    fn a_method_s_figures_are_per_call_of_its_own() {
        let called = CallRow {
            rpc: "/a.B/Get".to_owned(),
            side: Some(Side::Server),
            calls: 10,
            errors: 1,
            ..CallRow::default()
        };
        let run = run(vec![step("one", 3000, std::slice::from_ref(&called)), step("two", 1000, &[called])]);
        let steps = figures::steps(&run);
        let html = section(&run, &steps[1]).into_string().replace('\u{202f}', " ");
        // 1000 + 1000 bytes over 10 calls, and 3000 + 1000 before.
        assert!(html.contains("<b>200 B</b>"), "{html}");
        assert!(html.contains("−50"), "{html}");
        assert!(html.contains("/a.B/&lt;Put&gt;") && html.contains("per message"), "{html}");
        assert!(!html.contains("9999"), "what belongs to no method is not here");
        let (methods, window) = methods(&run.steps[0], Side::Server);
        assert_eq!((methods["/a.B/<Put>"].divisor(window), window), ((100.0, "message"), 100));
    }

    #[test]
    fn a_ladder_of_the_study_has_no_such_table() {
        let mut run = run(vec![step("one", 1, &[])]);
        assert!(!section(&run, &figures::steps(&run)[0]).into_string().is_empty());
        run.subject = alloc_ladder::subject::scenario::Scenario::Put.subject();
        assert_eq!(section(&run, &figures::steps(&run)[0]).into_string(), "");
    }
}
