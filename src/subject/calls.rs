//! `Put` and `Get` over one connection, with the mechanism of each step chosen by the tuning.

use std::future::Future;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec as _, CompressionEncoding, Decoder, EncodeBody, Encoder, Streaming};
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::body::{Parts, PooledBody};
use super::codec::{AnyDecoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder, stock_buffers};
use super::connect::{self, PartsBody, StagedChannel};
use super::http2::Settings;
use super::lean::client::LeanClient;
use super::message::{Outgoing, Payload};
use super::pool::MessagePool;
use super::rope::RopeStreaming;
use super::service::Messages;
use crate::stage::{Scope, Staged};
use crate::subject::ladder::{ClientStack, Deframe, Encode, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::scenario::Scenario;
use crate::tonic::{StagedBody, StagedStream};
use crate::wire::grpc::put_prefix;
use crate::wire::status;
use crate::{Side, Stage};

/// What a client sends in a `Put`: the measured client counts it.
pub trait Upload {
    /// Headers of the call besides gRPC's own.
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The messages.
    fn outgoing<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + 'static;
}

/// What a client asks for in a `Get`, and what it does with the messages: the measured client counts them.
pub trait Download {
    /// Headers of the call besides gRPC's own.
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The request.
    fn request(&self) -> pb_owned::GetRequest;

    /// One message has come; the next is received when this is done.
    fn received<M: Payload>(&mut self, message: M) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One connection to a server, and how calls go over it.
#[derive(Clone)]
pub struct Connection {
    tuning: Tuning,
    pub(super) link: Link,
}

/// What calls are made over.
#[derive(Clone)]
pub(super) enum Link {
    Channel(StagedChannel),
    Hyper(SendRequest<PartsBody>),
    Lean(LeanClient),
}

impl Connection {
    /// Connects to `address` (`host:port` or a Unix socket's path) for calls of `scenario`.
    ///
    /// # Errors
    /// When nobody answers; the message names the address.
    pub async fn open(
        tuning: Tuning,
        settings: Option<Settings>,
        address: &str,
        scenario: Scenario,
    ) -> anyhow::Result<Connection> {
        let receives = scenario.receiver() == Side::Client;
        let link = match tuning.client {
            ClientStack::Channel => Link::Channel(connect::channel(&tuning, settings, address, receives).await?),
            ClientStack::Hyper => Link::Hyper(connect::hyper(settings, address).await?),
            ClientStack::Lean => Link::Lean(connect::lean(&tuning, settings, address, scenario.path()).await?),
        };
        Ok(Connection { tuning, link })
    }

    /// Makes a `Put` call; what the server answers.
    ///
    /// # Errors
    /// When the call fails: a [`Status`] where the server sent one.
    pub async fn put(self, upload: &impl Upload) -> anyhow::Result<pb_owned::PutSummary> {
        match self.tuning.payload {
            PayloadType::Vec => self.put_with::<pb_owned::Chunk>(upload.headers(), upload.outgoing()).await,
            PayloadType::Bytes => self.put_with::<pb_bytes::Chunk>(upload.headers(), upload.outgoing()).await,
        }
    }

    async fn put_with<M: Outgoing>(
        self,
        headers: HeaderMap,
        messages: impl Stream<Item = M> + Send + 'static,
    ) -> anyhow::Result<pb_owned::PutSummary> {
        let chunks = StagedStream::new(messages);
        let decoder = ProstDecoder::<pb_owned::PutSummary>::new(stock_buffers());
        let encoder = match self.tuning.encode {
            Encode::Sized => ProstEncoder::sized(),
            _ => ProstEncoder::stock(stock_buffers()),
        };
        let codec = Pair(encoder, decoder);
        match (self.link, self.tuning.encode) {
            (Link::Channel(channel), Encode::Stock | Encode::Sized) => {
                client_streaming(channel, headers, chunks, codec).await
            }
            (Link::Channel(mut channel), encode) => {
                let body = Body::new(pooled::<_, Bytes>(encode, chunks.map(Ok)));
                summary(call(&mut channel, Scenario::Put, headers, body).await?.map(Body::new), codec).await
            }
            (Link::Hyper(mut sender), encode) => {
                let chunks = chunks.map(Ok);
                let body = match encode {
                    Encode::Stock | Encode::Sized => EncodeBody::new_client(codec.0.clone(), chunks, None, None)
                        .map_frame(|frame| frame.map_data(Parts::from))
                        .boxed_unsync(),
                    _ => pooled::<_, Parts>(encode, chunks).boxed_unsync(),
                };
                let method = crate::Method::register(Side::Client, Scenario::Put.path());
                let request = request(Scenario::Put, headers, StagedBody::outgoing(method, body));
                let scope = Scope::new(method, Stage::Transport);
                let response = Staged::new(scope, async move {
                    sender.ready().await?;
                    sender.send_request(request).await
                });
                let response = response.await?.map(|body| Body::new(StagedBody::incoming(method, body)));
                summary(response, codec).await
            }
            (Link::Lean(_), _) => bail!("a lean client makes unary calls alone"),
        }
    }

    /// Makes a `Get` call and receives all its messages.
    ///
    /// # Errors
    /// When the call fails, a [`Status`] where the server sent one, or with what `download` makes of a message.
    pub async fn get(self, download: &mut (impl Download + Send)) -> anyhow::Result<()> {
        let Link::Channel(channel) = self.link else { bail!("downloads go over a channel") };
        let (deframe, stock) = (self.tuning.deframe, stock_buffers());
        match (self.tuning.message, self.tuning.payload) {
            (MessageSource::Fresh, PayloadType::Vec) => {
                get_with(channel, deframe, ProstDecoder::<pb_owned::Chunk>::new(stock), download).await
            }
            (MessageSource::Fresh, PayloadType::Bytes) => {
                get_with(channel, deframe, ProstDecoder::<pb_bytes::Chunk>::new(stock), download).await
            }
            (MessageSource::Pooled, PayloadType::Vec) => {
                let pool = MessagePool::<pb_owned::Chunk>::default();
                get_with(channel, deframe, PooledDecoder::new(stock, pool), download).await
            }
            (MessageSource::Pooled, PayloadType::Bytes) => {
                let pool = MessagePool::<pb_bytes::Chunk>::default();
                get_with(channel, deframe, PooledDecoder::new(stock, pool), download).await
            }
        }
    }
}

async fn get_with<D>(
    mut channel: StagedChannel,
    deframe: Deframe,
    decoder: D,
    download: &mut (impl Download + Send),
) -> anyhow::Result<()>
where
    D: AnyDecoder + Clone + Send + Sync + 'static,
    D::Item: Payload + Sync,
{
    match deframe {
        Deframe::Contiguous => {
            let codec = Pair(ProstEncoder::stock(stock_buffers()), decoder);
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|error| anyhow::anyhow!(error))?;
            let path = PathAndQuery::from_static(Scenario::Get.path());
            let request = with_headers(download.headers(), download.request());
            receive(grpc.server_streaming(request, path, codec).await?.into_inner(), download).await
        }
        Deframe::Rope => {
            let request = download.request();
            let mut body = BytesMut::with_capacity(64);
            put_prefix(request.encoded_len(), &mut body)?;
            request.encode(&mut body)?;
            let body = Body::new(http_body_util::Full::new(body.freeze()));
            let response = call(&mut channel, Scenario::Get, download.headers(), body).await?.map(Body::new);
            receive(RopeStreaming::response(decoder, response, &[CompressionEncoding::Gzip])?, download).await
        }
    }
}

async fn receive(mut messages: impl Messages, download: &mut (impl Download + Send)) -> anyhow::Result<()> {
    while let Some(message) = messages.next().await? {
        download.received(message).await?;
    }
    Ok(())
}

/// A request to tonic's client.
fn with_headers<T>(headers: HeaderMap, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

/// A request to a connection.
fn request<B>(scenario: Scenario, headers: HeaderMap, body: B) -> http::Request<B> {
    let mut request = connect::request(scenario.path(), body);
    request.headers_mut().extend(headers);
    request
}

async fn client_streaming<S, E, D>(
    channel: StagedChannel,
    headers: HeaderMap,
    messages: S,
    codec: Pair<E, D>,
) -> anyhow::Result<pb_owned::PutSummary>
where
    S: Stream<Item = E::Item> + Send + 'static,
    E: Encoder<Error = Status> + Clone + Send + Sync + 'static,
    E::Item: Send + Sync + 'static,
    D: Decoder<Item = pb_owned::PutSummary, Error = Status> + Clone + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| anyhow::anyhow!(error))?;
    let path = PathAndQuery::from_static(Scenario::Put.path());
    Ok(grpc.client_streaming(with_headers(headers, messages), path, codec).await?.into_inner())
}

