//! The share of memory without a stage, over connections × streams × kinds of call × runtimes, busy and idle: it is small in
//! every cell, and does not grow with either number.
//!
//! Everything runs in one process: both sides have their seams. TLS has its own cells in `examples/foreign`.
#![cfg(all(feature = "transport", feature = "sampled", feature = "subject"))]

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

/// Bytes that a process spends once on a runtime and this test, whatever the cell: some samples' worth.
const ONCE_BYTES: f64 = 2.0 * EVERY as f64;

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

/// What a cell allocates from its first connection to its last answer, and what it holds then, with its streams open.
async fn run(cell: Cell) -> [(&'static str, f64, u64); 2] {
    let before = Snapshot::of_process();
    let live_before = Live::read();
    // The seams' own counterparts here, which are nobody's service: the callers' tasks.
    let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = incoming.local_addr().expect("bound");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let handler = Stage::Handler.enter();
    let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(Hello));
    let server = alloc_ladder::tonic::spawn(server.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    }));
    drop(handler);
    let mut tasks = JoinSet::new();
    for _ in 0..cell.connections {
        let handler = alloc_ladder::stage::FutureExt::staged(
            async move {
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
            },
            Stage::Handler,
        );
        let _guard = Stage::Handler.enter();
        tasks.spawn(handler);
    }
    let mut open = Vec::new();
    while let Some(callers) = tasks.join_next().await {
        open.push(callers.expect("no panic"));
    }
    let counted = Snapshot::of_process() - before;
    let live = Live::read();
    let unstaged = counted.stage(Stage::Other).bytes as f64 / counted.total().bytes as f64;
    let of = |live: &Live, other: bool| -> f64 {
        let rows = live.rows.iter().filter(|(scope, _)| !other || scope.stage() == Stage::Other);
        rows.map(|(_, estimate)| estimate.bytes).sum()
    };
    let held = of(&live, false) - of(&live_before, false);
    let held_unstaged = (of(&live, true) - of(&live_before, true)) / held;
    drop(open);
    let _ = stop.send(());
    server.await.expect("no panic").expect("serves");
    [("allocated", unstaged, counted.total().bytes), ("live", held_unstaged, held as u64)]
}

fn check(runtime: &tokio::runtime::Runtime, name: &str, cells: &[Cell]) {
    for cell in cells {
        let figures = runtime.block_on(async { tokio::spawn(run(*cell)).await }).expect("no panic");
        for (what, share, bytes) in figures {
            let most = SHARE_MAX * bytes as f64 + ONCE_BYTES;
            assert!(
                share * bytes as f64 <= most,
                "{name} {cell:?}: {:.2} % of {bytes} bytes {what} have no stage",
                100.0 * share
            );
        }
    }
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
    check(&current, "current-thread", &cells());
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    check(&multi, "multi-thread", &cells());
}
