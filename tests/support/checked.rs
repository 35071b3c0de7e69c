//! A service that checks what it receives byte for byte, made of the same pieces as the subject, whose own handlers
//! only count; and a client for it. Both are chosen by a tuning, as the subject's are.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::steps::AlignedIo;
use alloc_ladder::subject::body::{Parts, PooledBody};
use alloc_ladder::subject::codec::{AnyDecoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder, stock_buffers};
use alloc_ladder::subject::connect::{self, PartsBody, StagedChannel};
use alloc_ladder::subject::http2::Settings;
use alloc_ladder::subject::ladder::{
    ClientStack, Deframe, Encode, MessageSource, Payload, Reads, StepSet, Tuning, ladder,
};
use alloc_ladder::subject::message::{Outgoing, Payload as _};
use alloc_ladder::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use alloc_ladder::subject::pool::MessagePool;
use alloc_ladder::subject::rope::RopeStreaming;
use alloc_ladder::subject::scenario::{RECEIVE_LIMIT, Scenario, Workload};
use alloc_ladder::subject::service::grpc_response;
use alloc_ladder::tonic::{ServerLayer, StagedIo};
use alloc_ladder::wire::grpc::put_prefix;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec as _, EncodeBody, Streaming};
use tonic::transport::server::Server;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

/// Every step set of a ladder that a case can ask for, and its tuning: each `up-to` and each `only`.
pub(crate) fn step_sets(scenario: Scenario) -> Vec<(String, Tuning)> {
    let sets = |step: &str| [StepSet::UpTo(step.to_owned()), StepSet::Only(step.to_owned())];
    let mut sets: Vec<_> = ladder(scenario)
        .iter()
        .flat_map(|step| sets(step.name))
        .map(|set| (format!("{scenario} {set}"), set.tuning(scenario).expect("a step of the ladder")))
        .collect();
    sets.dedup_by_key(|(_, tuning)| *tuning);
    sets
}

/// The tuning with every step of the ladder.
pub(crate) fn last_step(scenario: Scenario) -> Tuning {
    let last = ladder(scenario).last().expect("a ladder has steps").name;
    StepSet::UpTo(last.to_owned()).tuning(scenario).expect("a step of the ladder")
}

/// The size that settings are made for where a test does not say: larger messages span frames.
const CHUNK: usize = 64 * 1024;

fn settings(tuning: &Tuning, chunk: usize) -> Option<Settings> {
    Settings::of(tuning, &Workload { chunk, ..Workload::default() })
}

/// The content of one message: no two neighbours of a call have a byte in common at any place.
pub(crate) fn content(seed: u8, index: usize, len: usize) -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    const OFFSETS: usize = 4096;
    let pattern = PATTERN.get_or_init(|| (0..2 * RECEIVE_LIMIT).map(|at| (at * 3 + at / 256) as u8).collect());
    let first = (seed as usize * 7 + index * 13) % OFFSETS;
    pattern.slice(first..first + len)
}

/// What a call asks the service to do, in headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) seed: u8,
    pub(crate) sizes: Vec<usize>,
    pub(crate) then: Then,
}

/// What the service does besides checking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// Answers when all is received; ends when all is sent.
    #[default]
    Done,
    /// Answers `FAILED_PRECONDITION` in headers before anything else.
    Refuse,
    /// Answers `ABORTED` after the planned messages, in trailers where there are any.
    Fail,
    /// After the planned messages, receives no more and does not answer; sends messages of 64 KiB for ever.
    Stop,
}

impl Then {
    const ALL: [(Then, &str); 4] =
        [(Then::Done, "done"), (Then::Refuse, "refuse"), (Then::Fail, "fail"), (Then::Stop, "stop")];
}

impl Plan {
    pub(crate) fn of(seed: u8, sizes: &[usize]) -> Plan {
        Plan { seed, sizes: sizes.to_vec(), then: Then::Done }
    }

    pub(crate) fn then(self, then: Then) -> Plan {
        Plan { then, ..self }
    }

