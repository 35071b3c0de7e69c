//! The client process: makes the traffic of a case and checks what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::either::Either;
use tonic::body::Body;
use tonic::client::GrpcService;

use super::calls::{BoxError, Connection, Download, Link, Upload, unready};
use super::codec::{ProstCodec, grpc};
use super::echo::{InTurn, Turns};
use super::export::{SwapExport, sample_export};
use super::fan_out::client as fan_out;
use super::http2;
use super::lean::client::LeanClient;
use super::message::{Outgoing, Payload, content};
use super::metadata::Metadata;
use super::meter::Meter;
use super::secure::Security;
use super::swap::SwapUser;
use super::user::{UnaryRecord, sample_user};
use crate::record::Latency;
use crate::stage::{Scope, Staged};
use crate::steps;
use crate::subject::ladder::{Bodies, Codec, Tuning};
use crate::subject::pb::owned::{self as pb_owned, Export};
use crate::subject::peer::pace::Pace;
use crate::subject::scenario::{Rpc, SPAN_BYTES, Scenario, Workload};
use crate::{Side, Stage};

/// How often a stream that is open all the time sends a message.
const IDLE_EVERY: Duration = Duration::from_secs(60);
/// How often the client looks whether the measured part is over where streams are open all the time, and how long the server
/// then has to receive the last of it.
const IDLE_LOOK: Duration = Duration::from_millis(50);
const IDLE_TAIL: Duration = Duration::from_millis(500);

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

impl Client {
    /// Makes all traffic of the case; returns the latencies of unary calls.
    ///
    /// # Errors
    /// When a call fails or the server counted something else than was sent.
    pub async fn run(self, scenario: Scenario, address: &str) -> anyhow::Result<Option<Latency>> {
        let settings = http2::settings(&self.tuning, &self.workload);
        let rpc = Rpc::of(scenario, &self.workload);
        let mut connections = Vec::new();
        for _ in 0..self.workload.connections {
            let address = (address, Security::of(self.workload.tls));
            let connection = Connection::open(self.tuning, settings, address, rpc).await?;
            connections.push(connection.compressed(self.workload.compress));
        }
        let method = crate::Method::register(Side::Client, rpc.path());
        let mut streams = JoinSet::new();
        for stream in 0..self.workload.streams {
            let connection = connections[stream as usize % connections.len()].clone();
            let client = self.clone();
            let work = async move {
                match rpc {
                    Rpc::Put => client.put(connection, stream).await.map(|()| Vec::new()),
                    Rpc::Get | Rpc::Echo => client.receive(connection).await.map(|()| Vec::new()),
                    Rpc::CreateUser => client.unary(connection.link).await,
                }
            };
            streams.spawn(Staged::new(Scope::new(method, Stage::Handler), work));
        }
        if self.workload.idle {
            return self.idle(streams).await.map(|()| None);
        }
        let mut latencies = Vec::new();
        while let Some(stream) = streams.join_next().await {
            latencies.extend(stream.context("a stream's task failed")??);
        }
        Ok(percentiles(latencies))
    }

