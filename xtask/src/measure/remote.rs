//! The client's side of an agent: builds and servers on another host.

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
pub(crate) mod pb;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloc_ladder::record::{Environment, Instrument, Measurement};
use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use self::pb::Request;
use self::pb::agent_client::AgentClient;
use self::pb::reply::What;
use self::pb::request::What as Asked;
use crate::cli::failure::{Failure, Kind};
use crate::measure::build::{Allocator, LONGEST};
use crate::measure::case::Case;
use crate::measure::interrupt::interrupted;
use crate::measure::pair::Serving;

/// How often a wait looks whether Ctrl-C came.
const LOOK: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that broke may take to say so, once its client failed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A run at an agent.
pub(crate) struct Remote {
    // One thread, which is idle while a case runs: it answers the connection's pings.
    runtime: Runtime,
    /// Until the run ends.
    requests: Option<mpsc::Sender<Request>>,
    replies: Streaming<pb::Reply>,
    address: String,
    environment: Environment,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Remote {
    /// Begins a run at the agent on `address`, `host:port`.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is no address, [`Kind::Environment`] when no agent answers there or it is busy.
    pub(crate) fn connect(address: &str) -> anyhow::Result<Remote> {
        let endpoint = address
            .rsplit_once(':')
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            .and_then(|_| Endpoint::from_shared(format!("http://{address}")).ok())
            .ok_or_else(|| {
                Failure::new(Kind::Usage, format!("`{address}` is no address")).help("as in --server 10.0.0.2:7420")
            })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (requests, receiver) = mpsc::channel(1);
        let replies = runtime.block_on(async {
            let channel = endpoint.connect().await.map_err(|error| {
                let cause =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
                let cause = cause.map_or_else(String::new, ToString::to_string);
                Failure::new(Kind::Environment, format!("no agent answers on {address}: {cause}"))
                    .help("start one there: cargo xtask agent --bind ADDRESS:7420")
            })?;
            let run = AgentClient::new(channel).run(ReceiverStream::new(receiver)).await;
            run.map_err(|status| match status.code() {
                Code::ResourceExhausted => Failure::new(Kind::Environment, format!("{address}: {}", status.message()))
                    .help("wait for that run to end"),
                _ => Failure::new(Kind::Environment, format!("{address} is no agent: {}", status.message()))
                    .help("start one there: cargo xtask agent --bind ADDRESS:7420"),
            })
        })?;
        let mut remote = Remote {
            runtime,
            requests: Some(requests),
            replies: replies.into_inner(),
            address: address.to_owned(),
            environment: Environment::default(),
        };
        match remote.reply(Instant::now() + CONNECT_TIMEOUT)? {
            What::Environment(json) => remote.environment = serde_json::from_str(&json)?,
            other => return Err(remote.unexpected(&other)),
        }
        Ok(remote)
    }

    /// Where the servers run.
    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Has the server built for an instrument.
    ///
    /// # Errors
    /// [`Kind::Run`] when it does not build or the agent is gone.
    pub(crate) fn build(&mut self, instrument: Instrument, allocator: Allocator, profile: &str) -> anyhow::Result<()> {
        crate::cli::terminal::progress("Building", &format!("server ({}) on {}", instrument.name(), self.address));
        self.ask(Asked::Build(pb::Build {
            instrument: instrument.name().to_owned(),
            allocator: allocator.name().to_owned(),
            profile: profile.to_owned(),
        }))?;
        match self.reply(Instant::now() + LONGEST)? {
            What::Built(pb::Built {}) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Starts the server of a case. The call sites it writes are kept in `stacks_file`.
    ///
    /// # Errors
    /// [`Kind::Run`] when the agent is gone.
    pub(crate) fn start(&mut self, case: &Case<'_>, stacks_file: Option<PathBuf>) -> anyhow::Result<Server<'_>> {
        let workload = case.workload;
        let runtime = case.runtime.and_then(|runtime| runtime.to_possible_value());
        self.ask(Asked::Case(pb::Case {
            instrument: case.instrument.name().to_owned(),
            scenario: case.scenario.name().to_owned(),
            steps: case.set.to_string(),
            chunk: workload.chunk as u64,
            messages: workload.messages,
            warmup: workload.warmup,
            streams: workload.streams,
            connections: workload.connections,
            retain: workload.retain,
            round: case.round,
            runtime: runtime.map(|value| value.get_name().to_owned()),
            rate_bits: workload.rate_bits,
            timeout_seconds: case.timeout.as_secs(),
        }))?;
        Ok(Server { remote: self, stacks_file })
    }

    fn ask(&mut self, what: Asked) -> anyhow::Result<()> {
        let requests = self.requests.as_ref().expect("taken only when dropped");
        let sent = self.runtime.block_on(requests.send(Request { what: Some(what) }));
        sent.map_err(|_| self.failure("went away"))
    }

    fn reply(&mut self, until: Instant) -> anyhow::Result<What> {
        loop {
            interrupted()?;
            match self.runtime.block_on(async { tokio::time::timeout(LOOK, self.replies.message()).await }) {
                Ok(Ok(Some(pb::Reply { what: Some(what) }))) => return Ok(what),
                Ok(Ok(Some(pb::Reply { what: None }))) => return Err(self.failure("is of another version")),
                Ok(Ok(None)) => return Err(self.failure("went away")),
                Ok(Err(status)) => return Err(self.broken(&status)),
                Err(_) if Instant::now() < until => {}
                Err(_) => return Err(self.failure("took too long")),
            }
        }
    }

    fn failure(&self, how: &str) -> anyhow::Error {
        Failure::new(Kind::Run, format!("the agent on {} {how}", self.address)).into()
    }

    /// What the agent says of a server, or the connection of the agent.
    fn broken(&self, status: &Status) -> anyhow::Error {
        match status.code() {
            Code::Aborted | Code::InvalidArgument | Code::Internal => {
                Failure::new(Kind::Run, status.message().to_owned()).into()
            }
            _ => self.failure(&format!("went away: {}", status.message())),
        }
    }

    fn unexpected(&self, what: &What) -> anyhow::Error {
        self.failure(&format!("said something unexpected: {what:?}"))
    }
}

impl Drop for Remote {
    /// Says goodbye, so that the agent knows an end from a loss.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.runtime.block_on(async { tokio::time::timeout(LAST_WORDS, self.replies.message()).await });
    }
}

/// The server of a case, on the agent's host.
pub(crate) struct Server<'a> {
    remote: &'a mut Remote,
    stacks_file: Option<PathBuf>,
}

impl Serving for Server<'_> {
    fn address(&mut self, until: Instant) -> anyhow::Result<String> {
        match self.remote.reply(until)? {
            What::Port(port) => {
                let (host, _) = self.remote.address.rsplit_once(':').expect("checked when it connected");
                Ok(format!("{host}:{port}"))
            }
            other => Err(self.remote.unexpected(&other)),
        }
    }

    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement> {
        match self.remote.reply(until)? {
            What::Measurement(json) => {
                serde_json::from_str(&json).with_context(|| format!("the server printed no record: {json}"))
            }
            other => Err(self.remote.unexpected(&other)),
        }
    }

    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        // The agent says what a server said when that fails, or when its own time for the case is up.
        match self.remote.reply(Instant::now() + LAST_WORDS) {
            Err(own) if !own.to_string().ends_with("took too long") => own,
            _ => error,
        }
    }

    fn let_go(self: Box<Self>, until: Instant) -> anyhow::Result<()> {
        self.remote.ask(Asked::LetGo(pb::LetGo {}))?;
        let mut stacks = Vec::new();
        loop {
            match self.remote.reply(until)? {
                What::Stacks(part) => stacks.extend(part),
                What::Gone(pb::Gone {}) => break,
                other => return Err(self.remote.unexpected(&other)),
            }
        }
        if let Some(file) = &self.stacks_file {
            std::fs::write(file, stacks).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}
