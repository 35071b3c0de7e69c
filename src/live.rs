//! What a running service answers about its own allocations: read-only endpoints for the engines fleets already have.
//!
//! Feature `live`.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | for Prometheus, as text, or as protobuf with native histograms where that is asked for: bytes and blocks by side, RPC method and stage; live bytes and their peak, by row where they are sampled; resident memory; open calls and the largest message one of them received; calls by code, messages and payload bytes, and how calls differ in blocks, bytes and time |
//! | `/debug/alloc` | the same as a table, medians, 95th percentiles and largest of what calls allocate and take, what an open call holds, and where memory is that is resident and not live; JSON with `?format=json` or `Accept: application/json` |
//! | `/debug/pprof/allocs` | everything allocated, as a gzip-compressed pprof profile; `?seconds=` for what is to come, and `?seconds=10&every=1` for every stack of it, exactly ([`Builder::exact_stacks`]) |
//! | `/debug/pprof/heap` | the same profile, live memory first |
//!
//! The same over gRPC is [`allocations`]. Profiles carry call stacks where the program's allocator is a
//! [`SampledAlloc`](crate::sampled::SampledAlloc); with [`CountingAlloc`](crate::CountingAlloc) alone they carry one
//! sample per row of counters, under a frame named after its stage.
//!
//! # What an open call holds
//! Counters book a release where it happens, so a row's live bytes are its own only as far as it frees what it
//! allocated. Samples remember the row that allocated: `grpc_alloc_sampled_live_bytes` of a method, divided by its
//! `grpc_alloc_open_calls`, is what one call holds in the mean (`/debug/alloc` does the division). A stream whose
//! receive buffer once grew for a large message shows there until it ends, but one among a thousand hides in the mean:
//! `grpc_alloc_largest_received_bytes` is the largest message of any one stream that is still read, to a power of two and
//! as it arrived: a compressed one may hold many times as much once decompressed.
//! Calls whose path has no row yet are counted without one, as `rpc=""`.
//!
//! # Safety of the endpoints
//! Where the environment has a token ([`TOKEN`] or [`TOKEN_FILE`]), or the program gives one, whoever asks must send it:
//! `curl -H "Authorization: Bearer $TOKEN"`, `authorization` in Prometheus's scrape configuration, metadata over gRPC.
//!
//! They bind to loopback unless [`Builder::allow_remote`] is called, and then need a token, or
//! [`Builder::without_token`]. They take no body and change nothing. Method names are
//! those of [`Method`](crate::Method)'s bounded registry, escaped on their way out. A connection carries one request
//! of at most 16 KiB, has 5 seconds for it, and is cut after 20 (and what `?seconds=` asks for). 64 may be open; the
//! next one takes the place of the oldest that has not sent its request, else of the oldest that does not read its
//! answer. A profile whose client has gone is given up. Two profiles are taken at once, over HTTP and gRPC together, and
//! further ones refused: what only reads counters never waits for them. A request must name its host, and only once;
//! unless other machines are allowed, by address or as `localhost`, so that no page of another site reads the answer
//! through its visitor's browser.
//!
//! # What it costs
//! Two threads, asleep between requests: one with a tokio runtime of its own, one that writes profiles. What they
//! allocate is charged to [`Stage::Instrument`], is not sampled, and is neither in the process's live bytes nor in their
//! peak: it stands beside them (`grpc_alloc_instrument_bytes`). The first profile reads the program's debug information
//! and keeps the names it found, some tens of megabytes in a large program; they are freed when no profile was asked for
//! in a minute, to an allocator that may keep the memory resident.

mod calls;
mod http;
mod memory;
mod modules;
/// Generated from `proto/live.proto` by `cargo xtask codegen` and checked in; CI proves it fresh.
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
pub mod pb;
mod profile;
mod prometheus;
mod reading;
mod rpc;
mod table;
mod token;

use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::Stage;
use crate::alloc::Switch;
use crate::wire::host::Hosts;

pub use profile::Kind;
pub use rpc::{Allocations, allocations, allocations_for_anybody, allocations_with};
pub use token::{BadToken, TOKEN, TOKEN_FILE, Token};

/// Answers on `addr`, which must be a loopback address: see [`Builder`] for others. Port 0 takes any free port.
///
/// ```
/// let live = alloc_ladder::serve("127.0.0.1:0")?;
/// println!("curl http://{}/debug/alloc", live.addr());
/// # live.stop();
/// # Ok::<(), alloc_ladder::live::ServeError>(())
/// ```
///
/// # Errors
/// As [`Builder::serve`].
pub fn serve(addr: impl ToSocketAddrs) -> Result<Live, ServeError> {
    Builder::new().serve(addr)
}

