//! The share of memory without a stage, over connections × streams × kinds of call × runtimes, busy and idle: it is small in
//! every cell, and does not grow with either number.
//!
//! Everything runs in one process: both sides have their seams. TLS has its own cells in `examples/foreign`.
#![cfg(all(feature = "transport", feature = "sampled", feature = "subject"))]
#![allow(clippy::print_stdout, reason = "the table, which is what the test is for")]

use std::fmt::Write;
use std::net::SocketAddr;
use std::pin::Pin;

use alloc_ladder::sampled::{Live, SampledAlloc};
use alloc_ladder::tonic::{ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

/// One sample in so many bytes: a connection of some 30 KB is sampled a few times on each side.
const EVERY: u64 = 8192;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(EVERY, CountingAlloc::new());

/// The most of what a cell allocates, or holds, that may have no stage.
const SHARE_MAX: f64 = 0.02;

static CONNECTING: Semaphore = Semaphore::const_new(64);

/// Bytes that a cell spends once on a runtime and this test.
const ONCE_BYTES: f64 = 16_384.0;

/// Standard deviations that an estimate may be off: the cells are some forty, and none of them may fail by chance.
const SIGMAS: f64 = 4.0;

/// The most of `bytes` that may have no stage.
fn unstaged_max(bytes: f64) -> f64 {
    SHARE_MAX * bytes + ONCE_BYTES
}

/// How far the sampler's estimate of so much may be off: blocks are small beside [`EVERY`], so each sample stands for that
/// much, and their number is Poisson's.
fn noise(bytes: f64) -> f64 {
    SIGMAS * (bytes * EVERY as f64).sqrt()
}

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: request.into_inner().name }))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let replies = request.into_inner().map(|request| request.map(|request| HelloReply { message: request.name }));
        Ok(Response::new(Box::pin(replies)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    connections: usize,
    /// Of each connection.
    streams: usize,
    streaming: bool,
    /// Messages or calls of each stream.
    messages: usize,
}

/// One caller of one stream; it stays open until it is dropped.
enum Caller {
    Unary(GreeterClient<alloc_ladder::tonic::ClientService<tonic::transport::Channel>>),
    Streaming(mpsc::Sender<HelloRequest>, Box<Streaming<HelloReply>>),
}

impl Caller {
    async fn call(&mut self) {
        let request = HelloRequest { name: "x".repeat(100) };
        let reply = match self {
            Caller::Unary(client) => client.say_hello(request).await.expect("answers").into_inner(),
            Caller::Streaming(requests, replies) => {
                requests.send(request).await.expect("the stream is open");
                replies.message().await.expect("an answer").expect("the stream is open")
            }
        };
        assert_eq!(reply.message.len(), 100);
    }
}

async fn callers(addr: SocketAddr, cell: Cell) -> Vec<Caller> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    let client = GreeterClient::new(alloc_ladder::tonic::connect(endpoint).await.expect("connects"));
    let mut callers = Vec::with_capacity(cell.streams);
    for _ in 0..cell.streams {
        let mut client = client.clone();
        callers.push(if cell.streaming {
            let (requests, receiver) = mpsc::channel(1);
            let replies = client.chat(ReceiverStream::new(receiver)).await.expect("answers").into_inner();
            Caller::Streaming(requests, Box::new(replies))
        } else {
            Caller::Unary(client)
        });
    }
    callers
}

/// Opens the cell's connections and streams and calls on them.
async fn load(addr: SocketAddr, cell: Cell) -> Vec<Vec<Caller>> {
    let mut tasks = JoinSet::new();
    for _ in 0..cell.connections {
        // The seams' own counterparts here, which are nobody's service: the callers' tasks.
        let connection = async move {
            // A listener's queue holds 128 connections that were not accepted yet.
            let turn = CONNECTING.acquire().await.expect("never closed");
            let mut callers = callers(addr, cell).await;
            callers[0].call().await;
            drop(turn);
            for caller in &mut callers {
                for _ in 0..cell.messages {
                    caller.call().await;
                }
            }
            callers
        };
        let _guard = Stage::Handler.enter();
        tasks.spawn(alloc_ladder::stage::FutureExt::staged(connection, Stage::Handler));
    }
    let mut open = Vec::new();
    while let Some(callers) = tasks.join_next().await {
        open.push(callers.expect("no panic"));
    }
    open
}

