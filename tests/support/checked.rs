//! A handler for the subject's service, and traffic for its client, that check each byte they receive.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::Options;
use alloc_ladder::steps::Http2;
use alloc_ladder::subject::calls::{Connection, Download, Upload};
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{StepSet, Tuning, ladder};
use alloc_ladder::subject::message::{Outgoing, Payload};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::pb::owned::{GetRequest, PutSummary};
use alloc_ladder::subject::scenario::{RECEIVE_LIMIT, Scenario, Workload};
use alloc_ladder::subject::secure::Security;
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::{Counting, Handler, Ladder};
use alloc_ladder::subject::user::UnaryRecord;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

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

/// The content of one message: no two neighbours of a call have a byte in common at any place.
pub(crate) fn content(seed: u8, index: usize, len: usize) -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    const OFFSETS: usize = 4096;
    let pattern = PATTERN.get_or_init(|| (0..2 * RECEIVE_LIMIT).map(|at| (at * 3 + at / 256) as u8).collect());
    let first = (seed as usize * 7 + index * 13) % OFFSETS;
    pattern.slice(first..first + len)
}

/// What a call asks the service to do, in headers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) seed: u8,
    pub(crate) sizes: Vec<usize>,
    pub(crate) then: Then,
}

/// What the service does besides checking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl Plan {
    pub(crate) fn of(seed: u8, sizes: &[usize]) -> Plan {
        Plan { seed, sizes: sizes.to_vec(), then: Then::Done }
    }

    pub(crate) fn then(self, then: Then) -> Plan {
        Plan { then, ..self }
    }

    const HEADER: &str = "x-plan";

    fn headers(&self) -> HeaderMap {
        let json = serde_json::to_string(self).expect("a plan is JSON");
        HeaderMap::from_iter([(HeaderName::from_static(Plan::HEADER), json.parse().expect("JSON is a header value"))])
    }

    /// The planned messages, and messages of 64 KiB for ever after them where the stream is `endless`.
    fn contents<M: Outgoing>(&self, endless: bool) -> impl Iterator<Item = M> + Send + use<M> {
        let Plan { seed, sizes, .. } = self.clone();
        let planned =
            sizes.into_iter().enumerate().map(move |(index, len)| M::with_payload(&content(seed, index, len)));
        let more = endless.then(|| content(seed, 0, 65_536)).into_iter();
        planned.chain(more.flat_map(|payload| std::iter::repeat_with(move || M::with_payload(&payload))))
    }

    /// Compares a received message with the one that was sent.
    fn check(&self, index: usize, payload: &[u8]) -> Result<(), Status> {
        let sent = self.sizes.get(index).map(|len| content(self.seed, index, *len));
        if sent.as_deref() == Some(payload) {
            return Ok(());
        }
        let (len, planned) = (payload.len(), self.sizes.get(index));
        let same =
            sent.map_or(0, |sent| sent.iter().zip(payload).take_while(|(sent, received)| sent == received).count());
        Err(Status::data_loss(format!("message {index}: {len} bytes, {planned:?} were sent, {same} are the same")))
    }
}

/// What handlers have done, for tests to wait for.
#[derive(Default)]
pub(crate) struct Seen {
    /// Messages received, or handed to the transport.
    pub(crate) messages: watch::Sender<u64>,
    /// Calls whose handler has ended, or whose response was dropped.
    ended: watch::Sender<u64>,
}

impl Seen {
    pub(crate) async fn messages(&self, count: u64) {
        self.messages.subscribe().wait_for(|seen| *seen >= count).await.expect("`self` keeps the sender");
    }

    pub(crate) async fn ended(&self, calls: u64) {
        self.ended.subscribe().wait_for(|ended| *ended >= calls).await.expect("`self` keeps the sender");
    }
}

/// Counts a call as ended when dropped.
struct Ended(Arc<Seen>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// The handler that checks.
#[derive(Clone, Default)]
pub(crate) struct Checking {
    plan: Plan,
    seen: Arc<Seen>,
}

impl Handler for Checking {
    fn of_call(&self, headers: &HeaderMap) -> Self {
        let plan = serde_json::from_slice(headers[Plan::HEADER].as_bytes()).expect("a plan");
        Checking { plan, seen: Arc::clone(&self.seen) }
    }

    async fn put<M: Payload>(self, mut messages: Streaming<M>) -> Result<PutSummary, Status> {
        let Checking { plan, seen } = self;
        let _ended = Ended(Arc::clone(&seen));
        if plan.then == Then::Refuse {
            return Err(Status::failed_precondition("refused"));
        }
        let mut summary = PutSummary::default();
        loop {
            if plan.then == Then::Stop && summary.messages as usize == plan.sizes.len() {
                std::future::pending::<()>().await;
            }
            let Some(message) = messages.message().await? else { return Ok(summary) };
            plan.check(summary.messages as usize, message.payload())?;
            summary.messages += 1;
            summary.bytes += message.payload().len() as u64;
            drop(message);
            seen.messages.send_modify(|messages| *messages += 1);
            if plan.then == Then::Fail && summary.messages as usize == plan.sizes.len() {
                return Err(Status::aborted("enough"));
            }
        }
    }

    fn get<M: Outgoing>(self, _: GetRequest) -> Result<impl Stream<Item = Result<M, Status>> + Send + 'static, Status> {
        let Checking { plan, seen } = self;
        let ended = Ended(Arc::clone(&seen));
        if plan.then == Then::Refuse {
            return Err(Status::failed_precondition("refused"));
        }
        let fails = (plan.then == Then::Fail).then(|| Err(Status::aborted("enough")));
        Ok(tokio_stream::iter(plan.contents::<M>(plan.then == Then::Stop).map(Ok).chain(fails).inspect(move |_| {
            let _whole = &ended;
            seen.messages.send_modify(|messages| *messages += 1);
        })))
    }

    fn create_user(&self, user: &mut impl UnaryRecord) {
        user.create();
    }
}

