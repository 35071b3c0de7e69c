//! The server of one case: prints its address, serves, prints its measurement, ends with its parent.

use std::net::SocketAddr;
use std::sync::Arc;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument;
use alloc_ladder::record::Listening;
use alloc_ladder::subject::case::{CaseArgs, parent_ended};
use alloc_ladder::subject::http2::Settings;
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::process::print_line;
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use clap::Parser;

#[global_allocator]
static GLOBAL: instrument::Global = instrument::GLOBAL;

/// The server of one case
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    case: CaseArgs,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    instrument::start();
    let args = Args::parse();
    let tuning = args.case.tuning()?;
    let workload = args.case.workload();
    let (meter, measured) = Meter::new(Side::Server, &workload, args.case.round, args.case.options());
    let ladder = Ladder::new(tuning, Arc::new(meter), workload.retain);
    let listener = Listener::bind(&tuning, args.bind)?;
    let mut parent = parent_ended();
    print_line(&Listening { address: listener.address()? })?;
    let settings = Settings::of(&tuning, &workload);
    let done = async {
        tokio::select! {
            _ = &mut parent => return Ok(()),
            measurement = measured => print_line(&measurement?)?,
        }
        // The client still waits for its answer; the parent ends this process.
        let _ = parent.await;
        Ok(())
    };
    serve::run(tuning, settings, ladder, listener, done)?
}
