//! tonic's `client::Grpc` with the bodies of this crate. Generated code cannot tell the two apart.

use std::task::{Context, Poll};

use futures_core::Stream;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::uri::{PathAndQuery, Uri};
use http_body::Body as HttpBody;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, CompressionEncoding, EnabledCompressionEncodings, Streaming};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::{CancellationHandle, Request, Response, Status};

use super::BoxError;
use super::compress;
use super::decode::{self, Direction};
use super::encode::{EncodeBody, Sending, Side};
use super::frames::Receiving;
use super::negotiate;
use super::status::{carried, of_http};
use crate::Stage;
use crate::wire::grpc::{GRPC_ACCEPT_ENCODING, GRPC_ENCODING};

/// tonic's `client::Grpc`, of the same methods, for prost messages.
///
/// A request whose [`cancellation_handle`](Request::cancellation_handle) was asked for goes through tonic's own, which
/// alone can see it. An encoding that this build does not have (see the features `gzip`, `deflate`, `zstd`) is not
/// enabled: requests are sent uncompressed then.
#[derive(Clone, Debug)]
pub struct Grpc<T> {
    inner: T,
    origin: Uri,
    accept: EnabledCompressionEncodings,
    /// `accept` as the header says it.
    accept_value: Option<HeaderValue>,
    send: Option<CompressionEncoding>,
    decoding: Option<usize>,
    encoding: Option<usize>,
}

/// A response before its messages.
struct Answer<B> {
    metadata: MetadataMap,
    extensions: http::Extensions,
    status: http::StatusCode,
    body: B,
    receiving: Receiving,
    /// The headers said that all went well.
    answered: bool,
}

impl<T> Grpc<T> {
    /// Sends requests through `inner`.
    pub fn new(inner: T) -> Self {
        Self::with_origin(inner, Uri::default())
    }

    /// As [`new`](Grpc::new), with scheme, authority and a path before every method's.
    pub fn with_origin(inner: T, origin: Uri) -> Self {
        Grpc {
            inner,
            origin,
            accept: EnabledCompressionEncodings::default(),
            accept_value: None,
            send: None,
            decoding: None,
            encoding: None,
        }
    }

