//! A call's glue is `dispatch` and its own code `handler`, whatever the kind of call, and also where the handler calls another
//! service or the request has no body.
#![cfg(all(feature = "transport", feature = "subject"))]

use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::Pin;

use alloc_ladder::stage::FutureExt;
use alloc_ladder::tonic::{ClientLayer, ClientService, ServerLayer, StagedCodec, StagedStream};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage, Tally};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::{Layer, Service};

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

const HELLO: &str = "/greeter.v1.Greeter/SayHello";
const CHAT: &str = "/greeter.v1.Greeter/Chat";
const CALLS: u64 = 100;
/// A size nothing else has a multiple of.
const OWN: usize = 1_000_003;
/// What generated code boxes before the handler, and the header map that tonic makes after it before it asks for the encoder: a
/// future, as large as this handler's, and two blocks.
const LEFT_BLOCKS: u64 = 3;
const LEFT_BYTES: u64 = 5000;

fn own() {
    drop(black_box(vec![1u8; OWN]));
}

/// Says hello with what the service behind it says, if there is one.
#[derive(Clone, Default)]
struct Front(Option<ClientService<Channel>>);

#[tonic::async_trait]
impl Greeter for Front {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let request = request.into_inner();
        own();
        match request.name.as_str() {
            "refuse" => return Err(Status::not_found("nobody")),
            "wait" => tokio::task::yield_now().await,
            _ => {}
        }
        if let Some(back) = &self.0 {
            GreeterClient::new(back.clone()).say_hello(HelloRequest::default()).await?;
        }
        own();
        Ok(Response::new(HelloReply { message: String::new() }))
    }

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        own();
        let mut requests = request.into_inner();
        while requests.next().await.transpose()?.is_some() {
            own();
        }
        let replies = tokio_stream::iter((0..2).map(|_| {
            own();
            Ok(HelloReply::default())
        }));
        Ok(Response::new(Box::pin(StagedStream::new(replies))))
    }
}

async fn serve(front: Front, layer: ServerLayer) -> SocketAddr {
    let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = incoming.local_addr().expect("bound");
    let server = Server::builder().layer(layer).add_service(GreeterServer::new(front));
    tokio::spawn(server.serve_with_incoming(incoming));
    addr
}

async fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects")
}

fn row(counted: &Snapshot, path: &str, stage: Stage) -> Tally {
    let rows = counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.method.path == path);
    rows.filter(|row| row.stage == stage).map(|row| row.tally).sum()
}

/// What `CALLS` calls of `name` allocate on the server, after one that is not counted.
async fn counted(client: &mut GreeterClient<Channel>, name: &str) -> Snapshot {
    let mut before = Snapshot::empty();
    for call in 0..=CALLS {
        let answer = client.say_hello(HelloRequest { name: name.to_owned() }).await;
        assert_eq!(answer.err().map(|status| status.code()), (name == "refuse").then_some(Code::NotFound));
        if call == 0 {
            before = Snapshot::of_process();
        }
    }
    Snapshot::of_process() - before
}

