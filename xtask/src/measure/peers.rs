//! The peers: the same payload without gRPC, ready to run in interleaved rounds.

use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Limit, Measurement};
use alloc_ladder::subject::peer::{Direction, Kind, PeerCase, Traffic};
use alloc_ladder::subject::scenario::Workload;
use anyhow::Context;

use crate::analyse::peers::{BothSides, Contender};
use crate::cli::quantity::{Mode, Rate};
use crate::cli::terminal::{self, Style};
use crate::measure::build::{self, Allocator, Binary};
use crate::measure::cores::Cores;
use crate::measure::file_server::{FileServer, SOFTWARE};
use crate::measure::instructions;
use crate::measure::link::Veth;
use crate::measure::pair::{spawn_client, spawn_pair};
use crate::measure::program::{self, Program};
use crate::measure::rounds::shuffle;

/// Messages of the smaller of the two runs whose difference is what messages cost in instructions.
const INSTRUCTION_MESSAGES: u64 = 500;
/// Over the time that the payload should take, what a case may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

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
    pub(crate) direction: Direction,
    pub(crate) workload: Workload,
    pub(crate) link: Link,
    pub(crate) contenders: Vec<Contender>,
    /// The cores that servers and clients are held to.
    pub(crate) cores: Cores,
    /// How many processes, each with the workload's messages, are a measurement of one.
    pub(crate) processes: u32,
    /// How each contender is run, in their order.
    runs: Vec<Runs>,
}

enum Runs {
    /// Two processes of ours, of the server's case.
    Pair(Binary, PeerCase),
    /// A file server that stays up, and a client of ours.
    Files(FileServer, Binary, PeerCase),
}

impl Peers {
    /// Builds the peers as what they stand beside is built, counts their allocations once, and starts the file servers
    /// there are.
    ///
    /// # Errors
    /// [`crate::cli::failure::Kind::Environment`] when the peers do not build, [`crate::cli::failure::Kind::Run`] when one does not run.
    pub(crate) fn prepare(
        direction: Direction,
        workload: Workload,
        link: Link,
        allocator: Allocator,
        profile: &str,
    ) -> anyhow::Result<Peers> {
        let time = build::build(Instrument::Time, allocator, profile)?;
        let count = build::build(Instrument::Count, allocator, profile)?;
        let mut peers = Peers {
            direction,
            workload,
            link,
            contenders: Vec::new(),
            cores: Cores::default(),
            processes: 1,
            runs: Vec::new(),
        };
        for kind in Kind::ALL {
            let pair = |binary: &Binary, instrument| {
                Runs::Pair(binary.clone(), peer_case(kind, direction, workload, instrument))
            };
            let counted = peers
                .run_once(&pair(&count, Instrument::Count))
                .with_context(|| format!("cannot count {}", kind.name()))?;
            peers.contenders.push(Contender {
                name: kind.name().to_owned(),
                words: kind.words().to_owned(),
                measured: Vec::new(),
                counts: Some(counted.server),
                instructions: None,
            });
            peers.runs.push(pair(&time, Instrument::Time));
        }
        if direction == Direction::Get && !matches!(peers.link, Link::Veth(..)) {
            peers.add_file_servers(&time)?;
        } else {
            let why = if direction == Direction::Put { "take no uploads" } else { "listen outside the namespaces" };
            terminal::labelled(Style::Dim, "skipped", &format!("file servers {why}"));
        }
        Ok(peers)
    }