    fn headers(&self) -> [(&'static str, String); 3] {
        let runs = self.sizes.chunk_by(usize::eq).map(|run| format!("{}*{}", run[0], run.len()));
        let sizes: Vec<String> = runs.collect();
        let (_, then) = Then::ALL.iter().find(|(then, _)| *then == self.then).expect("all are listed");
        [("x-seed", self.seed.to_string()), ("x-sizes", sizes.join(",")), ("x-then", (*then).to_owned())]
    }

    /// A request that carries the plan.
    fn request<B>(&self, scenario: Scenario, body: B) -> Request<B> {
        let mut request = connect::request(scenario.path(), body);
        for (name, value) in self.headers() {
            request.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        request
    }

    fn read(headers: &HeaderMap) -> Plan {
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        let sizes = text("x-sizes");
        let then = text("x-then");
        let runs = sizes.split(',').filter_map(|run| run.split_once('*'));
        let sizes = runs.map(|(size, count)| (size.parse().expect("a size"), count.parse().expect("a count")));
        Plan {
            seed: text("x-seed").parse().expect("a seed"),
            sizes: sizes.flat_map(|(size, count)| std::iter::repeat_n(size, count)).collect(),
            then: Then::ALL.iter().find(|(_, name)| *name == then).expect("one of them").0,
        }
    }

    pub(crate) fn contents<M: Outgoing>(&self) -> impl Iterator<Item = M> + Send + 'static {
        let Plan { seed, sizes, .. } = self.clone();
        sizes.into_iter().enumerate().map(move |(index, len)| M::with_payload(&content(seed, index, len)))
    }

    /// Compares a received message with the one that was sent.
    pub(crate) fn check(&self, index: usize, payload: &[u8]) -> Result<(), Status> {
        let wrong = |what: String| Err(Status::data_loss(format!("message {index}: {what}")));
        let Some(len) = self.sizes.get(index) else { return wrong("was never sent".to_owned()) };
        if payload.len() != *len {
            return wrong(format!("{} bytes in place of {len}", payload.len()));
        }
        let sent = content(self.seed, index, *len);
        if sent == payload {
            return Ok(());
        }
        let at = sent.iter().zip(payload).position(|(sent, received)| sent != received);
        wrong(format!("another byte at {}", at.expect("they differ")))
    }
}

/// The service, and what it saw.
#[derive(Clone)]
pub(crate) struct Checked {
    tuning: Tuning,
    settings: Option<Settings>,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// Messages received, or handed to the transport.
    pub(crate) messages: AtomicU64,
    /// Calls whose handler has ended, or whose response was dropped.
    pub(crate) ended: AtomicU64,
}

impl Seen {
    /// Waits until so many calls have ended, for some seconds at most.
    pub(crate) async fn ended(&self, calls: u64) {
        for _ in 0..500 {
            if self.ended.load(Ordering::Relaxed) >= calls {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {calls} calls ended", self.ended.load(Ordering::Relaxed));
    }
}

/// Counts a call as ended when dropped.
struct Ended(Arc<Seen>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

type Reply = UnsyncBoxBody<Parts, Status>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tonic::server::NamedService for Checked {
    const NAME: &'static str = "ladder.v1.Ladder";
}

impl Service<Request<Body>> for Checked {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let checked = self.clone();
        Box::pin(async move {
            let put = request.uri().path() == Scenario::Put.path();
            let response = if put { checked.put(request).await } else { checked.get(request).await };
            Ok(response.unwrap_or_else(|status| status.into_http()))
        })
    }
}

/// `$work` with `$decoder` being of the kind the tuning asks for.
macro_rules! with_decoder {
    ($tuning:expr, $decoder:ident => $work:expr) => {
        match ($tuning.message, $tuning.payload) {
            (MessageSource::Fresh, Payload::Vec) => {
                let $decoder = ProstDecoder::<pb_owned::Chunk>::new(stock_buffers());
                $work
            }
            (MessageSource::Fresh, Payload::Bytes) => {
                let $decoder = ProstDecoder::<pb_bytes::Chunk>::new(stock_buffers());
                $work
            }
            (MessageSource::Pooled, Payload::Vec) => {
                let $decoder = PooledDecoder::<pb_owned::Chunk>::new(stock_buffers(), MessagePool::default());
                $work
            }
            (MessageSource::Pooled, Payload::Bytes) => {
                let $decoder = PooledDecoder::<pb_bytes::Chunk>::new(stock_buffers(), MessagePool::default());
                $work
            }
        }
    };
}

/// Either deframer.
enum Messages<D: AnyDecoder> {
    Tonic(Streaming<D::Item>),
    Rope(RopeStreaming<D>),
}

impl<D> Messages<D>
where
    D: AnyDecoder + Send + 'static,
    D::Item: Send + 'static,
{
    async fn next(&mut self) -> Result<Option<D::Item>, Status> {
        match self {
            Messages::Tonic(messages) => messages.message().await,
            Messages::Rope(messages) => messages.message().await,
        }
    }
}

impl Checked {
    pub(crate) fn new(tuning: Tuning, chunk: usize) -> Checked {
        Checked { tuning, settings: settings(&tuning, chunk), seen: Arc::default() }
    }

    async fn put(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let ended = Ended(Arc::clone(&self.seen));
        let plan = Plan::read(request.headers());
        if plan.then == Then::Refuse {
            return Err(Status::failed_precondition("refused"));
        }
        let summary = with_decoder!(self.tuning, decoder => self.receive(decoder, plan, request).await)?;
        let encoder = ProstEncoder::stock(stock_buffers());
        let source = tokio_stream::once(Ok(summary));
        drop(ended);
        Ok(grpc_response(Body::new(EncodeBody::new_server(encoder, source, None, Default::default(), None))))
    }

    async fn receive<D>(&self, decoder: D, plan: Plan, request: Request<Body>) -> Result<pb_owned::PutSummary, Status>
    where
        D: AnyDecoder + Send + 'static,
        D::Item: alloc_ladder::subject::message::Payload,
    {
        let (parts, body) = request.into_parts();
        let mut messages = match self.tuning.deframe {
            Deframe::Contiguous => Messages::Tonic(Streaming::new_request(decoder, body, None, Some(RECEIVE_LIMIT))),
            Deframe::Rope => Messages::Rope(RopeStreaming::request(decoder, &parts.headers, body, &[])?),
        };
        let mut summary = pb_owned::PutSummary::default();
        loop {
            if plan.then == Then::Stop && summary.messages as usize == plan.sizes.len() {
                std::future::pending::<()>().await;
            }
            let Some(message) = messages.next().await? else { break };
            plan.check(summary.messages as usize, message.payload())?;
            summary.messages += 1;
            summary.bytes += message.payload().len() as u64;
            self.seen.messages.fetch_add(1, Ordering::Relaxed);
            if plan.then == Then::Fail && summary.messages as usize == plan.sizes.len() {
                return Err(Status::aborted("enough"));
            }
        }
        Ok(summary)
    }

    /// The response stream of a `Get`, and its end.
    fn chunks<M: Outgoing>(&self, plan: &Plan) -> impl Stream<Item = Result<M, Status>> + Send + 'static {
        let ended = Ended(Arc::clone(&self.seen));
        let seen = Arc::clone(&self.seen);
        let endless = (plan.then == Then::Stop).then(|| content(plan.seed, 0, 65_536));
        let more =
            endless.into_iter().flat_map(|payload| std::iter::repeat_with(move || Ok(M::with_payload(&payload))));
        let fails = (plan.then == Then::Fail).then(|| Err(Status::aborted("enough")));
        tokio_stream::iter(plan.contents::<M>().map(Ok).chain(more).chain(fails).inspect(move |_| {
            let _whole = &ended;
            seen.messages.fetch_add(1, Ordering::Relaxed);
        }))
    }

    async fn get(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let plan = Plan::read(request.headers());
        if plan.then == Then::Refuse {
            return Err(Status::failed_precondition("refused"));
        }
        Ok(grpc_response(match self.tuning.payload {
            Payload::Vec => self.reply::<pb_owned::Chunk>(&plan),
            Payload::Bytes => self.reply::<pb_bytes::Chunk>(&plan),
        }))
    }

    fn reply<M: Outgoing>(&self, plan: &Plan) -> Body {
        let source = self.chunks::<M>(plan);
        let stock = |encoder| EncodeBody::new_server(encoder, source, None, Default::default(), None);
        match self.tuning.encode {
            Encode::Stock => Body::new(stock(ProstEncoder::<M>::stock(stock_buffers()))),
            Encode::Sized => Body::new(stock(ProstEncoder::<M>::sized())),
            Encode::Pooled => Body::new(PooledBody::<_, Bytes>::pooled(Side::Server, self.chunks::<M>(plan))),
            Encode::ZeroCopy | Encode::OneFrame => {
                Body::new(PooledBody::<_, Bytes>::zero_copy(Side::Server, self.chunks::<M>(plan)))
            }
        }
    }

    async fn parts(self, request: Request<Body>) -> Result<Response<Reply>, Infallible> {
        let plan = Plan::read(request.headers());
        if request.uri().path() == Scenario::Get.path() && plan.then != Then::Refuse {
            let body = PooledBody::<_, Parts>::zero_copy(Side::Server, self.chunks::<pb_bytes::Chunk>(&plan));
            return Ok(grpc_response(body.boxed_unsync()));
        }
        let response = self.oneshot(request).await?;
        Ok(response.map(|body| body.map_frame(|frame| frame.map_data(Parts::from)).boxed_unsync()))
    }

    /// Serves until dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let most = self.settings.unwrap_or_default().max_frame_size as usize;
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener)
            .map(|stream| stream.inspect(|stream| stream.set_nodelay(true).expect("a socket")));
        match self.tuning.reads {
            Reads::Stock => self.serve_io(incoming.map(|io| io.map(StagedIo::new))).await,
            Reads::Aligned => {
                let aligned = move |io| StagedIo::new(AlignedIo::server(io).frame_bytes_max(most));
                self.serve_io(incoming.map(move |io| io.map(aligned))).await
            }
        }
    }

