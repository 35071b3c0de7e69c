//! What the seams must not change in the service they are dropped into, and what they accept.
#![cfg(all(feature = "transport", feature = "subject"))]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alloc_ladder::tonic::{ClientLayer, Incoming, ServerLayer, StagedBody, StagedIo};
use alloc_ladder::{Method, Side};
use bytes::Bytes;
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower_layer::Layer;
use tower_service::Service;

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

type Codec<T, U> = alloc_ladder::tonic::StagedCodec<tonic_prost::ProstCodec<T, U>>;

const HELLO: &str = "/greeter.v1.Greeter/SayHello";

/// Replies with as many bytes as it is asked for, and says from where it was asked.
struct Echo;

#[tonic::async_trait]
impl Greeter for Echo {
    type ChatStream = tokio_stream::Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let peer = request.remote_addr().ok_or_else(|| Status::internal("the peer's address is lost"))?;
        if !peer.ip().is_loopback() {
            return Err(Status::internal("another peer"));
        }
        let open = Method::find(Side::Server, HELLO).map_or(0, Method::open_calls);
        let bytes: usize = request.into_inner().name.parse().map_err(|_| Status::invalid_argument("a number"))?;
        let mut response = Response::new(HelloReply { message: "x".repeat(bytes) });
        response.metadata_mut().insert("open", open.to_string().parse().expect("digits"));
        Ok(response)
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The time a reply of `bytes` takes at best.
async fn fastest(addr: SocketAddr, bytes: usize) -> Duration {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    let mut client = GreeterClient::new(endpoint.connect().await.expect("connects"));
    let mut best = Duration::MAX;
    for _ in 0..12 {
        let began = Instant::now();
        let reply = client.say_hello(HelloRequest { name: bytes.to_string() }).await.expect("answers").into_inner();
        best = best.min(began.elapsed());
        assert_eq!(reply.message.len(), bytes);
    }
    best
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_of_any_size_are_as_fast_as_from_serve() {
    let plain = {
        let free = std::net::TcpListener::bind(loopback()).expect("binds").local_addr().expect("an address");
        tokio::spawn(Server::builder().add_service(GreeterServer::new(Echo)).serve(free));
        free
    };
    let incoming = alloc_ladder::tonic::incoming(loopback()).expect("binds");
    let staged = incoming.local_addr().expect("an address");
    let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(incoming));
    while tokio::net::TcpStream::connect(plain).await.is_err() {
        tokio::task::yield_now().await;
    }
    for bytes in [0, 1, 300, 1000, 1400, 9000, 65_536, 1 << 20] {
        let (own, theirs) = (fastest(staged, bytes).await, fastest(plain, bytes).await);
        // A reply that waits for the peer's delayed acknowledgement takes 40 ms at best, on an idle machine too.
        assert!(own < 2 * theirs + Duration::from_millis(20), "{bytes} bytes: {own:?} and {theirs:?}");
    }
}

#[tokio::test]
async fn accepted_sockets_have_the_options_that_tonic_sets() {
    for (incoming, nodelay) in [
        (alloc_ladder::tonic::incoming(loopback()).expect("binds"), true),
        (Incoming::from(tonic::transport::server::TcpIncoming::bind(loopback()).expect("binds")), true),
        (alloc_ladder::tonic::incoming(loopback()).expect("binds").with_nodelay(false), false),
    ] {
        let mut incoming = incoming.with_keepalive(Some(Duration::from_secs(77)));
        let _client = tokio::net::TcpStream::connect(incoming.local_addr().expect("bound")).await.expect("connects");
        let accepted = incoming.next().await.expect("a connection").expect("accepted");
        let socket = socket2::SockRef::from(accepted.get_ref());
        assert_eq!(socket.tcp_nodelay().expect("asks"), nodelay);
        assert!(socket.keepalive().expect("asks"));
    }
}

#[tokio::test]
async fn a_staged_socket_writes_as_its_own_does() {
    let (near, _far) = tokio::io::duplex(64);
    let vectored = tokio::io::AsyncWrite::is_write_vectored(&near);
    assert_eq!(tokio::io::AsyncWrite::is_write_vectored(&StagedIo::new(near)), vectored);
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("binds");
    let socket = tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
    assert!(tokio::io::AsyncWrite::is_write_vectored(&StagedIo::new(socket)), "TCP takes several buffers at once");
}

#[tokio::test]
async fn a_staged_body_says_of_itself_what_its_own_says() {
    for bytes in [0, 1, 100_000] {
        for staged in [StagedBody::incoming, StagedBody::outgoing] {
            let plain = Full::new(Bytes::from(vec![7u8; bytes]));
            let staged = staged(Method::NONE, plain.clone());
            assert_eq!(staged.is_end_stream(), plain.is_end_stream());
            assert_eq!(staged.size_hint().exact(), plain.size_hint().exact());
            assert_eq!(staged.collect().await.expect("reads").to_bytes().len(), bytes);
        }
    }
}

/// Calls `hello` once over a connection of its own and returns the reply's bytes and the open calls the handler saw.
async fn call(addr: SocketAddr) -> (usize, u64) {
    let channel =
        Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects");
    let twice = ClientLayer.layer(ClientLayer.layer(channel));
    let mut client = GreeterClient::new(twice);
    let reply = client.say_hello(HelloRequest { name: "11".to_owned() }).await.expect("answers");
    let open = reply.metadata().get("open").and_then(|open| open.to_str().ok()?.parse().ok()).expect("a number");
    let open_here = Method::find(Side::Client, HELLO).map_or(0, Method::open_calls);
    assert!(open_here <= 2, "{open_here} open calls of one, or of the other test's");
    (reply.into_inner().message.len(), open)
}

#[tokio::test]
async fn a_layer_applied_twice_counts_once() {
    let path = Method::register(Side::Server, "/seams.Test/Twice");
    /// Answers when it has seen so many calls open.
    #[derive(Clone)]
    struct Looks(Method, u64);
    impl Service<http::Request<Body>> for Looks {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            assert_eq!(self.0.open_calls(), self.1);
            std::future::ready(Ok(http::Response::new(Body::empty())))
        }
    }
    let layer = ServerLayer::new();
    let mut service = layer.layer(layer.layer(layer.layer(Looks(path, 1))));
    let request = || http::Request::post("/seams.Test/Twice").body(Body::empty()).expect("a request");
    let first = service.call(request()).await.expect("answers");
    assert_eq!(path.open_calls(), 1, "until the answer ends");
    drop(first);
    assert_eq!(path.open_calls(), 0);
    // Two calls, one after another on one thread, are two.
    let mut second = layer.layer(layer.layer(Looks(path, 2)));
    let (one, two) = (service.call(request()), second.call(request()));
    assert_eq!(path.open_calls(), 2);
    drop(two);
    assert_eq!(path.open_calls(), 1);
    drop(one);
    assert_eq!(path.open_calls(), 0);
}

