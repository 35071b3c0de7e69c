//! The client process: makes the traffic of a case and checks what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::codec::{CompressionEncoding, Decoder, EncodeBody, Encoder, Streaming};
use tower_service::Service;

use super::body::{Parts, PooledBody};
use super::codec::{AnyDecoder, AnyEncoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder, stock_buffers};
use super::connect::{self, PartsBody, StagedChannel};
use super::http2::Settings;
use super::lean::client::LeanClient;
use super::message::{Outgoing, Payload};
use super::meter::Meter;
use super::pool::MessagePool;
use super::rope::RopeStreaming;
use super::swap::{SwapUser, swap_codec};
use super::user::{UserRecord, sample_user};
use super::user_codec::codec_buffers;
use crate::record::Latency;
use crate::stage::{Scope, Staged};
use crate::subject::ladder::{ClientStack, Codec, Deframe, Encode, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::peer::pace::Pace;
use crate::subject::scenario::{Scenario, Workload};
use crate::tonic::{StagedBody, StagedStream};
use crate::wire::grpc::put_prefix;
use crate::wire::status;
use crate::{Side, Stage};

/// One client process's part of a case.
#[derive(Clone)]
pub struct Client {
    /// What differs from stock.
    pub tuning: Tuning,
    /// The traffic.
    pub workload: Workload,
    /// Measures the part between warm-up and tail.
    pub meter: Arc<Meter>,
}

/// What calls are made over.
#[derive(Clone)]
enum Link {
    Channel(StagedChannel),
    Hyper(SendRequest<PartsBody>),
    Lean(LeanClient),
}

impl Client {
    /// Makes all traffic of the case; returns the latencies of unary calls.
    ///
    /// # Errors
    /// When a call fails or the server counted something else than was sent.
    pub async fn run(self, scenario: Scenario, address: &str) -> anyhow::Result<Option<Latency>> {
        let settings = Settings::of(&self.tuning, &self.workload);
        let mut links = Vec::new();
        for _ in 0..self.workload.connections {
            let receives = scenario.receiver() == Side::Client;
            links.push(match self.tuning.client {
                ClientStack::Channel => {
                    Link::Channel(connect::channel(&self.tuning, settings, address, receives).await?)
                }
                ClientStack::Hyper => Link::Hyper(connect::hyper(settings, address).await?),
                ClientStack::Lean => Link::Lean(connect::lean(&self.tuning, settings, address, scenario.path()).await?),
            });
        }
        let method = crate::Method::register(Side::Client, scenario.path());
        let mut streams = JoinSet::new();
        for stream in 0..self.workload.streams {
            let link = links[stream as usize % links.len()].clone();
            let client = self.clone();
            let work = async move {
                match (scenario, link) {
                    (Scenario::Put, link) => client.put(link).await.map(|()| Vec::new()),
                    (Scenario::Get, Link::Channel(channel)) => client.get(channel).await.map(|()| Vec::new()),
                    (Scenario::Get, Link::Hyper(_) | Link::Lean(_)) => bail!("downloads go over a channel"),
                    (Scenario::Unary, link) => client.unary(link).await,
                }
            };
            streams.spawn(Staged::new(Scope::new(method, Stage::Handler), work));
        }
        let mut latencies = Vec::new();
        while let Some(stream) = streams.join_next().await {
            latencies.extend(stream.context("a stream's task failed")??);
        }
        Ok(percentiles(latencies))
    }

    async fn put(self, link: Link) -> anyhow::Result<()> {
        match self.tuning.payload {
            PayloadType::Vec => self.put_with::<pb_owned::Chunk>(link).await,
            PayloadType::Bytes => self.put_with::<pb_bytes::Chunk>(link).await,
        }
    }

    async fn put_with<M: Outgoing>(self, link: Link) -> anyhow::Result<()> {
        let sent = self.workload.messages_per_stream();
        let chunks = self.chunks::<M>(sent);
        let decoder = ProstDecoder::<pb_owned::PutSummary>::new(stock_buffers());
        let encoder = match self.tuning.encode {
            Encode::Sized => ProstEncoder::sized(),
            _ => ProstEncoder::stock(stock_buffers()),
        };
        let codec = Pair(encoder, decoder);
        let summary = match (link, self.tuning.encode) {
            (Link::Channel(channel), Encode::Stock | Encode::Sized) => client_streaming(channel, chunks, codec).await?,
            (Link::Channel(mut channel), encode) => {
                let body = Body::new(pooled::<_, Bytes>(encode, chunks.map(Ok)));
                summary(call(&mut channel, Scenario::Put, body).await?.map(Body::new), codec).await?
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
                let request = connect::request(Scenario::Put.path(), StagedBody::outgoing(method, body));
                let scope = Scope::new(method, Stage::Transport);
                let response = Staged::new(scope, async move {
                    sender.ready().await?;
                    sender.send_request(request).await
                });
                let response = response.await?.map(|body| Body::new(StagedBody::incoming(method, body)));
                summary(response, codec).await?
            }
            (Link::Lean(_), _) => bail!("a lean client makes unary calls alone"),
        };
        let expected = sent * self.workload.chunk as u64;
        ensure!(
            (summary.messages, summary.bytes) == (sent, expected),
            "sent {sent} messages of {expected} bytes, the server counted {} of {}",
            summary.messages,
            summary.bytes,
        );
        Ok(())
    }

    /// The request stream of `Put`, paced where a rate is given.
    fn chunks<M: Outgoing>(&self, count: u64) -> impl Stream<Item = M> + Send + 'static {
        let payload = Bytes::from(vec![0x5A; self.workload.chunk]);
        let meter = Arc::clone(&self.meter);
        let mut left = count;
        let source = tokio_stream::iter(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = M::with_payload(&payload);
            meter.message(payload.len());
            Some(message)
        }));
        StagedStream::new(Paced::new(source, self.workload.chunk, self.workload.rate_bits))
    }

    async fn get(self, channel: StagedChannel) -> anyhow::Result<()> {
        let buffers = stock_buffers();
        match (self.tuning.message, self.tuning.payload) {
            (MessageSource::Fresh, PayloadType::Vec) => {
                self.get_with(channel, ProstDecoder::<pb_owned::Chunk>::new(buffers)).await
            }
            (MessageSource::Fresh, PayloadType::Bytes) => {
                self.get_with(channel, ProstDecoder::<pb_bytes::Chunk>::new(buffers)).await
            }
            (MessageSource::Pooled, PayloadType::Vec) => {
                let pool = MessagePool::<pb_owned::Chunk>::default();
                self.get_with(channel, PooledDecoder::new(buffers, pool)).await
            }
            (MessageSource::Pooled, PayloadType::Bytes) => {
                let pool = MessagePool::<pb_bytes::Chunk>::default();
                self.get_with(channel, PooledDecoder::new(buffers, pool)).await
            }
        }
    }

    async fn get_with<D>(self, mut channel: StagedChannel, decoder: D) -> anyhow::Result<()>
    where
        D: AnyDecoder + Clone + Send + Sync + 'static,
        D::Item: Payload + Sync,
    {
        let messages = self.workload.messages_per_stream();
        let request = pb_owned::GetRequest { messages, chunk_size: self.workload.chunk as u64 };
        // Flow control holds the server to what the client reads.
        let mut pace = self.workload.rate_bits.map(Pace::new);
        let received = match self.tuning.deframe {
            Deframe::Contiguous => {
                let codec = Pair(ProstEncoder::stock(stock_buffers()), decoder);
                let mut grpc = tonic::client::Grpc::new(channel);
                grpc.ready().await.map_err(|error| anyhow::anyhow!(error))?;
                let path = PathAndQuery::from_static(Scenario::Get.path());
                let mut stream = grpc.server_streaming(tonic::Request::new(request), path, codec).await?.into_inner();
                let mut received = 0;
                while let Some(message) = stream.message().await? {
                    received += self.received(message)?;
                    if let Some(pace) = &mut pace {
                        pace.wait(self.workload.chunk).await;
                    }
                }
                received
            }
            Deframe::Rope => {
                let mut body = BytesMut::with_capacity(64);
                put_prefix(request.encoded_len(), &mut body)?;
                request.encode(&mut body)?;
                let body = Body::new(http_body_util::Full::new(body.freeze()));
                let response = call(&mut channel, Scenario::Get, body).await?.map(Body::new);
                let mut stream = RopeStreaming::response(decoder, response, &[CompressionEncoding::Gzip])?;
                let mut received = 0;
                while let Some(message) = stream.message().await? {
                    received += self.received(message)?;
                    if let Some(pace) = &mut pace {
                        pace.wait(self.workload.chunk).await;
                    }
                }
                received
            }
        };
        ensure!(received == messages, "asked for {messages} messages, received {received}");
        Ok(())
    }

    fn received(&self, message: impl Payload) -> anyhow::Result<u64> {
        let bytes = message.payload().len();
        ensure!(bytes == self.workload.chunk, "asked for {} bytes, received {bytes}", self.workload.chunk);
        drop(message);
        self.meter.message(bytes);
        Ok(1)
    }

    async fn unary(self, link: Link) -> anyhow::Result<Vec<u64>> {
        let buffers = codec_buffers(&self.tuning);
        match self.tuning.codec {
            Codec::Prost => {
                let codec = Pair(ProstEncoder::stock(buffers), ProstDecoder::<pb_owned::User>::new(buffers));
                self.unary_with(link, codec, sample_user()).await
            }
            Codec::Swapped => self.unary_with(link, swap_codec(buffers), SwapUser::from(&sample_user())).await,
        }
    }

    async fn unary_with<U, E, D>(self, link: Link, codec: Pair<E, D>, sample: U) -> anyhow::Result<Vec<u64>>
    where
        U: UserRecord + Clone + Sync,
        E: AnyEncoder<Item = U> + Clone + Send + Sync + 'static,
        D: AnyDecoder<Item = U> + Clone + Send + Sync + 'static,
    {
        match link {
            Link::Hyper(_) => bail!("unary calls go over a channel, or a lean client"),
            Link::Channel(channel) => {
                self.calls(ChannelCaller { grpc: tonic::client::Grpc::new(channel), codec, sample }).await
            }
            Link::Lean(client) => self.calls(LeanCaller { client, codec, sample }).await,
        }
    }

    /// Makes the calls one after the other, checks every answer, and keeps the latencies of the measured part.
    async fn calls(self, mut caller: impl Caller) -> anyhow::Result<Vec<u64>> {
        let count = self.workload.messages_per_stream();
        let mut latencies = {
            let _guard = Stage::Instrument.enter();
            Vec::with_capacity(count as usize)
        };
        for index in 0..count {
            let started = Instant::now();
            let user = caller.call().await?;
            let latency = started.elapsed();
            ensure!(user.is_created(), "the server answered with another user than it was to create");
            if (self.workload.warmup..count - self.workload.warmup).contains(&index) {
                latencies.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            self.meter.message(user.bytes());
        }
        Ok(latencies)
    }
}

