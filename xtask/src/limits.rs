//! `cargo xtask limits`: the same payload without gRPC, side by side, in interleaved rounds.
//!
//! A round runs every contender once, in an order shuffled anew; what is compared is each contender's server CPU with
//! that of `raw-tokio` in the same round, so that a machine that slows down slows both.

mod file_server;
mod link;
mod table;

use std::path::Path;
use std::time::{Duration, SystemTime};

use alloc_ladder::peer::{Direction, Kind};
use alloc_ladder::record::{Instrument, Limit, Measurement};
use alloc_ladder::scenario::Workload;
use anyhow::Context;

use self::file_server::{FileServer, SOFTWARE};
pub(crate) use self::link::Rate;
use self::link::{Mode, Veth};
use crate::build::{self, Allocator};
use crate::instructions::{self, PerMessage};
use crate::pair::{Pair, spawn_client, spawn_pair};
use crate::program::{self, Program};
use crate::terminal::{self, Style};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which way the payload goes
    direction: Direction,
    /// Bytes written at a time
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Chunks in the measured part [default: 8000; with --link what two seconds of it carry]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
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
    /// Count instructions per message too, where valgrind is installed
    #[arg(long, conflicts_with = "link")]
    instructions: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a case without a rate measures by default: half a gigabyte.
const MESSAGES: u64 = 8000;
/// What a case with a rate measures by default.
const LINK_SECONDS: u64 = 2;
/// Messages of the smaller of the two runs whose difference is what messages cost in instructions.
const INSTRUCTION_MESSAGES: u64 = 500;
/// Over the time that the payload should take, what a case may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    crate::pair::catch_interrupts()?;
    let messages = args.messages.unwrap_or_else(|| match args.link {
        Some(rate) => (rate.0 / 8 * LINK_SECONDS).div_ceil(u64::from(args.chunk)),
        None => MESSAGES,
    });
    let workload = Workload { chunk: args.chunk as usize, messages, ..Workload::default() };
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
    if args.json {
        let json = table::json(&peers, seed);
        return terminal::result(&format!("{}\n", serde_json::to_string_pretty(&json)?));
    }
    terminal::result(&table::text(&peers))
}

/// What lies between client and server.
#[derive(Debug)]
pub(crate) enum Link {
    /// Loopback, as fast as it goes.
    None,
    /// Loopback, the client held to a rate.
    Paced(Rate),
    /// A shaped veth pair.
    Veth(Rate, Veth),
}

impl Link {
    /// The rate and how it is held.
    pub(crate) fn rate(&self) -> Option<(Rate, Mode)> {
        match self {
            Link::None => None,
            Link::Paced(rate) => Some((*rate, Mode::Paced)),
            Link::Veth(rate, _) => Some((*rate, Mode::Veth)),
        }
    }
}

/// The peers of one direction, ready to run, and what they measured so far.
pub(crate) struct Peers {
    direction: Direction,
    workload: Workload,
    link: Link,
    contenders: Vec<Contender>,
}

/// One peer.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) words: String,
    runs: Runs,
    /// One a round, in round order.
    pub(crate) measured: Vec<Pair>,
    /// What its server allocates, where it counts.
    pub(crate) counts: Option<Measurement>,
    /// What a message costs in instructions, where they were counted.
    pub(crate) instructions: Option<PerMessage>,
}

enum Runs {
    /// Two processes of ours; the client is told the server's address and the rate by flags.
    Pair { server: Program, client: Program },
    /// A file server that stays up, and a client of ours.
    Files { server: FileServer, client: Program },
}

