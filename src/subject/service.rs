//! The service: what generated code would be, with the mechanism of each step chosen by the tuning.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, EncodeBody, Streaming};
use tonic::server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, UnaryService};
use tower_service::Service;

use super::body::{Parts, PooledBody};
use super::codec::{AnyDecoder, AnyEncoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder, stock_buffers};
use super::message::{Outgoing, Payload};
use super::meter::Meter;
use super::pool::MessagePool;
use super::rope::{self, RopeStreaming};
use super::user::UserRecord;
use super::user_codec::{WithUserCodec, server_codec};
use crate::Side;
use crate::subject::ladder::{Deframe, Encode, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::scenario::{RECEIVE_LIMIT, Scenario};
use crate::tonic::{StagedEncoder, StagedStream};
use crate::wire::grpc::CONTENT_VALUE;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The service of one server process: the tuning says how messages are carried, the handler what is done with them.
#[derive(Clone)]
pub struct Ladder<H = Counting> {
    tuning: Tuning,
    handler: H,
}

/// What a service does with messages. The measured service's is [`Counting`]; the tests have one that checks each byte.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The handler of one call whose request has these headers; it begins as a copy of the service's.
    #[must_use]
    fn of_call(&self, _headers: &HeaderMap) -> Self {
        self.clone()
    }

    /// Receives the messages of a `Put` and answers it.
    fn put<M: Messages>(self, messages: M) -> impl Future<Output = Result<pb_owned::PutSummary, Status>> + Send;

    /// The messages that answer a `Get`.
    ///
    /// # Errors
    /// What the call is refused with.
    fn get<M: Outgoing>(
        self,
        request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status>;

    /// Makes the user of a `CreateUser` the one that answers it.
    fn create_user(&self, user: &mut impl UserRecord);
}

/// What the messages of a `Put` are received from: tonic's `Streaming` or the rope.
pub trait Messages: Send + 'static {
    /// A message.
    type Item: Payload;

    /// The next message; `None` at the end of the stream.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Item>, Status>> + Send;
}

/// The measured handler: it counts messages, and answers with the counts or with messages of one content.
#[derive(Clone)]
pub struct Counting {
    meter: Arc<Meter>,
    retain: usize,
}

impl Counting {
    /// A handler that keeps `retain` received messages before the oldest goes.
    pub fn new(meter: Arc<Meter>, retain: u32) -> Counting {
        Counting { meter, retain: retain as usize }
    }
}

impl Handler for Counting {
    async fn put<M: Messages>(self, mut messages: M) -> Result<pb_owned::PutSummary, Status> {
        let mut summary = pb_owned::PutSummary::default();
        let mut kept = VecDeque::with_capacity(self.retain + 1);
        while let Some(message) = messages.next().await? {
            let bytes = message.payload().len();
            summary.messages += 1;
            summary.bytes += bytes as u64;
            if self.retain > 0 {
                kept.push_back(message);
                if kept.len() > self.retain {
                    kept.pop_front();
                }
            } else {
                drop(message);
            }
            self.meter.message(bytes);
        }
        Ok(summary)
    }

    /// `messages` chunks of `chunk_size` bytes.
    fn get<M: Outgoing>(
        self,
        request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status> {
        let bytes = usize::try_from(request.chunk_size).unwrap_or(usize::MAX).min(RECEIVE_LIMIT);
        let payload = Bytes::from(vec![0xA5; bytes]);
        let mut left = request.messages;
        Ok(tokio_stream::iter(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = M::with_payload(&payload);
            self.meter.message(bytes);
            Some(Ok(message))
        })))
    }

    fn create_user(&self, user: &mut impl UserRecord) {
        self.meter.message(user.bytes());
        user.create();
    }
}

impl<H> NamedService for Ladder<H> {
    const NAME: &'static str = "ladder.v1.Ladder";
}

