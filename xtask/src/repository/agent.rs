//! `cargo xtask agent`: runs the servers of a `profile --server` on this host, for a client on another.
//!
//! The client asks over gRPC (`proto/agent.proto`) for builds and cases by their names; nothing it sends is a path or a
//! command. Beyond loopback it has to know a token. One run is served at a time. What the run started, cargo or a server,
//! ends with the run: when it is done, when the client goes away or says nothing for too long, and when the agent ends.
//! The next run begins when all of it has ended.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Listening};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::ladder::Socket;
use alloc_ladder::subject::scenario::Workload;
use clap::ValueEnum;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::build::{Allocator, Binary, Variant, build_variant};
use crate::measure::interrupt::{Cancel, catch_interrupts, interrupted};
use crate::measure::process::{LOOK, Process, Streams};
use crate::measure::program::Program;
use crate::measure::remote::pb;
use crate::measure::remote::pb::agent_server::AgentServer;
use crate::measure::remote::pb::reply::What as Reply;
use crate::measure::remote::pb::request::What;
use crate::measure::remote::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, SITES_BYTES_MAX};
use crate::measure::token::{self, Token};
use crate::measure::{case, environment};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; the servers that it runs listen on the same host
    #[arg(long, default_value = "127.0.0.1:7420")]
    bind: SocketAddr,
    /// File with the token that clients must send [default: the environment variable ALLOC_LADDER_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve anyone who can reach the address: no token is asked for
    #[arg(long, conflicts_with = "token_file")]
    no_token: bool,
    /// Seconds without a message from the client after which its run ends
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// Seconds after which a run is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 14_400, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    longest: u64,
}

/// How long a server may take to end once it was let go: it writes its call sites then.
const END: Duration = Duration::from_secs(60);
/// How long the last run's work may take to end before the next one is told that the agent is busy.
const TURN: Duration = Duration::from_secs(1);
/// How long a run may take to tell its client that the agent ends.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long everything that runs may take to end with the agent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of call sites in one reply.
const PART_BYTES: usize = 256 << 10;
/// What a case may ask of this host, as `profile` limits its flags; `cpu` sees messages many times.
const MESSAGES_MAX: u64 = 2_000_000_000;
const STREAMS_MAX: u32 = 10_000;
const CONNECTIONS_MAX: u32 = 1000;
/// Bytes that a server may keep for `--retain`.
const RETAINED_BYTES_MAX: u64 = 4 << 30;

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    catch_interrupts()?;
    let token = if args.no_token { None } else { Token::find(args.token_file.as_deref())? };
    if token.is_none() && !args.no_token && !args.bind.ip().is_loopback() {
        let message = format!("{} is not loopback: who reaches it could have servers built and run here", args.bind);
        return Err(Failure::new(Kind::Usage, message)
            .help(format!(
                "pass a token with --token-file FILE or in {}, or say --no-token where everybody who reaches the \
                 address may",
                token::VARIABLE
            ))
            .into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(&args, token))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    terminal::progress("Stopped", "by Ctrl-C");
    Ok(())
}

/// Serves runs until Ctrl-C.
async fn serve(args: &Args, token: Option<Token>) -> anyhow::Result<()> {
    let bind = args.bind;
    let listener = tokio::net::TcpListener::bind(bind).await.map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot listen on {bind}: {error}"))
            .help("pass another address, such as --bind 127.0.0.1:0 for any free port")
    })?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        let line = match token {
            Some(_) => {
                "the token travels unencrypted: use a network you trust, or a tunnel to loopback (ssh -L)".to_owned()
            }
            None => format!("anyone who can reach {bound} can make this machine build and run servers"),
        };
        terminal::labelled(Style::Warning, "warning", &line);
    }
    terminal::result(&format!("{bound}\n"))?;
    terminal::progress("Waiting", &format!("for `cargo xtask profile put --server {bound}` (Ctrl-C ends it)"));
    let turn = Arc::new(Semaphore::new(1));
    let limits = Limits { idle: Duration::from_secs(args.idle), longest: Duration::from_secs(args.longest) };
    let agent = AgentServer::new(Agent { bound, turn: Arc::clone(&turn), limits })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REPLY_BYTES_MAX);
    let check = move |request: Request<()>| match &token {
        Some(token) if !token.is(request.metadata().get(token::HEADER)) => {
            Err(Status::unauthenticated("the agent does not know this token"))
        }
        _ => Ok(request),
    };
    let served = tonic::transport::Server::builder()
        // A client whose host is gone says no goodbye.
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(8))
        .add_service(InterceptedService::new(agent, check))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped());
    tokio::select! {
        done = served => done?,
        // A connection that nothing goes on in may stay open for ever.
        () = async { stopped().await; sleep(GOODBYE).await } => {}
    }
    // What runs is ended before this process is.
    let _ = timeout(PATIENCE, turn.acquire()).await;
    Ok(())
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Without a word of the client's.
    idle: Duration,
    /// A whole run.
    longest: Duration,
}

