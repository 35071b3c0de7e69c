//! A unary call in the order it happens: who marshals, sends, receives and unmarshals what.
//!
//! Rows of counters know a side, a stage and whether an RPC method was current; the nine stages of a call are told
//! apart from these:
//!
//! | a call's stage | rows |
//! |---|---|
//! | client marshals | the client's marshal |
//! | client sends | the client's transport, for the method; with tonic's `Channel` its connection's too |
//! | server receives | the server's receive-buffer; its transport before the method is known |
//! | server unmarshals | the server's message-construction |
//! | dispatch, handler | the server's dispatch and handler |
//! | server marshals | the server's marshal |
//! | server sends | the server's transport, for the method |
//! | client receives | the client's receive-buffer; its connection's transport, for a lean client |
//! | client unmarshals | the client's message-construction |
//!
//! A `Channel`'s tasks send and receive under one scope, so the headers that they receive (two maps a call) are booked
//! to sending; a lean client's connection only receives, because its calls send for themselves. What is in none of the
//! nine is kept apart, so that the ten rows are the sum of both sides: the client's own code, and what no scope covers.

use alloc_ladder::record::{Counts, Measurement, StepRecord};
use alloc_ladder::subject::ladder::ClientStack;
use alloc_ladder::{Side, Stage};
use clap::ValueEnum;

/// One stage of a unary call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallStage {
    ClientMarshals,
    ClientSends,
    ServerReceives,
    ServerUnmarshals,
    Handler,
    ServerMarshals,
    ServerSends,
    ClientReceives,
    ClientUnmarshals,
    /// None of the nine.
    Elsewhere,
}

impl CallStage {
    /// The nine in the order of a call, then the rest.
    pub(crate) const ALL: [CallStage; 10] = [
        CallStage::ClientMarshals,
        CallStage::ClientSends,
        CallStage::ServerReceives,
        CallStage::ServerUnmarshals,
        CallStage::Handler,
        CallStage::ServerMarshals,
        CallStage::ServerSends,
        CallStage::ClientReceives,
        CallStage::ClientUnmarshals,
        CallStage::Elsewhere,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            CallStage::ClientMarshals => "client marshals",
            CallStage::ClientSends => "client sends",
            CallStage::ServerReceives => "server receives",
            CallStage::ServerUnmarshals => "server unmarshals",
            CallStage::Handler => "dispatch, handler",
            CallStage::ServerMarshals => "server marshals",
            CallStage::ServerSends => "server sends",
            CallStage::ClientReceives => "client receives",
            CallStage::ClientUnmarshals => "client unmarshals",
            CallStage::Elsewhere => "the client's own code, other",
        }
    }

    /// The call's stage that a row of counters belongs to; `None` for the instrument's own.
    fn of(side: Side, stage: Stage, for_method: bool, client: ClientStack) -> Option<CallStage> {
        Some(match (side, stage) {
            (_, Stage::Instrument) => return None,
            (_, Stage::Other) | (Side::Client, Stage::Dispatch | Stage::Handler) => CallStage::Elsewhere,
            (Side::Server, Stage::Dispatch | Stage::Handler) => CallStage::Handler,
            (Side::Client, Stage::Marshal) => CallStage::ClientMarshals,
            (Side::Server, Stage::Marshal) => CallStage::ServerMarshals,
            (Side::Client, Stage::MessageConstruction) => CallStage::ClientUnmarshals,
            (Side::Server, Stage::MessageConstruction) => CallStage::ServerUnmarshals,
            (Side::Client, Stage::ReceiveBuffer) => CallStage::ClientReceives,
            (Side::Server, Stage::ReceiveBuffer) => CallStage::ServerReceives,
            (Side::Server, Stage::Transport) if for_method => CallStage::ServerSends,
            (Side::Server, Stage::Transport) => CallStage::ServerReceives,
            (Side::Client, Stage::Transport) if !for_method && client == ClientStack::Lean => CallStage::ClientReceives,
            (Side::Client, Stage::Transport) => CallStage::ClientSends,
        })
    }
}

/// What one stage of a call allocates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PerCall {
    pub(crate) stage: CallStage,
    pub(crate) blocks: f64,
    pub(crate) bytes: f64,
}

/// The rows of a unary step, in the order of [`CallStage::ALL`]; `None` where a side was not counted.
pub(crate) fn of_step(step: &StepRecord) -> Option<[PerCall; 10]> {
    let side = |side| step.counts(side).and_then(|measurement| Some((measurement, measurement.counts.as_ref()?)));
    Some(per_call(side(Side::Server)?, side(Side::Client)?, client_of(step)))
}

