//! The last steps of put and get allocate nothing per message, on neither side, nor that of put where the messages come
//! back: what a stream allocates between its warm-up and its tail, on the subject's own service and client.
//!
//! Both sides run on one thread, as tasks of one runtime. What is allocated depends on who runs when: a block of h2's
//! is lost where the connection reads on before the handler has let its message go. With a thread a side, the machine
//! decides that. On one thread tokio's queue does, the same way on a busy machine and an idle one.

#![cfg(feature = "subject")]
#![expect(clippy::print_stderr, reason = "a failure shows the stream it happened in")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use alloc_ladder::driver::instrument::Options;
use alloc_ladder::subject::calls::{Connection, Download, Upload};
use alloc_ladder::subject::echo::{InTurn, Turns};
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{Runtime, StepSet, Tuning, ladder};
use alloc_ladder::subject::message::{Outgoing, Payload};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::pb::owned::GetRequest;
use alloc_ladder::subject::scenario::{Rpc, Scenario, Workload};
use alloc_ladder::subject::secure::Security;
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::{CountingAlloc, Side, Snapshot, Tally};
use bytes::Bytes;
use tokio_stream::{Stream, StreamExt};

/// Parts of the measured messages, each counted by itself.
const PARTS: usize = 10;
/// How many of them may allocate: the kernel, which carries the bytes, may keep some back and so cut a message in two,
/// which loses a block once. A program that loses it by itself does so in every part.
const BREACHES: usize = PARTS / 5;
/// Messages after the measured part, so that its end is as steady as its beginning.
const TAIL: usize = 256;

/// Messages of a part.
fn part(chunk: usize) -> usize {
    ((96 << 20) / chunk).clamp(1000, 10_000) / PARTS
}

/// Messages before the measured part. What h2 may hold unsent is more than 256 of the short ones, and until it was
/// reached once, a sender's pool grows.
fn warmup(chunk: usize) -> usize {
    if chunk < 32_760 { 2048 } else { 512 }
}

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// One after the other: each counts all of its process.
#[test]
fn the_last_step_allocates_nothing_per_message() {
    for (scenario, rpc) in [(Scenario::Put, Rpc::Put), (Scenario::Get, Rpc::Get), (Scenario::Put, Rpc::Echo)] {
        eprintln!("{}", rpc.path());
        nothing_per_message(scenario, rpc);
    }
}

/// Asserts that the ladder's last step allocates nothing per message, on neither side, and that its first step does:
/// or else nothing was counted here.
fn nothing_per_message(scenario: Scenario, rpc: Rpc) {
    let last = ladder(scenario).last().expect("a ladder has steps").name;
    let last = StepSet::UpTo(last.to_owned()).tuning(scenario).expect("a step of the ladder");
    // Messages that wait for the one before them take their time: every other size will do.
    let every = if rpc == Rpc::Echo { 2 } else { 1 };
    for chunk in [4096, 16_384, 32_760, 32_768, 65_536, 262_144, 1 << 20].into_iter().step_by(every) {
        let breaches = breaches(rpc, last, chunk);
        let all = breaches.join("\n");
        assert!(breaches.len() <= BREACHES, "{} of {PARTS} parts allocate\n{all}", breaches.len());
    }
    assert_eq!(breaches(rpc, Tuning::default(), 65_536).len(), PARTS, "parts of the first step that allocate");
}

/// One stream of messages of `chunk` bytes: the parts that allocate for their messages, and what.
fn breaches(rpc: Rpc, tuning: Tuning, chunk: usize) -> Vec<String> {
    // How many threads there are is the one thing that is not the step's here.
    let tuning = Tuning { runtime: Runtime::CurrentThread, ..tuning };
    let settings = http2::settings(&tuning, &Workload { chunk, ..Workload::default() });
    // The server's own window never opens.
    let never = Workload { warmup: u64::MAX / 4, messages: 1, ..Workload::default() };
    let service = Ladder::new(tuning, Arc::new(Meter::new(Side::Server, &never, 0, Options::default()).0), 0);
    let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address().expect("an address");
    let Listener::Tcp(mut listeners) = listener else { panic!("streams go over TCP") };
    let listener = listeners.pop().expect("one for the one runtime");

    let stream = Watched {
        chunk,
        turns: (rpc == Rpc::Echo).then(|| Turns::of(1)),
        received: 0,
        readings: Arc::new(Mutex::new(Readings::of(chunk))),
    };
    let readings = Arc::clone(&stream.readings);
    // A task of its own: the future given to `block_on` runs after up to 61 polls of tasks, so that the connection
    // would read on before the message is dropped.
    let call = async move {
        let connection =
            Connection::open(tuning, settings, (&address, Security::Plain), rpc).await.expect("the server listens");
        match rpc {
            Rpc::Put => stream.put(connection).await,
            Rpc::Get => stream.get(connection).await,
            Rpc::Echo => stream.echo(connection).await,
            Rpc::CreateUser => panic!("it has no stream"),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            end = tokio::spawn(call) => end.expect("the call's assertions hold"),
            end = serve::on_this_runtime(tuning, settings, service, listener) => panic!("the server ended: {end:?}"),
        }
    });
    let readings = readings.lock().expect("no panic");
    readings.breaches(chunk)
}