/// How to serve; [`serve`] is the short form.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is served before `serve` is called"]
pub struct Builder {
    exact: Option<Switch>,
    remote: bool,
    token: Option<Token>,
    without_token: bool,
}

impl Builder {
    /// Loopback only.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Allows addresses that other machines can reach, and requests that name this one in any way. Whoever reaches them and
    /// has the token can read method names and, in profiles, function names and source paths of the program.
    pub fn allow_remote(mut self) -> Builder {
        self.remote = true;
        self
    }

    /// Answers `/debug/pprof/allocs?seconds=10&every=1` too: every allocation's stack of those ten seconds, each block
    /// counted, whatever the allocator does otherwise. For a program whose global allocator is [`Alloc`](crate::Alloc), which is
    /// handed over here because nobody else knows it.
    ///
    /// ```
    /// #[global_allocator]
    /// static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();
    ///
    /// let live = alloc_ladder::live::Builder::new().exact_stacks(&ALLOC).serve("127.0.0.1:0")?;
    /// # live.stop();
    /// # Ok::<(), alloc_ladder::live::ServeError>(())
    /// ```
    ///
    /// While nobody asks it costs nothing. While somebody does, a stack is walked for each block, and what is freed is not
    /// followed. At most 16,384 different stacks are told apart; blocks of further ones keep their stage and method.
    pub fn exact_stacks<A>(mut self, allocator: &'static crate::Alloc<A>) -> Builder {
        self.exact = Some(allocator.switch());
        self
    }

    /// Answers only to those who send this token, and not the one of the environment.
    pub fn token(mut self, token: Token) -> Builder {
        self.token = Some(token);
        self
    }

    /// Answers whoever can reach it, also from other machines, if the environment has no token either.
    pub fn without_token(mut self) -> Builder {
        self.without_token = true;
        self
    }

    /// Binds and starts the thread that answers.
    ///
    /// # Errors
    /// [`ServeError`]: the address is none, is not loopback, or cannot be bound; or there is no token where one is needed.
    pub fn serve(self, addr: impl ToSocketAddrs) -> Result<Live, ServeError> {
        let _guard = Stage::Instrument.enter();
        let addr = addr.to_socket_addrs().map_err(ServeError::Address)?.next().ok_or(ServeError::NoAddress)?;
        let remote = !addr.ip().is_loopback();
        if remote && !self.remote {
            return Err(ServeError::Remote(addr));
        }
        let token = match self.token {
            Some(token) => Some(token),
            None => Token::from_environment()?,
        };
        if remote && token.is_none() && !self.without_token {
            return Err(ServeError::NoToken(addr));
        }
        let bind = |source| ServeError::Bind { addr, source };
        let listener = TcpListener::bind(addr).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        if remote && token.is_none() {
            // Whether anyone reads it is not this library's concern, so a closed stderr is no error.
            let _ = writeln!(
                std::io::stderr(),
                "warning: alloc-ladder answers on {addr}, which other machines may reach, without authentication"
            );
        }
        // Whoever allows other machines may serve them through a proxy on this one.
        let hosts = if remote || self.remote { Hosts::Any } else { Hosts::Local };
        let (stop, stopped) = oneshot::channel();
        let (starting, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("alloc-ladder-live".to_owned())
            .spawn(move || http::run(listener, http::Guard { hosts, token, exact: self.exact }, starting, stopped))
            .map_err(bind)?;
        // Nothing is sent: the thread drops its end when it answers.
        let _ = started.recv();
        Ok(Live { addr, stop, thread })
    }
}

/// Endpoints that answer. Dropping this leaves them up until the process ends; [`stop`](Live::stop) ends them.
pub struct Live {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Live {
    /// Where they answer.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops answering and waits for the thread to end; answers under way are cut.
    pub fn stop(self) {
        // The thread can only have ended before by a panic, which it has reported itself.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address does not parse or resolve.
    #[error("not an address to serve on: {0}")]
    Address(#[source] std::io::Error),
    /// The name resolves to nothing.
    #[error("the name has no address")]
    NoAddress,
    /// Not loopback, and [`Builder::allow_remote`] was not called.
    #[error(
        "{0} is not a loopback address: other machines could read what is served there; call `allow_remote` to serve all the same"
    )]
    Remote(SocketAddr),
    /// Not loopback, and there is no token.
    #[error(
        "{0} is not a loopback address, so whoever asks must have a token: set {TOKEN} or {TOKEN_FILE}, give one with `token`, or call `without_token`"
    )]
    NoToken(SocketAddr),
    /// What should hold the token does not.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// The socket or its thread cannot be had.
    #[error("cannot serve on {addr}: {source}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}
