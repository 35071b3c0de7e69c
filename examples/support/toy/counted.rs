// What a stream allocates between its warm-up and its tail, both sides together.

use std::sync::{Arc, Mutex};

use alloc_ladder::steps::{Http2, aligned, connect};
use alloc_ladder::{Snapshot, Tally};
use prost::Message;
use renamed::pb::toy_client::ToyClient;
use renamed::pb::toy_server::ToyServer;
use renamed::pb::{Chunk, GetRequest};
use renamed::{Handler, Tick, chunk};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    Get,
}

/// What serves; the client's is always a current-thread one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    CurrentThread,
    MultiThread,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) call: Call,
    pub(crate) size: usize,
    pub(crate) streams: usize,
    pub(crate) runtime: Runtime,
}

impl Case {
    /// So many that a block which is allocated once is no breach of the limits.
    fn measured(self) -> usize {
        ((192 << 20) / self.size).clamp(2000, 20_000)
    }

    /// What h2 may hold unsent is more than 256 of the short ones, and until it was reached once, rings grow.
    fn warmup(self) -> usize {
        if self.size < 16_384 { 4096 } else { 512 * self.streams.min(8) }
    }

    fn each(self) -> usize {
        (self.warmup() + self.measured() + 256).div_ceil(self.streams)
    }
}

/// Two readings of the process's counters.
struct Readings {
    messages: usize,
    at: [usize; 2],
    readings: [Snapshot; 2],
}

/// Blocks and bytes a message.
fn count(case: Case) -> [f64; 2] {
    let at = [case.warmup(), case.warmup() + case.measured()];
    let readings = Arc::new(Mutex::new(Readings { messages: 0, at, readings: [(); 2].map(|()| Snapshot::empty()) }));
    let tick: Tick = {
        let readings = Arc::clone(&readings);
        Arc::new(move || {
            let mut readings = readings.lock().expect("no panic");
            readings.messages += 1;
            if let Some(index) = readings.at.iter().position(|at| *at == readings.messages) {
                readings.readings[index].read();
            }
        })
    };
    let http2 = Http2::for_streams_of_messages(case.streams, Chunk { data: vec![0; case.size].into() }.encoded_len());
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        run(case.runtime, async move {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
            tell.send(incoming.local_addr().expect("an address")).expect("listened to");
            let server = http2.server(Server::builder()).add_service(ToyServer::new(Handler { tick }));
            let stopped = async move { drop(stopped.await) };
            server.serve_with_incoming_shutdown(aligned(incoming, http2), stopped).await.expect("serves");
        });
    });
    let endpoint = Endpoint::from_shared(format!("http://{}", told.recv().expect("it listens"))).expect("a URI");
    run(Runtime::CurrentThread, async move {
        let client = ToyClient::new(connect(endpoint, http2).await.expect("the server listens"));
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..case.streams {
            streams.spawn(stream(client.clone(), case));
        }
        while let Some(ended) = streams.join_next().await {
            ended.expect("no panic");
        }
    });
    drop(stop);
    server.join().expect("no panic");
    let readings = readings.lock().expect("no panic");
    let [before, after] = &readings.readings;
    assert!(!after.total().is_zero(), "the counters were never read: {} messages", readings.messages);
    let Tally { blocks, bytes, .. } = (after.clone() - before.clone()).total();
    [blocks as f64, bytes as f64].map(|value| value / case.measured() as f64)
}

async fn stream(mut client: ToyClient<tonic::transport::Channel>, case: Case) {
    match case.call {
        Call::Put => {
            let sent = chunk(case.size, 7);
            let chunks = std::iter::repeat_n(sent, case.each());
            let summary = client.put(tokio_stream::iter(chunks)).await.expect("answers").into_inner();
            assert_eq!(summary.messages as usize, case.each());
        }
        Call::Get => {
            let request = GetRequest { messages: case.each() as u64, chunk_size: case.size as u64 };
            let mut chunks = client.get(request).await.expect("answers").into_inner();
            let mut messages = 0;
            while let Some(chunk) = chunks.message().await.expect("goes well") {
                assert_eq!((chunk.data.len(), chunk.data[0]), (case.size, 0xA5));
                messages += 1;
            }
            assert_eq!(messages, case.each());
        }
    }
}

/// Measures up to three times. A machine that stops one side for some milliseconds makes the other use up its window, which
/// cuts a message in two and loses h2's buffer once: that is no steady state, and seldom happens twice.
pub(crate) fn best_of_three(case: Case, blocks_max: f64) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let [blocks, bytes] = count(case);
        println!("{case:?}: {blocks:.4} blocks, {bytes:.1} bytes a message");
        if blocks <= blocks_max {
            return;
        }
        seen.push(blocks);
    }
    panic!("{case:?}: {seen:?} blocks a message");
}

/// Runs a future as a task: what `block_on` is given itself is polled seldom.
fn run(runtime: Runtime, future: impl Future<Output = ()> + Send + 'static) {
    let mut builder = match runtime {
        Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await }).expect("no panic");
}
