//! How far the ladder is from what is possible: its server CPU beside peers without gRPC, measured in the same rounds.

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use maud::{Markup, html};

use super::figures::{Figure, Sample, StepView};
use super::{charts, parts};
use crate::analyse::metric;
use crate::cli::numbers;

/// The peer everything else is a multiple of, where a run has it.
const FLOOR: &str = "raw-tokio";

const CPU: Figure = Figure::Metric(&metric::CPU_PER_GB);

struct LimitRow<'a> {
    name: String,
    words: &'a str,
    peer: bool,
    cpu: Sample,
    blocks: Option<f64>,
}

pub(crate) fn section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    html! {
        section.panel aria-labelledby="limits" {
            h2 id="limits" { "Limits and peers" }
            @if run.limits.is_empty() {
                p.empty { "Not measured: this run has no peers." }
            } @else {
                (table(&rows(run, steps)))
                p.note {
                    "CPU seconds of the server process per 10⁹ payload bytes, least first. Peers ran in the same "
                    "rounds as the steps. " (parts::plot_words(run)) "."
                }
            }
        }
    }
}

fn rows<'a>(run: &'a Run, steps: &[StepView<'_>]) -> Vec<LimitRow<'a>> {
    let of_step = |view: &StepView<'_>| {
        Some(LimitRow {
            name: format!("{} {}", view.index + 1, view.title()),
            words: "",
            peer: false,
            cpu: CPU.sample(view.record, Side::Server)?,
            blocks: Figure::Metric(&metric::ALLOCS_PER_MESSAGE)
                .sample(view.record, Side::Server)
                .map(|sample| sample.median()),
        })
    };
    let peers = run.limits.iter().filter_map(|limit| {
        Some(LimitRow {
            name: limit.name.clone(),
            words: &limit.words,
            peer: true,
            cpu: Sample::timed(limit.server_cpu_seconds_per_gb.clone())?,
            blocks: limit.blocks_per_message,
        })
    });
    let mut rows: Vec<LimitRow<'a>> = steps.iter().filter_map(of_step).chain(peers).collect();
    rows.sort_by(|a, b| a.cpu.median().total_cmp(&b.cpu.median()));
    rows
}

fn table(rows: &[LimitRow<'_>]) -> Markup {
    let max = rows.iter().flat_map(|row| row.cpu.values.iter().copied()).fold(0.0, f64::max);
    let floor = rows.iter().find(|row| row.peer && row.name == FLOOR).map(|row| row.cpu.median());
    parts::scrolling(
        "Server CPU of steps and peers",
        html! {
            table.limits {
                thead {
                    tr {
                        th scope="col" { "server" }
                        td {}
                        td {}
                        th.number scope="col" { "CPU-s per GB" }
                        @if floor.is_some() { th.number scope="col" { "× " (FLOOR) } }
                        th.number scope="col" { "allocs / message" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr.peer[row.peer] {
                            th scope="row" {
                                (row.name)
                                @if !row.words.is_empty() { br; small { (row.words) } }
                            }
                            td.bars { (charts::plain_bar(if row.peer { "peer-bar" } else { "step-bar" }, row.cpu.median(), max)) }
                            td.plot-cell { (charts::dots(&row.name, &row.cpu, max)) }
                            td.number { (parts::figure(CPU, Some(&row.cpu))) }
                            @if let Some(floor) = floor { td.number { (numbers::number(row.cpu.median() / floor)) } }
                            td.number {
                                @match row.blocks { Some(blocks) => (numbers::number(blocks)), None => (parts::not_measured()) }
                            }
                        }
                    }
                }
            }
        },
    )
}