    async fn serve_io<IO>(self, incoming: impl Stream<Item = std::io::Result<IO>>)
    where
        IO: AsyncRead + AsyncWrite + tonic::transport::server::Connected + Unpin + Send + 'static,
    {
        if self.tuning.encode == Encode::OneFrame {
            self.serve_hyper(incoming).await
        } else {
            self.serve_tonic(incoming).await
        }
    }

    async fn serve_tonic<IO>(self, incoming: impl Stream<Item = std::io::Result<IO>>)
    where
        IO: AsyncRead + AsyncWrite + tonic::transport::server::Connected + Unpin + Send + 'static,
    {
        let mut server = Server::builder();
        if let Some(settings) = self.settings {
            server = server
                .max_frame_size(settings.max_frame_size)
                .initial_stream_window_size(settings.stream_window)
                .initial_connection_window_size(settings.connection_window);
        }
        server.layer(ServerLayer::new()).add_service(self).serve_with_incoming(incoming).await.expect("serves");
    }

    async fn serve_hyper<IO>(self, incoming: impl Stream<Item = std::io::Result<IO>>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        if let Some(settings) = self.settings {
            builder
                .max_frame_size(settings.max_frame_size)
                .initial_stream_window_size(settings.stream_window)
                .initial_connection_window_size(settings.connection_window);
        }
        let service = tower::service_fn(move |request: Request<Body>| self.clone().parts(request));
        let service = ServerLayer::new().layer(service);
        let service = service.map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new));
        let service = TowerToHyperService::new(service);
        let mut incoming = std::pin::pin!(incoming);
        while let Some(io) = incoming.next().await {
            let connection = builder.serve_connection(TokioIo::new(io.expect("accepts")), service.clone());
            tokio::spawn(async move { connection.await.ok() });
        }
    }
}

