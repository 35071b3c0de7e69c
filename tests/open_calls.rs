//! What the open calls of a method hold, on a service that anybody could have written: a receive buffer that keeps the
//! size of its largest message for as long as the stream lives is visible, and gone with the stream.
#![cfg(all(feature = "live", feature = "transport"))]

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, Side};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

#[path = "support/http.rs"]
mod http;

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(EVERY, CountingAlloc::new());

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

const CHAT: &str = "/greeter.v1.Greeter/Chat";
const LARGE: usize = 2 << 20;
/// What two streams of short messages may hold.
const SMALL: f64 = 512e3;
/// A block of [`LARGE`] bytes is sampled for certain, and its bytes are then known exactly.
const EVERY: u64 = 8 * 1024;

static ANSWER: Notify = Notify::const_new();

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    /// Answers when it is told to.
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        ANSWER.notified().await;
        Ok(Response::new(HelloReply::default()))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let lengths = request
            .into_inner()
            .map(|request| request.map(|request| HelloReply { message: request.name.len().to_string() }));
        Ok(Response::new(Box::pin(lengths)))
    }
}

/// A stream that asks and waits for its answer.
struct Chat {
    requests: mpsc::Sender<HelloRequest>,
    replies: Streaming<HelloReply>,
}

impl Chat {
    async fn open<S>(client: &mut GreeterClient<S>) -> Chat
    where
        S: tonic::client::GrpcService<tonic::body::Body>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let (requests, receiver) = mpsc::channel(1);
        let replies = client.chat(ReceiverStream::new(receiver)).await.expect("answers").into_inner();
        Chat { requests, replies }
    }

    async fn say(&mut self, bytes: usize) {
        let request = HelloRequest { name: "x".repeat(bytes) };
        self.requests.send(request).await.expect("the stream is open");
        let reply = self.replies.message().await.expect("an answer").expect("the stream is open");
        assert_eq!(reply.message, bytes.to_string());
    }
}

/// Open calls of the method on one side, and the live bytes its rows allocated, as a reader of the endpoint has them.
fn held(live: SocketAddr, side: Side) -> (u64, f64) {
    let answer = http::get(live, "/debug/alloc?format=json");
    let table: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let mut methods = table["methods"].as_array().expect("methods").iter();
    let Some(method) = methods.find(|method| method["rpc"] == CHAT && method["side"] == side.name()) else {
        return (0, 0.0);
    };
    let bytes = method["sampled_live_bytes"].as_f64().expect("the sampler is installed");
    let calls = method["open_calls"].as_u64().expect("a number");
    if calls > 0 {
        let per_call = method["sampled_live_bytes_per_open_call"].as_f64().expect("a number");
        assert!((per_call * calls as f64 - bytes).abs() < 1.0, "{method}");
    }
    (calls, bytes)
}

/// The figure a scraper has of one method.
fn scraped(live: SocketAddr, name: &str, side: &str, rpc: &str) -> u64 {
    let metrics = http::get(live, "/metrics").text().to_owned();
    let series = format!(r#"{name}{{side="{side}",rpc="{rpc}"}} "#);
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

const OPEN: &str = "grpc_alloc_open_calls";
const LARGEST: &str = "grpc_alloc_largest_received_bytes";

/// Waits until so many calls are open and hold at most so many bytes: a stream ends soon after its client dropped it.
async fn until(live: SocketAddr, side: Side, open: u64, bytes: f64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while {
        let (found, held) = held(live, side);
        (found != open || held > bytes) && Instant::now() < deadline
    } {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (found, held) = held(live, side);
    assert_eq!(found, open, "open calls on the {side}");
    assert!(held <= bytes, "{found} open calls hold {held} bytes");
}

async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("connects")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_receive_buffer_that_once_was_large_is_seen_while_its_stream_is_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let server = Server::builder().layer(ServerLayer::new().methods([CHAT])).add_service(GreeterServer::new(Hello));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = tower_layer::Layer::layer(&ClientLayer, connect(address).await);
    let mut client = GreeterClient::new(channel);
    let live = alloc_ladder::serve("127.0.0.1:0").expect("a free port").addr();

    let mut small = Chat::open(&mut client).await;
    let mut large = Chat::open(&mut client).await;
    for chat in [&mut small, &mut large] {
        chat.say(10).await;
    }
    let (open, before) = held(live, Side::Server);
    assert_eq!((open, held(live, Side::Client).0), (2, 2));
    assert!(before < SMALL, "two streams hold {before} bytes");

    large.say(LARGE).await;
    for _ in 0..100 {
        large.say(10).await;
    }
    let (_, trapped) = held(live, Side::Server);
    assert!(trapped >= LARGE as f64, "{before} bytes before the large message, {trapped} after it");
    let metrics = http::get(live, "/metrics").text().to_owned();
    let row = format!(r#"grpc_alloc_sampled_live_bytes{{side="server",rpc="{CHAT}",stage="receive-buffer"}} "#);
    let buffers = metrics.lines().find_map(|line| line.strip_prefix(&row)?.parse::<f64>().ok()).expect("a row");
    assert!(buffers >= LARGE as f64, "{metrics}");
    assert_eq!(scraped(live, OPEN, "server", CHAT), 2);
    // To a power of two, and of that one stream: a mean over many would hide it.
    let largest = scraped(live, LARGEST, "server", CHAT);
    assert!((LARGE as u64..4 * LARGE as u64).contains(&largest), "{largest}");
    assert!(scraped(live, LARGEST, "client", CHAT) < 64, "the client received short messages alone");
    assert!(http::get(live, "/debug/alloc").text().contains("open calls"));

    drop(large);
    until(live, Side::Server, 1, SMALL).await;
    let largest = scraped(live, LARGEST, "server", CHAT);
    assert!((10..64).contains(&largest), "{largest}: that of the stream that is left");
    drop(small);
    until(live, Side::Server, 0, SMALL).await;
    until(live, Side::Client, 0, SMALL).await;
    // What nothing is left of is 0, and not gone.
    for side in ["server", "client"] {
        assert_eq!((scraped(live, OPEN, side, CHAT), scraped(live, LARGEST, side, CHAT)), (0, 0));
    }

    // The first call of a method that nobody registered has no row of its own yet, and is shown.
    let first = tokio::spawn(async move { client.say_hello(HelloRequest::default()).await });
    let nobodys = || scraped(live, OPEN, "", "(not answered yet)");
    let deadline = Instant::now() + Duration::from_secs(10);
    while nobodys() < 2 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(nobodys(), 2, "one call, on either side");
    let table = http::get(live, "/debug/alloc?format=json").text().to_owned();
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    let mut methods = table["methods"].as_array().expect("methods").iter();
    assert!(methods.any(|method| method["rpc"] == "(not answered yet)" && method["open_calls"] == 2), "{table}");
    ANSWER.notify_one();
    first.await.expect("no panic").expect("answers");
    let deadline = Instant::now() + Duration::from_secs(10);
    while nobodys() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(nobodys(), 0);
    for side in ["server", "client"] {
        assert_eq!(scraped(live, OPEN, side, "/greeter.v1.Greeter/SayHello"), 0, "it has a row now");
    }
}
