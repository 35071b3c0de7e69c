//! The client of one case: makes the traffic, checks the answers, prints its measurement.

use std::sync::Arc;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument;
use alloc_ladder::record::Instrument;
use alloc_ladder::subject::case::CaseArgs;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::process::{exit_with_parent, print_line};
use anyhow::Context;
use clap::Parser;

#[global_allocator]
static GLOBAL: instrument::Global = instrument::GLOBAL;

/// The client of one case
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    case: CaseArgs,
    /// The server's address, as it printed it
    #[arg(long)]
    connect: String,
}

fn main() -> anyhow::Result<()> {
    instrument::start();
    let args = Args::parse();
    let tuning = args.case.tuning()?;
    let workload = args.case.workload();
    let (meter, measured) = Meter::new(Side::Client, &workload, args.case.round, args.case.options());
    exit_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client { tuning, workload, meter: Arc::new(meter) };
    let latency = runtime.block_on(client.run(args.case.scenario, &args.connect))?;
    let mut measurement = measured.blocking_recv().context("fewer messages went by than were to be measured")?;
    measurement.latency = latency.filter(|_| instrument::INSTRUMENT == Instrument::Time);
    Ok(print_line(&measurement)?)
}
