//! A client of one method over one HTTP/2 connection.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::codec::EnabledCompressionEncodings;

use super::marshal;
use crate::stage::{Scope, Staged};
use crate::steps::Http2;
use crate::steps::decode::{Direction, one};
use crate::steps::frames::Receiving;
use crate::steps::negotiate::received;
use crate::steps::pump::{H2Body, broken};
use crate::wire::grpc::{CONTENT_VALUE, GRPC_TIMEOUT, timeout_value};
use crate::wire::http2::hyper::HEADER_LIST_MAX;
use crate::wire::status::{carried, code_of_http};
use crate::{Side, Stage};

/// Makes unary calls of one method. Clones share the connection.
///
/// A call that is dropped before its answer resets its stream, so the server sees it cancelled. When the connection
/// breaks, every call is `UNAVAILABLE` from then on: connecting again is the caller's to do.
#[derive(Clone, Debug)]
pub struct LeanClient {
    connection: SendRequest<Bytes>,
    /// `http://authority/package.Service/Method`.
    uri: Uri,
    method: crate::Method,
    timeout: Option<(Duration, HeaderValue)>,
}

impl LeanClient {
    /// A client of the method that `uri` names (`http://authority/package.Service/Method`), over a connected socket.
    ///
    /// The connection runs in a task of its own, which ends when every clone of the client is dropped.
    ///
    /// # Errors
    /// When the socket fails before HTTP/2 begins.
    pub async fn handshake<IO>(io: IO, settings: Option<Http2>, uri: Uri) -> Result<LeanClient, h2::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Http2 { max_frame_size, stream_window, connection_window } = settings.unwrap_or(Http2::CLIENT);
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_frame_size(max_frame_size)
            .max_header_list_size(HEADER_LIST_MAX)
            .enable_push(false);
        let (connection, task) = builder.handshake(io).await?;
        // An error of the connection reaches every call on it.
        tokio::spawn(Staged::new(Scope::new(crate::Method::NONE, Stage::Transport), async move { task.await.ok() }));
        let method = crate::Method::register(Side::Client, uri.path());
        Ok(LeanClient { connection, uri, method, timeout: None })
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
    pub async fn unary<M, R>(&mut self, message: &M) -> Result<R, Status>
    where
        M: Message,
        R: Message + Default,
    {
        let timeout = self.timeout.as_ref().map(|(timeout, _)| *timeout);
        let call = Staged::new(Scope::new(self.method, Stage::Transport), self.call(message));
        match timeout {
            None => call.await,
            Some(timeout) => tokio::time::timeout(timeout, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the call took longer than it may"))),
        }
    }

    async fn call<M, R>(&mut self, message: &M) -> Result<R, Status>
    where
        M: Message,
        R: Message + Default,
    {
        let bytes = marshal(message)?;
        poll_fn(|cx| self.connection.poll_ready(cx)).await.map_err(broken)?;
        let (response, mut stream) = self.connection.send_request(self.request(), false).map_err(broken)?;
        // What makes this fail fails the response too, which knows more.
        let _ = stream.send_data(bytes, true);
        let (head, body) = response.await.map_err(broken)?.into_parts();
        if let Some(status) = carried(&head.headers) {
            return Err(status.err().unwrap_or_else(|| Status::internal("the response has a status and no message")));
        }
        if head.status != StatusCode::OK {
            return Err(Status::new(code_of_http(head.status), format!("the server answered HTTP {}", head.status)));
        }
        received(&head.headers, EnabledCompressionEncodings::default())?;
        let (message, trailers) = one(H2Body::new(body, None), Receiving::default(), Direction::Response).await?;
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
