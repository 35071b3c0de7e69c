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
use http::{Request, Response};
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

/// The service of one server process.
#[derive(Clone)]
pub struct Ladder {
    tuning: Tuning,
    meter: Arc<Meter>,
    retain: usize,
}

impl NamedService for Ladder {
    const NAME: &'static str = "ladder.v1.Ladder";
}

impl Service<Request<Body>> for Ladder {
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
    /// The service for a tuning; `retain` received messages are kept before the oldest goes.
    pub fn new(tuning: Tuning, meter: Arc<Meter>, retain: u32) -> Self {
        Ladder { tuning, meter, retain: retain as usize }
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
        let ladder = self.clone();
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
                    Ok(messages) => receive(messages, ladder).await,
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
                let ladder = self.clone();
                return Box::pin(async move {
                    let pooled = match ladder.tuning.encode {
                        Encode::Pooled => PooledBody::<_, Bytes>::pooled,
                        _ => PooledBody::<_, Bytes>::zero_copy,
                    };
                    Ok(match get_request(request).await {
                        Ok(request) => grpc_response(Body::new(pooled(Side::Server, ladder.chunks::<M>(request)))),
                        Err(status) => status.into_http(),
                    })
                });
            }
        };
        let ladder = self.clone();
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
        let request = get_request(request).await?;
        Ok(PooledBody::zero_copy(Side::Server, self.chunks::<pb_bytes::Chunk>(request)))
    }

    /// The response stream of `Get`: `messages` chunks of `chunk_size` bytes.
    fn chunks<M: Outgoing>(
        self,
        request: pb_owned::GetRequest,
    ) -> impl Stream<Item = Result<M, Status>> + Send + 'static {
        let bytes = usize::try_from(request.chunk_size).unwrap_or(usize::MAX).min(RECEIVE_LIMIT);
        let payload = Bytes::from(vec![0xA5; bytes]);
        let mut left = request.messages;
        StagedStream::new(tokio_stream::iter(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = M::with_payload(&payload);
            self.meter.message(bytes);
            Some(Ok(message))
        })))
    }

    fn create_user(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        server_codec(&self.tuning, CreateUser { ladder: self.clone(), request })
    }

    /// The handler of `CreateUser`.
    pub(super) fn created(&self, user: &mut impl UserRecord) {
        self.meter.message(user.bytes());
        user.create();
    }
}

/// `CreateUser` on tonic's own glue.
struct CreateUser {
    ladder: Ladder,
    request: Request<Body>,
}

impl WithUserCodec for CreateUser {
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

/// What `Put` receives from: tonic's `Streaming` or the rope.
trait Messages {
    type Item: Payload;
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Item>, Status>> + Send;
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

/// The handler of `Put`.
async fn receive<M: Messages>(mut messages: M, ladder: Ladder) -> Result<pb_owned::PutSummary, Status> {
    let mut summary = pb_owned::PutSummary::default();
    let mut kept = VecDeque::with_capacity(ladder.retain + 1);
    while let Some(message) = messages.next().await? {
        let bytes = message.payload().len();
        summary.messages += 1;
        summary.bytes += bytes as u64;
        if ladder.retain > 0 {
            kept.push_back(message);
            if kept.len() > ladder.retain {
                kept.pop_front();
            }
        } else {
            drop(message);
        }
        ladder.meter.message(bytes);
    }
    Ok(summary)
}

struct PutMethod(Ladder);

impl<M: Payload + Sync> ClientStreamingService<M> for PutMethod {
    type Response = pb_owned::PutSummary;
    type Future = BoxFuture<Result<tonic::Response<pb_owned::PutSummary>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Self::Future {
        let ladder = self.0.clone();
        Box::pin(async move { receive(request.into_inner(), ladder).await.map(tonic::Response::new) })
    }
}

struct GetMethod<M>(Ladder, PhantomData<fn() -> M>);

impl<M: Outgoing> ServerStreamingService<pb_owned::GetRequest> for GetMethod<M> {
    type Response = M;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<pb_owned::GetRequest>) -> Self::Future {
        let chunks = self.0.clone().chunks::<M>(request.into_inner());
        std::future::ready(Ok(tonic::Response::new(Box::pin(chunks) as Self::ResponseStream)))
    }
}

struct CreateUserMethod(Ladder);

impl<U: UserRecord> UnaryService<U> for CreateUserMethod {
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