    fn add_file_servers(&mut self, binary: &Binary) -> anyhow::Result<()> {
        // The settings of hyper's client: bare h2's windows would make a file server wait for each of them.
        let client = peer_case(Kind::Hyper, self.direction, self.workload, Instrument::Time);
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
            let runs = Runs::Files(server, binary.clone(), client.clone());
            // Once unmeasured, so that the file is in memory.
            self.run_once(&runs).with_context(|| format!("cannot download from {}", software.name))?;
            self.contenders.push(Contender {
                name: software.name.to_owned(),
                words: software.words.to_owned(),
                measured: Vec::new(),
                counts: None,
                instructions: None,
            });
            self.runs.push(runs);
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
    /// [`crate::cli::failure::Kind::Run`] when it does not run, [`crate::cli::failure::Kind::Interrupted`] after Ctrl-C.
    pub(crate) fn measure(&mut self, index: usize) -> anyhow::Result<&BothSides> {
        let measured = self.run_in_turn(&self.runs[index]);
        let contender = &mut self.contenders[index];
        let mut pair = measured.with_context(|| format!("cannot measure {}", contender.name))?;
        pair.server.round = contender.measured.len() as u32;
        pair.client.round = pair.server.round;
        contender.measured.push(pair);
        Ok(contender.measured.last().expect("it was pushed just now"))
    }

    /// Measures every peer `rounds` times, in an order that is shuffled again each round.
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
    pub(crate) fn count_instructions(&mut self) -> anyhow::Result<()> {
        if program::find("valgrind").is_none() {
            terminal::labelled(Style::Dim, "skipped", instructions::MISSING);
            return Ok(());
        }
        for (contender, runs) in self.contenders.iter_mut().zip(&self.runs) {
            let Runs::Pair(binary, case) = runs else { continue };
            terminal::progress("Counting", &format!("instructions of {}", contender.name));
            let of = |messages| PeerCase { traffic: Traffic { messages, ..case.traffic }, ..case.clone() };
            let client = |n, address: &str| client(binary, &of(n), address);
            let counted = instructions::per_message(INSTRUCTION_MESSAGES, |n| program(binary, &of(n)), client)
                .with_context(|| format!("cannot count the instructions of {}", contender.name))?;
            contender.instructions = Some(counted);
        }
        Ok(())
    }

    /// The peers as a run's record has them.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        self.contenders.iter().map(Contender::limit).collect()
    }

    /// As many processes as are one measurement.
    fn run_in_turn(&self, runs: &Runs) -> anyhow::Result<BothSides> {
        let mut all = self.run_once(runs)?;
        for _ in 1..self.processes {
            all = all.and(&self.run_once(runs)?);
        }
        Ok(all)
    }

    fn run_once(&self, runs: &Runs) -> anyhow::Result<BothSides> {
        let rate = self.link.rate().map(|(rate, _)| rate);
        let timeout = PATIENCE + rate.map_or(Duration::ZERO, |rate| 2 * rate.takes(self.workload.payload_bytes()));
        let client = |binary: &Binary, case: &PeerCase, address: &str| match &self.link {
            Link::None => client(binary, case, address).on_cores(&self.cores.client),
            Link::Paced(rate) => client(binary, &PeerCase { rate_bits: Some(rate.0), ..case.clone() }, address)
                .on_cores(&self.cores.client),
            Link::Veth(_, veth) => veth.client(client(binary, case, address)),
        };
        match runs {
            Runs::Pair(binary, case) => {
                let server = match &self.link {
                    Link::Veth(_, veth) => {
                        veth.server(program(binary, &PeerCase { address: veth.listen().to_string(), ..case.clone() }))
                    }
                    Link::None | Link::Paced(_) => program(binary, case).on_cores(&self.cores.server),
                };
                spawn_pair(&server, |address| client(binary, case, address), timeout)
            }
            Runs::Files(server, binary, case) => {
                let before = server.cpu_ns().context("cannot read the file server's CPU time")?;
                let began = std::time::Instant::now();
                let measured = spawn_client(&client(binary, case, &server.address.to_string()), timeout)?;
                let wall_ns = began.elapsed().as_nanos() as u64;
                let used_us = (server.cpu_ns().context("cannot read the file server's CPU time")? - before) / 1000;
                Ok(BothSides { server: whole_download(&measured, self.workload, used_us, wall_ns), client: measured })
            }
        }
    }
}

/// What a file server did over a whole download. `/proc` does not say how its CPU time splits into user and system
/// time, so all of it stands as system time, which is nearly true.
fn whole_download(client: &Measurement, workload: Workload, used_us: u64, wall_ns: u64) -> Measurement {
    let messages = workload.messages_per_stream();
    Measurement {
        side: Side::Server,
        messages,
        payload_bytes: workload.chunk as u64 * messages,
        wall_ns,
        usage: alloc_ladder::record::Usage { system_us: used_us, ..Default::default() },
        counts: None,
        setup: None,
        ..client.clone()
    }
}

/// The case of a peer's server, on any free port.
pub(crate) fn peer_case(kind: Kind, direction: Direction, workload: Workload, instrument: Instrument) -> PeerCase {
    PeerCase {
        side: Side::Server,
        kind,
        direction,
        traffic: workload.into(),
        instrument,
        address: "127.0.0.1:0".to_owned(),
        rate_bits: None,
    }
}

/// One side of a peer as a program.
pub(crate) fn program(binary: &Binary, case: &PeerCase) -> Program {
    binary.program("peer", case.instrument, &case.to_json())
}

/// The client of a peer's server.
pub(crate) fn client(binary: &Binary, server: &PeerCase, address: &str) -> Program {
    program(binary, &PeerCase { side: Side::Client, address: address.to_owned(), ..server.clone() })
}
