//! Running one case: a server on a host, and a client here.

use std::path::PathBuf;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Measurement};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::scenario::Workload;

use crate::analyse::peers::{BothSides, InstructionsPerMessage};
use crate::cli::failure::{Failure, Kind};
use crate::measure::build::Binary;
use crate::measure::instructions;
use crate::measure::pair::{self, Serving, run_pair};
use crate::measure::program::Program;
use crate::store::layout::{CPU_RAW, DHAT_FILE};

/// Where servers run.
pub(crate) trait Host {
    /// Starts the server of a case, which may take as long as `timeout`. What it writes of its call sites comes to the
    /// case's `stacks_file`.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start(&self, case: &Case, timeout: Duration) -> anyhow::Result<Box<dyn Serving + '_>>;
}

/// This host, with the program that servers are and the cores that one is held to; none of them holds it to nothing.
pub(crate) struct Local<'a>(pub(crate) &'a Binary, pub(crate) &'a [usize]);

impl Host for Local<'_> {
    fn start(&self, case: &Case, _: Duration) -> anyhow::Result<Box<dyn Serving + '_>> {
        Ok(Box::new(pair::start(Side::Server, &program(self.0, Side::Server, case).on_cores(self.1))?))
    }
}

/// The client of a case: its program, and the cores it is held to; none of them holds it to nothing.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a>(pub(crate) &'a Binary, pub(crate) &'a [usize]);

/// Runs the server of `case` on `host` and its client, which is `caller`, here. `folder` says where each side writes its
/// call sites.
///
/// # Errors
/// What [`run_pair`] gives, and [`Kind::Run`] when a record is of another instrument, or when the call sites that
/// `folder` is for cannot be named because the program was replaced.
pub(crate) fn run(
    host: &dyn Host,
    caller: Caller<'_>,
    case: &Case,
    folder: Option<&dyn Fn(Side) -> PathBuf>,
    timeout: Duration,
) -> anyhow::Result<BothSides> {
    let of = |side: Side| {
        let stacks_file = folder.map(|folder| folder(side).join(stacks_name(case.instrument)));
        Case { stacks_file, ..case.clone() }
    };
    let Caller(binary, cores) = caller;
    let client = |address: &str| {
        program(binary, Side::Client, &Case { address: address.to_owned(), ..of(Side::Client) }).on_cores(cores)
    };
    let file = binary.file();
    let sides = run_pair(host.start(&of(Side::Server), timeout)?, client, timeout)?;
    if folder.is_some() && binary.file() != file {
        let message = "the measured program was built again while it ran: its call sites can no longer be named";
        return Err(Failure::new(Kind::Run, message).help("run again, with the code left alone meanwhile").into());
    }
    check(case.instrument, &sides.server)?;
    check(case.instrument, &sides.client)?;
    Ok(sides)
}

/// What a message costs each side in instructions, from runs with the workload's messages and twice as many.
///
/// # Errors
/// What [`instructions::per_message`] gives.
pub(crate) fn instructions(binary: &Binary, case: &Case) -> anyhow::Result<InstructionsPerMessage> {
    let of = |messages| Case { workload: Workload { messages, ..case.workload }, ..case.clone() };
    instructions::per_message(
        case.workload.messages,
        |messages| program(binary, Side::Server, &of(messages)),
        |messages, address| program(binary, Side::Client, &Case { address: address.to_owned(), ..of(messages) }),
    )
}

/// One side of a case as a program.
pub(crate) fn program(binary: &Binary, side: Side, case: &Case) -> Program {
    binary.program(side.name(), case.instrument, &case.to_json())
}

/// The file that a side writes its call sites to, where it has any.
pub(crate) const fn stacks_name(instrument: Instrument) -> &'static str {
    match instrument {
        Instrument::Cpu => CPU_RAW,
        _ => DHAT_FILE,
    }
}

fn check(asked: Instrument, measurement: &Measurement) -> anyhow::Result<()> {
    if measurement.instrument == asked {
        return Ok(());
    }
    let message = format!(
        "asked for a {} record, the {} printed a {} record",
        asked.name(),
        measurement.side,
        measurement.instrument.name(),
    );
    Err(Failure::new(Kind::Run, message).help("remove the target folder's `instruments` and build again").into())
}