    /// Sends requests in this encoding.
    pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
        self.send = Some(encoding).filter(|encoding| compress::is_available(*encoding));
        self
    }

    /// Takes answers in this encoding.
    pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
        if compress::is_available(encoding) {
            self.accept.enable(encoding);
            self.accept_value = negotiate::accept_value(self.accept);
        }
        self
    }

    /// The largest answer, 4 MiB if not set.
    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.decoding = Some(limit);
        self
    }

    /// The largest request, 4 GiB if not set.
    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.encoding = Some(limit);
        self
    }

    /// Waits until `inner` takes a request.
    ///
    /// # Errors
    /// What `inner` answers.
    pub async fn ready(&mut self) -> Result<(), T::Error>
    where
        T: GrpcService<Body>,
    {
        std::future::poll_fn(|cx| self.inner.poll_ready(cx)).await
    }

    /// Sends one message for one.
    ///
    /// # Errors
    /// The status the call ended with.
    pub async fn unary<M1, M2, C>(
        &mut self,
        request: Request<M1>,
        path: PathAndQuery,
        codec: C,
    ) -> Result<Response<M2>, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: HttpBody + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        C: Codec<Encode = M1, Decode = M2>,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        if is_cancellable(&request) {
            return self.stock().unary(request, path, codec).await;
        }
        let sending = self.sending();
        self.one(request.map(|message| single(message, sending)), path).await
    }

    /// Sends a stream for one message.
    ///
    /// # Errors
    /// The status the call ended with.
    pub async fn client_streaming<S, M1, M2, C>(
        &mut self,
        request: Request<S>,
        path: PathAndQuery,
        codec: C,
    ) -> Result<Response<M2>, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: HttpBody + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        S: Stream<Item = M1> + Send + 'static,
        C: Codec<Encode = M1, Decode = M2>,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        if is_cancellable(&request) {
            return self.stock().client_streaming(request, path, codec).await;
        }
        let sending = self.sending();
        self.one(request.map(|source| stream(source, sending)), path).await
    }

    /// Sends one message for a stream.
    ///
    /// # Errors
    /// The status the call ended with, if it did before its first message.
    pub async fn server_streaming<M1, M2, C>(
        &mut self,
        request: Request<M1>,
        path: PathAndQuery,
        codec: C,
    ) -> Result<Response<Streaming<M2>>, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: HttpBody + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        C: Codec<Encode = M1, Decode = M2>,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        if is_cancellable(&request) {
            return self.stock().server_streaming(request, path, codec).await;
        }
        let sending = self.sending();
        self.many(request.map(|message| single(message, sending)), path).await
    }

    /// Sends a stream for a stream.
    ///
    /// # Errors
    /// The status the call ended with, if it did before its first message.
    pub async fn streaming<S, M1, M2, C>(
        &mut self,
        request: Request<S>,
        path: PathAndQuery,
        codec: C,
    ) -> Result<Response<Streaming<M2>>, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: HttpBody + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        S: Stream<Item = M1> + Send + 'static,
        C: Codec<Encode = M1, Decode = M2>,
        M1: Message + Send + Sync + 'static,
        M2: Message + Default + Send + Sync + 'static,
    {
        if is_cancellable(&request) {
            return self.stock().streaming(request, path, codec).await;
        }
        let sending = self.sending();
        self.many(request.map(|source| stream(source, sending)), path).await
    }

    async fn one<M2>(&mut self, request: Request<Body>, path: PathAndQuery) -> Result<Response<M2>, Status>
    where
        T: GrpcService<Body>,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        M2: Message + Default,
    {
        let Answer { mut metadata, extensions, status, body, receiving, answered } = self.call(request, path).await?;
        let direction = if answered { Direction::Answered } else { Direction::Response };
        let (message, trailers) =
            decode::one(body, receiving, direction).await.map_err(|status| with(status, &metadata))?;
        if !answered {
            trailers.as_ref().and_then(carried).unwrap_or_else(|| Err(of_http(status))).map_err(|status| {
                // Before the first message the headers belong to the failure.
                if message.is_none() { with(status, &metadata) } else { status }
            })?;
        }
        let message = message.ok_or_else(|| Status::internal("Missing response message."))?;
        if let Some(trailers) = trailers {
            metadata.as_mut().extend(trailers);
        }
        Ok(Response::from_parts(metadata, message, extensions))
    }

    async fn many<M2>(&mut self, request: Request<Body>, path: PathAndQuery) -> Result<Response<Streaming<M2>>, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: HttpBody + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
        M2: Message + Default + Send + 'static,
    {
        let Answer { metadata, extensions, status, body, receiving, answered } = self.call(request, path).await?;
        let stream = if answered { decode::answered(body) } else { decode::response(body, status, receiving) };
        Ok(Response::from_parts(metadata, stream, extensions))
    }

    async fn call(&mut self, request: Request<Body>, path: PathAndQuery) -> Result<Answer<T::ResponseBody>, Status>
    where
        T: GrpcService<Body>,
    {
        let request = self.prepare(request, path);
        let response = self.inner.call(request).await.map_err(|error| Status::from_error(error.into()))?;
        let encoding = negotiate::received(response.headers(), self.accept)?;
        let answered = carried(response.headers()).transpose()?.is_some();
        let (parts, body) = response.into_parts();
        Ok(Answer {
            metadata: MetadataMap::from_headers(parts.headers),
            extensions: parts.extensions,
            status: parts.status,
            body,
            // As in tonic: such an answer has no messages to speak of.
            receiving: if answered { Receiving::default() } else { Receiving { encoding, limit: self.decoding } },
            answered,
        })
    }

    fn prepare(&self, request: Request<Body>, path: PathAndQuery) -> http::Request<Body> {
        let _guard = Stage::Dispatch.enter();
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = Some(match &uri.path_and_query {
            Some(before) if before != "/" => {
                format!("{}{}", before.path(), path).parse().expect("a path behind a path is one")
            }
            _ => path,
        });
        let (metadata, extensions, body) = request.into_parts();
        let mut request = http::Request::new(body);
        *request.uri_mut() = Uri::from_parts(uri).expect("the origin's parts with a path are a URI");
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.extensions_mut() = extensions;
        let mut headers = negotiate::headers(metadata);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
        if let Some(encoding) = self.send {
            headers.insert(GRPC_ENCODING, negotiate::value(encoding));
        }
        if let Some(value) = &self.accept_value {
            headers.insert(GRPC_ACCEPT_ENCODING, value.clone());
        }
        *request.headers_mut() = headers;
        request
    }

    fn sending(&self) -> Sending {
        Sending { side: Side::Client, encoding: self.send, limit: self.encoding }
    }

    /// tonic's own, of the same settings.
    fn stock(&mut self) -> tonic::client::Grpc<Borrowed<'_, T>> {
        let mut stock = tonic::client::Grpc::with_origin(Borrowed(&mut self.inner), self.origin.clone());
        for encoding in negotiate::in_order(self.accept) {
            stock = stock.accept_compressed(encoding);
        }
        if let Some(encoding) = self.send {
            stock = stock.send_compressed(encoding);
        }
        if let Some(limit) = self.decoding {
            stock = stock.max_decoding_message_size(limit);
        }
        match self.encoding {
            Some(limit) => stock.max_encoding_message_size(limit),
            None => stock,
        }
    }
}

fn is_cancellable<R>(request: &Request<R>) -> bool {
    request.extensions().get::<CancellationHandle>().is_some()
}

fn single<M: Message + Send + 'static>(message: M, sending: Sending) -> Body {
    let _guard = Stage::Marshal.enter();
    Body::new(EncodeBody::new(tokio_stream::once(Ok(message)), sending).single())
}

/// The body of a request of these messages, uncompressed.
#[cfg(feature = "subject")]
pub(crate) fn body<S>(source: S) -> Body
where
    S: Stream + Send + 'static,
    S::Item: Message,
{
    stream(source, Sending { side: Side::Client, encoding: None, limit: None })
}

fn stream<S>(source: S, sending: Sending) -> Body
where
    S: Stream + Send + 'static,
    S::Item: Message,
{
    let _guard = Stage::Marshal.enter();
    Body::new(EncodeBody::new(source.map(Ok), sending))
}

/// The status with the headers of the response it came with.
fn with(mut status: Status, metadata: &MetadataMap) -> Status {
    status.metadata_mut().as_mut().extend(metadata.as_ref().clone());
    status
}

/// A service that is borrowed for one call.
struct Borrowed<'a, T>(&'a mut T);

impl<T: GrpcService<Body>> tower_service::Service<http::Request<Body>> for Borrowed<'_, T> {
    type Response = http::Response<T::ResponseBody>;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> T::Future {
        self.0.call(request)
    }
}
