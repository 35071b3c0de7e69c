//! A service that answers about its own allocations while it runs: exact counts by stage, and sampled call stacks.
//!
//! `cargo run --features driver,live,transport --example live -- 60` serves for a minute; then, elsewhere:
//!
//! ```text
//! curl http://127.0.0.1:9464/debug/alloc
//! curl http://127.0.0.1:9464/metrics
//! go tool pprof -top http://127.0.0.1:9464/debug/pprof/allocs?seconds=5
//! ```
//!
//! The lines marked `drop-in` are the change, besides their imports. With the driver's line it can also be measured from
//! outside, as a run like those of the ladders:
//! `cargo xtask attach --for 5 -- target/debug/examples/live 60`.

use std::io::Write;
use std::time::{Duration, Instant};

use alloc_ladder::CountingAlloc;
use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::tonic::{ServerLayer, StagedCodec};
use anyhow::Context;
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator] // drop-in
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::wrapping(CountingAlloc::new()); // drop-in

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>; // drop-in

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = tokio_stream::Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: format!("Hello {}!", request.into_inner().name) }))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("see the streaming example"))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _driver = alloc_ladder::driver::install(); // drop-in
    let seconds =
        std::env::args().nth(1).map_or(Ok(10), |seconds| seconds.parse()).context("not a number of seconds")?;
    let live = alloc_ladder::serve("127.0.0.1:9464").or_else(|_| alloc_ladder::serve("127.0.0.1:0"))?; // drop-in
    writeln!(std::io::stdout(), "curl http://{}/debug/alloc", live.addr())?;

    let incoming = alloc_ladder::tonic::incoming("127.0.0.1:0".parse()?)?; // drop-in
    let addr = incoming.local_addr()?;
    let server = Server::builder()
        .layer(ServerLayer::new()) // drop-in
        .add_service(GreeterServer::new(Hello))
        .add_service(alloc_ladder::live::allocations()) // drop-in: the same for those who have gRPC and no HTTP/1
        .serve_with_incoming(incoming);
    tokio::spawn(server);

    let mut client = GreeterClient::new(Endpoint::from_shared(format!("http://{addr}"))?.connect().await?);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        client.say_hello(HelloRequest { name: "tonic".to_owned() }).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
