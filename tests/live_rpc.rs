//! The counters and profiles over gRPC.
#![cfg(all(feature = "live", feature = "transport"))]

use std::hint::black_box;
use std::time::{Duration, Instant};

use alloc_ladder::live::pb::allocations_client::AllocationsClient;
use alloc_ladder::live::pb::{Kind, ProfileRequest, SnapshotRequest};
use alloc_ladder::stage::Scope;
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};

#[path = "support/pprof.rs"]
mod pprof;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const PROFILE: &str = "/alloc_ladder.v1.Allocations/Profile";
const SNAPSHOT: &str = "/alloc_ladder.v1.Allocations/Snapshot";

// The client's task waits while a profile lasts, and the server's goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_answers_what_the_endpoints_answer() {
    let scope = Scope::new(Method::register(Side::Server, "/rpc.Test/Get"), Stage::Handler);
    let block = {
        let _guard = scope.enter();
        black_box(vec![0u8; 12_345])
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let server = tokio::spawn(
        Server::builder()
            .layer(ServerLayer::new().methods([SNAPSHOT]))
            .add_service(alloc_ladder::live::allocations())
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let channel =
        Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects");
    let mut client = AllocationsClient::new(channel);

    let reply = client.snapshot(SnapshotRequest {}).await.expect("answers").into_inner();
    let row = reply.rows.iter().find(|row| row.rpc == "/rpc.Test/Get").expect("a row");
    assert_eq!((row.side.as_str(), row.stage.as_str()), ("server", "handler"));
    assert_eq!(row.tally.expect("a tally").bytes, 12_345);
    let sum: u64 = reply.rows.iter().map(|row| row.tally.expect("a tally").bytes).sum();
    assert_eq!(sum, reply.total.expect("a total").bytes);

    let own = reply.methods.iter().find(|method| method.rpc == SNAPSHOT).expect("its own call");
    assert_eq!((own.side.as_str(), own.open_calls, own.sampled_live_bytes), ("server", 1, None));
    assert!(reply.methods.iter().all(|method| method.open_calls > 0), "{:?}", reply.methods);

    let asker = client.clone();
    let profile = |seconds| {
        let mut client = asker.clone();
        let request = ProfileRequest { kind: Kind::Heap.into(), seconds };
        tokio::spawn(async move { client.profile(request).await.map(|reply| reply.into_inner().pprof) })
    };
    let all = profile(0).await.expect("no panic").expect("answers");
    assert_eq!(all[..2], [0x1f, 0x8b], "gzip");
    assert_eq!(pprof::sum(&all, "alloc_space", "/rpc.Test/Get"), Some(12_345));
    let began = Instant::now();
    let held = [profile(2), profile(2)];
    // Both are under way when they are open; then there is room for no third.
    while open(&mut client, PROFILE).await < 2 {
        assert!(began.elapsed() < Duration::from_secs(2), "the profiles never began");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = profile(0).await.expect("no panic").expect_err("two are being taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let between = {
        let _guard = scope.enter();
        black_box(vec![0u8; 777])
    };
    for profile in held {
        let pprof = profile.await.expect("no panic").expect("answers");
        assert!(began.elapsed() >= Duration::from_secs(2));
        assert_eq!(pprof::sum(&pprof, "alloc_space", "/rpc.Test/Get"), Some(777), "what came in between, alone");
    }
    profile(0).await.expect("no panic").expect("there is room again");
    drop(between);
    let request = ProfileRequest { kind: Kind::Heap.into(), seconds: 301 };
    assert_eq!(client.profile(request).await.expect_err("too long").code(), Code::InvalidArgument);
    server.abort();
    drop(block);
}

/// Open calls of a method as the service says.
async fn open(client: &mut AllocationsClient<Channel>, rpc: &str) -> u64 {
    let reply = client.snapshot(SnapshotRequest {}).await.expect("answers").into_inner();
    reply.methods.iter().find(|method| method.rpc == rpc).map_or(0, |method| method.open_calls)
}
