//! A unary call from the client's marshalling to the client's unmarshalling: the first step beside the last.

use alloc_ladder::record::{Run, Shape};
use maud::{Markup, html};

use super::figures::StepView;
use super::parts;
use crate::analyse::nine_stages::{self, CallStage, PerCall};
use crate::cli::numbers;

pub(crate) fn section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    if run.subject.shape != Shape::Unary {
        return html! {};
    }
    // A run that ended early ends with what it counted.
    let counted: Vec<(String, [PerCall; 10])> =
        steps.iter().filter_map(|view| Some((view.title(), nine_stages::of_step(view.record)?))).collect();
    let columns: Vec<&(String, [PerCall; 10])> = match counted.as_slice() {
        [] => return html! {},
        [only] => vec![only],
        [first, .., last] => vec![first, last],
    };
    let total = |rows: &[PerCall; 10], of: fn(&PerCall) -> f64| rows.iter().map(of).sum::<f64>();
    html! {
        section.panel aria-labelledby="nine-stages" {
            h2 id="nine-stages" { "A call, stage by stage" }
            (parts::scrolling("The stages of a call", html! {
                table.nine-stages {
                    thead {
                        tr {
                            th scope="col" { "per call" }
                            @for (name, _) in &columns {
                                th.number scope="col" { (name) ", allocs" }
                                th.number scope="col" { "bytes" }
                            }
                        }
                    }
                    tbody {
                        @for (at, stage) in CallStage::ALL.into_iter().enumerate() {
                            tr {
                                th scope="row" { (stage.name()) }
                                @for (_, rows) in &columns { (figures(rows[at].blocks, rows[at].bytes)) }
                            }
                        }
                    }
                    tfoot {
                        tr.total {
                            th scope="row" { "both sides" }
                            @for (_, rows) in &columns {
                                (figures(total(rows, |row| row.blocks), total(rows, |row| row.bytes)))
                            }
                        }
                    }
                }
            }))
            p.note {
                "Told apart by side, by stage and by whether an RPC was current. The headers a client of tonic's "
                code { "Channel" } " receives are booked to its sending: one task does both."
            }
        }
    }
}

fn figures(blocks: f64, bytes: f64) -> Markup {
    html! {
        td.number { (numbers::number(blocks)) }
        td.number { (numbers::bytes(bytes)) }
    }
}
