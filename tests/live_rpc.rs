//! The counters and profiles over gRPC.
#![cfg(all(feature = "live", feature = "transport"))]

use std::hint::black_box;
use std::time::{Duration, Instant};

use alloc_ladder::live::pb::allocations_client::AllocationsClient;
use alloc_ladder::live::pb::allocations_server::AllocationsServer;
use alloc_ladder::live::pb::{Kind, ProfileRequest, SnapshotRequest};
use alloc_ladder::live::{Allocations, Token, allocations, allocations_for_anybody, allocations_with};
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

// The test's own thread allocates while a profile lasts, and the server's tasks go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_answers_what_the_endpoints_answer() {
    tokio::time::timeout(Duration::from_secs(120), answers()).await.expect("nothing hangs");
}

async fn answers() {
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
            .add_service(allocations())
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let channel =
        Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects");
    let mut client = AllocationsClient::new(channel);

    let reply = client.snapshot(SnapshotRequest {}).await.expect("answers").into_inner();
    let row = reply.rows.iter().find(|row| row.rpc == "/rpc.Test/Get").expect("a row");
    assert_eq!((row.side.as_str(), row.stage.as_str()), ("server", "handler"));
    assert_eq!(row.tally.expect("a tally").bytes, 12_345);
    assert_eq!((row.sampled_live_bytes, row.sampled_live_bytes_error), (None, None), "nothing samples here");
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
    let hold = || {
        let mut client = asker.clone();
        tokio::spawn(async move {
            loop {
                // One that is asked for below may come first.
                let request = ProfileRequest { kind: Kind::Heap.into(), seconds: 300 };
                match client.profile(request).await {
                    Err(refused) if refused.code() == Code::ResourceExhausted => {}
                    ended => panic!("{ended:?}"),
                }
            }
        })
    };
    let held = [hold(), hold()];
    // Once both are under way there is room for no third.
    let refused = loop {
        if let Err(refused) = profile(0).await.expect("no panic") {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("two profiles"), "{refused}");
    assert!(open(&mut client, PROFILE).await >= 2, "they last on");
    // A caller that goes away leaves room for others.
    held.iter().for_each(tokio::task::JoinHandle::abort);
    while let Err(refused) = profile(0).await.expect("no panic") {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }

    // Nobody but the service knows when its second begins and ends, so one block follows another until it has answered.
    let (began, lasting) = (Instant::now(), profile(1));
    let mut made = 0;
    while !lasting.is_finished() {
        let _guard = scope.enter();
        drop(black_box(vec![0u8; 777]));
        made += 1;
    }
    let pprof = lasting.await.expect("no panic").expect("answers");
    assert!(began.elapsed() >= Duration::from_secs(1));
    let bytes = pprof::sum(&pprof, "alloc_space", "/rpc.Test/Get").expect("some blocks fell into it");
    assert!((777..=777 * made).contains(&bytes) && bytes % 777 == 0, "{bytes} bytes: what came in between, alone");
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

#[tokio::test]
async fn without_the_token_nothing_is_answered() {
    let token = Token::new("s3cret").expect("a token");
    let answer = |service: AllocationsServer<Allocations>, sent: Option<&'static str>| async move {
        let mut request = tonic::Request::new(SnapshotRequest {});
        if let Some(sent) = sent {
            request.metadata_mut().insert("authorization", sent.parse().expect("a value"));
        }
        let done = AllocationsClient::new(service.clone()).snapshot(request).await.map(drop);
        let long = ProfileRequest { seconds: u32::MAX, kind: 0 };
        let profile = AllocationsClient::new(service).profile(long).await.expect_err("too long, or refused");
        (done.map_or_else(|status| status.code(), |()| Code::Ok), profile.code())
    };
    let refused = (Code::Unauthenticated, Code::Unauthenticated);
    for wrong in [None, Some("s3cret"), Some("Bearer s3cre"), Some("Bearer s3cret2")] {
        assert_eq!(answer(allocations_with(token.clone()), wrong).await, refused, "{wrong:?}");
    }
    let sent = Some("Bearer s3cret");
    assert_eq!(answer(allocations_with(token), sent).await, (Code::Ok, Code::Unauthenticated), "each call sends it");
    // Nobody knows from where a call within the process comes.
    assert_eq!(answer(allocations(), None).await, refused);
    assert_eq!(answer(allocations_for_anybody(), None).await, (Code::Ok, Code::InvalidArgument));
}
