//! The counters and profiles over gRPC.
#![cfg(all(feature = "live", feature = "grpc"))]

use std::hint::black_box;

use alloc_ladder::live::pb::allocations_client::AllocationsClient;
use alloc_ladder::live::pb::{Kind, ProfileRequest, SnapshotRequest};
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Endpoint, Server};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[tokio::test]
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

    let request = ProfileRequest { kind: Kind::Heap.into(), seconds: 0 };
    let pprof = client.profile(request).await.expect("answers").into_inner().pprof;
    assert_eq!(pprof[..2], [0x1f, 0x8b], "gzip");
    let request = ProfileRequest { kind: Kind::Heap.into(), seconds: 301 };
    assert_eq!(client.profile(request).await.expect_err("too long").code(), Code::InvalidArgument);
    server.abort();
    drop(block);
}
