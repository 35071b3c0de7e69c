//! tonic's `server::Grpc` with the bodies of this crate. Generated code cannot tell the two apart.

use std::fmt;
use std::marker::PhantomData;

use futures_core::Stream;
use http::header::CONTENT_TYPE;
use http_body::Body as HttpBody;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{
    Codec, CompressionEncoding, EnabledCompressionEncodings, SingleMessageCompressionOverride, Streaming,
};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status};

use super::BoxError;
use super::compress;
use super::decode::{self, Direction};
use super::encode::{EncodeBody, Sending, Side};
use super::frames::Receiving;
use super::negotiate;
use crate::Stage;
use crate::stage::FutureExt;
use crate::stage::window::go_on;
use crate::tonic::handler_will_be_told;
use crate::wire::grpc::GRPC_ENCODING;

/// tonic's `server::Grpc`, of the same methods, for prost messages. The codec says what the messages are; its encoder and
/// decoder are not asked for.
///
/// An encoding that this build does not have (see the features `gzip`, `deflate`, `zstd`) is not enabled: answers are
/// sent uncompressed then, and requests that use it are `UNIMPLEMENTED`.
pub struct Grpc<C> {
    codec: PhantomData<fn() -> C>,
    accept: EnabledCompressionEncodings,
    send: EnabledCompressionEncodings,
    decoding: Option<usize>,
    encoding: Option<usize>,
}

impl<C> fmt::Debug for Grpc<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("accept", &self.accept).field("send", &self.send).finish_non_exhaustive()
    }
}