struct Agent {
    bound: SocketAddr,
    turn: Arc<Semaphore>,
    limits: Limits,
}

#[tonic::async_trait]
impl pb::agent_server::Agent for Agent {
    type RunStream = ReceiverStream<Result<pb::Reply, Status>>;

    async fn run(&self, request: Request<Streaming<pb::Request>>) -> Result<Response<Self::RunStream>, Status> {
        let Ok(Ok(turn)) = timeout(TURN, Arc::clone(&self.turn).acquire_owned()).await else {
            return Err(Status::resource_exhausted("the agent is busy with another run"));
        };
        let peer = request.remote_addr().map_or_else(|| "a client".to_owned(), |peer| peer.to_string());
        let (replies, receiver) = mpsc::channel(4);
        let run = Run {
            bound: self.bound,
            limits: self.limits,
            requests: request.into_inner(),
            replies,
            binaries: HashMap::new(),
            cancel: Cancel::new(),
            work: None,
        };
        tokio::spawn(run.finish(peer, turn));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One profile run.
struct Run {
    bound: SocketAddr,
    limits: Limits,
    requests: Streaming<pb::Request>,
    replies: mpsc::Sender<Result<pb::Reply, Status>>,
    binaries: HashMap<Instrument, Binary>,
    /// Ends what runs.
    cancel: Cancel,
    /// What runs: cargo, or a server.
    work: Option<JoinHandle<()>>,
}

impl Run {
    async fn finish(mut self, peer: String, turn: OwnedSemaphorePermit) {
        terminal::progress("Serving", &format!("a run for {peer}"));
        let replies = self.replies.clone();
        let longest = self.limits.longest;
        let done = tokio::select! {
            done = timeout(longest, self.serve()) => done.unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(format!("it took longer than {} s", longest.as_secs())))
            }),
            () = replies.closed() => Err(Status::cancelled("the client went away")),
            () = stopped() => Err(Status::unavailable("the agent was stopped")),
        };
        self.cancel.cancel();
        match done {
            Ok(()) => terminal::progress("Served", &format!("the run for {peer}")),
            Err(status) => {
                terminal::labelled(Style::Warning, "ended", &format!("the run for {peer}: {}", status.message()));
                let _ = timeout(LOOK, replies.send(Err(status))).await;
            }
        }
        // The place is given to the next when all that was started has ended.
        if let Some(work) = self.work.take() {
            let _ = work.await;
        }
        drop(turn);
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let environment = environment::environment(Allocator::System, "");
        self.reply(Reply::Environment(json(&environment)?)).await?;
        while let Some(request) = self.request().await? {
            match request {
                What::Build(wanted) => self.build(wanted).await?,
                What::Case(wanted) => self.case(&wanted).await?,
                What::LetGo(_) | What::Alive(_) => return Err(Status::invalid_argument("nothing is running")),
            }
        }
        Ok(())
    }

    /// The next request; `None` at the run's end.
    async fn request(&mut self) -> Result<Option<What>, Status> {
        loop {
            let request = timeout(self.limits.idle, self.requests.message()).await.map_err(|_| self.silent())??;
            match request.map(|request| request.what) {
                None => return Ok(None),
                Some(Some(What::Alive(pb::Alive {}))) => {}
                Some(Some(what)) => return Ok(Some(what)),
                Some(None) => return Err(Status::invalid_argument("the agent is of another version")),
            }
        }
    }

    async fn reply(&self, what: Reply) -> Result<(), Status> {
        let reply = self.replies.send(Ok(pb::Reply { what: Some(what) }));
        // A client that reads nothing keeps a reply from being sent.
        let sent = timeout(self.limits.idle, reply).await.map_err(|_| self.silent())?;
        sent.map_err(|_| Status::cancelled("the client went away"))
    }

    fn silent(&self) -> Status {
        Status::deadline_exceeded(format!("the client said nothing for {} s", self.limits.idle.as_secs()))
    }

    /// Does `work` on a thread of its own, which is waited for before the next run begins.
    fn begin<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Cancel) -> anyhow::Result<T> + Send + 'static,
    ) -> oneshot::Receiver<anyhow::Result<T>> {
        let (done, result) = oneshot::channel();
        let cancel = self.cancel.clone();
        self.work = Some(tokio::task::spawn_blocking(move || {
            let _ = done.send(work(&cancel));
        }));
        result
    }

    async fn build(&mut self, wanted: pb::Build) -> Result<(), Status> {
        let instrument: Instrument = named("instrument", &wanted.instrument)?;
        let allocator: Allocator = named("allocator", &wanted.allocator)?;
        if wanted.profile.is_empty() || !wanted.profile.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Status::invalid_argument(format!("`{}` is not a valid cargo profile", wanted.profile)));
        }
        let variant = Variant::of(instrument, allocator).map_err(failed)?;
        let of_build = variant.clone();
        let built = self.begin(move |cancel| build_variant(&of_build, &wanted.profile, cancel));
        let binary = built.await.map_err(failed)?.map_err(failed)?;
        // One build may serve several instruments.
        for other in Instrument::ALL {
            if Variant::of(other, allocator).is_ok_and(|other| other == variant) {
                self.binaries.insert(other, binary.clone());
            }
        }
        self.reply(Reply::Built(pb::Built {})).await
    }

    /// Runs one server, from its start until it is let go.
    async fn case(&mut self, wanted: &pb::Case) -> Result<(), Status> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let mut case = allowed(&wanted.json)?;
        let sites = folder.path().join(case::stacks_name(case.instrument));
        case.stacks_file = Some(sites.clone());
        case.address = SocketAddr::new(self.bound.ip(), 0).to_string();
        let binary = self.binaries.get(&case.instrument);
        let binary = binary.ok_or_else(|| Status::failed_precondition("the instrument was not built"))?;
        let program = case::program(binary, Side::Server, &case);
        let limit = Duration::from_secs(wanted.timeout_seconds).min(self.limits.longest);
        let until = Instant::now() + limit;
        let (events, mut happened) = mpsc::channel(1);
        let (go, let_go) = oneshot::channel();
        let what = format!("{} on {}", Side::Server, self.bound);
        let served = self.begin(move |cancel| serve_case(what, &program, until, &events, let_go, cancel));
        let mut go = Some(go);
        while let Some(event) = happened.recv().await {
            let is_last = matches!(event, Reply::Measurement(_));
            self.reply(event).await?;
            if is_last {
                let request = timeout(limit, self.request()).await.map_err(|_| self.silent())??;
                match (request, go.take()) {
                    (Some(What::LetGo(pb::LetGo {})), Some(go)) => drop(go.send(())),
                    _ => return Err(Status::cancelled("the client went away")),
                }
            }
        }
        served.await.map_err(failed)?.map_err(|error| Status::aborted(format!("{error:#}")))?;
        // Only some instruments write any.
        if sites.is_file() {
            self.send(&sites).await?;
        }
        self.reply(Reply::Gone(pb::Gone {})).await
    }

    /// Sends the call sites that a server wrote.
    async fn send(&self, sites: &Path) -> Result<(), Status> {
        let mut file = File::open(sites).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > SITES_BYTES_MAX {
            return Err(Status::aborted(format!(
                "the server wrote {bytes} bytes of call sites, over {SITES_BYTES_MAX}"
            )));
        }
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            file.by_ref().take(PART_BYTES as u64).read_to_end(&mut part).map_err(failed)?;
            if part.is_empty() {
                return Ok(());
            }
            self.reply(Reply::Stacks(part)).await?;
        }
    }
}

