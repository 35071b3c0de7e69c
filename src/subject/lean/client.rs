//! A client of one method over one HTTP/2 connection.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;

use super::super::codec::{AnyDecoder, AnyEncoder};
use super::super::http2::Settings;
use super::super::pool::Ring;
use super::super::rope::encoding;
use super::{broken, marshal, one_message};
use crate::stage::{Scope, Staged};
use crate::wire::grpc::{CONTENT_VALUE, GRPC_TIMEOUT, timeout_value};
use crate::wire::http2;
use crate::wire::status::{carried, code_of_http};
use crate::{Side, Stage};

/// Makes unary calls of one method. Clones share the connection; each has encode buffers of its own.
///
/// A call that is dropped before its answer resets its stream, so the server sees it cancelled. When the connection
/// breaks, every call is `UNAVAILABLE` from then on: connecting again is the caller's to do.
#[derive(Debug)]
pub struct LeanClient {
    connection: SendRequest<Bytes>,
    /// `http://authority/package.Service/Method`.
    uri: Uri,
    method: crate::Method,
    ring: Ring,
    timeout: Option<(Duration, HeaderValue)>,
}

impl Clone for LeanClient {
    fn clone(&self) -> Self {
        LeanClient {
            connection: self.connection.clone(),
            uri: self.uri.clone(),
            ring: Ring::default(),
            timeout: self.timeout.clone(),
            ..*self
        }
    }
}

impl LeanClient {
    /// A client of the method that `uri` names (`http://authority/package.Service/Method`), over a connected socket.
    ///
    /// The connection runs in a task of its own, which ends when every clone of the client is dropped.
    ///
    /// # Errors
    /// When the socket fails before HTTP/2 begins.
    pub async fn handshake<IO>(io: IO, settings: Option<Settings>, uri: Uri) -> Result<LeanClient, h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(settings.map_or(http2::hyper::CLIENT_STREAM_WINDOW, |settings| settings.stream_window))
            .initial_connection_window_size(
                settings.map_or(http2::hyper::CLIENT_CONNECTION_WINDOW, |settings| settings.connection_window),
            )
            .max_frame_size(settings.unwrap_or_default().max_frame_size)
            .max_header_list_size(http2::hyper::HEADER_LIST_MAX)
            .enable_push(false);
        let (connection, task) = builder.handshake(io).await?;
        // An error of the connection reaches every call on it.
        tokio::spawn(Staged::new(Scope::new(crate::Method::NONE, Stage::Transport), async move { task.await.ok() }));
        let method = crate::Method::register(Side::Client, uri.path());
        Ok(LeanClient { connection, uri, method, ring: Ring::default(), timeout: None })
    }

    /// Gives every call this long, and tells the server so.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some((timeout, timeout_value(timeout)));
        self
    }

    /// Makes one call.
    ///
    /// # Errors
    /// The status the server answered with, or what tonic's client gives for the same answer.
    pub async fn unary<E, D>(&mut self, encoder: &mut E, decoder: &mut D, message: &E::Item) -> Result<D::Item, Status>
    where
        E: AnyEncoder,
        D: AnyDecoder,
    {
        let timeout = self.timeout.as_ref().map(|(timeout, _)| *timeout);
        let scope = Scope::new(self.method, Stage::Transport);
        let call = Staged::new(scope, self.call(encoder, decoder, message));
        match timeout {
            None => call.await,
            Some(timeout) => tokio::time::timeout(timeout, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the call took longer than it may"))),
        }
    }

    async fn call<E, D>(&mut self, encoder: &mut E, decoder: &mut D, message: &E::Item) -> Result<D::Item, Status>
    where
        E: AnyEncoder,
        D: AnyDecoder,
    {
        let bytes = marshal(&mut self.ring, encoder, message)?;
        poll_fn(|cx| self.connection.poll_ready(cx)).await.map_err(broken)?;
        let request = self.request();
        let (response, mut stream) = self.connection.send_request(request, false).map_err(broken)?;
        // What makes this fail fails the response too, which knows more.
        let _ = stream.send_data(bytes, true);
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if let Some(status) = carried(&head.headers) {
            return Err(status.err().unwrap_or_else(|| Status::internal("the response has a status and no message")));
        }
        if head.status != StatusCode::OK {
            return Err(Status::new(code_of_http(head.status), format!("the server answered HTTP {}", head.status)));
        }
        encoding(&head.headers, &[])?;
        let message = one_message(&mut body, decoder).await?;
        let trailers = body.trailers().await.map_err(broken)?;
        let status = trailers.as_ref().and_then(carried);
        status.unwrap_or_else(|| Err(Status::unknown("the response ended without a gRPC status")))?;
        message.ok_or_else(|| Status::internal("the response has no message"))
    }

    /// A request's head: the map is sized for what is in it, everything in it is static or shared.
    fn request(&self) -> Request<()> {
        // Room for one more than is needed would double it.
        let mut headers = HeaderMap::with_capacity(3 + usize::from(self.timeout.is_some()));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, CONTENT_VALUE);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("alloc-ladder/", env!("CARGO_PKG_VERSION"))));
        if let Some((_, value)) = &self.timeout {
            headers.insert(GRPC_TIMEOUT, value.clone());
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        request
    }
}
