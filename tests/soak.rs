//! Hours of churn leave nothing behind: connections, streams, calls that are given up, sockets that say half a word, scrapes that
//! are read and scrapes that are not. `SOAK_SECONDS=3600 cargo test --features live,subject --test soak -- --ignored --nocapture`
//! runs for so long, and prints what the process holds as it goes.
#![cfg(all(feature = "live", feature = "transport", feature = "subject"))]
#![allow(clippy::print_stdout, reason = "what was held, over the hours")]

#[path = "support/http.rs"]
mod http;

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::tonic::{ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(64 * 1024, CountingAlloc::new());

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

/// How often the process is looked at.
const LOOKS: u32 = 40;

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        match request.into_inner().name {
            name if name == "never" => std::future::pending().await,
            name if name.is_empty() => Err(Status::invalid_argument("no name")),
            message => Ok(Response::new(HelloReply { message })),
        }
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let replies = request.into_inner().map(|request| request.map(|request| HelloReply { message: request.name }));
        Ok(Response::new(Box::pin(replies)))
    }
}

/// What the process holds: resident and live bytes, rows, and calls that are open.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    live: u64,
    rows: usize,
    open: u64,
}

impl Held {
    fn look() -> Held {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
        let open = ["/greeter.v1.Greeter/SayHello", "/greeter.v1.Greeter/Chat"].map(|path| {
            Side::ALL.iter().filter_map(|side| Method::find(*side, path)).map(|method| method.open_calls()).sum::<u64>()
        });
        Held {
            resident: pages * 4096,
            live: Snapshot::live_bytes(),
            rows: Snapshot::of_process().rows().count(),
            open: open.iter().sum(),
        }
    }
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.to_owned() }
}

/// One client's life.
async fn client(addr: SocketAddr, size: usize) {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    let mut client = GreeterClient::new(alloc_ladder::tonic::connect(endpoint).await.expect("connects"));
    for _ in 0..3 {
        client.say_hello(hello(&"x".repeat(size.max(1)))).await.expect("answers");
    }
    client.say_hello(hello("")).await.expect_err("no name");
    let never = tokio::time::timeout(Duration::from_millis(20), client.say_hello(hello("never"))).await;
    never.expect_err("nobody answers");
    // A stream to its end, and one that is dropped with messages on their way.
    for given_up in [false, true] {
        let (requests, receiver) = mpsc::channel(8);
        let mut replies = client.chat(ReceiverStream::new(receiver)).await.expect("answers").into_inner();
        for _ in 0..8 {
            requests.send(hello(&"y".repeat(size))).await.expect("the stream is open");
        }
        replies.message().await.expect("an answer");
        if !given_up {
            drop(requests);
            while replies.message().await.expect("an answer").is_some() {}
        }
    }
}

/// Scrapes that were read, and those among them that were not answered in the time that a connection may last, as on a
/// machine with twenty times more to do than it has cores.
#[derive(Clone, Copy, Debug, Default)]
struct Scrapes {
    asked: usize,
    late: usize,
}

/// Sockets that end early, and scrapes that are read and that are not.
fn strangers(addr: SocketAddr, live: SocketAddr, round: usize, scrapes: &mut Scrapes) {
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"GET / HT"]
    {
        for to in [addr, live] {
            http::connect(to).write_all(said).expect("writes");
        }
    }
    // A profile with names takes seconds in a debug build.
    let paths = ["/metrics", "/debug/alloc?format=json", "/debug/pprof/heap"];
    for path in &paths[..if round.is_multiple_of(20) { 3 } else { 2 }] {
        scrapes.asked += 1;
        match http::ask_once(live, &format!("GET {path}"), "") {
            Some(answer) => assert_eq!(answer.status, 200, "{path}"),
            None => scrapes.late += 1,
        }
        let unread = format!("GET {path} HTTP/1.1\r\nHost: {live}\r\n\r\n");
        http::connect(live).write_all(unread.as_bytes()).expect("writes");
    }
}

#[test]
#[ignore = "takes as long as it is told to"]
fn churn_leaves_nothing_behind() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let addr = runtime.block_on(async {
        let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
        let addr = incoming.local_addr().expect("bound");
        let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(Hello));
        tokio::spawn(server.serve_with_incoming(incoming));
        addr
    });
    let started = Instant::now();
    let (mut looks, mut clients, mut scrapes) = (Vec::new(), 0, Scrapes::default());
    for look in 1..=LOOKS {
        while started.elapsed() < Duration::from_secs(seconds) * look / LOOKS {
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..10 {
                    tasks.spawn(client(addr, [0, 100, 10_000, 200_000][number % 4]));
                }
                while let Some(done) = tasks.join_next().await {
                    done.expect("no panic");
                }
            });
            clients += 10;
            strangers(addr, live.addr(), clients / 10, &mut scrapes);
        }
        // What ended a moment ago is still on its way out.
        std::thread::sleep(Duration::from_millis(500));
        let held = Held::look();
        println!("{:>6} s  {clients:>8} clients  {held:?}  {scrapes:?}", started.elapsed().as_secs());
        looks.push(held);
    }
    let median = |looks: &[Held], figure: fn(&Held) -> u64| {
        let mut figures: Vec<u64> = looks.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    // The first quarter fills caches, rings and the tables of connections.
    let quarter = looks.len() / 4;
    let (early, late) = (&looks[quarter..2 * quarter], &looks[3 * quarter..]);
    for (what, figure) in [
        ("resident", (|held| held.resident) as fn(&Held) -> u64),
        ("live", |held| held.live),
        ("rows", |held| held.rows as u64),
    ] {
        let (before, after) = (median(early, figure), median(late, figure));
        println!("{what}: {before} in the second quarter, {after} in the last");
        assert!(after <= before + before / 20 + 64 * 1024, "{what} grew from {before} to {after}: {looks:#?}");
    }
    assert!(scrapes.late * 10 <= scrapes.asked, "{scrapes:?}");
    assert!(looks.iter().all(|held| held.open == 0), "calls that are never closed: {looks:#?}");
}
