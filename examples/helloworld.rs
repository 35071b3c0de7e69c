//! tonic's hello world with alloc-ladder dropped in.
//!
//! The six lines marked `drop-in` are the whole change here. Five of them, the allocator's two, the server's two and the
//! client's, give rows by side, RPC method and stage; the codec's tells message construction from the handler, and is named
//! in one line more where the code is generated: `.codec_path("crate::Codec")`. What a client decodes has a stage and no
//! method, as its caller's task takes no guard. What stands below `hello` prints the table.
//!
//! `cargo run --features transport --example helloworld`

use std::io::Write;

use alloc_ladder::{Side, Snapshot, Stage};
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
static ALLOC: alloc_ladder::CountingAlloc = alloc_ladder::CountingAlloc::new(); // drop-in

type Codec<T, U> = alloc_ladder::tonic::StagedCodec<tonic_prost::ProstCodec<T, U>>; // drop-in

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

const CALLS: usize = 1000;

/// Client and server in one process; returns what the calls allocated after the first.
async fn hello() -> anyhow::Result<Snapshot> {
    let incoming = alloc_ladder::tonic::incoming("127.0.0.1:0".parse()?)?; // drop-in
    let addr = incoming.local_addr()?;
    let server = Server::builder()
        .layer(alloc_ladder::tonic::ServerLayer::new()) // drop-in
        .add_service(GreeterServer::new(Hello))
        .serve_with_incoming(incoming);
    tokio::spawn(server);

    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
    let mut client = GreeterClient::new(alloc_ladder::tonic::connect(endpoint).await?); // drop-in
    client.say_hello(HelloRequest { name: "warm-up".to_owned() }).await?;

    let before = Snapshot::of_process();
    for _ in 0..CALLS {
        let reply = client.say_hello(HelloRequest { name: "tonic".to_owned() }).await?.into_inner();
        anyhow::ensure!(reply.message == "Hello tonic!");
    }
    Ok(Snapshot::of_process() - before)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let counted = hello().await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "per call of {CALLS}       blocks      bytes")?;
    for row in counted.rows() {
        let side = row.method.side.map_or("-", Side::name);
        let (blocks, bytes) = (row.tally.blocks as f64 / CALLS as f64, row.tally.bytes as f64 / CALLS as f64);
        writeln!(out, "{side:<6}  {:<20}  {blocks:>6.2}  {bytes:>9.1}  {}", row.stage, row.method.path)?;
    }
    writeln!(out, "{:.1} % of the bytes carry a stage", 100.0 * staged(&counted))?;
    Ok(())
}

/// The share of the bytes that carry a stage.
fn staged(counted: &Snapshot) -> f64 {
    1.0 - counted.stage(Stage::Other).bytes as f64 / counted.total().bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/greeter.v1.Greeter/SayHello";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn six_lines_give_every_row() {
        let counted = hello().await.expect("the calls are answered");
        let blocks = |side, stage| -> u64 {
            let rows = counted.rows().filter(|row| row.method.side == Some(side) && row.method.path == PATH);
            rows.filter(|row| row.stage == stage).map(|row| row.tally.blocks).sum()
        };
        let calls = CALLS as u64;
        for side in Side::ALL {
            assert!(blocks(side, Stage::Marshal) >= calls, "{side}\n{counted}");
            assert!(blocks(side, Stage::Transport) >= calls, "{side}\n{counted}");
        }
        assert!(blocks(Side::Server, Stage::ReceiveBuffer) >= calls, "{counted}");
        // The one string of the message, decoded on either side.
        assert_eq!(blocks(Side::Server, Stage::MessageConstruction), calls, "{counted}");
        assert_eq!(counted.stage(Stage::MessageConstruction).blocks, 2 * calls, "{counted}");
        assert!(blocks(Side::Server, Stage::Handler) >= calls, "{counted}");
        assert_eq!(counted.rows().map(|row| row.tally.bytes).sum::<u64>(), counted.total().bytes);
        assert!(staged(&counted) > 0.95, "{counted}");
    }

    #[test]
    fn the_marked_lines_are_all_there_is() {
        let example = include_str!("helloworld.rs").split("const CALLS").collect::<Vec<_>>();
        let hello = example[1].split("#[tokio::main]").next().expect("the part before main");
        let lines = example[0].lines().chain(hello.lines()).filter(|line| !line.starts_with("//!"));
        // Those beside the marked ones read the counters.
        let dropped = |line: &&str| line.contains("alloc_ladder::") && !line.starts_with("use ");
        let (marked, unmarked): (Vec<&str>, Vec<&str>) = lines
            .filter(|line| line.ends_with("// drop-in") || dropped(line))
            .partition(|line| line.ends_with("// drop-in"));
        assert_eq!((marked.len(), unmarked), (6, vec![]));
    }
}