/// A stream whose messages are watched as they go by.
struct Watched {
    chunk: usize,
    /// Where what is sent comes back, and is watched when it does.
    turns: Option<Turns>,
    received: usize,
    readings: Arc<Mutex<Readings>>,
}

impl Watched {
    fn messages(&self) -> usize {
        warmup(self.chunk) + PARTS * part(self.chunk) + TAIL
    }

    async fn put(self, connection: Connection) {
        let summary = connection.put(&self).await.expect("nothing fails");
        assert_eq!(summary.messages as usize, self.messages());
        assert_eq!(summary.bytes as usize, self.messages() * self.chunk);
    }

    async fn echo(mut self, connection: Connection) {
        connection.echo(&mut self).await.expect("nothing fails");
        assert_eq!(self.received, self.messages());
    }

    async fn get(mut self, connection: Connection) {
        connection.get(&mut self).await.expect("nothing fails");
        assert_eq!(self.received, self.messages());
    }
}

impl Upload for Watched {
    fn outgoing<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + 'static {
        let payload = Bytes::from(vec![0x5A; self.chunk]);
        let readings = self.turns.is_none().then(|| Arc::clone(&self.readings));
        let messages = tokio_stream::iter(0..self.messages()).map(move |index| {
            if let Some(readings) = &readings {
                readings.lock().expect("no panic").at(index);
            }
            M::with_payload(&payload)
        });
        InTurn::new(messages, self.turns.clone())
    }
}

impl Download for Watched {
    fn request(&self) -> GetRequest {
        GetRequest { messages: self.messages() as u64, chunk_size: self.chunk as u64 }
    }

    async fn received<M: Payload>(&mut self, message: M) -> anyhow::Result<()> {
        assert_eq!(message.payload().len(), self.chunk);
        drop(message);
        self.readings.lock().expect("no panic").at(self.received);
        self.received += 1;
        if let Some(turns) = &self.turns {
            turns.back();
        }
        Ok(())
    }
}

/// Readings of the process's counters: both sides together, so what they are within, each side is within.
struct Readings {
    begin: usize,
    part: usize,
    /// One more than there are parts.
    readings: Vec<Snapshot>,
    read: usize,
}

impl Readings {
    fn of(chunk: usize) -> Readings {
        let readings = (0..=PARTS).map(|_| Snapshot::empty()).collect();
        Readings { begin: warmup(chunk), part: part(chunk), readings, read: 0 }
    }

    /// Message `index` goes by.
    fn at(&mut self, index: usize) {
        if index == self.begin + self.read * self.part
            && let Some(reading) = self.readings.get_mut(self.read)
        {
            reading.read();
            self.read += 1;
        }
    }

    fn breaches(&self, chunk: usize) -> Vec<String> {
        assert_eq!(self.read, self.readings.len(), "the stream ended before its last part");
        let parts = self.readings.windows(2).map(|pair| pair[1].clone() - pair[0].clone());
        parts.filter_map(|counted| breach(&counted, self.part, chunk)).collect()
    }
}

/// What is more than two blocks in 100 messages or 0.001 bytes a byte of payload: small blocks that are made or grow
/// once are within that, and a block that holds a payload is not.
fn breach(counted: &Snapshot, messages: usize, chunk: usize) -> Option<String> {
    let Tally { blocks, bytes, .. } = counted.total_without_instrument();
    let within = blocks <= messages as u64 / 50 && bytes <= (messages * chunk / 1000) as u64;
    (!within).then(|| format!("{messages} messages of {chunk} bytes: {blocks} blocks, {bytes} bytes\n{counted}"))
}