// On one thread and in one test: the counters are the process's, and a call's server work is over when it is answered.
#[tokio::test]
async fn a_calls_own_code_is_told_from_the_glue_around_it() {
    let back = channel(serve(Front::default(), ServerLayer::new()).await).await;
    // Of one method with two servers only the front's is layered.
    let direct = serve(Front::default(), ServerLayer::new().methods([HELLO, CHAT])).await;
    let mut client = GreeterClient::new(channel(direct).await);
    // An own box of `async_trait`'s and two buffers.
    for (name, own_blocks, own_bytes) in [("", 3, 2 * OWN), ("wait", 3, 2 * OWN)] {
        let counted = counted(&mut client, name).await;
        let (handler, dispatch) = (row(&counted, HELLO, Stage::Handler), row(&counted, HELLO, Stage::Dispatch));
        assert_eq!(handler.blocks, CALLS * (own_blocks + LEFT_BLOCKS), "{name}\n{counted}");
        let left = handler.bytes - CALLS * own_bytes as u64;
        assert!(left < CALLS * LEFT_BYTES, "{name}: {left}\n{counted}");
        assert!(dispatch.blocks >= CALLS * 10, "{name}\n{counted}");
    }
    // A handler that fails answers without an encoder: the status's headers stay with it.
    let refused = counted(&mut client, "refuse").await;
    assert!(row(&refused, HELLO, Stage::Handler).bytes >= CALLS * OWN as u64, "{refused}");
    assert!(row(&refused, HELLO, Stage::Dispatch).bytes < CALLS * OWN as u64, "{refused}");

    // A handler that calls another service: that client asks its codec for an encoder too.
    let nested = serve(Front(Some(ClientLayer.layer(back))), ServerLayer::new()).await;
    let nested = counted(&mut GreeterClient::new(channel(nested).await), "").await;
    assert!(row(&nested, HELLO, Stage::Handler).bytes >= 4 * CALLS * OWN as u64, "{nested}");
    assert!(row(&nested, HELLO, Stage::Dispatch).bytes < CALLS * OWN as u64, "{nested}");

    // A client has no handler: a stage that its caller enters stays.
    let mut layered = GreeterClient::new(ClientLayer.layer(channel(direct).await));
    let before = Snapshot::of_process();
    layered.say_hello(HelloRequest::default()).staged(Stage::Dispatch).await.expect("answers");
    let counted = Snapshot::of_process() - before;
    let handled = counted.rows().filter(|row| row.stage == Stage::Handler && row.method.side != Some(Side::Server));
    assert_eq!(handled.count(), 0, "{counted}");

    // Streams: what a handler does before the first message is its own too; an empty stream may have no body at all.
    for messages in [0, 1, 5] {
        let before = Snapshot::of_process();
        let requests = tokio_stream::iter(vec![HelloRequest::default(); messages]);
        let mut replies = client.chat(requests).await.expect("answers").into_inner();
        while replies.next().await.transpose().expect("nothing fails").is_some() {}
        let counted = Snapshot::of_process() - before;
        let own = (messages + 3) as u64 * OWN as u64;
        let (handler, dispatch) = (row(&counted, CHAT, Stage::Handler), row(&counted, CHAT, Stage::Dispatch));
        assert!((own..own + 10_000).contains(&handler.bytes), "{messages}\n{counted}");
        assert!((1..20_000).contains(&dispatch.bytes), "{messages}\n{counted}");
    }

    // No gRPC, and gRPC without a body: all that is known is that the service runs.
    let answer = |_: http::Request<Body>| async {
        own();
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
    };
    for kind in ["application/json", "application/grpc"] {
        let mut service = ServerLayer::new().layer(tower::service_fn(answer));
        let request = http::Request::post(HELLO).header("content-type", kind).body(Body::empty()).expect("a request");
        let before = Snapshot::of_process();
        drop(service.call(request).await);
        let counted = Snapshot::of_process() - before;
        assert_eq!(row(&counted, HELLO, Stage::Handler).bytes, OWN as u64, "{kind}\n{counted}");
        assert_eq!(row(&counted, HELLO, Stage::Dispatch).blocks, 0, "{kind}\n{counted}");
    }

    // The layer twice: the outer one's call alone moves on.
    let routes = Routes::new(GreeterServer::new(Front::default()));
    let mut service = ServerLayer::new().layer(ServerLayer::new().layer(routes));
    let frame = http_body::Frame::data(bytes::Bytes::from_static(&[0; 5]));
    let body = Body::new(http_body_util::StreamBody::new(tokio_stream::iter([Ok::<_, Status>(frame)])));
    let request = http::Request::post(HELLO).header("content-type", "application/grpc").body(body).expect("a request");
    let before = Snapshot::of_process();
    drop(service.call(request).await.expect("answers"));
    let counted = Snapshot::of_process() - before;
    let handler = row(&counted, HELLO, Stage::Handler);
    assert!(handler.bytes >= 2 * OWN as u64 && handler.blocks <= 3 + LEFT_BLOCKS, "{counted}");
    assert!(row(&counted, HELLO, Stage::Dispatch).blocks >= 5, "{counted}");
}