    /// Keeps the streams open until the measured part is over, and then as long as the last of it takes to arrive.
    async fn idle<T: 'static>(self, mut streams: JoinSet<anyhow::Result<T>>) -> anyhow::Result<()> {
        while !self.meter.is_done() {
            if let Ok(ended) = tokio::time::timeout(IDLE_LOOK, streams.join_next()).await {
                ended.context("there are no streams")?.context("a stream's task failed")??;
                bail!("a stream that was to stay open ended");
            }
        }
        tokio::time::sleep(IDLE_TAIL).await;
        Ok(())
    }

    async fn put(self, connection: Connection, stream: u32) -> anyhow::Result<()> {
        let sent = self.workload.messages_per_stream();
        let expected = sent * self.workload.chunk as u64;
        let traffic = Metered { stream, ..Metered::new(&self) };
        let summary = connection.put(&traffic).await?;
        ensure!(
            self.workload.idle || (summary.messages, summary.bytes) == (sent, expected),
            "sent {sent} messages of {expected} bytes, the server counted {} of {}",
            summary.messages,
            summary.bytes,
        );
        Ok(())
    }

    /// Receives the messages of a `Get`, or those of an `Echo`, which it sends meanwhile.
    async fn receive(self, connection: Connection) -> anyhow::Result<()> {
        if self.workload.spans > 0 {
            return self.subscribe(connection).await;
        }
        let mut traffic = Metered::new(&self);
        match self.workload.echo {
            0 => connection.get(&mut traffic).await?,
            _ => connection.echo(&mut traffic).await?,
        }
        let (messages, received) = (self.workload.messages_per_stream(), traffic.received);
        ensure!(received == messages, "asked for {messages} messages, received {received}");
        Ok(())
    }

    /// Receives the exports of a `Get`.
    async fn subscribe(self, Connection { link, compress, .. }: Connection) -> anyhow::Result<()> {
        let (messages, spans) = (self.workload.messages_per_stream(), self.workload.spans as usize);
        let bytes = spans * SPAN_BYTES;
        let mut count = 0;
        let received = |export: Export| {
            ensure!(export.spans.len() == spans, "asked for {spans} spans, received {}", export.spans.len());
            drop(export);
            self.meter.message(bytes);
            count += 1;
            Ok(())
        };
        let how = (&self.tuning, compress);
        match link {
            Link::Channel(channel) => fan_out::subscribe(channel, how, messages, received).await?,
            Link::Lean(channel) => fan_out::subscribe(channel, how, messages, received).await?,
            Link::ByHand(_) => bail!("a client written by hand makes unary calls alone"),
        }
        ensure!(count == messages, "asked for {messages} messages, received {count}");
        Ok(())
    }

    async fn unary(self, link: Link) -> anyhow::Result<Vec<u64>> {
        match (self.workload.spans, self.tuning.codec) {
            (0, Codec::Prost) => self.unary_with(link, sample_user()).await,
            (0, Codec::Swapped) => self.unary_with(link, SwapUser::from(&sample_user())).await,
            (spans, Codec::Prost) => self.unary_with(link, sample_export(spans)).await,
            (spans, Codec::Swapped) => self.unary_with(link, SwapExport::from(&sample_export(spans))).await,
        }
    }

    async fn unary_with<U: UnaryRecord>(self, link: Link, sample: U) -> anyhow::Result<Vec<u64>> {
        let codec = ProstCodec::of_users(&self.tuning);
        let Workload { compress, metadata, .. } = self.workload;
        let metadata = Metadata::new(metadata);
        match (link, self.tuning.bodies) {
            (Link::Channel(channel), Bodies::Stock) => {
                let grpc = grpc!(tonic::client::Grpc::new(channel), compress);
                self.calls(StockCaller { grpc, codec, sample, metadata }).await
            }
            (Link::Channel(channel), Bodies::Recycled) => {
                let grpc = grpc!(steps::client::Grpc::new(channel), compress);
                self.calls(RecycledCaller { grpc, codec, sample, metadata }).await
            }
            (Link::Lean(channel), Bodies::Stock) => {
                let grpc = grpc!(tonic::client::Grpc::new(channel), compress);
                self.calls(StockCaller { grpc, codec, sample, metadata }).await
            }
            (Link::Lean(channel), Bodies::Recycled) => {
                let grpc = grpc!(steps::client::Grpc::new(channel), compress);
                self.calls(RecycledCaller { grpc, codec, sample, metadata }).await
            }
            (Link::ByHand(client), _) => self.calls(HandCaller { client, sample }).await,
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
            ensure!(user.is_created(), "the server answered with something else than it was to create");
            if (self.workload.warmup..count - self.workload.warmup).contains(&index) {
                latencies.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            self.meter.message(user.encoded_len());
        }
        Ok(latencies)
    }
}

/// The measured traffic: messages of one size, counted, and held to a rate where one is given.
struct Metered {
    workload: Workload,
    meter: Arc<Meter>,
    received: u64,
    pace: Option<Pace>,
    /// Where what is sent comes back.
    turns: Option<Turns>,
    /// Which of the client's streams it is.
    stream: u32,
}

impl Metered {
    fn new(client: &Client) -> Metered {
        let Client { workload, meter, .. } = client;
        // Flow control holds the server to what the client reads.
        let pace = workload.rate_bits.map(Pace::new);
        let turns = (workload.echo > 0).then(|| Turns::of(workload.echo));
        Metered { workload: *workload, meter: Arc::clone(meter), received: 0, pace, turns, stream: 0 }
    }

