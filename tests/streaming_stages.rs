//! A streaming handler's own allocations are its own: those before it asks for the first message too, and those of
//! a task that takes no guard.

#![cfg(feature = "transport")]

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, missing_docs, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

use std::hint::black_box;
use std::pin::Pin;

use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec, StagedStream};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

const CHAT: &str = "/greeter.v1.Greeter/Chat";
/// Sizes nothing else has a multiple of, so that a row tells whose they are.
const BEFORE: usize = 3_000_017;
const AFTER: usize = 5_000_011;
const UNGUARDED: usize = 7_000_003;
/// A message that a client refuses unless told otherwise: its limit is 4 MiB.
const TOO_LONG: usize = 5 << 20;

struct Chat;

#[tonic::async_trait]
impl Greeter for Chat {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: "x".repeat(TOO_LONG) }))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        drop(black_box(vec![1u8; BEFORE]));
        let mut requests = request.into_inner();
        while requests.next().await.transpose()?.is_some() {
            drop(black_box(vec![1u8; AFTER]));
        }
        let replies = tokio_stream::iter((0..3).map(|_| Ok(HelloReply { message: "x".repeat(100_000) })));
        Ok(Response::new(Box::pin(StagedStream::new(replies))))
    }
}

fn bytes(counted: &Snapshot, side: Option<Side>, stage: Stage) -> u64 {
    counted.rows().filter(|row| row.method.side == side && row.stage == stage).map(|row| row.tally.bytes).sum()
}

async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let server = Server::builder()
        .layer(ServerLayer::new().methods([CHAT]))
        .add_service(GreeterServer::new(Chat))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    format!("http://{addr}")
}

// On one thread, so that a window that stays open reaches whatever runs next.
#[tokio::test]
async fn what_a_handler_allocates_is_the_handlers() {
    let channel = Endpoint::from_shared(serve().await).expect("an address").connect().await.expect("connects");
    let requests = || tokio_stream::iter(vec![HelloRequest { name: "y".repeat(50_000) }; 2]);
    let sum = (BEFORE + 2 * AFTER) as u64;

    let layered = tower::ServiceBuilder::new().layer(ClientLayer.methods([CHAT])).service(channel.clone());
    let before = Snapshot::of_process();
    let mut replies = GreeterClient::new(layered).chat(requests()).await.expect("answers").into_inner();
    drop(black_box(vec![1u8; UNGUARDED]));
    while replies.next().await.transpose().expect("nothing fails").is_some() {}
    let counted = Snapshot::of_process() - before;
    let handler = bytes(&counted, Some(Side::Server), Stage::Handler);
    assert!((sum..sum + 100_000 * 8).contains(&handler), "{handler}\n{counted}");
    for side in Side::ALL {
        let received = bytes(&counted, Some(side), Stage::ReceiveBuffer);
        let message = if side == Side::Server { 50_000 } else { 0 };
        assert!((message..1_000_000).contains(&received), "{side} {received}\n{counted}");
    }
    assert!(bytes(&counted, None, Stage::ReceiveBuffer) < 1_000_000, "{counted}");
    assert!(bytes(&counted, None, Stage::Other) >= UNGUARDED as u64, "{counted}");

    // Without the layer no guard ends the client's windows: they must not reach beyond a buffer.
    let before = Snapshot::of_process();
    let mut replies = GreeterClient::new(channel.clone()).chat(requests()).await.expect("answers").into_inner();
    tokio::task::yield_now().await;
    drop(black_box(vec![1u8; UNGUARDED]));
    while replies.next().await.transpose().expect("nothing fails").is_some() {}
    let counted = Snapshot::of_process() - before;
    assert!(bytes(&counted, None, Stage::ReceiveBuffer) < 1_000_000, "{counted}");
    assert!(bytes(&counted, None, Stage::Other) >= UNGUARDED as u64, "{counted}");

    // A message that is refused is never decoded, so none of the hooks that close a window follows.
    let layered = tower::ServiceBuilder::new().layer(ClientLayer).service(channel);
    let before = Snapshot::of_process();
    let refused = GreeterClient::new(layered).say_hello(HelloRequest::default()).await.expect_err("too long");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    for _ in 0..8 {
        drop(black_box(vec![1u8; UNGUARDED]));
    }
    let counted = Snapshot::of_process() - before;
    assert!(bytes(&counted, None, Stage::ReceiveBuffer) < 1_000_000, "{counted}");
    assert!(bytes(&counted, None, Stage::Other) >= 8 * UNGUARDED as u64, "{counted}");
}
