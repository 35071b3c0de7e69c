//! What services that nobody here wrote allocate for a message: arrow-flight's streams, an OTLP collector's `Export` and
//! tonic-health's `Check`. Their sources, this one too, are the same with and without the patch of `Cargo.toml`.
//!
//! `cargo run --release` prints the blocks a message or call, and how many of them were grown, on each side.

mod flight;
mod unary;

use std::io::Write;
use std::sync::{Arc, Mutex};

use alloc_ladder::steps::{Http2, aligned, connect};
use alloc_ladder::{CountingAlloc, Snapshot};
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tower::util::MapRequestLayer;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// Messages before and after those that are measured.
const EDGE: u64 = 500;
const MESSAGES: u64 = 3000;

/// Is told of every message, on the thread of its side.
type Tick = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// `DoPut`, of messages that were coded before: what the protocol allocates.
    Put,
    /// `DoGet`, of such messages.
    Get,
    /// `DoPut` of record batches, coded and decoded by arrow.
    PutBatches,
    /// `DoGet` of record batches.
    GetBatches,
    /// An OTLP exporter's call.
    Export,
    /// A health check.
    Check,
}

impl Call {
    const ALL: [Call; 6] = [Call::Put, Call::Get, Call::PutBatches, Call::GetBatches, Call::Export, Call::Check];

    fn is_stream(self) -> bool {
        !matches!(self, Call::Export | Call::Check)
    }

    fn routes(self, tick: Tick) -> Routes {
        match self {
            Call::Put | Call::Get | Call::PutBatches | Call::GetBatches => flight::routes(self, tick),
            Call::Export => unary::collector(),
            Call::Check => unary::health(),
        }
    }

    async fn drive(self, channel: Channel, tick: Tick) -> anyhow::Result<()> {
        match self {
            Call::Put | Call::Get | Call::PutBatches | Call::GetBatches => flight::drive(self, channel, tick).await,
            Call::Export => unary::export(channel, tick).await,
            Call::Check => unary::check(channel, tick).await,
        }
    }
}

/// Reads the counters of the thread that ticks, at two ticks.
struct Meter(Mutex<(u64, [Snapshot; 2])>);

impl Meter {
    fn new() -> Arc<Meter> {
        Arc::new(Meter(Mutex::new((0, [(); 2].map(|()| Snapshot::empty())))))
    }

    fn tick(self: &Arc<Meter>) -> Tick {
        let meter = Arc::clone(self);
        Arc::new(move || {
            let mut state = meter.0.lock().expect("no panic");
            state.0 += 1;
            if let Some(at) = [EDGE, MESSAGES - EDGE].iter().position(|at| *at == state.0) {
                state.1[at].read_thread();
            }
        })
    }

    /// Blocks a message, and how many of them were grown.
    fn result(&self) -> [f64; 2] {
        let (ticks, [before, after]) = self.0.lock().expect("no panic").clone();
        assert_eq!(ticks, MESSAGES);
        let counted = (after - before).total();
        [counted.blocks, counted.reallocs].map(|value| value as f64 / (MESSAGES - 2 * EDGE) as f64)
    }
}

/// The server's and the client's figures, each on a thread of its own. `http2` is what both announce and align their reads
/// to; `None` leaves tonic's transport as it is.
fn measure(call: Call, http2: Option<Http2>) -> [[f64; 2]; 2] {
    let [server, client] = [(); 2].map(|()| Meter::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let (tick, of_client) = (server.tick(), client.tick());
    let serving = std::thread::spawn(move || {
        block_on(async move {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
            tell.send(incoming.local_addr().expect("an address").to_string()).expect("listened to");
            let of_call = Arc::clone(&tick);
            let calls = MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
                if !call.is_stream() {
                    of_call();
                }
                request
            });
            let (routes, stopped) = (call.routes(tick), async move { drop(stopped.await) });
            let server = http2.unwrap_or(Http2::SERVER).server(Server::builder()).layer(calls).add_routes(routes);
            match http2 {
                None => server.serve_with_incoming_shutdown(incoming, stopped).await,
                Some(http2) => server.serve_with_incoming_shutdown(aligned(incoming, http2), stopped).await,
            }
            .expect("serves");
        });
    });
    let endpoint = Endpoint::from_shared(format!("http://{}", told.recv().expect("it listens"))).expect("a URI");
    let calling = std::thread::spawn(move || {
        block_on(async move {
            let channel = match http2 {
                None => endpoint.connect().await,
                Some(http2) => connect(endpoint, http2).await,
            };
            call.drive(channel.expect("the server listens"), of_client).await.expect("goes well");
        });
    });
    calling.join().expect("the client ends");
    drop(stop);
    serving.join().expect("the server ends");
    [server.result(), client.result()]
}

/// Runs a future as a task of a runtime of this thread: what `block_on` is given itself is polled seldom.
fn block_on(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await }).expect("no panic");
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "blocks a message or call, and how many of them are reallocs")?;
    let tuned = Http2::for_messages(flight::message_bytes());
    for call in Call::ALL {
        for (transport, http2) in [("as it is", None), ("aligned", Some(tuned))] {
            if http2.is_none() || call.is_stream() {
                let [server, client] = measure(call, http2);
                writeln!(
                    out,
                    "{:<12} {transport:<10} server {:>7.3} {:>6.3}  client {:>7.3} {:>6.3}",
                    format!("{call:?}"),
                    server[0],
                    server[1],
                    client[0],
                    client[1],
                )?;
            }
        }
    }
    Ok(())
}