impl<H: Handler> Service<Request<Body>> for Ladder<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        match Scenario::ALL.into_iter().find(|scenario| scenario.path() == path) {
            Some(Scenario::Put) => self.put(request),
            Some(Scenario::Get) => self.get(request),
            Some(Scenario::Unary) => self.create_user(request),
            None => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

impl Ladder {
    /// The measured service for a tuning; `retain` received messages are kept before the oldest goes.
    pub fn new(tuning: Tuning, meter: Arc<Meter>, retain: u32) -> Self {
        Ladder::handled_by(tuning, Counting::new(meter, retain))
    }
}

impl<H: Handler> Ladder<H> {
    /// The service for a tuning, with a handler of its own.
    pub fn handled_by(tuning: Tuning, handler: H) -> Self {
        Ladder { tuning, handler }
    }

    /// The service as one call has it.
    fn of_call<B>(&self, request: &Request<B>) -> Self {
        Ladder { tuning: self.tuning, handler: self.handler.of_call(request.headers()) }
    }

    fn put(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let stock = stock_buffers();
        match (self.tuning.message, self.tuning.payload) {
            (MessageSource::Fresh, PayloadType::Vec) => {
                self.put_with(ProstDecoder::<pb_owned::Chunk>::new(stock), request)
            }
            (MessageSource::Fresh, PayloadType::Bytes) => {
                self.put_with(ProstDecoder::<pb_bytes::Chunk>::new(stock), request)
            }
            (MessageSource::Pooled, PayloadType::Vec) => {
                self.put_with(PooledDecoder::<pb_owned::Chunk>::new(stock, MessagePool::default()), request)
            }
            (MessageSource::Pooled, PayloadType::Bytes) => {
                self.put_with(PooledDecoder::<pb_bytes::Chunk>::new(stock, MessagePool::default()), request)
            }
        }
    }

    fn put_with<D>(&self, decoder: D, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>>
    where
        D: AnyDecoder + Clone + Send + Sync + 'static,
        D::Item: Payload + Sync,
    {
        let ladder = self.of_call(&request);
        match self.tuning.deframe {
            Deframe::Contiguous => Box::pin(async move {
                let codec = Pair(ProstEncoder::stock(stock_buffers()), decoder);
                let mut grpc = Grpc::new(codec).accept_compressed(CompressionEncoding::Gzip);
                Ok(grpc.client_streaming(PutMethod(ladder), request).await)
            }),
            Deframe::Rope => Box::pin(async move {
                let (parts, body) = request.into_parts();
                let summary = match RopeStreaming::request(decoder, &parts.headers, body, &[CompressionEncoding::Gzip])
                {
                    Ok(messages) => ladder.handler.put(messages).await,
                    Err(status) => Err(status),
                };
                Ok(match summary {
                    Ok(summary) => {
                        let encoder = StagedEncoder(ProstEncoder::stock(stock_buffers()));
                        let source = tokio_stream::once(Ok(summary));
                        let body = EncodeBody::new_server(encoder, source, None, Default::default(), None);
                        grpc_response(Body::new(body))
                    }
                    Err(status) => status.into_http(),
                })
            }),
        }
    }

    fn get(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        match self.tuning.payload {
            PayloadType::Vec => self.get_with::<pb_owned::Chunk>(request),
            PayloadType::Bytes => self.get_with::<pb_bytes::Chunk>(request),
        }
    }

    fn get_with<M: Outgoing>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let encoder = match self.tuning.encode {
            Encode::Stock => ProstEncoder::<M>::stock(stock_buffers()),
            Encode::Sized => ProstEncoder::<M>::sized(),
            Encode::Pooled | Encode::ZeroCopy | Encode::OneFrame => {
                let ladder = self.of_call(&request);
                return Box::pin(async move {
                    let pooled = match ladder.tuning.encode {
                        Encode::Pooled => PooledBody::<_, Bytes>::pooled,
                        _ => PooledBody::<_, Bytes>::zero_copy,
                    };
                    let source = get_request(request).await.and_then(|request| ladder.chunks::<M>(request));
                    Ok(match source {
                        Ok(source) => grpc_response(Body::new(pooled(Side::Server, source))),
                        Err(status) => status.into_http(),
                    })
                });
            }
        };
        let ladder = self.of_call(&request);
        Box::pin(async move {
            let codec = Pair(encoder, ProstDecoder::new(stock_buffers()));
            Ok(Grpc::new(codec).server_streaming(GetMethod(ladder, PhantomData), request).await)
        })
    }