impl Peers {
    /// Builds the peers as what they stand beside is built, counts their allocations once, and starts the file servers
    /// there are.
    ///
    /// # Errors
    /// [`crate::failure::Kind::Environment`] when the peers do not build, [`crate::failure::Kind::Run`] when one does not run.
    pub(crate) fn prepare(
        direction: Direction,
        workload: Workload,
        link: Link,
        allocator: Allocator,
        profile: &str,
    ) -> anyhow::Result<Peers> {
        let time = build::build(Instrument::Time, allocator, profile)?.peer;
        let count = build::build(Instrument::Count, allocator, profile)?.peer;
        let mut peers = Peers { direction, workload, link, contenders: Vec::new() };
        for kind in Kind::ALL {
            let pair = |binary| Runs::Pair {
                server: program(binary, "server", kind, direction, workload),
                client: program(binary, "client", kind, direction, workload),
            };
            let counted = peers.run_once(&pair(&count)).with_context(|| format!("cannot count {}", kind.name()))?;
            peers.contenders.push(Contender {
                name: kind.name().to_owned(),
                words: kind.words().to_owned(),
                runs: pair(&time),
                measured: Vec::new(),
                counts: Some(counted.server),
                instructions: None,
            });
        }
        if direction == Direction::Get && !matches!(peers.link, Link::Veth(..)) {
            peers.add_file_servers(&time)?;
        } else {
            let why = if direction == Direction::Put { "take no uploads" } else { "listen outside the namespaces" };
            terminal::labelled(Style::Dim, "skipped", &format!("file servers {why}"));
        }
        Ok(peers)
    }

    fn add_file_servers(&mut self, binary: &Path) -> anyhow::Result<()> {
        // The settings of hyper's client: bare h2's windows would make a file server wait for each of them.
        let client = program(binary, "client", Kind::Hyper, self.direction, self.workload);
        for software in &SOFTWARE {
            let Some(path) = software.installed() else {
                let line = format!("{} is not installed; to measure it: {}", software.name, software.install);
                terminal::labelled(Style::Dim, "skipped", &line);
                continue;
            };
            let bytes = self.workload.chunk as u64 * self.workload.messages_per_stream();
            let server = match software.start(path, bytes) {
                Ok(server) => server,
                // Somebody's broken installation must not keep the other peers from being measured.
                Err(error) => {
                    terminal::labelled(Style::Warning, "skipped", &error.to_string());
                    continue;
                }
            };
            let runs = Runs::Files { server, client: client.clone() };
            // Once unmeasured, so that the file is in memory.
            self.run_once(&runs).with_context(|| format!("cannot download from {}", software.name))?;
            self.contenders.push(Contender {
                name: software.name.to_owned(),
                words: software.words.to_owned(),
                runs,
                measured: Vec::new(),
                counts: None,
                instructions: None,
            });
        }
        Ok(())
    }

    /// How many peers there are.
    pub(crate) fn len(&self) -> usize {
        self.contenders.len()
    }

    /// Measures one peer once more.
    ///
    /// # Errors
    /// [`crate::failure::Kind::Run`] when it does not run, [`crate::failure::Kind::Interrupted`] after Ctrl-C.
    pub(crate) fn measure(&mut self, index: usize) -> anyhow::Result<&Pair> {
        let contender = &self.contenders[index];
        let mut pair = self.run_once(&contender.runs).with_context(|| format!("cannot measure {}", contender.name))?;
        let contender = &mut self.contenders[index];
        pair.server.round = contender.measured.len() as u32;
        pair.client.round = pair.server.round;
        contender.measured.push(pair);
        Ok(contender.measured.last().expect("it was pushed just now"))
    }

    /// Measures every peer `rounds` times, in an order shuffled anew each round.
    ///
    /// # Errors
    /// What [`Peers::measure`] gives.
    pub(crate) fn rounds(&mut self, rounds: u32, seed: u64) -> anyhow::Result<()> {
        let mut random = seed;
        for round in 1..=rounds {
            let mut order: Vec<usize> = (0..self.len()).collect();
            shuffle(&mut order, &mut random);
            for index in order {
                self.measure(index)?;
            }
            terminal::progress("Round", &format!("{round} of {rounds}"));
        }
        Ok(())
    }

    /// Counts each peer's instructions; says so and goes on where that cannot be done.
    fn count_instructions(&mut self) -> anyhow::Result<()> {
        if program::find("valgrind").is_none() {
            terminal::labelled(Style::Dim, "skipped", instructions::MISSING);
            return Ok(());
        }
        for contender in &mut self.contenders {
            let Runs::Pair { server, client } = &contender.runs else { continue };
            terminal::progress("Counting", &format!("instructions of {}", contender.name));
            // The last of a flag counts, so the numbers of the workload are overruled.
            let of = |program: &Program, messages: u64| program.clone().args(["--messages", &messages.to_string()]);
            let client = |n, address: &str| of(client, n).arg("--address").arg(address);
            let counted = instructions::per_message(INSTRUCTION_MESSAGES, |n| of(server, n), client)
                .with_context(|| format!("cannot count the instructions of {}", contender.name))?;
            contender.instructions = Some(counted);
        }
        Ok(())
    }

