//! The service: what generated code would be, with the mechanism of each step chosen by the tuning.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::{HeaderMap, Request, Response};
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, UnaryService};
use tower_service::Service;

use super::codec::{ProstCodec, grpc};
use super::export::SwapExport;
use super::fan_out::{Given, Published};
use super::message::{Copied, Outgoing, Payload, content};
use super::metadata;
use super::meter::Meter;
use super::secure::Security;
use super::swap::SwapUser;
use super::user::UnaryRecord;
use crate::record::Compression;
use crate::steps::{self, Pooled};
use crate::subject::ladder::{Bodies, Codec, Deframe, Encode, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::scenario::{RECEIVE_LIMIT, Rpc, Workload};
use crate::tonic::StagedStream;

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The service of one server process: the tuning says how messages are carried, the handler what is done with them.
#[derive(Clone)]
pub struct Ladder<H = Counting> {
    pub(super) tuning: Tuning,
    carried: Carried,
    pub(super) handler: H,
}

/// What a call has to know of the workload. Small, because tonic copies the service for every call.
#[derive(Clone, Copy, Debug)]
struct Carried {
    compress: Option<Compression>,
    tls: bool,
    /// Calls carry exports in place of a user or of chunks.
    exports: bool,
    /// Entries of metadata.
    metadata: u16,
}

impl Carried {
    fn of(workload: &Workload) -> Carried {
        Carried {
            compress: workload.compress,
            tls: workload.tls,
            exports: workload.spans > 0,
            metadata: u16::try_from(workload.metadata).unwrap_or(u16::MAX),
        }
    }
}

/// What a service does with messages. The measured service's is [`Counting`]; the tests have one that checks each byte.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The handler of one call whose request has these headers; it begins as a copy of the service's.
    #[must_use]
    fn of_call(&self, _headers: &HeaderMap) -> Self {
        self.clone()
    }

    /// The service's own is told of the traffic before any call comes.
    fn carrying(&mut self, _workload: &Workload) {}

    /// Receives the messages of a `Put` and answers it.
    fn put<M: Payload>(
        self,
        messages: Streaming<M>,
    ) -> impl Future<Output = Result<pb_owned::PutSummary, Status>> + Send;

    /// The messages that answer a `Get`.
    ///
    /// # Errors
    /// What the call is refused with.
    fn get<M: Outgoing>(
        self,
        request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status>;

    /// The exports that answer a `Get` in place of chunks.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` where there are none, and what the call is refused with.
    fn publish<M: Given>(
        self,
        _request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status> {
        Err::<tokio_stream::Empty<Result<M, Status>>, Status>(Status::unimplemented("nothing is published"))
    }

    /// The messages that answer an `Echo`: those it is sent.
    fn echo<M: Payload>(self, messages: Streaming<M>) -> impl Stream<Item = Result<M, Status>> + Send + 'static {
        messages
    }

    /// Makes the user of a `CreateUser` the one that answers it.
    fn create_user(&self, user: &mut impl UnaryRecord);
}

/// The measured handler: it counts messages, and answers with the counts or with messages of one content.
#[derive(Clone)]
pub struct Counting {
    meter: Arc<Meter>,
    traffic: Arc<Traffic>,
}

/// What the handler does besides counting.
struct Traffic {
    /// Received messages that are kept before the oldest goes.
    retain: usize,
    /// What subscribers get.
    published: Option<Published>,
}

impl Counting {
    /// A handler that keeps `retain` received messages before the oldest goes.
    pub fn new(meter: Arc<Meter>, retain: u32) -> Counting {
        Counting { meter, traffic: Arc::new(Traffic { retain: retain as usize, published: None }) }
    }
}

impl Handler for Counting {
    fn carrying(&mut self, workload: &Workload) {
        let published = (workload.spans > 0).then(|| Published::new(workload));
        self.traffic = Arc::new(Traffic { published, retain: self.traffic.retain });
    }

    async fn put<M: Payload>(self, mut messages: Streaming<M>) -> Result<pb_owned::PutSummary, Status> {
        let mut summary = pb_owned::PutSummary::default();
        let mut kept = VecDeque::with_capacity(self.traffic.retain + 1);
        while let Some(message) = messages.message().await? {
            let bytes = message.payload().len();
            summary.messages += 1;
            summary.bytes += bytes as u64;
            if self.traffic.retain > 0 {
                kept.push_back(message);
                if kept.len() > self.traffic.retain {
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
        let payload = content(bytes);
        let mut left = request.messages;
        Ok(tokio_stream::iter(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = M::with_payload(&payload);
            self.meter.message(bytes);
            Some(Ok(message))
        })))
    }

    fn publish<M: Given>(
        self,
        request: pb_owned::GetRequest,
    ) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status> {
        let bytes = self.traffic.published.as_ref().map(Published::message_bytes);
        let bytes = bytes.ok_or_else(|| Status::unimplemented("nothing is published"))?;
        Ok(tokio_stream::iter((0..request.messages).filter_map(move |index| {
            let message = M::of(self.traffic.published.as_ref()?, index);
            self.meter.message(bytes);
            Some(Ok(message))
        })))
    }

    fn echo<M: Payload>(self, messages: Streaming<M>) -> impl Stream<Item = Result<M, Status>> + Send + 'static {
        messages.map(move |message| message.inspect(|message| self.meter.message(message.payload().len())))
    }

    fn create_user(&self, user: &mut impl UnaryRecord) {
        self.meter.message(user.encoded_len());
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
        match Rpc::ALL.into_iter().find(|rpc| rpc.path() == path) {
            Some(Rpc::Put) => self.put(request),
            Some(Rpc::Get) => self.get(request),
            Some(Rpc::CreateUser) => self.create_user(request),
            Some(Rpc::Echo) => self.echo(request),
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
        Ladder { tuning, carried: Carried::of(&Workload::default()), handler }
    }

    /// For this traffic: what its messages are, and how they are sent.
    pub fn carrying(mut self, workload: Workload) -> Self {
        self.carried = Carried::of(&workload);
        self.handler.carrying(&workload);
        self
    }

    /// Whether its connections are encrypted.
    pub(super) fn security(&self) -> Security {
        Security::of(self.carried.tls)
    }

    /// What messages are compressed with.
    pub(super) fn compress(&self) -> Option<Compression> {
        self.carried.compress
    }

    /// Whether calls carry exports in place of a user or of chunks.
    pub(super) fn takes_exports(&self) -> bool {
        self.carried.exports
    }

    /// The service as one call has it.
    pub(super) fn of_call<B>(&self, request: &Request<B>) -> Self {
        Ladder { tuning: self.tuning, carried: self.carried, handler: self.handler.of_call(request.headers()) }
    }

    fn put(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        match (self.tuning.message, self.tuning.payload) {
            // There is nothing to recycle: its payload is a slice of what was received.
            (_, PayloadType::Bytes) => self.put_with::<pb_bytes::Chunk>(request),
            (MessageSource::Fresh, PayloadType::Vec) => self.put_with::<pb_owned::Chunk>(request),
            (MessageSource::Pooled, PayloadType::Vec) => self.put_with::<Pooled<pb_owned::Chunk>>(request),
        }
    }

    fn put_with<M: Payload>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let method = PutMethod(self.of_call(&request));
        let codec = ProstCodec::<pb_owned::PutSummary, M>::stock();
        let compress = self.carried.compress;
        match self.tuning.deframe {
            Deframe::Contiguous => Box::pin(async move {
                let mut grpc = grpc!(Grpc::new(codec), compress).accept_compressed(CompressionEncoding::Gzip);
                Ok(grpc.client_streaming(method, request).await)
            }),
            Deframe::Rope => Box::pin(async move {
                let grpc = grpc!(steps::server::Grpc::new(codec), compress);
                let mut grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
                Ok(grpc.client_streaming(method, request).await)
            }),
        }
    }

    fn get(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        if self.takes_exports() {
            return self.publish(request);
        }
        match (self.tuning.payload, self.tuning.encode) {
            (PayloadType::Vec, Encode::Stock | Encode::Sized) => self.get_stock::<pb_owned::Chunk>(request),
            (PayloadType::Bytes, Encode::Stock | Encode::Sized) => self.get_stock::<pb_bytes::Chunk>(request),
            (PayloadType::Vec, Encode::Pooled | Encode::ZeroCopy) => self.get_with::<pb_owned::Chunk>(request),
            (PayloadType::Bytes, Encode::Pooled) => self.get_with::<Copied<pb_bytes::Chunk>>(request),
            (PayloadType::Bytes, Encode::ZeroCopy) => self.get_with::<pb_bytes::Chunk>(request),
        }
    }

    /// On tonic's body.
    fn get_stock<M: Outgoing>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let method = GetMethod::<M, H>(self.of_call(&request), PhantomData);
        let codec = ProstCodec::<M, pb_owned::GetRequest>::of_stream(&self.tuning);
        let mut grpc = grpc!(Grpc::new(codec), self.carried.compress);
        Box::pin(async move { Ok(grpc.server_streaming(method, request).await) })
    }

    /// On the steps' body.
    fn get_with<M: Outgoing>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let method = GetMethod::<M, H>(self.of_call(&request), PhantomData);
        let codec = ProstCodec::<M, pb_owned::GetRequest>::stock();
        let mut grpc = grpc!(steps::server::Grpc::new(codec), self.carried.compress);
        Box::pin(async move { Ok(grpc.server_streaming(method, request).await) })
    }

    fn create_user(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        // A view has nothing to recycle: its strings are the receive buffer's.
        match (self.takes_exports(), self.tuning.codec, self.tuning.message) {
            (false, Codec::Prost, MessageSource::Fresh) => self.create_user_with::<pb_owned::User>(request),
            (false, Codec::Prost, MessageSource::Pooled) => self.create_user_with::<Pooled<pb_owned::User>>(request),
            (false, Codec::Swapped, _) => self.create_user_with::<SwapUser>(request),
            (true, Codec::Prost, MessageSource::Fresh) => self.create_user_with::<pb_owned::Export>(request),
            (true, Codec::Prost, MessageSource::Pooled) => self.create_user_with::<Pooled<pb_owned::Export>>(request),
            (true, Codec::Swapped, _) => self.create_user_with::<SwapExport>(request),
        }
    }

    fn create_user_with<U: UnaryRecord>(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let method = CreateUserMethod(self.of_call(&request));
        let codec = ProstCodec::<U, U>::of_users(&self.tuning);
        match self.tuning.bodies {
            Bodies::Stock => {
                let mut grpc = grpc!(Grpc::new(codec), self.carried.compress);
                Box::pin(async move { Ok(grpc.unary(method, request).await) })
            }
            Bodies::Recycled => {
                let mut grpc = grpc!(steps::server::Grpc::new(codec), self.carried.compress);
                Box::pin(async move { Ok(grpc.unary(method, request).await) })
            }
        }
    }

    /// The handler of `CreateUser`.
    pub(super) fn created(&self, user: &mut impl UnaryRecord) {
        self.handler.create_user(user);
    }
}

struct PutMethod<H>(Ladder<H>);

impl<M: Payload, H: Handler> ClientStreamingService<M> for PutMethod<H> {
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
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<pb_owned::GetRequest>) -> Self::Future {
        let chunks = self.0.handler.clone().get::<M>(request.into_inner()).map(StagedStream::new);
        ready(chunks.map(|chunks| tonic::Response::new(Box::pin(chunks) as Self::ResponseStream)))
    }
}

struct CreateUserMethod<H>(Ladder<H>);

impl<U: UnaryRecord, H: Handler> UnaryService<U> for CreateUserMethod<H> {
    type Response = U;
    type Future = BoxFuture<Result<tonic::Response<U>, Status>>;

    fn call(&mut self, request: tonic::Request<U>) -> Self::Future {
        let ladder = self.0.clone();
        Box::pin(async move {
            let (entries, _, mut user) = request.into_parts();
            ladder.created(&mut user);
            let mut response = tonic::Response::new(user);
            metadata::answer(u32::from(ladder.carried.metadata), &entries, response.metadata_mut());
            Ok(response)
        })
    }
}