/// A body that marshals into recycled buffers.
fn pooled<S, W>(encode: Encode, source: S) -> PooledBody<S, W> {
    match encode {
        Encode::Pooled => PooledBody::pooled(Side::Client, source),
        _ => PooledBody::zero_copy(Side::Client, source),
    }
}

/// The server's answer to `Put`.
async fn summary<E, D>(response: http::Response<Body>, mut codec: Pair<E, D>) -> anyhow::Result<pb_owned::PutSummary>
where
    Pair<E, D>: tonic::codec::Codec<Decode = pb_owned::PutSummary>,
    <Pair<E, D> as tonic::codec::Codec>::Decoder: Send + 'static,
{
    let (parts, body) = response.into_parts();
    if let Some(answer) = status::carried(&parts.headers) {
        answer.context("put was refused")?;
    }
    let mut messages = Streaming::new_response(codec.decoder(), body, parts.status, None, None);
    messages.message().await?.context("the server sent no summary")
}

/// Calls a method with a body of our own, as tonic's client would.
async fn call(
    channel: &mut StagedChannel,
    scenario: Scenario,
    headers: HeaderMap,
    body: Body,
) -> anyhow::Result<http::Response<<StagedChannel as tonic::client::GrpcService<Body>>::ResponseBody>> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    Ok(channel.call(request(scenario, headers, body)).await?)
}