/// What the client of a step was built on; a record that does not say is of the stock client.
fn client_of(step: &StepRecord) -> ClientStack {
    let named = step.settings.get("client").and_then(|name| ClientStack::from_str(name, false).ok());
    named.unwrap_or_default()
}

/// The rows of a call from the counts of both its sides.
pub(crate) fn per_call(
    server: (&Measurement, &Counts),
    client: (&Measurement, &Counts),
    stack: ClientStack,
) -> [PerCall; 10] {
    let mut rows = CallStage::ALL.map(|stage| PerCall { stage, blocks: 0.0, bytes: 0.0 });
    for (side, (measurement, counts)) in [(Side::Server, server), (Side::Client, client)] {
        let calls = measurement.messages.max(1) as f64;
        for row in &counts.rows {
            let Some(stage) = CallStage::of(side, row.stage, !row.rpc.is_empty(), stack) else { continue };
            if let Some(sum) = rows.iter_mut().find(|sum| sum.stage == stage) {
                sum.blocks += row.tally.blocks as f64 / calls;
                sum.bytes += row.tally.bytes as f64 / calls;
            }
        }
    }
    rows
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc_ladder::Tally;
    use alloc_ladder::record::CountRow;
    use alloc_ladder::subject::ladder::Tuning;

    use super::*;
    use crate::fixture;

    /// A thousand calls: `(for the method, stage, blocks a call, bytes a call)`.
    fn counted(side: Side, rows: &[(bool, Stage, u64, u64)]) -> Measurement {
        let mut measurement = fixture::count(side, 0, &[]);
        let rows: Vec<CountRow> = rows
            .iter()
            .map(|(method, stage, blocks, bytes)| CountRow {
                rpc: if *method { "/ladder.v1.Ladder/CreateUser".to_owned() } else { String::new() },
                side: method.then_some(side),
                stage: *stage,
                tally: Tally { blocks: 1000 * blocks, bytes: 1000 * bytes, ..Tally::default() },
            })
            .collect();
        let counts = measurement.counts.as_mut().expect("counted");
        counts.total = rows.iter().map(|row| row.tally).sum();
        counts.rows = rows;
        measurement
    }

    pub(crate) fn baseline() -> StepRecord {
        let server = [
            (false, Stage::Transport, 9, 2220),
            (false, Stage::Instrument, 1, 24),
            (true, Stage::Marshal, 5, 8736),
            (true, Stage::ReceiveBuffer, 3, 8224),
            (true, Stage::MessageConstruction, 7, 166),
            (true, Stage::Transport, 1, 32),
            (true, Stage::Dispatch, 12, 3000),
            (true, Stage::Handler, 3, 568),
        ];
        let client = [
            (false, Stage::Transport, 16, 5665),
            (false, Stage::Other, 1, 2),
            (true, Stage::Marshal, 2, 8232),
            (true, Stage::ReceiveBuffer, 3, 8232),
            (true, Stage::MessageConstruction, 7, 166),
            (true, Stage::Transport, 2, 120),
            (true, Stage::Handler, 13, 1445),
            (true, Stage::Instrument, 1, 24),
        ];
        fixture::step("baseline", vec![counted(Side::Server, &server), counted(Side::Client, &client)])
    }

    pub(crate) fn lean() -> StepRecord {
        let server = [
            (false, Stage::Transport, 2, 656),
            (true, Stage::Marshal, 1, 48),
            (true, Stage::MessageConstruction, 1, 64),
            (true, Stage::Transport, 4, 216),
        ];
        let client = [
            (false, Stage::ReceiveBuffer, 1, 124),
            (false, Stage::Transport, 4, 1312),
            (true, Stage::MessageConstruction, 1, 64),
            (true, Stage::Transport, 4, 370),
        ];
        let mut step =
            fixture::step("lean-server", vec![counted(Side::Server, &server), counted(Side::Client, &client)]);
        step.settings = Tuning { client: ClientStack::Lean, ..Tuning::default() }.settings();
        step
    }

    #[test]
    fn nothing_is_lost_but_the_instruments_own() {
        for step in [baseline(), lean()] {
            let rows = of_step(&step).expect("both sides are counted");
            let subject = |side| step.counts(side).and_then(Measurement::bytes_per_message).expect("counted");
            let sum: f64 = rows.iter().map(|row| row.bytes).sum();
            assert_eq!(sum, subject(Side::Server) + subject(Side::Client));
        }
    }

    #[test]
    fn a_side_that_was_not_counted_leaves_no_table() {
        let step = fixture::step("baseline", vec![counted(Side::Server, &[])]);
        assert_eq!(of_step(&step), None);
    }
}
