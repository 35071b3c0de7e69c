//! One message to many streams: every `Get` of exports gets the same ones.
//!
//! What publishes messages to subscribers gives each its own, as tokio's broadcast channel does: a clone, which each body
//! then encodes. Or it encodes the message once, and gives each the bytes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body::Body as HttpBody;
use prost::Message;
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::Streaming;
use tonic::server::{Grpc, ServerStreamingService};

use super::calls::{BoxError, unready};
use super::codec::{ProstCodec, grpc};
use super::export::sample_export;
use super::service::{BoxFuture, Handler, Ladder};
use crate::record::Compression;
use crate::steps::{self, Encoded};
use crate::subject::ladder::{Deframe, Encode, FanOut, Tuning};
use crate::subject::pb::owned::{Export, GetRequest};
use crate::subject::scenario::{Rpc, Workload};
use crate::tonic::StagedStream;

/// Encoded messages that wait for the slowest stream at most; one that is further behind has its own encoded.
const BEHIND_MAX: usize = 1024;

/// What is published, and the encoded messages that some stream has still to take.
#[derive(Debug)]
pub struct Published {
    sample: Export,
    streams: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The index of the first.
    first: u64,
    /// Each with the number of streams that took it.
    encoded: VecDeque<(Encoded<Export>, u32)>,
}

impl Published {
    /// For the streams of this traffic.
    pub fn new(workload: &Workload) -> Published {
        let Workload { spans, streams, .. } = *workload;
        Published { sample: sample_export(spans), streams, waiting: Mutex::default() }
    }

    /// Bytes of each message.
    pub fn message_bytes(&self) -> usize {
        self.sample.encoded_len()
    }

    /// Message `index`, which each stream takes once, in their order.
    fn encoded(&self, index: u64) -> Encoded<Export> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = index.checked_sub(waiting.first) else { return Encoded::new(&self.sample) };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at >= waiting.encoded.len() {
            waiting.encoded.push_back((Encoded::new(&self.sample), 0));
        }
        let last = waiting.encoded.len() - 1;
        let (encoded, taken) = &mut waiting.encoded[at.min(last)];
        *taken += 1;
        let encoded = encoded.clone();
        while waiting.encoded.front().is_some_and(|(_, taken)| *taken >= self.streams)
            || waiting.encoded.len() > BEHIND_MAX
        {
            waiting.encoded.pop_front();
            waiting.first += 1;
        }
        encoded
    }
}

/// A message as a stream is given it.
pub trait Given: Message + Default + 'static {
    /// Message `index` of what is published.
    fn of(published: &Published, index: u64) -> Self;
}

impl Given for Export {
    fn of(published: &Published, _: u64) -> Export {
        published.sample.clone()
    }
}

impl Given for Encoded<Export> {
    fn of(published: &Published, index: u64) -> Encoded<Export> {
        published.encoded(index)
    }
}

impl<H: Handler> Ladder<H> {
    /// Answers a `Get` with exports.
    pub(super) fn publish(&self, request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
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

/// Subscribes: makes a `Get` call for exports and gives each to `received`.
pub(super) async fn subscribe<T>(
    channel: T,
    (tuning, compress): (&Tuning, Option<Compression>),
    messages: u64,
    mut received: impl FnMut(Export) -> anyhow::Result<()>,
) -> anyhow::Result<()>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let request = tonic::Request::new(GetRequest { messages, chunk_size: 0 });
    let path = PathAndQuery::from_static(Rpc::Get.path());
    let codec = ProstCodec::<GetRequest, Export>::stock();
    let mut exports: Streaming<Export> = match tuning.deframe {
        Deframe::Contiguous => {
            let mut grpc = grpc!(tonic::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
        Deframe::Rope => {
            let mut grpc = grpc!(steps::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
    };
    while let Some(export) = exports.message().await? {
        received(export)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_once_for_all_streams_wherever_they_are() {
        let workload = Workload { spans: 3, streams: 3, ..Workload::default() };
        let published = Published::new(&workload);
        let at = |index| published.encoded(index).bytes().as_ptr();
        let waiting = || published.waiting.lock().expect("no panic").encoded.len();
        // The first stream is two messages ahead.
        let ahead = [published.encoded(0), published.encoded(1), published.encoded(2)];
        for (index, first) in (0..).zip(&ahead) {
            assert_eq!(first.message().expect("written here"), sample_export(3));
            assert_eq!([at(index), at(index)], [first.bytes().as_ptr(); 2]);
        }
        assert_eq!(waiting(), 0, "all have it");
        assert_eq!(published.encoded(0).message().expect("written here").spans.len(), 3, "and one who comes late");
        let behind: Vec<_> = (3..2000).map(|index| published.encoded(index)).collect();
        assert_eq!((behind.len(), waiting()), (1997, BEHIND_MAX));
    }
}