    /// The peers as a run's record has them.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        self.contenders.iter().map(Contender::limit).collect()
    }

    fn run_once(&self, runs: &Runs) -> anyhow::Result<Pair> {
        let rate = self.link.rate().map(|(rate, _)| rate);
        let timeout = PATIENCE + rate.map_or(Duration::ZERO, |rate| 2 * rate.takes(self.workload.payload_bytes()));
        let client = |client: &Program, address: &str| {
            let client = client.clone().arg("--address").arg(address);
            match &self.link {
                Link::None => client,
                Link::Paced(rate) => client.arg("--rate-bits").arg(rate.0.to_string()),
                Link::Veth(_, veth) => veth.client(client),
            }
        };
        match runs {
            Runs::Pair { server, client: ours } => {
                let server = match &self.link {
                    Link::Veth(_, veth) => veth.server(server.clone().arg("--address").arg(veth.listen().to_string())),
                    Link::None | Link::Paced(_) => server.clone(),
                };
                spawn_pair(&server, |address| client(ours, address), timeout)
            }
            Runs::Files { server, client: ours } => {
                let before = server.cpu_ns().context("cannot read the file server's CPU time")?;
                let began = std::time::Instant::now();
                let measured = spawn_client(&client(ours, &server.address.to_string()), timeout)?;
                let wall_ns = began.elapsed().as_nanos() as u64;
                let used_us = (server.cpu_ns().context("cannot read the file server's CPU time")? - before) / 1000;
                Ok(Pair { server: whole_download(&measured, self.workload, used_us, wall_ns), client: measured })
            }
        }
    }
}

/// What a file server did over a whole download. `/proc` does not say how its CPU time splits into user and system
/// time, so all of it stands as system time, which is nearly true.
fn whole_download(client: &Measurement, workload: Workload, used_us: u64, wall_ns: u64) -> Measurement {
    let messages = workload.messages_per_stream();
    Measurement {
        side: alloc_ladder::Side::Server,
        messages,
        payload_bytes: workload.chunk as u64 * messages,
        wall_ns,
        usage: alloc_ladder::record::Usage { system_us: used_us, ..Default::default() },
        counts: None,
        setup: None,
        ..client.clone()
    }
}

impl Contender {
    /// One figure of each round's server.
    pub(crate) fn server(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measured.iter().map(|pair| figure(&pair.server)).collect()
    }

    /// One figure of each round's client.
    pub(crate) fn client(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measured.iter().map(|pair| figure(&pair.client)).collect()
    }

    /// The peer as a run's record has it.
    pub(crate) fn limit(&self) -> Limit {
        Limit {
            name: self.name.clone(),
            words: self.words.clone(),
            server_cpu_seconds_per_gb: self.server(Measurement::cpu_seconds_per_gb),
            blocks_per_message: self.counts.as_ref().and_then(Measurement::blocks_per_message),
        }
    }
}

/// The command line of one side of a peer, but for the address.
pub(crate) fn program(binary: &Path, side: &str, kind: Kind, direction: Direction, workload: Workload) -> Program {
    Program::new(binary).arg(side).args(["--kind", kind.name(), "--direction", direction.name()]).args([
        "--chunk".to_owned(),
        workload.chunk.to_string(),
        "--messages".to_owned(),
        workload.messages.to_string(),
        "--warmup".to_owned(),
        workload.warmup.to_string(),
    ])
}

pub(crate) fn clock_seed() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Fisher and Yates's shuffle, on Steele, Lea and Flood's SplitMix64.
pub(crate) fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = *random;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        order.swap(last, (bits % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_orders_and_every_peer_in_each() {
        let (mut one, mut two) = (7, 7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut order = [0, 1, 2];
            shuffle(&mut order, &mut one);
            let mut again = [0, 1, 2];
            shuffle(&mut again, &mut two);
            assert_eq!(order, again);
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6, "every order of three comes up");
    }
}