    /// What a stream sends that is open all the time: its warm-up when it opens, the first message of which may be a large
    /// one, and then a message a minute, each stream at its own second.
    fn idle<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + use<M> {
        let (workload, payload, meter) = (self.workload, content(self.workload.chunk), Arc::clone(&self.meter));
        // The timer is not what is measured, but the client's to keep all the same.
        let after = IDLE_EVERY * self.stream / workload.streams;
        let ticks = tokio::time::interval_at(tokio::time::Instant::now() + after, IDLE_EVERY);
        let large = (workload.large_first > 0).then_some(workload.large_first as usize);
        let opening = (0..workload.warmup).map(move |nth| large.filter(|_| nth == 0));
        tokio_stream::iter(opening).chain(IntervalStream::new(ticks).map(|_| None)).map(move |large| {
            // Made when it is sent: a stream that waits holds none of it.
            let payload = large.map_or_else(|| payload.clone(), content);
            meter.message(payload.len());
            M::with_payload(&payload)
        })
    }
}

impl Upload for Metered {
    fn outgoing<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + 'static {
        let Workload { chunk, rate_bits, .. } = self.workload;
        if self.workload.idle {
            return Either::Left(self.idle());
        }
        let payload = content(chunk);
        // What comes back is counted when it does.
        let meter = (self.workload.echo == 0).then(|| Arc::clone(&self.meter));
        let mut left = self.workload.messages_per_stream();
        let source = tokio_stream::iter(std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = M::with_payload(&payload);
            if let Some(meter) = &meter {
                meter.message(payload.len());
            }
            Some(message)
        }));
        Either::Right(Paced::new(InTurn::new(source, self.turns.clone()), chunk, rate_bits))
    }
}

impl Download for Metered {
    fn request(&self) -> pb_owned::GetRequest {
        let Workload { chunk, .. } = self.workload;
        pb_owned::GetRequest { messages: self.workload.messages_per_stream(), chunk_size: chunk as u64 }
    }

    async fn received<M: Payload>(&mut self, message: M) -> anyhow::Result<()> {
        let bytes = message.payload().len();
        ensure!(bytes == self.workload.chunk, "asked for {} bytes, received {bytes}", self.workload.chunk);
        drop(message);
        self.meter.message(bytes);
        self.received += 1;
        if let Some(turns) = &self.turns {
            turns.back();
        }
        if let Some(pace) = &mut self.pace {
            pace.wait(bytes).await;
        }
        Ok(())
    }
}

/// Makes one `CreateUser` call.
trait Caller: Send {
    type User: UnaryRecord;

    fn call(&mut self) -> impl Future<Output = anyhow::Result<Self::User>> + Send;
}

/// Calls as generated code does.
struct StockCaller<T, U> {
    grpc: tonic::client::Grpc<T>,
    codec: ProstCodec<U, U>,
    sample: U,
    metadata: Metadata,
}

impl<T, U> Caller for StockCaller<T, U>
where
    T: GrpcService<Body, ResponseBody: HttpBody<Error: Into<BoxError>> + Send + 'static> + Send,
    T::Future: Send,
    U: UnaryRecord,
{
    type User = U;

    async fn call(&mut self) -> anyhow::Result<U> {
        self.grpc.ready().await.map_err(unready)?;
        let path = PathAndQuery::from_static(Scenario::Unary.path());
        let request = self.metadata.request(self.sample.clone());
        self.metadata.answered(self.grpc.unary(request, path, self.codec.clone()).await?)
    }
}

/// As generated code does that has the steps' bodies.
struct RecycledCaller<T, U> {
    grpc: steps::client::Grpc<T>,
    codec: ProstCodec<U, U>,
    sample: U,
    metadata: Metadata,
}

impl<T, U> Caller for RecycledCaller<T, U>
where
    T: GrpcService<Body, ResponseBody: HttpBody<Error: Into<BoxError>> + Send + 'static> + Send,
    T::Future: Send,
    U: UnaryRecord,
{
    type User = U;

    async fn call(&mut self) -> anyhow::Result<U> {
        self.grpc.ready().await.map_err(unready)?;
        let path = PathAndQuery::from_static(Scenario::Unary.path());
        let request = self.metadata.request(self.sample.clone());
        self.metadata.answered(self.grpc.unary(request, path, self.codec.clone()).await?)
    }
}

/// Calls on the connection itself. The message is borrowed: nothing outlives its encoding.
struct HandCaller<U> {
    client: LeanClient,
    sample: U,
}

impl<U: UnaryRecord> Caller for HandCaller<U> {
    type User = U;

    async fn call(&mut self) -> anyhow::Result<U> {
        Ok(self.client.unary(&self.sample).await?)
    }
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
