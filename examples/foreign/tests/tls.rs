//! The share of memory without a stage under TLS, over connections × streams × runtimes: the cells of the library's own
//! `tests/matrix.rs` that need rustls. Everything runs in one process: both sides have their seams.

use std::net::SocketAddr;

use alloc_ladder::sampled::{Live, SampledAlloc};
use alloc_ladder::stage::FutureExt;
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Snapshot, Stage};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// One sample in so many bytes: a connection is sampled a few times on each side.
const EVERY: u64 = 8192;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(EVERY, CountingAlloc::new());

/// The most of what a cell allocates, or holds, that may have no stage.
const SHARE_MAX: f64 = 0.02;
/// Bytes that a process spends once, on a runtime and on rustls.
const ONCE_BYTES: f64 = 8.0 * EVERY as f64;
const NAME: &str = "localhost";

static CONNECTING: Semaphore = Semaphore::const_new(32);

#[derive(Clone, Copy, Debug)]
struct Cell {
    connections: usize,
    /// Of each connection, with an answer each, that stay open.
    streams: usize,
    /// Of each connection.
    calls: usize,
}

type Client = HealthClient<alloc_ladder::tonic::ClientService<tonic::transport::Channel>>;

async fn connection(
    addr: SocketAddr,
    certificate: String,
    cell: Cell,
) -> (Client, Vec<tonic::Streaming<tonic_health::pb::HealthCheckResponse>>) {
    let _turn = CONNECTING.acquire().await.expect("never closed");
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name(NAME);
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).expect("an address").tls_config(tls).expect("TLS");
    let mut client = HealthClient::new(alloc_ladder::tonic::connect(endpoint).await.expect("connects"));
    let check = || HealthCheckRequest { service: String::new() };
    for _ in 0..cell.calls {
        client.check(check()).await.expect("answers");
    }
    let mut open = Vec::with_capacity(cell.streams);
    for _ in 0..cell.streams {
        let mut watched = client.watch(check()).await.expect("answers").into_inner();
        watched.message().await.expect("an answer").expect("the stream is open");
        open.push(watched);
    }
    (client, open)
}

/// What a cell allocates from its first connection to its last answer, and what it holds then, with its streams open: in all
/// and without a stage.
async fn run(cell: Cell) -> [(&'static str, f64, f64); 2] {
    let guard = Stage::Handler.enter();
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let certificate = own.cert.pem();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&certificate, own.signing_key.serialize_pem()));
    let before = Snapshot::of_process();
    let live_before = Live::read();
    let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = incoming.local_addr().expect("bound");
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().tls_config(tls).expect("TLS").layer(ServerLayer::new()).add_service(health);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let server = alloc_ladder::tonic::spawn(server.serve_with_incoming_shutdown(incoming, stopped));
    let mut tasks = JoinSet::new();
    for _ in 0..cell.connections {
        tasks.spawn(connection(addr, certificate.clone(), cell).staged(Stage::Handler));
    }
    drop(guard);
    let mut open = Vec::new();
    while let Some(connected) = tasks.join_next().await {
        open.push(connected.expect("no panic"));
    }
    let counted = Snapshot::of_process() - before;
    let live = Live::read();
    let of = |live: &Live, other: bool| -> f64 {
        let rows = live.rows.iter().filter(|(scope, _)| !other || scope.stage() == Stage::Other);
        rows.map(|(_, estimate)| estimate.bytes).sum()
    };
    let held = |other| of(&live, other) - of(&live_before, other);
    drop(open);
    // The next cell begins when all connections of this one are gone.
    let _ = stop.send(());
    server.await.expect("no panic").expect("serves");
    [
        ("allocated", counted.total().bytes as f64, counted.stage(Stage::Other).bytes as f64),
        ("live", held(false), held(true)),
    ]
}

// One test: the counters are the process's.
#[test]
fn the_share_without_a_stage_is_small_in_every_cell_under_tls() {
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut missed = String::new();
    for (name, runtime) in [("current-thread", &current), ("multi-thread", &multi)] {
        // Connections that say nothing, that said one thing, and busy ones.
        let cells = [
            (1, 0, 0),
            (1, 0, 1),
            (1, 1, 1),
            (1, 0, 500),
            (1, 500, 1),
            (20, 20, 20),
            (300, 0, 0),
            (300, 0, 1),
            (300, 1, 1),
            (1000, 1, 1),
        ];
        for (connections, streams, calls) in cells {
            let cell = Cell { connections, streams, calls };
            let figures = runtime.block_on(async { tokio::spawn(run(cell)).await }).expect("no panic");
            for (what, bytes, unstaged) in figures {
                let share = 100.0 * unstaged / bytes;
                println!("{name} {cell:?} {what}: {bytes:.0} bytes, {share:.2} % without a stage");
                if unstaged > SHARE_MAX * bytes + ONCE_BYTES {
                    missed.push_str(&format!("{name} {cell:?} {what}: {share:.2} % of {bytes:.0} bytes\n"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "without a stage:\n{missed}");
}