/// Makes one `CreateUser` call.
trait Caller: Send {
    type User: UserRecord;

    fn call(&mut self) -> impl Future<Output = anyhow::Result<Self::User>> + Send;
}

/// Calls as generated code does, over tonic's channel.
struct ChannelCaller<U, E, D> {
    grpc: tonic::client::Grpc<StagedChannel>,
    codec: Pair<E, D>,
    sample: U,
}

impl<U, E, D> Caller for ChannelCaller<U, E, D>
where
    U: UserRecord + Clone + Sync,
    E: Encoder<Item = U, Error = Status> + Clone + Send + Sync + 'static,
    D: Decoder<Item = U, Error = Status> + Clone + Send + Sync + 'static,
{
    type User = U;

    async fn call(&mut self) -> anyhow::Result<U> {
        self.grpc.ready().await.map_err(|error| anyhow::anyhow!(error))?;
        let path = PathAndQuery::from_static(Scenario::Unary.path());
        let request = tonic::Request::new(self.sample.clone());
        Ok(self.grpc.unary(request, path, self.codec.clone()).await?.into_inner())
    }
}

/// Calls on the connection itself. The message is borrowed: nothing outlives its encoding.
struct LeanCaller<U, E, D> {
    client: LeanClient,
    codec: Pair<E, D>,
    sample: U,
}

