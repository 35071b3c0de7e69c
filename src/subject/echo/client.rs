//! The client's half.

use std::task::{Context, Poll};

use anyhow::bail;
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, EncodeBody, Streaming};

use crate::steps::{self, Pooled};
use crate::subject::calls::{BoxError, Connection, Download, Link, Upload, unready, with_headers};
use crate::subject::codec::ProstCodec;
use crate::subject::ladder::{Deframe, Encode, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::message::{Copied, Outgoing, Payload};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::scenario::Rpc;
use crate::tonic::StagedStream;

impl Connection {
    /// Makes an `Echo` call: sends the messages and receives every one of them again, in any encoding but a compressed one.
    ///
    /// # Errors
    /// When the call fails, a [`tonic::Status`] where the server sent one, or with what `traffic` makes of a message.
    pub async fn echo(self, traffic: &mut (impl Upload + Download + Send)) -> anyhow::Result<()> {
        match self.link {
            Link::Channel(channel) => call(channel, &self.tuning, traffic).await,
            Link::Lean(channel) => call(channel, &self.tuning, traffic).await,
            Link::ByHand(_) => bail!("a client written by hand makes unary calls alone"),
        }
    }
}

/// Sends the messages and receives every one of them again.
async fn call<T>(channel: T, tuning: &Tuning, traffic: &mut (impl Upload + Download + Send)) -> anyhow::Result<()>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    match (tuning.message, tuning.payload, tuning.encode) {
        (MessageSource::Fresh, PayloadType::Vec, _) => {
            call_with::<pb_owned::Chunk, pb_owned::Chunk, _>(channel, tuning, traffic).await
        }
        (MessageSource::Pooled, PayloadType::Vec, _) => {
            call_with::<pb_owned::Chunk, Pooled<pb_owned::Chunk>, _>(channel, tuning, traffic).await
        }
        (_, PayloadType::Bytes, Encode::Pooled) => {
            call_with::<Copied<pb_bytes::Chunk>, pb_bytes::Chunk, _>(channel, tuning, traffic).await
        }
        (_, PayloadType::Bytes, _) => call_with::<pb_bytes::Chunk, pb_bytes::Chunk, _>(channel, tuning, traffic).await,
    }
}

/// Sends `E`, receives `D`.
async fn call_with<E, D, T>(
    channel: T,
    tuning: &Tuning,
    traffic: &mut (impl Upload + Download + Send),
) -> anyhow::Result<()>
where
    E: Outgoing,
    D: Payload,
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let source = traffic.outgoing::<E>();
    let body = match tuning.encode {
        Encode::Stock | Encode::Sized => {
            let encoder = ProstCodec::<E, D>::of_stream(tuning).encoder();
            Body::new(EncodeBody::new_client(encoder, StagedStream::new(source).map(Ok), None, None))
        }
        Encode::Pooled | Encode::ZeroCopy => steps::client::body(source),
    };
    let channel = Sends { channel, body: Some(body) };
    let request = with_headers(Upload::headers(traffic), pb_owned::GetRequest::default());
    let codec = ProstCodec::<pb_owned::GetRequest, D>::stock();
    let path = PathAndQuery::from_static(Rpc::Echo.path());
    let mut messages: Streaming<D> = match tuning.deframe {
        Deframe::Contiguous => {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
        Deframe::Rope => {
            let mut grpc = steps::client::Grpc::new(channel);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
    };
    while let Some(message) = messages.message().await? {
        traffic.received(message).await?;
    }
    Ok(())
}

/// Sends its one request with this body in place of the request's own.
struct Sends<T> {
    channel: T,
    body: Option<Body>,
}

impl<T: GrpcService<Body>> tower_service::Service<http::Request<Body>> for Sends<T> {
    type Response = http::Response<T::ResponseBody>;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> T::Future {
        let body = self.body.take();
        self.channel.call(request.map(|own| body.unwrap_or(own)))
    }
}