#[tokio::test]
async fn an_axum_router_takes_the_layer() {
    let routes = Routes::new(GreeterServer::new(Echo)).into_axum_router();
    let router = routes.route("/health", axum::routing::get(|| async { "well" })).layer(ServerLayer::new());
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    // axum tells the peer in its own way, so the handler finds none: the call arrives all the same.
    let channel =
        Endpoint::from_shared(format!("http://{addr}")).expect("an address").connect().await.expect("connects");
    let refused = GreeterClient::new(channel).say_hello(HelloRequest { name: "1".to_owned() }).await;
    assert_eq!(refused.expect_err("no tonic connection").message(), "the peer's address is lost");
}

#[tokio::test]
async fn routes_and_a_bare_service_take_the_layer() {
    let request = || http::Request::post(HELLO).body(Full::new(Bytes::new())).expect("a request");
    let mut routes = ServerLayer::new().layer(Routes::new(GreeterServer::new(Echo)));
    assert_eq!(routes.call(request()).await.expect("answers").status(), 200);
    let bare = tower::service_fn(|request: http::Request<Body>| async move {
        let bytes = request.into_body().collect().await.map_err(|_| ()).expect("reads").to_bytes();
        Ok::<_, Infallible>(http::Response::new(Full::new(bytes)))
    });
    let answer = ServerLayer::new().layer(bare).call(request()).await.expect("answers");
    assert_eq!(answer.into_body().collect().await.expect("reads").to_bytes().len(), 0);
}

#[tokio::test]
async fn a_call_is_counted_once_on_either_side_whatever_is_stacked() {
    let incoming = alloc_ladder::tonic::incoming(loopback()).expect("binds");
    let addr = incoming.local_addr().expect("bound");
    let server = Server::builder()
        .layer(ServerLayer::new().methods([HELLO]))
        .layer(ServerLayer::new())
        .add_service(GreeterServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(incoming));
    let (bytes, open) = call(addr).await;
    assert_eq!(bytes, 11);
    assert!((1..=2).contains(&open), "{open} calls are open where one is, or the other test's too");
}
