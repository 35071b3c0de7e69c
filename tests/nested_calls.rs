//! What a handler allocates beside a call of its own to somebody else is its own, whether or not that client has a layer, and
//! also after a message that tonic refused.
#![cfg(all(feature = "transport", feature = "subject"))]

use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::Pin;

use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Layer;

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

const HELLO: &str = "/greeter.v1.Greeter/SayHello";
/// More than anything else that a call allocates.
const OWN: usize = 3_000_000;
/// What the service behind answers, so that its buffer is seen where it is asked for.
const ANSWER: usize = 100_000;
const CALLS: u64 = 10;
/// How often a handler allocates [`OWN`].
const TIMES: u64 = 5;

fn own() {
    for _ in 0..TIMES {
        drop(black_box(vec![1u8; OWN]));
    }
}

/// The service behind: it answers a message, and streams of one, or of one that stays open.
struct Back;

#[tonic::async_trait]
impl Greeter for Back {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: "x".repeat(ANSWER) }))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let asked = request.into_inner().message().await?.unwrap_or_default();
        let answer = tokio_stream::once(Ok(HelloReply { message: "x".repeat(ANSWER) }));
        let rest = if asked.name == "open" { 1 } else { 0 };
        let open = tokio_stream::iter(0..rest).then(|_| std::future::pending());
        Ok(Response::new(Box::pin(answer.chain(open))))
    }
}

/// The service in front, which calls the one behind in the way it is asked to.
struct Front<C>(GreeterClient<C>);

#[tonic::async_trait]
impl<C> Greeter for Front<C>
where
    C: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    C::Future: Send,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let mut back = self.0.clone();
        let name = request.into_inner().name;
        let asked = tokio_stream::once(HelloRequest { name: name.clone() });
        match name.as_str() {
            "unary" => {
                back.say_hello(HelloRequest::default()).await?;
                own();
            }
            "stream" => {
                let mut answers = back.chat(asked).await?.into_inner();
                while answers.message().await?.is_some() {}
                // Over, and not dropped yet.
                own();
                drop(answers);
            }
            "open" => {
                let mut answers = back.chat(asked).await?.into_inner();
                answers.message().await?;
                tokio::select! {
                    biased;
                    _ = answers.message() => unreachable!("it stays open"),
                    // While the other waits for its message.
                    _ = async { own() } => {}
                }
            }
            "refused" => {
                let refused = back.max_decoding_message_size(10).say_hello(HelloRequest::default()).await;
                assert_eq!(refused.expect_err("too long").code(), Code::OutOfRange);
                own();
            }
            other => unreachable!("{other}"),
        }
        Ok(Response::new(HelloReply::default()))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        unreachable!("nobody calls it")
    }
}

async fn serve<S: Greeter>(service: S) -> Channel {
    let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr: SocketAddr = incoming.local_addr().expect("bound");
    let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(service));
    tokio::spawn(server.serve_with_incoming(incoming));
    Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects")
}

/// Bytes of the stage that `CALLS` calls of the service in front allocate on its server.
async fn counted(front: &Channel, name: &str, stage: Stage) -> u64 {
    let mut client = GreeterClient::new(front.clone());
    let mut before = Snapshot::empty();
    for call in 0..=CALLS {
        client.say_hello(HelloRequest { name: name.to_owned() }).await.expect("answers");
        if call == 0 {
            before = Snapshot::of_process();
        }
    }
    let counted = Snapshot::of_process() - before;
    let rows = counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.method.path == HELLO);
    rows.filter(|row| row.stage == stage).map(|row| row.tally.bytes).sum()
}

// On one thread and in one test: the counters are the process's, and a call's server work is over when it is answered.
#[tokio::test]
async fn a_handlers_own_code_is_its_own_beside_a_call_it_makes() {
    let back = serve(Back).await;
    let plain = serve(Front(GreeterClient::new(back.clone()))).await;
    let layered = serve(Front(GreeterClient::new(ClientLayer.layer(back)))).await;
    for (front, client) in [(plain, "without a layer"), (layered, "with its layer")] {
        for name in ["unary", "stream", "open", "refused"] {
            let handler = counted(&front, name, Stage::Handler).await;
            assert!(handler >= CALLS * TIMES * OWN as u64, "{client}, {name}: {handler} bytes in the handler");
            let received = counted(&front, name, Stage::ReceiveBuffer).await;
            assert!(received < CALLS * OWN as u64, "{client}, {name}: {received} bytes in receive buffers");
        }
    }
}
