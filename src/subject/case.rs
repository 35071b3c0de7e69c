//! The flags `server` and `client` share: which case this process is one side of.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::driver::instrument::Options;
use crate::subject::ladder::{Runtime, StepSet, Tuning};
use crate::subject::scenario::{CHUNK_MAX, Scenario, Workload};

/// One case: scenario × workload × step set.
#[derive(Clone, Debug, clap::Args)]
pub struct CaseArgs {
    /// The RPC shape
    #[arg(long)]
    pub scenario: Scenario,
    /// Which steps are on: `baseline`, `up-to=STEP`, `only=STEP`, `without=STEP`
    #[arg(long, default_value = "baseline")]
    pub steps: StepSet,
    /// Payload bytes of a message
    #[arg(long, default_value_t = Workload::default().chunk)]
    pub chunk: usize,
    /// Messages (unary: calls) of the measured part
    #[arg(long, default_value_t = Workload::default().messages)]
    pub messages: u64,
    /// Messages of each stream before the measured part, and after it
    #[arg(long, default_value_t = Workload::default().warmup)]
    pub warmup: u64,
    /// Concurrent streams
    #[arg(long, default_value_t = Workload::default().streams)]
    pub streams: u32,
    /// Connections the streams are spread over
    #[arg(long, default_value_t = Workload::default().connections)]
    pub connections: u32,
    /// Messages the receiver keeps before it lets the oldest go
    #[arg(long, default_value_t = Workload::default().retain)]
    pub retain: u32,
    /// Repetition, for the record
    #[arg(long, default_value_t = 0)]
    pub round: u32,
    /// The server's runtime, whatever the steps say
    #[arg(long)]
    pub runtime: Option<Runtime>,
    /// Hold each stream to this many bits a second: the client sends, or reads, no faster
    #[arg(long)]
    pub rate_bits: Option<u64>,
    /// Where the `stacks` instrument writes dhat's JSON, and `cpu` its folded stacks
    #[arg(long)]
    pub stacks_file: Option<PathBuf>,
}

impl CaseArgs {
    /// The traffic.
    pub fn workload(&self) -> Workload {
        Workload {
            chunk: self.chunk,
            messages: self.messages,
            warmup: self.warmup,
            streams: self.streams,
            connections: self.connections,
            retain: self.retain,
            rate_bits: self.rate_bits,
        }
    }

    /// What differs from stock.
    ///
    /// # Errors
    /// When the ladder lacks a named step, or the workload cannot be.
    pub fn tuning(&self) -> anyhow::Result<Tuning> {
        anyhow::ensure!(self.messages > 0, "there is nothing to measure in 0 messages");
        anyhow::ensure!(self.warmup > 0, "at least one message must warm up");
        anyhow::ensure!(self.streams > 0 && self.connections > 0, "at least one stream and one connection are needed");
        anyhow::ensure!(self.chunk > 0, "a chunk of 0 bytes carries no payload to measure");
        anyhow::ensure!(
            self.chunk <= CHUNK_MAX,
            "a chunk of {} bytes exceeds tonic's receive limit; at most {CHUNK_MAX} bytes fit",
            self.chunk
        );
        let mut tuning = self.steps.tuning(self.scenario)?;
        if let Some(runtime) = self.runtime {
            tuning.runtime = runtime;
        }
        Ok(tuning)
    }

    /// What the measured part needs to know beforehand.
    pub fn options(&self) -> Options {
        Options { messages: self.messages, stacks_file: self.stacks_file.clone() }
    }
}

/// Resolves when the parent is gone or done. A server ends by returning from `main` then, so that what it holds is
/// cleaned up: `exit` would leave a Unix socket's file behind.
pub fn parent_ended() -> oneshot::Receiver<()> {
    let (end, ended) = oneshot::channel();
    let watch = move || {
        // Nothing is ever sent: reading returns when the pipe closes.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(end);
    };
    std::thread::Builder::new().name("parent".to_owned()).spawn(watch).expect("a process can start a second thread");
    ended
}
