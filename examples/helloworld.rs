//! tonic's hello world with alloc-ladder dropped in: the lines marked `drop-in` are the whole change.
//!
//! `cargo run --example helloworld`

use std::io::Write;

use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec, TransportExecutor};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceBuilder;

#[path = "support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new(); // drop-in

/// Named at code generation: `tonic_prost_build::configure().codec_path("crate::Codec")`.
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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = Server::builder()
        .layer(ServerLayer::new()) // drop-in
        .add_service(GreeterServer::new(Hello))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);

    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.executor(TransportExecutor); // drop-in
    let channel = ServiceBuilder::new().layer(ClientLayer).service(endpoint.connect().await?); // drop-in
    let mut client = GreeterClient::new(channel);
    client.say_hello(HelloRequest { name: "warm-up".to_owned() }).await?;

    let before = Snapshot::of_process();
    let calls = 1000;
    for _ in 0..calls {
        let reply = client.say_hello(HelloRequest { name: "tonic".to_owned() }).await?.into_inner();
        anyhow::ensure!(reply.message == "Hello tonic!");
    }
    let counted = Snapshot::of_process() - before;

    let mut out = std::io::stdout().lock();
    writeln!(out, "per call of {calls}       blocks      bytes")?;
    for row in counted.rows() {
        let side = row.method.side.map_or("-", Side::name);
        let (blocks, bytes) = (row.tally.blocks as f64 / calls as f64, row.tally.bytes as f64 / calls as f64);
        writeln!(out, "{side:<6}  {:<20}  {blocks:>6.2}  {bytes:>9.1}  {}", row.stage, row.method.path)?;
    }
    let other = counted.stage(Stage::Other).bytes as f64 / counted.total().bytes as f64;
    writeln!(out, "{:.1} % of the bytes carry a stage", 100.0 * (1.0 - other))?;
    Ok(())
}
