//! `cargo xtask agent`: runs the servers of a `profile --server` on this host, for a client on another.
//!
//! The client asks over gRPC (`proto/agent.proto`) for builds and cases by their names; nothing it sends is a path or a
//! command. One run is served at a time. Its server is a child of this process and dies with the run: when the run
//! ends, when the client goes away, and when the agent does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::subject::ladder::{Runtime, Socket, StepSet};
use alloc_ladder::record::{Instrument, Listening};
use alloc_ladder::subject::scenario::{CHUNK_MAX, Scenario, Workload};
use clap::ValueEnum;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::build::{Allocator, Binaries, build};
use crate::measure::case::Case;
use crate::measure::environment;
use crate::measure::interrupt::{catch_interrupts, interrupted};
use crate::measure::remote::pb;
use crate::measure::remote::pb::agent_server::AgentServer;
use crate::measure::remote::pb::reply::What as Reply;
use crate::measure::remote::pb::request::What;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on, and the address of the servers it runs
    #[arg(long, default_value = "127.0.0.1:7420")]
    bind: SocketAddr,
}

/// How often the agent looks whether Ctrl-C came.
const LOOK: Duration = Duration::from_millis(50);
/// How long a server may take to end once it was let go: it writes its call sites then.
const END: Duration = Duration::from_secs(60);
/// Bytes of call sites in one reply.
const PART_BYTES: usize = 256 * 1024;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    catch_interrupts()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(args.bind))?;
    // Dropping the runs kills their servers.
    runtime.shutdown_timeout(Duration::from_secs(1));
    terminal::progress("Stopped", "by Ctrl-C");
    Ok(())
}

/// Serves runs until Ctrl-C.
async fn serve(bind: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(bind).await.map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot listen on {bind}: {error}"))
            .help("pass another address, such as --bind 127.0.0.1:0 for any free port")
    })?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        let line = format!("{bound} is not loopback: whoever reaches this machine can have it build and run servers");
        terminal::labelled(Style::Warning, "warning", &line);
    }
    terminal::result(&format!("{bound}\n"))?;
    terminal::progress("Waiting", &format!("for `cargo xtask profile put --server {bound}` (Ctrl-C ends it)"));
    let agent = Agent { bound, turn: Arc::new(Semaphore::new(1)) };
    tonic::transport::Server::builder()
        // A client whose host is gone says no goodbye.
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(AgentServer::new(agent))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped())
        .await?;
    Ok(())
}

struct Agent {
    bound: SocketAddr,
    turn: Arc<Semaphore>,
}

#[tonic::async_trait]
impl pb::agent_server::Agent for Agent {
    type RunStream = ReceiverStream<Result<pb::Reply, Status>>;

    async fn run(&self, request: Request<Streaming<pb::Request>>) -> Result<Response<Self::RunStream>, Status> {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return Err(Status::resource_exhausted("the agent is busy with another run"));
        };
        let peer = request.remote_addr().map_or_else(|| "a client".to_owned(), |peer| peer.to_string());
        let (replies, receiver) = mpsc::channel(4);
        let run = Run { bound: self.bound, requests: request.into_inner(), replies, binaries: HashMap::new() };
        tokio::spawn(run.finish(peer, turn));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One profile run.
struct Run {
    bound: SocketAddr,
    requests: Streaming<pb::Request>,
    replies: mpsc::Sender<Result<pb::Reply, Status>>,
    binaries: HashMap<Instrument, Binaries>,
}

impl Run {
    async fn finish(mut self, peer: String, turn: OwnedSemaphorePermit) {
        terminal::progress("Serving", &format!("a run for {peer}"));
        let replies = self.replies.clone();
        let done = tokio::select! {
            done = self.serve() => done,
            // The client is gone; what was started is dropped, and killed by that.
            () = replies.closed() => Err(Status::cancelled("the client went away")),
            () = stopped() => Err(Status::unavailable("the agent was stopped")),
        };
        match done {
            Ok(()) => terminal::progress("Served", &format!("the run for {peer}")),
            Err(status) => {
                terminal::labelled(Style::Warning, "ended", &format!("the run for {peer}: {}", status.message()));
                let _ = timeout(LOOK, replies.send(Err(status))).await;
            }
        }
        drop(turn);
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let environment = environment::environment(Allocator::System, "");
        self.reply(Reply::Environment(json(&environment)?)).await?;
        while let Some(request) = self.requests.message().await? {
            match request.what {
                Some(What::Build(wanted)) => self.build(wanted).await?,
                Some(What::Case(case)) => self.case(&case).await?,
                Some(What::LetGo(pb::LetGo {})) | None => return Err(Status::invalid_argument("nothing is running")),
            }
        }
        Ok(())
    }

    async fn reply(&self, what: Reply) -> Result<(), Status> {
        let sent = self.replies.send(Ok(pb::Reply { what: Some(what) })).await;
        sent.map_err(|_| Status::cancelled("the client went away"))
    }

