//! Any tonic service on h2 itself: for servers behind a proxy or a mesh that ends TLS and keeps connections in order.
//!
//! It has no TLS, no HTTP/1 and so no gRPC-Web, no keepalive pings, no limit of connections, of a connection's age or of
//! calls but HTTP/2's own (200 streams a connection), no load shedding and no tracing spans: where any of these is needed,
//! use tonic's `Server`. It keeps `grpc-timeout`, connect info, graceful shutdown, interceptors, routers and layers, flow
//! control, and a handler's panic ends its call alone.
//!
//! # Implementation
//! A call is polled in its connection's task first, in a box that the next call uses again; one that has to wait moves to a
//! task of its own. A handler that works for long without waiting holds up its connection.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use h2::server::SendResponse;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_stream::StreamExt;
use tokio_util::sync::ReusableBoxFuture;
use tonic::Status;
use tonic::transport::server::Connected;
use tower_service::Service;

use super::Http2;
use super::pump::{H2Body, Parts, Pump};
use crate::Stage;
use crate::stage::{Scope, Staged};
use crate::tonic::StagedIo;
use crate::wire::grpc;
use crate::wire::http2::hyper;

/// How long to wait after a failed `accept`, so that running out of file descriptors is not a busy loop.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

const TRANSPORT: Scope = Scope::new(crate::Method::NONE, Stage::Transport);

/// Serves until `incoming` ends, and then until every connection is closed. `service` is a generated server, or
/// `tonic::service::Routes` for several. A layer that takes tonic's own body needs one: put
/// `tower::ServiceBuilder::new().map_request(|request: http::Request<H2Body>| request.map(tonic::body::Body::new))` around it.
pub async fn serve<IO, S, B>(http2: Http2, incoming: impl Stream<Item = io::Result<IO>>, service: S)
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<H2Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    serve_with_shutdown(http2, incoming, service, pending()).await;
}

/// As [`serve`], until `shutdown` is ready: then no connection and no call is taken any more, and those there are end.
pub async fn serve_with_shutdown<IO, S, B>(
    http2: Http2,
    incoming: impl Stream<Item = io::Result<IO>>,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<H2Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    let (mut incoming, mut shutdown) = (pin!(incoming), pin!(shutdown));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut is_stopping = false;
    loop {
        let io = tokio::select! {
            () = &mut shutdown => {
                is_stopping = true;
                break;
            }
            Some(_) = connections.join_next() => continue,
            io = incoming.next() => io,
        };
        match io {
            Some(Ok(io)) => {
                let serving = connection(http2, io, service.clone(), stopping.clone());
                connections.spawn(Staged::new(TRANSPORT, async move { serving.await.ok() }));
            }
            Some(Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
            None => break,
        }
    }
    drop(stopping);
    // `incoming` that ends stops nothing: its connections go on until their clients close them, or until `shutdown`.
    while !is_stopping {
        tokio::select! {
            () = &mut shutdown => is_stopping = true,
            ended = connections.join_next() => if ended.is_none() { return },
        }
    }
    stop.send_replace(());
    drop(stop);
    while connections.join_next().await.is_some() {}
}

async fn connection<IO, S, B>(
    http2: Http2,
    io: IO,
    mut service: S,
    mut stopping: watch::Receiver<()>,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<H2Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    let info = io.connect_info();
    let mut connection = h2::server::Builder::new()
        .initial_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_frame_size(http2.max_frame_size)
        .max_header_list_size(hyper::HEADER_LIST_MAX)
        .max_concurrent_streams(hyper::SERVER_STREAMS_MAX)
        .handshake::<_, Parts>(StagedIo::new(io))
        .await?;
    let mut stopped = false;
    let mut spare: Option<ReusableBoxFuture<'static, ()>> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.changed(), if !stopped => {
                stopped = true;
                connection.graceful_shutdown();
                continue;
            }
            accepted = connection.accept() => accepted,
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (mut request, respond) = accepted?;
        request.extensions_mut().insert(info.clone());
        let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
        let answer = {
            let _guard = Stage::Handler.enter();
            Answer::new(&mut service, request.map(|stream| H2Body::new(stream, None)), respond)
        };
        let mut call = match spare.take() {
            Some(mut spare) => {
                spare.set(answer);
                spare
            }
            None => ReusableBoxFuture::new(answer),
        };
        match poll_fn(|cx| Poll::Ready(call.poll(cx))).await {
            Poll::Ready(()) => spare = Some(call),
            Poll::Pending => drop(tokio::spawn(call)),
        }
    }
}

pin_project! {
    /// A call, until its answer is sent.
    struct Answer<F, B> {
        #[pin]
        state: State<F, B>,
        respond: SendResponse<Parts>,
        timeout: Option<Pin<Box<Sleep>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Calling { #[pin] call: F },
        Sending { #[pin] pump: Pump<B> },
        // Nothing is kept until the box is used again.
        Done,
    }
}

impl<F, B> Answer<F, B> {
    fn new<S>(service: &mut S, request: Request<H2Body>, respond: SendResponse<Parts>) -> Self
    where
        S: Service<Request<H2Body>, Future = F>,
    {
        let timeout = grpc::timeout(request.headers()).map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        Answer { state: State::Calling { call: service.call(request) }, respond, timeout }
    }
}

impl<F, B> Future for Answer<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            // What panics is polled no more: the call is over.
            let polled = catch_unwind(AssertUnwindSafe(|| match this.state.as_mut().project() {
                StateProjection::Calling { call } => {
                    let _guard = Stage::Handler.enter();
                    call.poll(cx).map(|Ok(response)| Some(response))
                }
                StateProjection::Sending { pump } => pump.poll(cx).map(|()| None),
                StateProjection::Done => Poll::Ready(None),
            }));
            let response = match polled {
                Ok(Poll::Ready(Some(response))) => response,
                Ok(Poll::Ready(None)) => break,
                Ok(Poll::Pending) if matches!(*this.state, State::Sending { .. }) => return Poll::Pending,
                Ok(Poll::Pending) => match this.timeout.as_mut().map(|timeout| timeout.as_mut().poll(cx)) {
                    // As tonic: the deadline is for the beginning of the response.
                    Some(Poll::Ready(())) => {
                        let response = Status::cancelled("Timeout expired").into_http::<()>();
                        let _ = this.respond.send_response(response, true);
                        break;
                    }
                    Some(Poll::Pending) | None => {
                        // A client that reset the stream is not answered.
                        let _ = ready!(this.respond.poll_reset(cx));
                        break;
                    }
                },
                // The process's hook has printed the panic; the client sees what tonic's server makes of one.
                Err(_) => {
                    this.respond.send_reset(h2::Reason::CANCEL);
                    break;
                }
            };
            let end = response.body().is_end_stream();
            let (parts, body) = response.into_parts();
            match this.respond.send_response(Response::from_parts(parts, ()), end) {
                Ok(stream) if !end => this.state.set(State::Sending { pump: Pump::new(body, stream) }),
                Ok(_) | Err(_) => break,
            }
        }
        this.state.set(State::Done);
        Poll::Ready(())
    }
}
