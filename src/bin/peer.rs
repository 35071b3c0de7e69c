//! A peer without gRPC, as a server or a client process: parses, calls, prints one record.

use std::net::SocketAddr;

use alloc_ladder::driver::instrument;
use alloc_ladder::record::Listening;
use alloc_ladder::subject::peer::{self, Direction, Kind, Traffic, pace::Pace};
use alloc_ladder::subject::process::{exit_with_parent, print_line};
use clap::{Args, Parser};

#[global_allocator]
static GLOBAL: instrument::Global = instrument::GLOBAL;

/// Move payload without gRPC and measure what it costs
#[derive(Debug, Parser)]
#[command(name = "peer", version, args_override_self = true)]
enum Command {
    /// Listen, print the address, serve one client, print the record, wait for the end of stdin
    Server {
        #[command(flatten)]
        traffic: TrafficArgs,
        /// Address to listen on; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        address: SocketAddr,
    },
    /// Connect, move the payload, print the record
    Client {
        #[command(flatten)]
        traffic: TrafficArgs,
        /// Address the server printed
        #[arg(long)]
        address: SocketAddr,
        /// Send, or read, no faster than this many bits of payload a second
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        rate_bits: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct TrafficArgs {
    /// What to build on
    #[arg(long)]
    kind: Kind,
    /// Which way the payload goes
    #[arg(long)]
    direction: Direction,
    /// Bytes written at a time
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Chunks in the measured part
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Chunks before the measured part, and again after it
    #[arg(long, default_value_t = 64)]
    warmup: u64,
}

impl TrafficArgs {
    fn traffic(&self) -> Traffic {
        Traffic { chunk: self.chunk as usize, messages: self.messages, warmup: self.warmup }
    }
}

fn main() -> anyhow::Result<()> {
    instrument::start();
    match Command::parse() {
        Command::Server { traffic, address } => {
            let parent = exit_with_parent();
            let announce = |address: SocketAddr| print_line(&Listening { address: address.to_string() });
            let measurement = peer::serve(traffic.kind, address, traffic.direction, traffic.traffic(), announce)?;
            print_line(&measurement)?;
            // The thread ends the process.
            let _ = parent.join();
        }
        Command::Client { traffic, address, rate_bits } => {
            let pace = rate_bits.map(Pace::new);
            print_line(&peer::connect(traffic.kind, address, traffic.direction, traffic.traffic(), pace)?)?;
        }
    }
    Ok(())
}
