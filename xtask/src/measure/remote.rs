//! The client's side of an agent: builds and servers on another host.
//!
//! An agent may lie. Whatever it sends is bounded in bytes and in time, and its texts are shown, never acted on.

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
pub(crate) mod pb;

use std::cell::{RefCell, RefMut};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloc_ladder::record::{Environment, Instrument, Measurement};
use alloc_ladder::subject::case::Case;
use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use self::pb::Request;
use self::pb::agent_client::AgentClient;
use self::pb::reply::What;
use self::pb::request::What as Asked;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::measure::build::{Allocator, LONGEST};
use crate::measure::case::Host;
use crate::measure::interrupt::interrupted;
use crate::measure::pair::Serving;
use crate::measure::process::LOOK;
use crate::measure::token::{self, Token};

/// Bytes of one request: a case or the names of a build.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of one reply: a record, or a part of the call sites.
pub(crate) const REPLY_BYTES_MAX: usize = 1 << 20;
/// Bytes of call sites of one case. The largest that dhat wrote of a service with 100,000 stacks had some 100 MB.
pub(crate) const SITES_BYTES_MAX: u64 = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the agent is told that this client is there, whatever else it does.
const ALIVE: Duration = Duration::from_secs(10);
/// How long a server that broke may take to say so, once its client failed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where an agent is, and what it wants to hear.
#[derive(Clone, Debug)]
pub(crate) struct At {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) token: Option<Token>,
}

/// A run at an agent.
pub(crate) struct Remote {
    link: RefCell<Link>,
    environment: Environment,
}

/// The connection to an agent.
struct Link {
    // One thread, which is idle while a case runs: it answers the connection's pings.
    runtime: Runtime,
    /// Until the run ends.
    requests: Option<mpsc::Sender<Request>>,
    replies: Streaming<pb::Reply>,
    alive: AbortHandle,
    address: String,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Remote {
    /// Begins a run at an agent.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is not an address, [`Kind::Environment`] when no agent answers there, when it is busy,
    /// and when it wants another token.
    pub(crate) fn connect(at: &At) -> anyhow::Result<Remote> {
        let mut link = Link::open(at)?;
        let environment = match link.reply(Instant::now() + CONNECT_TIMEOUT)? {
            What::Environment(json) => serde_json::from_str(&json).context("the agent is of another version")?,
            other => return Err(link.unexpected(&other)),
        };
        Ok(Remote { link: RefCell::new(link), environment })
    }

    /// Where the servers run.
    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Has the server built for an instrument.
    ///
    /// # Errors
    /// [`Kind::Run`] when it does not build or the agent is gone.
    pub(crate) fn build(&self, instrument: Instrument, allocator: Allocator, profile: &str) -> anyhow::Result<()> {
        let mut link = self.link.borrow_mut();
        terminal::progress("Building", &format!("server ({}) on {}", instrument.name(), link.address));
        link.ask(Asked::Build(pb::Build {
            instrument: instrument.name().to_owned(),
            allocator: allocator.name().to_owned(),
            profile: profile.to_owned(),
        }))?;
        match link.reply(Instant::now() + LONGEST)? {
            What::Built(pb::Built {}) => Ok(()),
            other => Err(link.unexpected(&other)),
        }
    }
}

impl Host for Remote {
    fn start(&self, case: &Case, timeout: Duration) -> anyhow::Result<Box<dyn Serving + '_>> {
        let mut link = self.link.borrow_mut();
        // Where it writes and listens there is the agent's to say.
        let told = Case { stacks_file: None, ..case.clone() };
        link.ask(Asked::Case(pb::Case { json: told.to_json(), timeout_seconds: timeout.as_secs() }))?;
        Ok(Box::new(Server { link, sites: case.stacks_file.clone() }))
    }
}

