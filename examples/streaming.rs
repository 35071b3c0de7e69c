//! A bidirectional stream with alloc-ladder dropped in: the handler's own stream and the task it spawns keep their
//! stage and RPC method.
//!
//! `cargo run --example streaming`

use std::io::Write;
use std::pin::Pin;

use alloc_ladder::tonic::{ServerLayer, StagedCodec, StagedStream};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new(); // drop-in

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>; // drop-in

struct Chat;

#[tonic::async_trait]
impl Greeter for Chat {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("see the helloworld example"))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let mut requests = request.into_inner();
        let (replies, receiver) = mpsc::channel(16);
        // In place of `tokio::spawn`: the task works for this call.
        alloc_ladder::tonic::spawn(async move {
            while let Some(request) = requests.next().await {
                let reply = request.map(|request| HelloReply { message: format!("Hello {}!", request.name) });
                if replies.send(reply).await.is_err() {
                    break;
                }
            }
        }); // drop-in
        let replies = StagedStream::new(ReceiverStream::new(receiver)); // drop-in
        Ok(Response::new(Box::pin(replies)))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = Server::builder()
        .layer(ServerLayer::new().methods(["/greeter.v1.Greeter/Chat"])) // drop-in
        .add_service(GreeterServer::new(Chat))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let mut client = GreeterClient::new(Endpoint::from_shared(format!("http://{addr}"))?.connect().await?);

    let before = Snapshot::of_process();
    let messages = 10_000;
    let requests = std::iter::repeat_n(HelloRequest { name: "tonic".to_owned() }, messages);
    let mut replies = client.chat(tokio_stream::iter(requests)).await?.into_inner();
    let mut received = 0;
    while let Some(reply) = replies.next().await {
        anyhow::ensure!(reply?.message == "Hello tonic!");
        received += 1;
    }
    anyhow::ensure!(received == messages, "{received} replies");
    let counted = Snapshot::of_process() - before;

    // The client takes no layer here: what it allocates has no method, and the server's rows stand alone.
    let mut out = std::io::stdout().lock();
    writeln!(out, "server, per message of {messages}")?;
    for row in counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.stage != Stage::Instrument) {
        let (blocks, bytes) = (row.tally.blocks as f64 / messages as f64, row.tally.bytes as f64 / messages as f64);
        writeln!(out, "  {:<20}  {blocks:>6.3} blocks  {bytes:>8.2} bytes", row.stage)?;
    }
    Ok(())
}
