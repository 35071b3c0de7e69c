//! What the steps remove from a service that anybody may have written: blocks a message on each side, and the CPU time of
//! both sides together against tonic's, in the same rounds. `cargo run --release -p generated [ROUNDS [CALL]]`, where a call is
//! `put`, `get` or `hello`.

use std::io::Write;
use std::sync::{Arc, Mutex};

use alloc_ladder::steps::{Http2, LeanChannel, aligned, lean};
use alloc_ladder::{CountingAlloc, Snapshot};
use generated::{pooled, steps, stock};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use prost::Message;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// Messages before and after those that are measured, and how many of each stream at least: the calls' own beginnings and
/// ends are no figures of a message.
const EDGE: u64 = 500;
const EDGE_OF_STREAM: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Put,
    Get,
    Hello,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Stock,
    Steps,
    Pooled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tonic,
    Aligned,
    Lean,
    LeanAligned,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    call: Call,
    size: usize,
    streams: u64,
    compression: Option<CompressionEncoding>,
    code: Code,
    transport: Transport,
}

impl Case {
    fn messages(self) -> u64 {
        match (self.call, self.compression) {
            (Call::Hello, None) => 20_000,
            (Call::Hello, Some(_)) => 3_000,
            _ => (256 * 1024 * 1024 / self.size as u64).clamp(2_000, 20_000).max(6 * EDGE_OF_STREAM * self.streams),
        }
    }

    fn edge(self) -> u64 {
        EDGE.max(EDGE_OF_STREAM * self.streams)
    }

    fn http2(self, stock: Http2) -> Http2 {
        match self.transport {
            Transport::Tonic | Transport::Lean => stock,
            Transport::Aligned | Transport::LeanAligned => {
                let chunk = steps::pb::Chunk { data: vec![0; self.size].into() };
                Http2::for_streams_of_messages(self.streams as usize, chunk.encoded_len())
            }
        }
    }
}

/// Reads the counters of the thread that ticks, and the process's CPU time, at two ticks.
struct Meter(Mutex<State>);

struct State {
    ticks: u64,
    at: [u64; 2],
    read: Vec<(Snapshot, i64)>,
}

impl Meter {
    fn new(case: Case) -> Arc<Meter> {
        let at = [case.edge(), case.messages() - case.edge()];
        Arc::new(Meter(Mutex::new(State { ticks: 0, at, read: Vec::with_capacity(2) })))
    }

    fn tick(&self) {
        let mut state = self.0.lock().expect("no panic");
        state.ticks += 1;
        if state.at.contains(&state.ticks) {
            let usage = getrusage(UsageWho::RUSAGE_SELF).expect("always there");
            let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let snapshot = Snapshot::of_thread();
            state.read.push((snapshot, cpu));
        }
    }

    /// Blocks, bytes and microseconds of CPU time a message.
    fn result(&self) -> [f64; 3] {
        let state = self.0.lock().expect("no panic");
        let [(before, began), (after, ended)] = &state.read[..] else { panic!("{} ticks", state.ticks) };
        let counted = (after.clone() - before.clone()).total();
        let messages = (state.at[1] - state.at[0]) as f64;
        [counted.blocks as f64, counted.bytes as f64, (ended - began) as f64].map(|value| value / messages)
    }
}

/// The server's and the client's figures.
fn measure(case: Case) -> [[f64; 3]; 2] {
    let [server, client] = [(); 2].map(|()| Meter::new(case));
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let tick: stock::Tick = {
        let server = Arc::clone(&server);
        Arc::new(move || server.tick())
    };
    let serving = std::thread::spawn(move || {
        block_on(async move {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
            tell.send(incoming.local_addr().expect("an address").to_string()).expect("listened to");
            serve(case, incoming, tick, stopped).await;
        });
    });
    let address = told.recv().expect("the server listens");
    let tick: stock::Tick = {
        let client = Arc::clone(&client);
        Arc::new(move || client.tick())
    };
    std::thread::spawn(move || block_on(call(case, address, tick))).join().expect("the client ends");
    drop(stop);
    serving.join().expect("the server ends");
    [server.result(), client.result()]
}

async fn serve(case: Case, incoming: TcpIncoming, tick: stock::Tick, stopped: oneshot::Receiver<()>) {
    macro_rules! serve {
        ($module:ident) => {{
            let mut service = $module::pb::toy_server::ToyServer::new($module::Handler { tick });
            if let Some(encoding) = case.compression {
                service = service.accept_compressed(encoding).send_compressed(encoding);
            }
            let (http2, stopped) = (case.http2(Http2::SERVER), async move { drop(stopped.await) });
            let server = http2.server(Server::builder()).add_service(service.clone());
            match case.transport {
                Transport::Tonic => server.serve_with_incoming_shutdown(incoming, stopped).await.expect("serves"),
                Transport::Aligned => {
                    server.serve_with_incoming_shutdown(aligned(incoming, http2), stopped).await.expect("serves");
                }
                Transport::Lean => lean::serve_with_shutdown(http2, incoming, service, stopped).await,
                Transport::LeanAligned => {
                    lean::serve_with_shutdown(http2, aligned(incoming, http2), service, stopped).await;
                }
            }
        }};
    }
    match case.code {
        Code::Stock => serve!(stock),
        Code::Steps => serve!(steps),
        Code::Pooled => serve!(pooled),
    }
}