    async fn build(&mut self, wanted: pb::Build) -> Result<(), Status> {
        let instrument: Instrument = named("instrument", &wanted.instrument)?;
        let allocator: Allocator = named("allocator", &wanted.allocator)?;
        if wanted.profile.is_empty() || !wanted.profile.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Status::invalid_argument(format!("`{}` is no cargo profile", wanted.profile)));
        }
        let built = tokio::task::spawn_blocking(move || build(instrument, allocator, &wanted.profile)).await;
        let binaries = built.map_err(failed)?.map_err(failed)?;
        self.binaries.insert(instrument, binaries);
        self.reply(Reply::Built(pb::Built {})).await
    }

    /// Runs one server, from its start until it is let go.
    async fn case(&mut self, wanted: &pb::Case) -> Result<(), Status> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let wanted = Parsed::of(wanted)?;
        let (program, stacks) = {
            let binaries = self.binaries.get(&wanted.instrument);
            let binaries = binaries.ok_or_else(|| Status::failed_precondition("the instrument was not built"))?;
            let case = wanted.case(binaries, SocketAddr::new(self.bound.ip(), 0));
            (case.server(Some(&|_| folder.path().to_owned())), folder.path().join(case.stacks_name()))
        };
        let mut child = tokio::process::Command::from(program.command())
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said).await;
            String::from_utf8_lossy(&said).trim_end().to_owned()
        });
        let work = async {
            let listening = lines.next_line().await.map_err(failed)?.ok_or("ended without an address")?;
            let Listening { address } = serde_json::from_str(&listening).map_err(failed)?;
            let port = address.parse::<SocketAddr>().map_err(failed)?.port();
            self.reply(Reply::Port(port.into())).await?;
            let record = lines.next_line().await.map_err(failed)?.ok_or("ended without a record")?;
            self.reply(Reply::Measurement(record)).await?;
            match self.requests.message().await? {
                Some(pb::Request { what: Some(What::LetGo(pb::LetGo {})) }) => {}
                _ => return Err(Broken::Said(Status::cancelled("the client went away"))),
            }
            drop(stdin);
            let ended = timeout(END, child.wait()).await.map_err(|_| "did not end")?.map_err(failed)?;
            if ended.success() { Ok(()) } else { Err(Broken::Process("failed")) }
        };
        match timeout(wanted.timeout, work).await.unwrap_or(Err(Broken::Process("took too long"))) {
            Ok(()) => {}
            Err(Broken::Said(status)) => return Err(status),
            Err(Broken::Process(how)) => {
                let _ = child.kill().await;
                let said = said.await.unwrap_or_default();
                let mut message = format!("the {} on {} {how}", Side::Server, self.bound);
                if !said.is_empty() {
                    message.push_str("\nit said:\n");
                    message.push_str(&said);
                }
                return Err(Status::aborted(message));
            }
        }
        // Only some instruments write any.
        if stacks.is_file() {
            let whole = std::fs::read(&stacks).map_err(failed)?;
            for part in whole.chunks(PART_BYTES) {
                self.reply(Reply::Stacks(part.to_vec())).await?;
            }
        }
        self.reply(Reply::Gone(pb::Gone {})).await
    }
}

/// Why a case ended early.
enum Broken {
    /// The server's own doing.
    Process(&'static str),
    /// The connection's, or the request's.
    Said(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Broken {
        Broken::Said(status)
    }
}

impl From<&'static str> for Broken {
    fn from(how: &'static str) -> Broken {
        Broken::Process(how)
    }
}

/// A case as it was asked for, every part of it checked.
struct Parsed {
    scenario: Scenario,
    set: StepSet,
    instrument: Instrument,
    workload: Workload,
    runtime: Option<Runtime>,
    round: u32,
    timeout: Duration,
}

impl Parsed {
    fn of(case: &pb::Case) -> Result<Parsed, Status> {
        let scenario: Scenario = named("scenario", &case.scenario)?;
        let set: StepSet = case.steps.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let tuning = set.tuning(scenario).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if tuning.socket == Socket::Unix {
            return Err(Status::invalid_argument("a Unix socket joins processes of one host"));
        }
        let chunk = usize::try_from(case.chunk).ok().filter(|chunk| (1..=CHUNK_MAX).contains(chunk));
        Ok(Parsed {
            scenario,
            set,
            instrument: named("instrument", &case.instrument)?,
            workload: Workload {
                chunk: chunk
                    .ok_or_else(|| Status::invalid_argument(format!("a chunk is of 1 to {CHUNK_MAX} bytes")))?,
                messages: case.messages,
                warmup: case.warmup,
                streams: case.streams,
                connections: case.connections,
                retain: case.retain,
                rate_bits: case.rate_bits,
            },
            runtime: case.runtime.as_deref().map(|runtime| named("runtime", runtime)).transpose()?,
            round: case.round,
            timeout: Duration::from_secs(case.timeout_seconds),
        })
    }

    fn case<'a>(&'a self, binaries: &'a Binaries, bind: SocketAddr) -> Case<'a> {
        Case {
            binaries,
            scenario: self.scenario,
            set: &self.set,
            workload: self.workload,
            instrument: self.instrument,
            round: self.round,
            runtime: self.runtime,
            bind,
            remote: None,
            timeout: self.timeout,
        }
    }
}

/// The value with this name.
fn named<T: ValueEnum>(what: &str, name: &str) -> Result<T, Status> {
    T::from_str(name, false).map_err(|_| Status::invalid_argument(format!("there is no {what} `{name}`")))
}

fn json(value: &impl serde::Serialize) -> Result<String, Status> {
    serde_json::to_string(value).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("{error:#}"))
}

/// Resolves when the agent is told to stop.
async fn stopped() {
    while interrupted().is_ok() {
        sleep(LOOK).await;
    }
}
