//! The service's half.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;

use futures_core::Stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::server::{Grpc, StreamingService};

use crate::steps::{self, Pooled};
use crate::subject::codec::ProstCodec;
use crate::subject::ladder::{Deframe, Encode, MessageSource, Payload as PayloadType};
use crate::subject::message::{Copied, Payload};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::service::{BoxFuture, Handler, Ladder};
use crate::tonic::StagedStream;

impl<H: Handler> Ladder<H> {
    pub(in crate::subject) fn echo(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        match (self.tuning.message, self.tuning.payload, self.tuning.encode) {
            (MessageSource::Fresh, PayloadType::Vec, _) => self.echo_with::<pb_owned::Chunk>(request),
            (MessageSource::Pooled, PayloadType::Vec, _) => self.echo_with::<Pooled<pb_owned::Chunk>>(request),
            (_, PayloadType::Bytes, Encode::Pooled) => self.echo_with::<Copied<pb_bytes::Chunk>>(request),
            (_, PayloadType::Bytes, _) => self.echo_with::<pb_bytes::Chunk>(request),
        }
    }

    fn echo_with<M: Payload>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let handler = self.of_call(&request).handler;
        let (head, body) = request.into_parts();
        let messages: Streaming<M> = match self.tuning.deframe {
            Deframe::Contiguous => Streaming::new_request(ProstCodec::<M, M>::stock().decoder(), body, None, None),
            Deframe::Rope => steps::decode::request(body, steps::frames::Receiving::default()),
        };
        let method = EchoMethod { handler, messages: Some(messages) };
        let request = Request::from_parts(head, Body::empty());
        let codec = ProstCodec::<M, M>::of_stream(&self.tuning);
        match self.tuning.encode {
            Encode::Stock | Encode::Sized => {
                Box::pin(async move { Ok(Grpc::new(codec).streaming(method, request).await) })
            }
            Encode::Pooled | Encode::ZeroCopy => {
                Box::pin(async move { Ok(steps::server::Grpc::new(codec).streaming(method, request).await) })
            }
        }
    }
}

/// Answers one call with the messages that it was made with; those of the request it is given are none.
struct EchoMethod<H, M> {
    handler: H,
    messages: Option<Streaming<M>>,
}

impl<M: Payload, H: Handler> StreamingService<M> for EchoMethod<H, M> {
    type Response = M;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Self::Future {
        let messages = self.messages.take().unwrap_or_else(|| request.into_inner());
        let echo = StagedStream::new(self.handler.clone().echo(messages));
        ready(Ok(tonic::Response::new(Box::pin(echo) as Self::ResponseStream)))
    }
}