async fn call(case: Case, address: String, tick: stock::Tick) {
    macro_rules! call {
        ($module:ident, $channel:expr) => {{
            let mut client = $module::pb::toy_client::ToyClient::new($channel);
            if let Some(encoding) = case.compression {
                client = client.accept_compressed(encoding).send_compressed(encoding);
            }
            let each = case.messages() / case.streams;
            let mut streams = tokio::task::JoinSet::new();
            for _ in 0..case.streams {
                let (mut client, tick) = (client.clone(), Arc::clone(&tick));
                streams.spawn(async move {
                    match case.call {
                        Call::Put => {
                            let chunk = $module::chunk(case.size, 7);
                            let chunks = tokio_stream::iter(ticked(chunk, each, tick));
                            let summary = client.put(chunks).await.expect("answers").into_inner();
                            assert_eq!((summary.messages, summary.bytes), (each, each * case.size as u64));
                        }
                        Call::Get => {
                            let request = $module::pb::GetRequest { messages: each, chunk_size: case.size as u64 };
                            let mut chunks = client.get(request).await.expect("answers").into_inner();
                            for _ in 0..each {
                                let chunk = chunks.message().await.expect("goes well").expect("a message");
                                assert_eq!(chunk.data.len(), case.size);
                                drop(chunk);
                                tick();
                            }
                            assert!(chunks.message().await.expect("goes well").is_none());
                        }
                        Call::Hello => {
                            let user = $module::user("Ada Lovelace");
                            for _ in 0..each {
                                let answer = client.hello(user.clone()).await.expect("answers").into_inner();
                                assert_eq!((answer.id, answer.subscriptions.len()), (7, 3));
                                tick();
                            }
                        }
                    }
                });
            }
            while let Some(ended) = streams.join_next().await {
                ended.expect("no panic");
            }
        }};
    }
    macro_rules! over {
        ($channel:expr) => {
            match case.code {
                Code::Stock => call!(stock, $channel),
                Code::Steps => call!(steps, $channel),
                Code::Pooled => call!(pooled, $channel),
            }
        };
    }
    let http2 = case.http2(Http2::CLIENT);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    match case.transport {
        Transport::Tonic => over!(endpoint.connect().await.expect("the server listens")),
        Transport::Aligned => {
            over!(alloc_ladder::steps::connect(endpoint, http2).await.expect("the server listens"))
        }
        Transport::Lean => over!(LeanChannel::connect(&address, http2).await.expect("the server listens")),
        Transport::LeanAligned => {
            over!(LeanChannel::connect_aligned(&address, http2).await.expect("the server listens"))
        }
    }
}

/// So many of a message.
fn ticked<M: Clone>(message: M, messages: u64, tick: stock::Tick) -> impl Iterator<Item = M> {
    (0..messages).map(move |_| {
        tick();
        message.clone()
    })
}

/// Runs a future as a task of a runtime of this thread: what `block_on` is given itself is polled seldom.
fn block_on(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await }).expect("no panic");
}

/// Groups of rows, each against its first.
fn groups() -> Vec<Vec<Case>> {
    let stock = Case {
        call: Call::Put,
        size: 64 * 1024,
        streams: 1,
        compression: None,
        code: Code::Stock,
        transport: Transport::Tonic,
    };
    let mut groups = Vec::new();
    for call in [Call::Put, Call::Get] {
        for (size, streams) in [(64 * 1024, 1), (1024, 1), (1 << 20, 1), (64 * 1024, 64)] {
            let stock = Case { call, size, streams, ..stock };
            let steps = Case { code: Code::Steps, ..stock };
            groups.push(vec![
                stock,
                steps,
                Case { transport: Transport::Aligned, ..steps },
                Case { transport: Transport::LeanAligned, ..steps },
            ]);
        }
    }
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let stock = Case { call: Call::Hello, size: 0, compression, ..stock };
        let steps = Case { code: Code::Steps, ..stock };
        let lean = Case { transport: Transport::Lean, ..steps };
        groups.push(vec![stock, steps, lean, Case { code: Code::Pooled, ..lean }]);
    }
    groups
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> std::io::Result<()> {
    let rounds: usize = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut out = std::io::stdout().lock();
    writeln!(out, "blocks and bytes a message on each side; CPU of both together, against the first row of its group")?;
    let only = std::env::args().nth(2);
    for cases in groups() {
        let first = cases[0];
        if only.as_ref().is_some_and(|only| !format!("{:?}", first.call).eq_ignore_ascii_case(only)) {
            continue;
        }
        writeln!(out, "\n{:?}, {} bytes, {} streams, {:?}", first.call, first.size, first.streams, first.compression)?;
        let mut results = vec![Vec::new(); cases.len()];
        // Interleaved, so that what else the machine does falls on all alike; the first round warms up.
        for round in 0..=rounds {
            for (case, results) in cases.iter().zip(&mut results) {
                let measured = measure(*case);
                if round > 0 {
                    results.push(measured);
                }
            }
        }
        for (case, own) in cases.iter().zip(&results) {
            let of = |side: usize, figure: usize| median(own.iter().map(|measured| measured[side][figure]).collect());
            let ratio = median(own.iter().zip(&results[0]).map(|(own, first)| own[0][2] / first[0][2]).collect());
            writeln!(
                out,
                "{:6} {:12} server {:8.3} blocks {:9.0} bytes  client {:8.3} blocks {:9.0} bytes  CPU {:7.2} us {ratio:5.2}",
                format!("{:?}", case.code),
                format!("{:?}", case.transport),
                of(0, 0),
                of(0, 1),
                of(1, 0),
                of(1, 1),
                of(0, 2),
            )?;
        }
    }
    Ok(())
}