    /// `Get` with a body whose data has several parts, which tonic's own `Server` cannot take.
    ///
    /// # Errors
    /// What the request is refused with.
    pub async fn get_parts(
        self,
        request: Request<Body>,
    ) -> Result<PooledBody<impl Stream<Item = Result<pb_bytes::Chunk, Status>> + Send + 'static, Parts>, Status> {
        let ladder = self.of_call(&request);
        let request = get_request(request).await?;
        Ok(PooledBody::zero_copy(Side::Server, ladder.chunks::<pb_bytes::Chunk>(request)?))
    }

    /// The response stream of `Get`.
    fn chunks<M: Outgoing>(
        self,
        request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status> {
        self.handler.get::<M>(request).map(StagedStream::new)
    }

    fn create_user(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        server_codec(&self.tuning, CreateUser { ladder: self.of_call(&request), request })
    }

    /// The handler of `CreateUser`.
    pub(super) fn created(&self, user: &mut impl UserRecord) {
        self.handler.create_user(user);
    }
}

/// `CreateUser` on tonic's own glue.
struct CreateUser<H> {
    ladder: Ladder<H>,
    request: Request<Body>,
}

impl<H: Handler> WithUserCodec for CreateUser<H> {
    type Output = BoxFuture<Result<Response<Body>, Infallible>>;

    fn with<U, E, D>(self, codec: Pair<E, D>) -> Self::Output
    where
        U: UserRecord + Sync,
        E: AnyEncoder<Item = U> + Clone + Send + Sync + 'static,
        D: AnyDecoder<Item = U> + Clone + Send + Sync + 'static,
    {
        Box::pin(async move { Ok(Grpc::new(codec).unary(CreateUserMethod(self.ladder), self.request).await) })
    }
}

/// Reads the one request message of `Get` as tonic does.
async fn get_request(request: Request<Body>) -> Result<pb_owned::GetRequest, Status> {
    rope::encoding(request.headers(), &[])?;
    let decoder = Pair(ProstEncoder::<()>::stock(stock_buffers()), ProstDecoder::new(stock_buffers())).decoder();
    let mut messages = Streaming::new_request(decoder, request.into_body(), None, None);
    messages.message().await?.ok_or_else(|| Status::internal("the request message is missing"))
}

/// A successful response whose trailers come from the body.
pub fn grpc_response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_VALUE);
    response
}

impl<M: Payload> Messages for Streaming<M> {
    type Item = M;
    fn next(&mut self) -> impl Future<Output = Result<Option<M>, Status>> + Send {
        self.message()
    }
}

impl<D> Messages for RopeStreaming<D>
where
    D: AnyDecoder + Send + 'static,
    D::Item: Payload,
{
    type Item = D::Item;
    fn next(&mut self) -> impl Future<Output = Result<Option<D::Item>, Status>> + Send {
        self.message()
    }
}

struct PutMethod<H>(Ladder<H>);

impl<M: Payload + Sync, H: Handler> ClientStreamingService<M> for PutMethod<H> {
    type Response = pb_owned::PutSummary;
    type Future = BoxFuture<Result<tonic::Response<pb_owned::PutSummary>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Self::Future {
        let ladder = self.0.clone();
        Box::pin(async move { ladder.handler.put(request.into_inner()).await.map(tonic::Response::new) })
    }
}

struct GetMethod<M, H>(Ladder<H>, PhantomData<fn() -> M>);

impl<M: Outgoing, H: Handler> ServerStreamingService<pb_owned::GetRequest> for GetMethod<M, H> {
    type Response = M;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<pb_owned::GetRequest>) -> Self::Future {
        let chunks = self.0.clone().chunks::<M>(request.into_inner());
        std::future::ready(chunks.map(|chunks| tonic::Response::new(Box::pin(chunks) as Self::ResponseStream)))
    }
}

struct CreateUserMethod<H>(Ladder<H>);

impl<U: UserRecord, H: Handler> UnaryService<U> for CreateUserMethod<H> {
    type Response = U;
    type Future = BoxFuture<Result<tonic::Response<U>, Status>>;

    fn call(&mut self, request: tonic::Request<U>) -> Self::Future {
        let ladder = self.0.clone();
        Box::pin(async move {
            let mut user = request.into_inner();
            ladder.created(&mut user);
            Ok(tonic::Response::new(user))
        })
    }
}
