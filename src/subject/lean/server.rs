//! A server of one unary method, on h2's own server.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::ReusableBoxFuture;
use tonic::Status;
use tonic::codec::EnabledCompressionEncodings;

use super::marshal;
use crate::listen::accept::accept_failed;
use crate::stage::{Scope, Staged};
use crate::steps::Http2;
use crate::steps::decode::{Direction, one};
use crate::steps::frames::Receiving;
use crate::steps::negotiate::received;
use crate::steps::pump::H2Body;
use crate::wire::grpc::{self, CONTENT_VALUE, GRPC_STATUS};
use crate::wire::http2::hyper::{HEADER_LIST_MAX, SERVER_STREAMS_MAX};
use crate::{Method, Side, Stage};

/// Serves the method `path` (`/package.Service/Method`) on every connection of `incoming`, until that ends. `handler` makes
/// the answer out of the request, without waiting.
///
/// A call is first polled in its connection's own task, in a box that the next call uses again: one whose request has
/// arrived whole, which unary requests mostly have, is answered there, without a task or an allocation of its own.
/// One that has to wait moves to a task.
pub async fn serve<IO, M, H>(
    settings: Option<Http2>,
    path: &'static str,
    handler: H,
    mut incoming: impl Stream<Item = std::io::Result<IO>> + Unpin,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    M: Message + Default + 'static,
    H: Fn(&mut M) -> Result<(), Status> + Send + Sync + 'static,
{
    let scope = Scope::new(Method::register(Side::Server, path), Stage::Transport);
    let server = Arc::new(Server { path, handler, scope, message: PhantomData });
    while let Some(io) = incoming.next().await {
        let Ok(io) = io else {
            accept_failed().await;
            continue;
        };
        let server = Arc::clone(&server);
        // A connection's error is its peer's to notice.
        tokio::spawn(async move { server.run(io, settings.unwrap_or(Http2::SERVER)).await.ok() });
    }
}

/// What all calls share.
struct Server<M, H> {
    path: &'static str,
    handler: H,
    scope: Scope,
    message: PhantomData<fn(M) -> M>,
}

impl<M, H> Server<M, H>
where
    M: Message + Default + 'static,
    H: Fn(&mut M) -> Result<(), Status> + Send + Sync + 'static,
{
    async fn run<IO>(self: Arc<Self>, io: IO, settings: Http2) -> Result<(), h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        crate::tonic::charge_connection();
        let mut connection = h2::server::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(HEADER_LIST_MAX)
            .max_concurrent_streams(SERVER_STREAMS_MAX)
            .handshake::<_, Bytes>(io)
            .await?;
        let mut spare: Option<ReusableBoxFuture<'static, ()>> = None;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let known = request.uri().path() == self.path;
            let scope = if known { self.scope } else { Scope::new(Method::NONE, Stage::Transport) };
            let answer = Arc::clone(&self).answer(request, respond, known);
            let mut call = match spare.take() {
                Some(mut spare) => {
                    spare.set(answer);
                    spare
                }
                None => ReusableBoxFuture::new(answer),
            };
            let first = poll_fn(|cx| {
                let _guard = scope.enter();
                Poll::Ready(call.poll(cx))
            });
            match first.await {
                Poll::Ready(()) => spare = Some(call),
                Poll::Pending => drop(tokio::spawn(Staged::new(scope, call))),
            }
        }
        Ok(())
    }

    /// Answers one call. A peer that is gone or has reset the stream is told nothing.
    async fn answer(self: Arc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, known: bool) {
        let answered = match known {
            true => self.call(request).await,
            false => Err(Status::unimplemented("")),
        };
        match answered {
            Ok(message) => {
                let mut response = Response::new(());
                *response.headers_mut() = one_header(CONTENT_TYPE, CONTENT_VALUE);
                let Ok(mut stream) = respond.send_response(response, false) else { return };
                let _ = stream.send_data(message, false);
                let _ = stream.send_trailers(one_header(GRPC_STATUS, HeaderValue::from_static(grpc::OK)));
            }
            Err(status) => drop(respond.send_response(status.into_http(), true)),
        }
    }

    async fn call(&self, request: Request<RecvStream>) -> Result<Bytes, Status> {
        let (head, body) = request.into_parts();
        received(&head.headers, EnabledCompressionEncodings::default())?;
        let receive = one::<_, M>(H2Body::new(body, None), Receiving::default(), Direction::Request);
        // The handler does not wait, so the request's body is all that can.
        let (message, _) = match grpc::timeout(&head.headers) {
            None => receive.await?,
            // What tonic's server answers with then.
            Some(timeout) => {
                let timed = tokio::time::timeout(timeout, receive).await;
                timed.unwrap_or_else(|_| Err(Status::cancelled("Timeout expired")))?
            }
        };
        let mut message = message.ok_or_else(|| Status::internal("the request message is missing"))?;
        {
            let _handler = Stage::Handler.enter();
            (self.handler)(&mut message)?;
        }
        marshal(&message)
    }
}

/// A map sized for the one header in it.
fn one_header(name: impl http::header::IntoHeaderName, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, value);
    headers
}
