//! What clients that mean no good can do to a service with the layer on it: no count is lost, no row appears that the
//! service does not answer to, and nothing stays behind.
#![cfg(feature = "transport")]
#![expect(unsafe_code, reason = "an allocator that counts for itself")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::Streaming;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

/// Counts blocks with one shared counter: slow, and beyond doubt.
struct Witness;

static BLOCKS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every method hands its arguments unchanged to the system's allocator and returns its result.
unsafe impl GlobalAlloc for Witness {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

#[global_allocator]
static ALLOC: CountingAlloc<Witness> = CountingAlloc::wrapping(Witness);

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

const CHAT: &str = "/greeter.v1.Greeter/Chat";
const HELLO: &str = "/greeter.v1.Greeter/SayHello";
const STREAMS: u64 = 10_000;
const STREAMS_A_CONNECTION: u64 = 1000;
const UNKNOWN: usize = 3000;
const GARBAGE: usize = 300;
/// What may stay of a flood: caches of the runtime and of the allocator's callers.
const REST_BYTES: u64 = 1 << 20;

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: request.into_inner().name }))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let echo = request.into_inner().map(|request| request.map(|request| HelloReply { message: request.name }));
        Ok(Response::new(Box::pin(echo)))
    }
}

// One test function: the counters are the process's.
#[test]
fn no_flood_loses_a_count_or_leaves_anything_behind() {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let address = server.block_on(serve());
    // What is made once is not growth.
    client().block_on(async { greet(&mut GreeterClient::new(connect(address).await)).await });
    for flood in [unknown_methods, open_streams, garbage] {
        let live = Snapshot::live_bytes();
        flood(address);
        client().block_on(async { greet(&mut GreeterClient::new(connect(address).await)).await });
        falls(Snapshot::live_bytes, live + REST_BYTES, "live bytes");
        assert_eq!(Method::find(Side::Server, CHAT).expect("registered").open_calls(), 0);
    }
    server.shutdown_timeout(Duration::from_secs(10));
    // Nobody else allocates any more, so both must have seen the same.
    let mut snapshot = Snapshot::empty();
    let before = BLOCKS.load(Ordering::SeqCst);
    snapshot.read();
    assert_eq!(snapshot.total().blocks, before, "blocks counted, and blocks there were");
    assert_eq!(snapshot.rows().map(|row| row.tally.blocks).sum::<u64>(), before);
}

async fn serve() -> SocketAddr {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("binds").with_nodelay(Some(true));
    let address = incoming.local_addr().expect("bound");
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_A_CONNECTION as u32)
        .layer(ServerLayer::new().methods([CHAT, HELLO]))
        .add_service(GreeterServer::new(Hello));
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

/// A runtime of its own for each client, so that its connections end with it.
fn client() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("connects")
}

async fn greet(client: &mut GreeterClient<Channel>) {
    let reply = client.say_hello(HelloRequest { name: "tonic".to_owned() }).await.expect("the server answers");
    assert_eq!(reply.into_inner().message, "tonic");
}

/// Waits until `value` is at most `limit`: connections end soon after their sockets do.
fn falls(value: impl Fn() -> u64, limit: u64, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while value() > limit && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = value();
    assert!(now <= limit, "{now} {what} after the flood, at most {limit} expected");
}

/// Methods nobody serves: they get no row, neither on the server nor on a client with the layer, which may be a gateway
/// that calls what it was asked to.
fn unknown_methods(address: SocketAddr) {
    let (before, nobodys) = (Method::registered(), blocks_of(Method::NONE));
    client().block_on(async {
        let channel = connect(address).await;
        let mut plain = tonic::client::Grpc::new(channel.clone());
        let mut layered = tonic::client::Grpc::new(tower_layer::Layer::layer(&ClientLayer, channel));
        for index in 0..UNKNOWN {
            let path = PathAndQuery::try_from(format!("/flood.Service{index}/Method")).expect("a path");
            let codec = || tonic_prost::ProstCodec::<HelloRequest, HelloReply>::default();
            plain.ready().await.expect("connected");
            layered.ready().await.expect("connected");
            let answers = [
                plain.unary(Request::new(HelloRequest::default()), path.clone(), codec()).await,
                layered.unary(Request::new(HelloRequest::default()), path, codec()).await,
            ];
            for answer in answers {
                assert_eq!(answer.expect_err("nobody serves it").code(), Code::Unimplemented);
            }
        }
    });
    assert_eq!(Method::registered(), before, "names from the wire became rows");
    assert_eq!(blocks_of(Method::OVERFLOW), 0);
    let nobodys = blocks_of(Method::NONE) - nobodys;
    assert!(nobodys > UNKNOWN as u64, "{nobodys} blocks without a method");
    for method in [Method::NONE, Method::find(Side::Server, HELLO).expect("registered")] {
        falls(|| method.open_calls(), 0, "open calls");
    }
}

fn blocks_of(method: Method) -> u64 {
    let snapshot = Snapshot::of_process();
    snapshot.rows().filter(|row| row.method == method.name()).map(|row| row.tally.blocks).sum()
}

/// Streams that are all open at once.
fn open_streams(address: SocketAddr) {
    let method = Method::find(Side::Server, CHAT).expect("registered");
    let before = blocks_of(method);
    client().block_on(async {
        let mut chats = Vec::new();
        for _ in 0..STREAMS / STREAMS_A_CONNECTION {
            let mut client = GreeterClient::new(connect(address).await);
            for _ in 0..STREAMS_A_CONNECTION {
                let (requests, receiver) = mpsc::channel::<HelloRequest>(1);
                let replies = client.chat(ReceiverStream::new(receiver)).await.expect("the stream opens").into_inner();
                chats.push((requests, replies));
            }
        }
        assert_eq!(method.open_calls(), STREAMS);
        for (requests, replies) in chats.iter_mut().step_by(10) {
            requests.send(HelloRequest { name: "x".repeat(100) }).await.expect("the stream is open");
            let reply = replies.message().await.expect("an answer").expect("the stream is open");
            assert_eq!(reply.message.len(), 100);
        }
        assert_eq!(method.open_calls(), STREAMS);
    });
    falls(|| method.open_calls(), 0, "open calls");
    assert!(blocks_of(method) - before > STREAMS, "each stream has at least its box");
}

/// Bytes that are no HTTP/2, or begin as if they were.
fn garbage(address: SocketAddr) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    for round in 0..GARBAGE {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        let bytes: Vec<u8> = (0..4000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        // Writes may fail: the server hangs up on what it cannot read.
        let _ = match round % 4 {
            0 => stream.write_all(&bytes),
            1 => stream.write_all(PREFACE).and_then(|()| stream.write_all(&bytes)),
            // A settings frame, then the first half of headers.
            2 => stream
                .write_all(PREFACE)
                .and_then(|()| stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]))
                .and_then(|()| stream.write_all(&[0, 1, 0, 1, 4, 0, 0, 0, 1, 0x82, 0x86])),
            _ => stream.write_all(b"POST /greeter.v1.Greeter/Chat HTTP/1.1\r\nHost: x\r\n\r\n"),
        };
        // Dropped: the other half never comes.
    }
}
