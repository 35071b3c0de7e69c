//! A bidirectional stream with alloc-ladder dropped in: the handler's own stream and the task it spawns keep their
//! stage and RPC method. The lines marked `drop-in` are the change, besides their imports.
//!
//! `cargo run --features transport --example streaming`

use std::io::Write;
use std::pin::Pin;

use alloc_ladder::tonic::{ServerLayer, StagedCodec, StagedStream};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator] // drop-in
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
        // drop-in: in place of `tokio::spawn`, so that the task works for this call.
        alloc_ladder::tonic::spawn(async move {
            while let Some(request) = requests.next().await {
                let reply = request.map(|request| HelloReply { message: format!("Hello {}!", request.name) });
                if replies.send(reply).await.is_err() {
                    break;
                }
            }
        });
        let replies = StagedStream::new(ReceiverStream::new(receiver)); // drop-in
        Ok(Response::new(Box::pin(replies)))
    }
}

const MESSAGES: usize = 10_000;

/// Client and server in one process; returns what one stream allocated.
async fn chat() -> anyhow::Result<Snapshot> {
    let incoming = alloc_ladder::tonic::incoming("127.0.0.1:0".parse()?)?;
    let addr = incoming.local_addr()?;
    let server = Server::builder()
        .layer(ServerLayer::new().methods(["/greeter.v1.Greeter/Chat"])) // drop-in
        .add_service(GreeterServer::new(Chat))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    let mut client = GreeterClient::new(Endpoint::from_shared(format!("http://{addr}"))?.connect().await?);

    let before = Snapshot::of_process();
    let requests = std::iter::repeat_n(HelloRequest { name: "tonic".to_owned() }, MESSAGES);
    let mut replies = client.chat(tokio_stream::iter(requests)).await?.into_inner();
    let mut received = 0;
    while let Some(reply) = replies.next().await {
        anyhow::ensure!(reply?.message == "Hello tonic!");
        received += 1;
    }
    anyhow::ensure!(received == MESSAGES, "{received} replies");
    Ok(Snapshot::of_process() - before)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let counted = chat().await?;
    // The client takes no layer here: what it allocates has no method, and the server's rows stand alone.
    let mut out = std::io::stdout().lock();
    writeln!(out, "server, per message of {MESSAGES}")?;
    for row in counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.stage != Stage::Instrument) {
        let (blocks, bytes) = (row.tally.blocks as f64 / MESSAGES as f64, row.tally.bytes as f64 / MESSAGES as f64);
        writeln!(out, "  {:<20}  {blocks:>6.3} blocks  {bytes:>8.2} bytes", row.stage)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_spawned_task_works_for_the_call() {
        let counted = chat().await.expect("every message is answered");
        let server = |stage| {
            let mut rows = counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.stage == stage);
            rows.next().unwrap_or_else(|| panic!("no {stage} row\n{counted}")).tally
        };
        // Both are strings: the request's is decoded in the spawned task, the reply's is formatted there.
        assert_eq!(server(Stage::MessageConstruction).blocks, MESSAGES as u64, "{counted}");
        let handler = server(Stage::Handler);
        assert!((MESSAGES as u64..MESSAGES as u64 * 3).contains(&handler.blocks), "{counted}");
        assert!(server(Stage::Marshal).bytes > 0, "{counted}");
    }
}