/// A server on a thread and runtime of its own, which end with it.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) seen: Arc<Seen>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(tuning: Tuning) -> Running {
        Running::for_chunk(tuning, CHUNK)
    }

    pub(crate) fn for_chunk(tuning: Tuning, chunk: usize) -> Running {
        Running::on(tokio::runtime::Builder::new_current_thread(), tuning, chunk)
    }

    /// On tokio's multi-thread runtime.
    pub(crate) fn on_threads(tuning: Tuning) -> Running {
        Running::on(tokio::runtime::Builder::new_multi_thread(), tuning, CHUNK)
    }

    fn on(mut builder: tokio::runtime::Builder, tuning: Tuning, chunk: usize) -> Running {
        let checked = Checked::new(tuning, chunk);
        let seen = Arc::clone(&checked.seen);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            builder.enable_all().build().expect("a runtime").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                bound.send(listener.local_addr().expect("an address").to_string()).expect("the test waits");
                tokio::select! {
                    () = checked.serve(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the server listens");
        Running { address, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends the server with everything it has open.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A client of one connection.
#[derive(Clone)]
pub(crate) struct Caller {
    tuning: Tuning,
    channel: StagedChannel,
    /// For bodies that the channel does not take.
    parts: Option<SendRequest<PartsBody>>,
}

impl Caller {
    pub(crate) async fn connect(tuning: Tuning, address: &str) -> Caller {
        Caller::for_chunk(tuning, CHUNK, address).await
    }

    pub(crate) async fn for_chunk(tuning: Tuning, chunk: usize, address: &str) -> Caller {
        let settings = settings(&tuning, chunk);
        let channel = connect::channel(&tuning, settings, address, tuning.reads == Reads::Aligned).await;
        let parts = match tuning.client {
            ClientStack::Hyper => Some(connect::hyper(settings, address).await.expect("the server listens")),
            ClientStack::Channel | ClientStack::Lean => None,
        };
        Caller { tuning, channel: channel.expect("the server listens"), parts }
    }

    /// A call with a body of this library's, as the subject's client makes it.
    pub(crate) async fn call(&mut self, scenario: Scenario, plan: &Plan, body: Body) -> Result<Response<Body>, Status> {
        self.send(plan.request(scenario, body)).await
    }

    /// The same over the connection for bodies of parts.
    async fn call_parts(
        &mut self,
        plan: &Plan,
        body: impl http_body::Body<Data = Parts, Error = Status> + Send + 'static,
    ) -> Result<Response<Body>, Status> {
        let sender = self.parts.as_mut().expect("the tuning has it");
        let failed = |error: hyper::Error| Status::from_error(Box::new(error));
        sender.ready().await.map_err(failed)?;
        let body = PartsBody::outgoing(alloc_ladder::Method::NONE, body.boxed_unsync());
        Ok(sender.send_request(plan.request(Scenario::Put, body)).await.map_err(failed)?.map(Body::new))
    }

    /// Any request.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let failed = |error: tonic::transport::Error| Status::from_error(Box::new(error));
        std::future::poll_fn(|cx| self.channel.poll_ready(cx)).await.map_err(failed)?;
        Ok(self.channel.call(request).await.map_err(failed)?.map(Body::new))
    }

    pub(crate) async fn put(&mut self, plan: &Plan) -> Result<pb_owned::PutSummary, Status> {
        match self.tuning.payload {
            Payload::Vec => self.put_stream(plan, tokio_stream::iter(plan.contents::<pb_owned::Chunk>())).await,
            Payload::Bytes => self.put_stream(plan, tokio_stream::iter(plan.contents::<pb_bytes::Chunk>())).await,
        }
    }

    /// Sends what `source` gives.
    pub(crate) async fn put_stream<M: Outgoing>(
        &mut self,
        plan: &Plan,
        source: impl Stream<Item = M> + Send + 'static,
    ) -> Result<pb_owned::PutSummary, Status> {
        let decoder = ProstDecoder::<pb_owned::PutSummary>::new(stock_buffers());
        let encoder = match self.tuning.encode {
            Encode::Sized => ProstEncoder::<M>::sized(),
            _ => ProstEncoder::<M>::stock(stock_buffers()),
        };
        let own = !matches!(self.tuning.encode, Encode::Stock | Encode::Sized);
        if own || self.parts.is_some() {
            let source = source.map(Ok);
            let response = match (self.tuning.encode, self.parts.is_some()) {
                (Encode::Stock | Encode::Sized, _) => {
                    let body = EncodeBody::new_client(encoder, source, None, None);
                    self.call_parts(plan, body.map_frame(|frame| frame.map_data(Parts::from))).await?
                }
                (Encode::Pooled, true) => {
                    self.call_parts(plan, PooledBody::<_, Parts>::pooled(Side::Client, source)).await?
                }
                (_, true) => self.call_parts(plan, PooledBody::<_, Parts>::zero_copy(Side::Client, source)).await?,
                (Encode::Pooled, false) => {
                    let body = PooledBody::<_, Bytes>::pooled(Side::Client, source);
                    self.call(Scenario::Put, plan, Body::new(body)).await?
                }
                (_, false) => {
                    let body = PooledBody::<_, Bytes>::zero_copy(Side::Client, source);
                    self.call(Scenario::Put, plan, Body::new(body)).await?
                }
            };
            let (parts, body) = response.into_parts();
            if let Some(status) = Status::from_header_map(&parts.headers) {
                return Err(status);
            }
            let decoder = Pair(ProstEncoder::<M>::stock(stock_buffers()), decoder).decoder();
            let mut messages = Streaming::new_response(decoder, body, parts.status, None, None);
            let summary = messages.message().await?.ok_or_else(|| Status::data_loss("no summary"))?;
            return match messages.message().await? {
                None => Ok(summary),
                Some(_) => Err(Status::data_loss("two summaries")),
            };
        }
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = tonic::Request::new(source);
        for (name, value) in plan.headers() {
            request.metadata_mut().insert(name, value.parse().expect("a header value"));
        }
        let path = PathAndQuery::from_static(Scenario::Put.path());
        Ok(grpc.client_streaming(request, path, Pair(encoder, decoder)).await?.into_inner())
    }

    /// Receives what the plan says and checks it; `after` each message is called with its index.
    pub(crate) async fn get(&mut self, plan: &Plan) -> Result<usize, Status> {
        self.get_slowly(plan, |_| std::future::ready(())).await
    }

    pub(crate) async fn get_slowly<F: Future<Output = ()> + Send>(
        &mut self,
        plan: &Plan,
        after: impl Fn(usize) -> F + Send + Sync,
    ) -> Result<usize, Status> {
        let tuning = self.tuning;
        with_decoder!(tuning, decoder => self.get_with(decoder, plan, &after).await)
    }

    async fn get_with<D, F: Future<Output = ()> + Send>(
        &mut self,
        decoder: D,
        plan: &Plan,
        after: &(impl Fn(usize) -> F + Send + Sync),
    ) -> Result<usize, Status>
    where
        D: AnyDecoder + Clone + Send + Sync + 'static,
        D::Item: alloc_ladder::subject::message::Payload + Sync,
    {
        let request = pb_owned::GetRequest::default();
        let mut messages = match self.tuning.deframe {
            Deframe::Contiguous => {
                let codec = Pair(ProstEncoder::stock(stock_buffers()), decoder);
                let mut grpc = tonic::client::Grpc::new(self.channel.clone());
                grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
                let mut request = tonic::Request::new(request);
                for (name, value) in plan.headers() {
                    request.metadata_mut().insert(name, value.parse().expect("a header value"));
                }
                let path = PathAndQuery::from_static(Scenario::Get.path());
                Messages::<D>::Tonic(grpc.server_streaming(request, path, codec).await?.into_inner())
            }
            Deframe::Rope => {
                let mut body = BytesMut::new();
                put_prefix(request.encoded_len(), &mut body)?;
                request.encode(&mut body).expect("it grows");
                let body = Body::new(http_body_util::Full::new(body.freeze()));
                Messages::Rope(RopeStreaming::response(decoder, self.call(Scenario::Get, plan, body).await?, &[])?)
            }
        };
        let mut received = 0;
        while let Some(message) = messages.next().await? {
            plan.check(received, message.payload())?;
            drop(message);
            after(received).await;
            received += 1;
        }
        Ok(received)
    }
}

/// Runs the client's side of a test on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(limited).expect("nothing hangs")
}

/// A connection without gRPC or HTTP above the socket.
pub(crate) async fn connect_raw(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("the server listens")
}
