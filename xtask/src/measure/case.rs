//! One case: its command lines, and running it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::ladder::{Runtime, StepSet};
use alloc_ladder::record::{Instrument, Measurement};
use alloc_ladder::scenario::{Scenario, Workload};
use clap::ValueEnum;

use crate::cli::failure::{Failure, Kind};
use crate::measure::build::Binaries;
use crate::measure::instructions::{self, PerMessage};
use crate::measure::pair::{Sides, run_pair, spawn_pair};
use crate::measure::program::Program;
use crate::measure::remote::Remote;
use crate::store::layout::{CPU_RAW, DHAT_FILE};

/// Everything one pair of processes is told.
pub(crate) struct Case<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) scenario: Scenario,
    pub(crate) set: &'a StepSet,
    pub(crate) workload: Workload,
    pub(crate) instrument: Instrument,
    pub(crate) round: u32,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) bind: SocketAddr,
    /// The agent that runs the server, where it is not run here.
    pub(crate) remote: Option<&'a RefCell<Remote>>,
    pub(crate) timeout: Duration,
}

impl Case<'_> {
    /// Runs server and client; `folder` says where each side writes its stacks.
    ///
    /// # Errors
    /// What [`spawn_pair`] gives, and [`Kind::Run`] when a record is of another instrument, or when the call sites that
    /// `folder` is for cannot be named because the program was replaced.
    pub(crate) fn run(&self, folder: Option<&dyn Fn(Side) -> PathBuf>) -> anyhow::Result<Sides> {
        let client = self.client(folder);
        let client = |address: &str| client.arg("--connect").arg(address);
        let files = self.binaries.files();
        let pair = match self.remote {
            None => spawn_pair(&self.server(folder), client, self.timeout)?,
            Some(remote) => {
                let mut guard = remote.borrow_mut();
                let stacks_file = folder.map(|folder| folder(Side::Server).join(self.stacks_name()));
                run_pair(Box::new(guard.start(self, stacks_file)?), client, self.timeout)?
            }
        };
        if folder.is_some() && self.binaries.files() != files {
            let message = "the measured program was built anew while it ran: its call sites can no longer be named";
            return Err(Failure::new(Kind::Run, message).help("run again, with the code left alone meanwhile").into());
        }
        self.check(&pair.server)?;
        self.check(&pair.client)?;
        Ok(pair)
    }

    /// What a message costs each side in instructions, from runs with the workload's messages and twice as many.
    ///
    /// # Errors
    /// What [`instructions::per_message`] gives.
    pub(crate) fn instructions(&self) -> anyhow::Result<PerMessage> {
        let of = |messages| Case { workload: Workload { messages, ..self.workload }, ..*self };
        instructions::per_message(
            self.workload.messages,
            |messages| of(messages).server(None),
            |messages, address| of(messages).client(None).arg("--connect").arg(address),
        )
    }

    pub(crate) fn server(&self, folder: Option<&dyn Fn(Side) -> PathBuf>) -> Program {
        let server = self.flags(Program::new(&self.binaries.server), Side::Server, folder);
        server.arg("--bind").arg(self.bind.to_string())
    }

    fn client(&self, folder: Option<&dyn Fn(Side) -> PathBuf>) -> Program {
        self.flags(Program::new(&self.binaries.client), Side::Client, folder)
    }

    fn flags(&self, program: Program, side: Side, folder: Option<&dyn Fn(Side) -> PathBuf>) -> Program {
        let Workload { chunk, messages, warmup, streams, connections, retain, rate_bits } = self.workload;
        let mut program = program
            .args(["--scenario", self.scenario.name(), "--steps", &self.set.to_string()])
            .args(["--chunk", &chunk.to_string(), "--messages", &messages.to_string()])
            .args(["--warmup", &warmup.to_string(), "--streams", &streams.to_string()])
            .args(["--connections", &connections.to_string(), "--retain", &retain.to_string()])
            .args(["--round", &self.round.to_string()]);
        if let Some(value) = self.runtime.and_then(|runtime| runtime.to_possible_value()) {
            program = program.args(["--runtime", value.get_name()]);
        }
        if let Some(rate) = rate_bits {
            program = program.args(["--rate-bits", &rate.to_string()]);
        }
        if let Some(folder) = folder {
            program = program.arg("--stacks-file").arg(folder(side).join(self.stacks_name()));
        }
        program
    }

    /// The file that a side writes its call sites to, where it has any.
    pub(crate) const fn stacks_name(&self) -> &'static str {
        match self.instrument {
            Instrument::Cpu => CPU_RAW,
            _ => DHAT_FILE,
        }
    }

    fn check(&self, measurement: &Measurement) -> anyhow::Result<()> {
        if measurement.instrument == self.instrument {
            return Ok(());
        }
        let message = format!(
            "asked for a {} record, the {} printed a {} record",
            self.instrument.name(),
            measurement.side,
            measurement.instrument.name(),
        );
        Err(Failure::new(Kind::Run, message).help("remove the target folder's `instruments` and build again").into())
    }
}
