//! A channel of one h2 connection and nothing else, for programs that know the address and the life of their connection.
//!
//! It has no reconnection (a connection that broke answers `UNAVAILABLE` until a new one is made), no balancing, no TLS, no
//! keepalive and no connect timeout, and announces no `user-agent`: where any of these is needed, use tonic's `Channel`. It
//! keeps `grpc-timeout`, metadata, cancellation by dropping the call, and flow control.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::client::{ResponseFuture, SendRequest};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::pump::{H2Body, Parts, Pump, broken};
use super::{AlignedIo, Http2};
use crate::Stage;
use crate::stage::{self, Scope, Staged};
use crate::tonic::StagedIo;
use crate::wire::grpc;
use crate::wire::http2::hyper;

/// One connection, which clones share. A tower service that any generated client takes:
/// `GreeterClient::new(LeanChannel::connect("127.0.0.1:50051", Http2::for_messages(1024)).await?)`.
#[derive(Clone, Debug)]
pub struct LeanChannel {
    connection: SendRequest<Parts>,
    authority: Authority,
}

impl LeanChannel {
    /// Connects over TCP to `host:port`.
    ///
    /// # Errors
    /// When nobody answers, or what answers does not speak HTTP/2.
    pub async fn connect(address: &str, http2: Http2) -> io::Result<LeanChannel> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        LeanChannel::over(stream, address, http2).await
    }

    /// As [`connect`](LeanChannel::connect), with reads that end where HTTP/2 frames end: where this side receives large
    /// messages.
    ///
    /// # Errors
    /// As [`connect`](LeanChannel::connect).
    pub async fn connect_aligned(address: &str, http2: Http2) -> io::Result<LeanChannel> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = AlignedIo::client(stream).frame_bytes_max(http2.max_frame_size as usize);
        LeanChannel::over(stream, address, http2).await
    }

    /// Over a connected socket of any kind; `authority` is what requests name.
    ///
    /// # Errors
    /// When `authority` is not one, or what answers does not speak HTTP/2.
    pub async fn over<IO>(io: IO, authority: &str, http2: Http2) -> io::Result<LeanChannel>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let authority = authority.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let transport = Scope::new(crate::Method::NONE, Stage::Transport);
        let handshake = h2::client::Builder::new()
            .initial_window_size(http2.stream_window)
            .initial_connection_window_size(http2.connection_window)
            .max_frame_size(http2.max_frame_size)
            .max_header_list_size(hyper::HEADER_LIST_MAX)
            .enable_push(false)
            .handshake::<_, Parts>(StagedIo::new(io));
        let (connection, task) = Staged::new(transport, handshake).await.map_err(io::Error::other)?;
        // What breaks the connection is told to its calls.
        tokio::spawn(Staged::new(transport, async move { task.await.ok() }));
        Ok(LeanChannel { connection, authority })
    }
}

impl Service<Request<Body>> for LeanChannel {
    type Response = Response<H2Body>;
    type Error = Status;
    type Future = LeanFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // A connection that broke is told to the call: generated code takes what is said here for `UNKNOWN`.
        self.connection.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> LeanFuture {
        let _guard = Stage::Transport.enter();
        let (mut parts, body) = request.into_parts();
        let timeout = grpc::timeout(&parts.headers).map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority.get_or_insert_with(|| self.authority.clone());
        parts.uri = Uri::from_parts(uri).expect("scheme, authority and a request's path are a URI");
        parts.method = Method::POST;
        let end = body.is_end_stream();
        match self.connection.send_request(Request::from_parts(parts, ()), end) {
            Ok((response, stream)) => LeanFuture {
                response: Ok(response),
                pump: (!end).then(|| Pump::new(body, stream)),
                request: None,
                timeout,
            },
            Err(error) => LeanFuture { response: Err(Some(error)), pump: None, request: None, timeout },
        }
    }
}

/// A call. Dropped before its answer's end, it resets its stream.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LeanFuture {
    response: Result<ResponseFuture, Option<h2::Error>>,
    pump: Option<Pump<Body>>,
    /// Dropped with the call, which ends a request that is still being sent.
    request: Option<oneshot::Sender<()>>,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl Future for LeanFuture {
    type Output = Result<Response<H2Body>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _guard = Stage::Transport.enter();
        // A request that is there as a whole is sent here; one that has to wait gets a task.
        if let Some(mut pump) = this.pump.take()
            && Pin::new(&mut pump).poll(cx).is_pending()
        {
            let (request, given_up) = oneshot::channel();
            this.request = Some(request);
            let transport = stage::current().with_stage(Stage::Transport);
            tokio::spawn(Staged::new(transport, pump.of_call(given_up)));
        }
        if let Some(timeout) = &mut this.timeout
            && timeout.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Status::cancelled("Timeout expired")));
        }
        let response = match &mut this.response {
            Ok(response) => ready!(Pin::new(response).poll(cx)),
            Err(error) => Err(error.take().expect("a future is not polled after it was ready")),
        };
        let request = this.request.take();
        Poll::Ready(response.map(|response| response.map(|stream| H2Body::new(stream, request))).map_err(broken))
    }
}
