//! The study's programs, one side of a case each: parses, calls, prints one record.
//!
//! The binary `ladder` is this with the allocator of [`instrument`]; `examples/beside` is this with those of other tools.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use super::client::Client;
use super::codec::encoding;
use super::meter::Meter;
use super::peer::{self, PeerCase, pace::Pace};
use super::process::{exit_with_parent, parent_ended, print_line};
use super::serve::{self, Listener};
use super::service::Ladder;
use super::{case::Case, http2, ladder::Tuning};
use crate::Side;
use crate::driver::instrument::{self, Options};
use crate::record::{Instrument, Listening};

/// Who starts it is the command; nobody else has a case to give it.
const USAGE: &str = "usage: ladder server|client|peer --case JSON; `cargo xtask profile` starts it";

/// What the arguments of this process ask for.
///
/// `server` listens, prints its address, serves, prints its record and waits for the end of stdin; `client` connects,
/// makes the traffic, checks the answers and prints its record; `peer` is either, and moves the same payload without gRPC.
///
/// # Errors
/// Arguments that are none of these, a case that this build cannot run, and whatever the part fails with.
pub fn run() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [part, flag, case] = &args[..] else { bail!(USAGE) };
    ensure!(flag == "--case", USAGE);
    match &part[..] {
        "server" => server(&Case::from_json(case).context(NO_CASE)?),
        "client" => client(&Case::from_json(case).context(NO_CASE)?),
        "peer" => peer(&PeerCase::from_json(case).context(NO_CASE)?),
        _ => bail!(USAGE),
    }
}

const NO_CASE: &str = "this is no case";

fn server(case: &Case) -> anyhow::Result<()> {
    check(case.instrument)?;
    let tuning = tuning(case)?;
    let workload = case.workload;
    let (meter, measured) = Meter::new(Side::Server, &workload, case.round, options(case));
    let ladder = Ladder::new(tuning, Arc::new(meter), workload.retain).carrying(workload);
    let listener = Listener::bind(&tuning, socket_addr(&case.address)?)?;
    let mut parent = parent_ended();
    print_line(&Listening { address: listener.address()? })?;
    let settings = http2::settings(&tuning, &workload);
    let done = async move {
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

fn client(case: &Case) -> anyhow::Result<()> {
    check(case.instrument)?;
    let tuning = tuning(case)?;
    let workload = case.workload;
    let (meter, measured) = Meter::new(Side::Client, &workload, case.round, options(case));
    exit_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client { tuning, workload, meter: Arc::new(meter) };
    let latency = runtime.block_on(client.run(case.scenario, &case.address))?;
    let mut measurement = measured.blocking_recv().context("fewer messages went by than were to be measured")?;
    measurement.latency = latency.filter(|_| instrument::chosen() == Instrument::Time);
    Ok(print_line(&measurement)?)
}

fn peer(case: &PeerCase) -> anyhow::Result<()> {
    check(case.instrument)?;
    case.check()?;
    let address = socket_addr(&case.address)?;
    match case.side {
        Side::Server => {
            let parent = exit_with_parent();
            let announce = |address: SocketAddr| print_line(&Listening { address: address.to_string() });
            print_line(&peer::serve(case.kind, address, case.direction, case.traffic, announce)?)?;
            // The thread ends the process.
            let _ = parent.join();
        }
        Side::Client => {
            let pace = case.rate_bits.map(Pace::new);
            print_line(&peer::connect(case.kind, address, case.direction, case.traffic, pace)?)?;
        }
    }
    Ok(())
}

/// The allocator was chosen before the case could be read: both must say the same.
fn check(asked: Instrument) -> anyhow::Result<()> {
    // Instructions are counted from outside, of a process that measures time.
    let expected = if asked == Instrument::Instructions { Instrument::Time } else { asked };
    let chosen = instrument::chosen();
    let (variable, value) = expected.environment();
    ensure!(
        chosen == expected,
        "the case asks for `{value}` and this process measures `{}`; set {variable}={value}, and build with the \
         feature of that name if there is one",
        chosen.name(),
    );
    Ok(())
}

/// What differs from stock, if this program was built for it.
fn tuning(case: &Case) -> anyhow::Result<Tuning> {
    let tuning = case.tuning()?;
    let asked = tuning.allocator;
    ensure!(
        asked.is_system() || asked.name() == instrument::INNER,
        "the case asks for {}, and this program was built on the allocator `{}`: build with the feature of that name",
        asked.name(),
        instrument::INNER,
    );
    if let Some(compression) = case.workload.compress {
        ensure!(
            encoding(compression).is_some(),
            "the case asks for {}, and this program was built without: build with the feature of that name",
            compression.name(),
        );
    }
    Ok(tuning)
}

fn options(case: &Case) -> Options {
    Options { messages: case.workload.messages, stacks_file: case.stacks_file.clone() }
}

fn socket_addr(address: &str) -> anyhow::Result<SocketAddr> {
    address.parse().with_context(|| format!("`{address}` is not a valid address; write host:port"))
}