/// A figure of a cell, in bytes.
struct Figure {
    all: f64,
    unstaged: f64,
    unstaged_max: f64,
}

/// What a cell allocates from its first connection to its last answer, and what it holds then, with its streams open: in all
/// and without a stage.
async fn run(cell: Cell, accepts: Accepts) -> [Figure; 2] {
    let before = Snapshot::of_process();
    let live_before = Live::read();
    let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = incoming.local_addr().expect("bound");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // What a service makes once, in its own code.
    let guard = Stage::Handler.enter();
    let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(Hello));
    let server = server.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    });
    drop(guard);
    let measured = async move {
        let open = load(addr, cell).await;
        let counted = Snapshot::of_process() - before;
        let live = Live::read();
        let of = |live: &Live, other: bool| -> f64 {
            let rows = live.rows.iter().filter(|(scope, _)| !other || scope.stage() == Stage::Other);
            rows.map(|(_, estimate)| estimate.bytes).sum()
        };
        let held = |other| of(&live, other) - of(&live_before, other);
        drop(open);
        let _ = stop.send(());
        let allocated = counted.total().bytes as f64;
        let most = unstaged_max(held(false).max(0.0));
        [
            Figure {
                all: allocated,
                unstaged: counted.stage(Stage::Other).bytes as f64,
                unstaged_max: unstaged_max(allocated),
            },
            Figure { all: held(false), unstaged: held(true), unstaged_max: most + noise(most) },
        ]
    };
    match accepts {
        Accepts::Task => {
            let server = tokio::spawn(server);
            let figures = tokio::spawn(measured).await.expect("no panic");
            server.await.expect("no panic").expect("serves");
            figures
        }
        Accepts::Main => {
            let measured = tokio::spawn(measured);
            server.await.expect("serves");
            measured.await.expect("no panic")
        }
    }
}

/// Where a server accepts connections.
#[derive(Clone, Copy, Debug)]
enum Accepts {
    /// In a task of its own.
    Task,
    /// In `main`, which is no task.
    Main,
}

/// Adds a line a cell to `table`; returns the cells with too much.
fn check(runtime: &tokio::runtime::Runtime, name: &str, cells: &[Cell], table: &mut String) -> Vec<String> {
    let mut missed = Vec::new();
    // Where it accepts matters by connection.
    let main = cells.iter().filter(|cell| (20..5000).contains(&cell.connections)).map(|cell| (cell, Accepts::Main));
    for (cell, accepts) in cells.iter().map(|cell| (cell, Accepts::Task)).chain(main) {
        let figures = runtime.block_on(run(*cell, accepts));
        let Cell { connections, streams, streaming, messages } = cell;
        let kind = if *streaming { "streaming" } else { "unary" };
        let mut line = format!("{name:<14} {accepts:<6?} {kind:<9} {connections:>11} {streams:>7} {messages:>8}");
        let mut is_missed = false;
        for Figure { all, unstaged, unstaged_max } in figures {
            write!(line, "  {:>11.0} {:>8.2} %", all / 1000.0, 100.0 * unstaged / all).expect("a string");
            is_missed |= unstaged > unstaged_max;
        }
        writeln!(table, "{line}").expect("a string");
        if is_missed {
            missed.push(line);
        }
    }
    missed
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for streaming in [false, true] {
        for (connections, streams) in [(1, 1), (1, 20), (1, 1000), (30, 30), (1000, 1)] {
            for messages in [1, 20] {
                // Idle connections and streams that have said one thing, and busy ones.
                if connections * streams * messages <= 5000 {
                    cells.push(Cell { connections, streams, streaming, messages });
                }
            }
        }
    }
    cells.push(Cell { connections: 5000, streams: 1, streaming: true, messages: 1 });
    cells
}

// One test: the counters are the process's.
#[test]
fn the_share_without_a_stage_is_small_in_every_cell() {
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut table = format!(
        "{:<14} {:<6} {:<9} {:>11} {:>7} {:>8}  {:>11} {:>10}  {:>11} {:>10}\n",
        "runtime", "accept", "calls", "connections", "streams", "messages", "kB", "no stage", "live kB", "no stage"
    );
    let mut missed = check(&current, "current-thread", &cells(), &mut table);
    missed.append(&mut check(&multi, "multi-thread", &cells(), &mut table));
    println!("{table}");
    assert!(missed.is_empty(), "more than {} % without a stage:\n{}", 100.0 * SHARE_MAX, missed.join("\n"));
}