impl<C> Grpc<C>
where
    C: Codec,
    C::Encode: Message,
    C::Decode: Message + Default,
{
    /// For the messages of this codec.
    pub fn new(_codec: C) -> Self {
        Grpc {
            codec: PhantomData,
            accept: EnabledCompressionEncodings::default(),
            send: EnabledCompressionEncodings::default(),
            decoding: None,
            encoding: None,
        }
    }

    /// Takes requests in this encoding.
    pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
        if compress::is_available(encoding) {
            self.accept.enable(encoding);
        }
        self
    }

    /// Answers in this encoding where the client takes it.
    pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
        if compress::is_available(encoding) {
            self.send.enable(encoding);
        }
        self
    }

    /// The largest request, 4 MiB if not set.
    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.decoding = Some(limit);
        self
    }

    /// The largest answer, 4 GiB if not set.
    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.encoding = Some(limit);
        self
    }

    /// What generated code calls with its own configuration.
    #[doc(hidden)]
    pub fn apply_compression_config(
        mut self,
        accept: EnabledCompressionEncodings,
        send: EnabledCompressionEncodings,
    ) -> Self {
        (self.accept, self.send) = (negotiate::available(accept), negotiate::available(send));
        self
    }

    /// What generated code calls with its own configuration.
    #[doc(hidden)]
    pub fn apply_max_message_size_config(mut self, decoding: Option<usize>, encoding: Option<usize>) -> Self {
        self.decoding = decoding.or(self.decoding);
        self.encoding = encoding.or(self.encoding);
        self
    }

    /// Answers a call of one message with one.
    pub async fn unary<S, B>(&mut self, mut service: S, request: http::Request<B>) -> http::Response<Body>
    where
        S: UnaryService<C::Decode, Response = C::Encode>,
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let answer = negotiate::to_answer(request.headers(), self.send);
        let response = match self.read_one(request).await {
            Ok(request) => handled(|| service.call(request)).await,
            Err(status) => Err(status),
        };
        response.map_or_else(Status::into_http, |response| self.respond_one(response, answer))
    }

    /// Answers a call of one message with a stream.
    pub async fn server_streaming<S, B>(&mut self, mut service: S, request: http::Request<B>) -> http::Response<Body>
    where
        S: ServerStreamingService<C::Decode, Response = C::Encode>,
        S::ResponseStream: Send + 'static,
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let answer = negotiate::to_answer(request.headers(), self.send);
        let response = match self.read_one(request).await {
            Ok(request) => handled(|| service.call(request)).await,
            Err(status) => Err(status),
        };
        response.map_or_else(Status::into_http, |response| self.respond(response, answer))
    }

    /// Answers a stream with one message.
    pub async fn client_streaming<S, B>(&mut self, mut service: S, request: http::Request<B>) -> http::Response<Body>
    where
        S: ClientStreamingService<C::Decode, Response = C::Encode>,
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let answer = negotiate::to_answer(request.headers(), self.send);
        let response = match self.read(request) {
            Ok(request) => handled(|| service.call(request)).await,
            Err(status) => Err(status),
        };
        response.map_or_else(Status::into_http, |response| self.respond_one(response, answer))
    }

    /// Answers a stream with a stream.
    pub async fn streaming<S, B>(&mut self, mut service: S, request: http::Request<B>) -> http::Response<Body>
    where
        S: StreamingService<C::Decode, Response = C::Encode> + Send,
        S::ResponseStream: Send + 'static,
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let answer = negotiate::to_answer(request.headers(), self.send);
        let response = match self.read(request) {
            Ok(request) => handled(|| service.call(request)).await,
            Err(status) => Err(status),
        };
        response.map_or_else(Status::into_http, |response| self.respond(response, answer))
    }

    fn receiving(&self, headers: &http::HeaderMap) -> Result<Receiving, Status> {
        handler_will_be_told();
        Ok(Receiving { encoding: negotiate::received(headers, self.accept)?, limit: self.decoding })
    }

    async fn read_one<B>(&self, request: http::Request<B>) -> Result<Request<C::Decode>, Status>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let receiving = self.receiving(request.headers())?;
        let (parts, body) = request.into_parts();
        let (message, trailers) = decode::one(body, receiving, Direction::Request).await?;
        let message = message.ok_or_else(|| Status::internal("Missing request message."))?;
        let mut metadata = MetadataMap::from_headers(parts.headers);
        if let Some(trailers) = trailers {
            metadata.as_mut().extend(trailers);
        }
        Ok(Request::from_parts(metadata, parts.extensions, message))
    }

    fn read<B>(&self, request: http::Request<B>) -> Result<Request<Streaming<C::Decode>>, Status>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let receiving = self.receiving(request.headers())?;
        Ok(Request::from_http(request.map(|body| decode::request(body, receiving))))
    }

    fn respond_one(&self, response: Response<C::Encode>, answer: Option<CompressionEncoding>) -> http::Response<Body> {
        let off = Some(&SingleMessageCompressionOverride::Disable);
        let encoding = answer.filter(|_| response.extensions().get() != off);
        let sending = Sending { side: Side::Server, encoding, limit: self.encoding };
        head(response, answer).map(|message| {
            let _guard = Stage::Marshal.enter();
            Body::new(EncodeBody::new(tokio_stream::once(Ok(message)), sending).single())
        })
    }

    fn respond<R>(&self, response: Response<R>, answer: Option<CompressionEncoding>) -> http::Response<Body>
    where
        R: Stream<Item = Result<C::Encode, Status>> + Send + 'static,
    {
        let sending = Sending { side: Side::Server, encoding: answer, limit: self.encoding };
        head(response, answer).map(|source| {
            let _guard = Stage::Marshal.enter();
            Body::new(EncodeBody::new(source, sending))
        })
    }
}

/// The service's answer. Its code is [`Stage::Handler`]; the generated code that boxes it, and all that follows, is not.
async fn handled<F: Future>(call: impl FnOnce() -> F) -> F::Output {
    let called = {
        let _guard = Stage::Dispatch.enter();
        call()
    };
    let answer = called.staged(Stage::Handler).await;
    go_on(Stage::Handler, Stage::Dispatch);
    answer
}

/// The response with its headers.
fn head<R>(response: Response<R>, answer: Option<CompressionEncoding>) -> http::Response<R> {
    let _guard = Stage::Dispatch.enter();
    let (metadata, inner, extensions) = response.into_parts();
    let mut response = http::Response::new(inner);
    *response.version_mut() = http::Version::HTTP_2;
    *response.extensions_mut() = extensions;
    let mut headers = negotiate::headers(metadata);
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    if let Some(encoding) = answer {
        headers.insert(GRPC_ENCODING, negotiate::value(encoding));
    }
    *response.headers_mut() = headers;
    response
}
