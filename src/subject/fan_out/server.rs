//! The service's half.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;

use http::{Request, Response};
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService};

use crate::steps::{self, Encoded};
use crate::subject::codec::{ProstCodec, grpc};
use crate::subject::fan_out::Given;
use crate::subject::ladder::{Encode, FanOut};
use crate::subject::pb::owned::{Export, GetRequest};
use crate::subject::service::{BoxFuture, Handler, Ladder};
use crate::tonic::StagedStream;

impl<H: Handler> Ladder<H> {
    /// Answers a `Get` with exports.
    pub(in crate::subject) fn publish(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        match self.tuning.fan_out {
            FanOut::Each => self.publish_with::<Export>(request),
            FanOut::Once => self.publish_with::<Encoded<Export>>(request),
        }
    }

    fn publish_with<M: Given>(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let method = PublishMethod::<M, H>(self.of_call(&request).handler, PhantomData);
        let codec = ProstCodec::<M, GetRequest>::of_stream(&self.tuning);
        match self.tuning.encode {
            Encode::Stock | Encode::Sized => {
                let mut grpc = grpc!(Grpc::new(codec), self.compress());
                Box::pin(async move { Ok(grpc.server_streaming(method, request).await) })
            }
            Encode::Pooled | Encode::ZeroCopy => {
                let mut grpc = grpc!(steps::server::Grpc::new(codec), self.compress());
                Box::pin(async move { Ok(grpc.server_streaming(method, request).await) })
            }
        }
    }
}

struct PublishMethod<M, H>(H, PhantomData<fn() -> M>);

impl<M: Given, H: Handler> ServerStreamingService<GetRequest> for PublishMethod<M, H> {
    type Response = M;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<GetRequest>) -> Self::Future {
        let messages = self.0.clone().publish::<M>(request.into_inner()).map(StagedStream::new);
        ready(messages.map(|messages| tonic::Response::new(Box::pin(messages) as Self::ResponseStream)))
    }
}
