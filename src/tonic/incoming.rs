//! A server's accepted connections, on tonic's own transport.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::net::TcpStream;
use tonic::transport::server::TcpIncoming;

use super::io::StagedIo;
use super::task;

/// Listens on `addr`, with each accepted socket in a [`StagedIo`]: what a server has in place of `serve(addr)`.
///
/// The sockets have `TCP_NODELAY` set, as tonic's own `serve` sets it. tonic ignores `Server::tcp_nodelay` and
/// `Server::tcp_keepalive` where connections are handed to it; set them on what this returns.
///
/// ```no_run
/// # async fn serve<S>(service: S) -> Result<(), Box<dyn std::error::Error>>
/// # where
/// #     S: tower_service::Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>,
/// #         Error = std::convert::Infallible> + tonic::server::NamedService + Clone + Send + Sync + 'static,
/// #     S::Future: Send + 'static,
/// # {
/// tonic::transport::Server::builder()
///     .layer(alloc_ladder::tonic::ServerLayer::new())
///     .add_service(service)
///     .serve_with_incoming(alloc_ladder::tonic::incoming("[::1]:50051".parse()?)?)
///     .await?;
/// # Ok(()) }
/// ```
///
/// Feature `transport`.
///
/// # Errors
/// When the address cannot be bound.
///
/// # Panics
/// Outside a tokio runtime.
pub fn incoming(addr: SocketAddr) -> io::Result<Incoming> {
    TcpIncoming::bind(addr).map(Incoming::from)
}

/// Accepted connections, each in a [`StagedIo`].
///
/// Feature `transport`.
#[derive(Debug)]
pub struct Incoming {
    sockets: TcpIncoming,
    last: Last,
}

/// Dropped when no connection is accepted any more.
#[derive(Debug)]
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        task::accepting_is_over();
    }
}

impl Incoming {
    /// Sets `TCP_NODELAY` on accepted sockets; on unless this says otherwise.
    pub fn with_nodelay(self, nodelay: bool) -> Incoming {
        self.with(|incoming| incoming.with_nodelay(Some(nodelay)))
    }

    /// Sets TCP keepalive on accepted sockets; off unless this says otherwise, as in tonic.
    pub fn with_keepalive(self, keepalive: Option<Duration>) -> Incoming {
        self.with(|incoming| incoming.with_keepalive(keepalive))
    }

    /// Sets the interval between TCP keepalive probes.
    pub fn with_keepalive_interval(self, interval: Option<Duration>) -> Incoming {
        self.with(|incoming| incoming.with_keepalive_interval(interval))
    }

    /// Sets how many TCP keepalive probes go unanswered before a connection is closed.
    pub fn with_keepalive_retries(self, retries: Option<u32>) -> Incoming {
        self.with(|incoming| incoming.with_keepalive_retries(retries))
    }

    fn with(self, set: impl FnOnce(TcpIncoming) -> TcpIncoming) -> Incoming {
        Incoming { sockets: set(self.sockets), last: self.last }
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// As `TcpListener::local_addr`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.local_addr()
    }
}

/// With `TCP_NODELAY` set on accepted sockets, which tonic's type alone leaves off.
impl From<TcpIncoming> for Incoming {
    fn from(incoming: TcpIncoming) -> Incoming {
        Incoming { sockets: incoming.with_nodelay(Some(true)), last: Last }
    }
}

impl Stream for Incoming {
    type Item = io::Result<StagedIo<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        task::accepting_is_over();
        let accepted = ready!(Pin::new(&mut self.sockets).poll_next(cx));
        if accepted.is_some() {
            // Until the next is asked for, tonic makes this one's services and spawns its task.
            task::accepting();
        }
        Poll::Ready(accepted.map(|accepted| accepted.map(StagedIo::accepted)))
    }
}
