//! `cargo xtask limits`: the same payload without gRPC, side by side, in interleaved rounds.
//!
//! A round runs every contender once, in an order that is shuffled again each round; what is compared is each contender's server CPU with
//! that of `raw-tokio` in the same round, so that a machine that slows down slows both.

use alloc_ladder::subject::peer::Direction;
use alloc_ladder::subject::scenario::Workload;

use crate::cli::quantity::{MESSAGES_MAX, Mode, Rate, Size};
use crate::cli::terminal::{self};
use crate::measure::build::Allocator;
use crate::measure::link::Veth;
use crate::measure::peers::{Link, Peers};
use crate::measure::rounds::clock_seed;
use crate::render::text;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which way the payload goes
    direction: Direction,
    /// Bytes written at a time
    #[arg(long, default_value = "64KiB", value_parser = chunk)]
    chunk: Size,
    /// Chunks in the measured part [default: 8000, or with --link as many as it carries in two seconds]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: Option<u64>,
    /// Rounds over all peers
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Hold the sender to a rate, as in 5gbit, and show how many cores that takes
    #[arg(long, value_name = "RATE")]
    link: Option<Rate>,
    /// How the rate is held
    #[arg(long, value_enum, default_value_t = Mode::Paced, requires = "link")]
    link_mode: Mode,
    /// Also count instructions per message, if valgrind is installed
    #[arg(long, conflicts_with = "link")]
    instructions: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The largest chunk: a peer has one of its buffers for it, and more than this is a copy of memory and no stream.
const CHUNK_MAX: Size = Size(64 << 20);

fn chunk(text: &str) -> Result<Size, String> {
    match text.parse()? {
        size if size <= CHUNK_MAX => Ok(size),
        _ => Err("a chunk is of at most 64MiB".to_owned()),
    }
}

/// What a case without a rate measures by default: half a gigabyte.
const MESSAGES: u64 = 8000;
/// What a case with a rate measures by default.
const LINK_SECONDS: u64 = 2;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    crate::measure::interrupt::catch_interrupts()?;
    let messages = args.messages.unwrap_or_else(|| match args.link {
        Some(rate) => (rate.0 / 8 * LINK_SECONDS).div_ceil(args.chunk.0 as u64),
        None => MESSAGES,
    });
    let workload = Workload { chunk: args.chunk.0, messages, ..Workload::default() };
    let link = match (args.link, args.link_mode) {
        (None, _) => Link::None,
        (Some(rate), Mode::Paced) => Link::Paced(rate),
        (Some(rate), Mode::Veth) => Link::Veth(rate, Veth::shaped(rate)?),
    };
    let mut peers = Peers::prepare(args.direction, workload, link, Allocator::System, "release")?;
    let seed = args.seed.unwrap_or_else(clock_seed);
    terminal::progress("Measuring", &format!("{} rounds, seed {seed}", args.rounds));
    peers.rounds(args.rounds, seed)?;
    if args.instructions {
        peers.count_instructions()?;
    }
    let measured = text::limits::Peers {
        direction: peers.direction,
        workload: peers.workload,
        held: peers.link.rate(),
        contenders: &peers.contenders,
    };
    if args.json {
        let json = text::limits::json(&measured, seed);
        return terminal::result(&format!("{}\n", serde_json::to_string_pretty(&json)?));
    }
    terminal::result(&text::limits::text(&measured))
}