/// The size that settings are made for: larger messages span frames.
fn settings(tuning: &Tuning) -> Option<Http2> {
    http2::settings(tuning, &Workload::default())
}

/// The subject's server on a thread of its own, which ends with it.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) seen: Arc<Seen>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(tuning: Tuning) -> Running {
        let handler = Checking::default();
        Running::handled_by(tuning, Arc::clone(&handler.seen), handler)
    }

    /// With the measured handler, which takes any messages; its window never opens.
    pub(crate) fn counting(tuning: Tuning) -> Running {
        let never = Workload { warmup: u64::MAX / 4, messages: 1, ..Workload::default() };
        let (meter, _) = Meter::new(Side::Server, &never, 0, Options::default());
        Running::handled_by(tuning, Arc::default(), Counting::new(Arc::new(meter), 0))
    }

    fn handled_by(tuning: Tuning, seen: Arc<Seen>, handler: impl Handler) -> Running {
        let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.address().expect("an address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let ladder = Ladder::handled_by(tuning, handler);
        let serve = move || {
            let stopped = serve::run(tuning, settings(&tuning), ladder, listener, stopped).expect("serves to the end");
            stopped.expect_err("the sender is dropped");
        };
        Running { address, seen, stop: Some(stop), thread: Some(std::thread::spawn(serve)) }
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

/// What the client sends: the messages of a plan.
pub(crate) struct Sending<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) end: End,
    /// Called before each message.
    pub(crate) before: Arc<dyn Fn() + Send + Sync>,
}

/// What comes after a client's planned messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// Nothing, and the stream stays open.
    Open,
    /// Messages of 64 KiB for ever.
    Endless,
}

impl Upload for Sending<'_> {
    fn headers(&self) -> HeaderMap {
        self.plan.headers()
    }

    fn outgoing<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + 'static {
        let before = Arc::clone(&self.before);
        let messages = self.plan.contents(self.end == End::Endless).inspect(move |_| before());
        let open = tokio_stream::iter((self.end == End::Open).then_some(())).then(|()| std::future::pending());
        tokio_stream::iter(messages).chain(open)
    }
}

/// What the client receives: the messages of a plan, with `after` called after each.
struct Receiving<'a, A> {
    plan: &'a Plan,
    received: usize,
    after: A,
}

impl<A: FnMut(usize) -> F + Send, F: Future<Output = ()> + Send> Download for Receiving<'_, A> {
    fn headers(&self) -> HeaderMap {
        self.plan.headers()
    }

    fn request(&self) -> GetRequest {
        GetRequest::default()
    }

    async fn received<M: Payload>(&mut self, message: M) -> anyhow::Result<()> {
        self.plan.check(self.received, message.payload())?;
        drop(message);
        (self.after)(self.received).await;
        self.received += 1;
        Ok(())
    }
}

/// The subject's client on one connection.
#[derive(Clone)]
pub(crate) struct Caller(Connection);

impl Caller {
    pub(crate) async fn connect(scenario: Scenario, tuning: Tuning, server: &Running) -> Caller {
        let connection = Connection::open(tuning, settings(&tuning), (&server.address, Security::Plain), scenario);
        Caller(connection.await.expect("the server listens"))
    }

    pub(crate) async fn put(&self, plan: &Plan) -> Result<PutSummary, Status> {
        self.send(&Sending { plan, end: End::Done, before: Arc::new(|| {}) }).await
    }

    pub(crate) async fn send(&self, upload: &Sending<'_>) -> Result<PutSummary, Status> {
        self.0.clone().put(upload).await.map_err(status)
    }

    /// Receives what the plan says and checks it; how many messages there were.
    pub(crate) async fn get(&self, plan: &Plan) -> Result<usize, Status> {
        self.get_slowly(plan, |_| std::future::ready(())).await
    }

    /// The same; `after` each message is called with its index, and waited for.
    pub(crate) async fn get_slowly<F: Future<Output = ()> + Send>(
        &self,
        plan: &Plan,
        after: impl FnMut(usize) -> F + Send,
    ) -> Result<usize, Status> {
        let mut download = Receiving { plan, received: 0, after };
        self.0.clone().get(&mut download).await.map_err(status)?;
        Ok(download.received)
    }
}

/// The status that a call of the subject's client failed with.
fn status(error: anyhow::Error) -> Status {
    error.downcast().unwrap_or_else(|error| Status::from_error(error.into()))
}

/// Runs the client's side of a test on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // So that a call that hangs is a failure with a name. No assertion depends on how long it is.
    let limited = async { tokio::time::timeout(Duration::from_secs(300), future).await };
    runtime.block_on(limited).expect("nothing hangs")
}