/// Runs the server of a case on this thread; it is gone when this returns.
fn serve_case(
    what: String,
    program: &Program,
    until: Instant,
    events: &mpsc::Sender<Reply>,
    let_go: oneshot::Receiver<()>,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let mut server = Process::start(what, program, Streams::Heard, cancel)?;
    let Listening { address } = server.line(until)?;
    let port = address.parse::<SocketAddr>()?.port();
    events.blocking_send(Reply::Port(port.into()))?;
    let record = server.text(until)?;
    events.blocking_send(Reply::Measurement(record))?;
    // Dropped when the run ends early.
    let_go.blocking_recv()?;
    server.close();
    server.ended(Instant::now() + END)
}

/// A case that a client asks for, if this host runs such cases.
fn allowed(json: &str) -> Result<Case, Status> {
    let case = Case::from_json(json).map_err(|error| Status::invalid_argument(format!("this is no case: {error}")))?;
    let tuning = case.tuning().map_err(|error| Status::invalid_argument(error.to_string()))?;
    if tuning.socket == Socket::Unix {
        return Err(Status::invalid_argument("a Unix socket joins processes of one host"));
    }
    let Workload { chunk, messages, warmup, streams, connections, retain, .. } = case.workload;
    let bounds = [
        ("messages", messages, MESSAGES_MAX),
        ("warm-up messages", warmup, MESSAGES_MAX),
        ("streams", streams.into(), STREAMS_MAX.into()),
        ("connections", connections.into(), CONNECTIONS_MAX.into()),
        ("retained bytes", u64::from(retain).saturating_mul(chunk as u64), RETAINED_BYTES_MAX),
    ];
    match bounds.into_iter().find(|(_, asked, max)| asked > max) {
        Some((what, asked, max)) => {
            Err(Status::invalid_argument(format!("{asked} {what} are too many: at most {max}")))
        }
        None => Ok(case),
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