impl<U, E, D> Caller for LeanCaller<U, E, D>
where
    U: UserRecord + Sync,
    E: AnyEncoder<Item = U> + Send,
    D: AnyDecoder<Item = U> + Send,
{
    type User = U;

    async fn call(&mut self) -> anyhow::Result<U> {
        let Pair(encoder, decoder) = &mut self.codec;
        Ok(self.client.unary(encoder, decoder, &self.sample).await?)
    }
}

async fn client_streaming<S, E, D>(
    channel: StagedChannel,
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
    Ok(grpc.client_streaming(tonic::Request::new(messages), path, codec).await?.into_inner())
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
    body: Body,
) -> anyhow::Result<http::Response<<StagedChannel as tonic::client::GrpcService<Body>>::ResponseBody>> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    Ok(channel.call(connect::request(scenario.path(), body)).await?)
}

fn percentiles(mut latencies: Vec<u64>) -> Option<Latency> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    let at = |percent: usize| latencies[last * percent / 100];
    Some(Latency { p50_ns: at(50), p99_ns: at(99), max_ns: latencies[last] })
}

pin_project_lite::pin_project! {
    /// A stream held to a rate: after each item, waits until its bytes have had their time.
    struct Paced<S> {
        #[pin]
        inner: S,
        pause: Option<Pause>,
    }
}

struct Pause {
    pace: Pace,
    bytes: usize,
    /// When the next item may go, and the timer that waits for it.
    due: Option<Instant>,
    sleep: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl<S> Paced<S> {
    fn new(inner: S, bytes: usize, rate_bits: Option<u64>) -> Self {
        let pause = rate_bits.map(|rate| Pause {
            pace: Pace::new(rate),
            bytes,
            due: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        });
        Paced { inner, pause }
    }
}

impl<S: Stream> Stream for Paced<S> {
    type Item = S::Item;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<S::Item>> {
        let this = self.project();
        if let Some(pause) = this.pause {
            if pause.due.is_none() {
                pause.due = pause.pace.next(pause.bytes);
            }
            if let Some(due) = pause.due {
                pause.sleep.as_mut().reset(due.into());
                std::task::ready!(pause.sleep.as_mut().poll(cx));
                pause.due = None;
            }
        }
        this.inner.poll_next(cx)
    }
}