impl Link {
    fn open(at: &At) -> anyhow::Result<Link> {
        let At { address, token } = at;
        let endpoint = address
            .rsplit_once(':')
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            .and_then(|_| Endpoint::from_shared(format!("http://{address}")).ok())
            .ok_or_else(|| {
                Failure::new(Kind::Usage, format!("`{address}` is not a valid address"))
                    .help("as in --server 10.0.0.2:7420")
            })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (requests, receiver) = mpsc::channel(1);
        let mut call = tonic::Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            call.metadata_mut().insert(token::HEADER, token.header());
        }
        let replies = runtime.block_on(async {
            let channel = endpoint.connect().await.map_err(|error| {
                let cause =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
                let cause = cause.map_or_else(String::new, ToString::to_string);
                Failure::new(Kind::Environment, format!("no agent answers on {address}: {cause}"))
                    .help("start one there: cargo xtask agent --bind ADDRESS:7420 --token-file FILE")
            })?;
            let mut client = AgentClient::new(channel)
                .max_decoding_message_size(REPLY_BYTES_MAX)
                .max_encoding_message_size(REQUEST_BYTES_MAX);
            let run = tokio::time::timeout(CONNECT_TIMEOUT, client.run(call));
            let run = run.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")));
            run.map_err(|status| refused(address, &status))
        })?;
        let alive = {
            let requests = requests.clone();
            runtime.spawn(async move {
                let alive = || Request { what: Some(Asked::Alive(pb::Alive {})) };
                loop {
                    tokio::time::sleep(ALIVE).await;
                    if requests.send(alive()).await.is_err() {
                        return;
                    }
                }
            })
        };
        Ok(Link {
            runtime,
            requests: Some(requests),
            replies: replies.into_inner(),
            alive: alive.abort_handle(),
            address: address.clone(),
        })
    }

    fn ask(&mut self, what: Asked) -> anyhow::Result<()> {
        let requests = self.requests.as_ref().expect("taken only when dropped");
        let sent = self.runtime.block_on(requests.send(Request { what: Some(what) }));
        sent.map_err(|_| self.failure("went away"))
    }

    fn reply(&mut self, until: Instant) -> anyhow::Result<What> {
        self.reply_in_time(until)?.ok_or_else(|| self.failure("took too long"))
    }

    /// The next reply; `None` when its time is up.
    fn reply_in_time(&mut self, until: Instant) -> anyhow::Result<Option<What>> {
        loop {
            interrupted()?;
            match self.runtime.block_on(async { tokio::time::timeout(LOOK, self.replies.message()).await }) {
                Ok(Ok(Some(pb::Reply { what: Some(what) }))) => return Ok(Some(what)),
                Ok(Ok(Some(pb::Reply { what: None }))) => return Err(self.failure("is of another version")),
                Ok(Ok(None)) => return Err(self.failure("went away")),
                Ok(Err(status)) => return Err(self.broken(&status)),
                Err(_) if Instant::now() < until => {}
                Err(_) => return Ok(None),
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
            Code::OutOfRange => self.failure(&format!("sends more than it may: {}", status.message())),
            Code::DeadlineExceeded => self.failure(&format!("ended the run: {}", status.message())),
            _ => self.failure(&format!("went away: {}", status.message())),
        }
    }

    fn unexpected(&self, what: &What) -> anyhow::Error {
        let what = match what {
            What::Environment(_) => "its environment",
            What::Built(_) => "that a build is done",
            What::Port(_) => "a port",
            What::Measurement(_) => "a record",
            What::Stacks(_) => "call sites",
            What::Gone(_) => "that a server is gone",
        };
        self.failure(&format!("said something that nobody asked for: {what}"))
    }
}

/// Why an agent does not begin a run.
fn refused(address: &str, status: &Status) -> Failure {
    let message = status.message();
    match status.code() {
        Code::ResourceExhausted => {
            Failure::new(Kind::Environment, format!("{address}: {message}")).help("wait for that run to end")
        }
        Code::Unauthenticated => Failure::new(Kind::Environment, format!("{address}: {message}")).help(format!(
            "pass the agent's token with --token-file FILE, or in the environment variable {}",
            token::VARIABLE
        )),
        Code::Unimplemented => Failure::new(Kind::Environment, format!("the agent on {address} is of another version"))
            .help("check out the same revision there, and start `cargo xtask agent` again"),
        _ => Failure::new(Kind::Environment, format!("{address} is not an agent: {message}"))
            .help("start one there: cargo xtask agent --bind ADDRESS:7420 --token-file FILE"),
    }
}

impl Drop for Link {
    /// Says goodbye, so that the agent knows an end from a loss.
    fn drop(&mut self) {
        self.alive.abort();
        self.requests = None;
        let _ = self.runtime.block_on(async { tokio::time::timeout(LAST_WORDS, self.replies.message()).await });
    }
}

/// The server of a case, on the agent's host.
struct Server<'a> {
    link: RefMut<'a, Link>,
    /// Where its call sites are kept.
    sites: Option<PathBuf>,
}

impl Serving for Server<'_> {
    fn address(&mut self, until: Instant) -> anyhow::Result<String> {
        match self.link.reply(until)? {
            What::Port(port) => {
                let port = u16::try_from(port).ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| self.link.failure("told a port that is none"))?;
                let (host, _) = self.link.address.rsplit_once(':').expect("checked when it connected");
                Ok(format!("{host}:{port}"))
            }
            other => Err(self.link.unexpected(&other)),
        }
    }

    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement> {
        match self.link.reply(until)? {
            What::Measurement(json) => serde_json::from_str(&json).context("the server printed no record"),
            other => Err(self.link.unexpected(&other)),
        }
    }

    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        // The agent says what a server said when that fails, or when its own time for the case is up.
        match self.link.reply_in_time(Instant::now() + LAST_WORDS) {
            Err(own) => own,
            Ok(_) => error,
        }
    }

    fn let_go(mut self: Box<Self>, until: Instant) -> anyhow::Result<()> {
        self.link.ask(Asked::LetGo(pb::LetGo {}))?;
        let sites = self.sites.take();
        let shown = |file: &PathBuf| format!("cannot write {}", file.display());
        let mut file = sites.as_ref().map(|path| File::create(path).with_context(|| shown(path))).transpose()?;
        let mut bytes: u64 = 0;
        loop {
            match self.link.reply(until)? {
                What::Stacks(part) => {
                    bytes += part.len() as u64;
                    if part.is_empty() || bytes > SITES_BYTES_MAX || Instant::now() > until {
                        return Err(self.link.failure("sends call sites without end"));
                    }
                    if let (Some(file), Some(path)) = (&mut file, &sites) {
                        file.write_all(&part).with_context(|| shown(path))?;
                    }
                }
                What::Gone(pb::Gone {}) => return Ok(()),
                other => return Err(self.link.unexpected(&other)),
            }
        }
    }
}
