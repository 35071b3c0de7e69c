//! A server of one unary method, on h2's own server.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::ReusableBoxFuture;
use tonic::Status;

use super::super::codec::{AnyDecoder, AnyEncoder};
use super::super::deadline;
use super::super::http2::Settings;
use super::super::pool::Ring;
use super::super::rope::encoding;
use super::{marshal, one_message};
use crate::listen::accept::accept_failed;
use crate::stage::{Scope, Staged};
use crate::wire::grpc::{self, CONTENT_VALUE, GRPC_STATUS};
use crate::wire::http2::hyper::{HEADER_LIST_MAX, SERVER_STREAMS_MAX, SERVER_WINDOW};
use crate::{Method, Side, Stage};

/// A unary method whose handler answers without waiting.
#[derive(Clone, Debug)]
pub struct LeanMethod<E, D, H> {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Encodes answers.
    pub encoder: E,
    /// Decodes requests.
    pub decoder: D,
    /// Makes the answer out of the request.
    pub handler: H,
}

/// Serves the method on every connection of `incoming`, until that ends.
///
/// A call is first polled in its connection's own task, in a box that the next call uses again: one whose request has
/// arrived whole, which unary requests mostly have, is answered there, without a task or an allocation of its own.
/// One that has to wait moves to a task.
pub async fn serve<IO, E, D, H>(
    settings: Option<Settings>,
    method: LeanMethod<E, D, H>,
    mut incoming: impl Stream<Item = std::io::Result<IO>> + Unpin,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: AnyEncoder + Clone + Send + Sync + 'static,
    D: AnyDecoder<Item = E::Item> + Clone + Send + Sync + 'static,
    E::Item: Send,
    H: Fn(&mut E::Item) -> Result<(), Status> + Clone + Send + Sync + 'static,
{
    let scope = Scope::new(Method::register(Side::Server, method.path), Stage::Transport);
    while let Some(io) = incoming.next().await {
        let Ok(io) = io else {
            accept_failed().await;
            continue;
        };
        let server = Arc::new(Connection { method: method.clone(), scope, ring: Mutex::default() });
        // A connection's error is its peer's to notice.
        tokio::spawn(async move { server.run(io, settings).await.ok() });
    }
}

/// What the calls of one connection share.
struct Connection<E, D, H> {
    method: LeanMethod<E, D, H>,
    scope: Scope,
    ring: Mutex<Ring>,
}

impl<E, D, H> Connection<E, D, H>
where
    E: AnyEncoder + Clone + Send + Sync + 'static,
    D: AnyDecoder<Item = E::Item> + Clone + Send + Sync + 'static,
    E::Item: Send,
    H: Fn(&mut E::Item) -> Result<(), Status> + Send + Sync + 'static,
{
    async fn run<IO>(self: Arc<Self>, io: IO, settings: Option<Settings>) -> Result<(), h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        crate::tonic::charge_connection();
        let mut connection = h2::server::Builder::new()
            .initial_window_size(settings.map_or(SERVER_WINDOW, |settings| settings.stream_window))
            .initial_connection_window_size(settings.map_or(SERVER_WINDOW, |settings| settings.connection_window))
            .max_frame_size(settings.unwrap_or_default().max_frame_size)
            .max_header_list_size(HEADER_LIST_MAX)
            .max_concurrent_streams(SERVER_STREAMS_MAX)
            .handshake::<_, Bytes>(io)
            .await?;
        let mut spare: Option<ReusableBoxFuture<'static, ()>> = None;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let known = request.uri().path() == self.method.path;
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
        let (head, mut body) = request.into_parts();
        encoding(&head.headers, &[])?;
        let (mut encoder, mut decoder) = (self.method.encoder.clone(), self.method.decoder.clone());
        let receive = one_message(&mut body, &mut decoder);
        // The handler does not wait, so the request's body is all that can.
        let message = deadline::within(grpc::timeout(&head.headers), receive).await??;
        let mut message = message.ok_or_else(|| Status::internal("the request message is missing"))?;
        {
            let _handler = Stage::Handler.enter();
            (self.method.handler)(&mut message)?;
        }
        marshal(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner), &mut encoder, &message)
    }
}

/// A map sized for the one header in it.
fn one_header(name: impl http::header::IntoHeaderName, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, value);
    headers
}
