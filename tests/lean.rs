//! The client and server written by hand against tonic's, and against peers that do what no library does.

#![cfg(feature = "subject")]

use std::sync::Arc;
use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::Options;
use alloc_ladder::subject::codec::ProstCodec;
use alloc_ladder::subject::ladder::Tuning;
use alloc_ladder::subject::lean::client::LeanClient;
use alloc_ladder::subject::lean::server;
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::pb::owned::User;
use alloc_ladder::subject::scenario::{RECEIVE_LIMIT, Scenario, Workload};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::subject::user::{UnaryRecord, sample_user};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use proptest::prelude::*;
use prost::Message;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};

const PATH: &str = Scenario::Unary.path();
const URI: &str = "http://ladder.invalid/ladder.v1.Ladder/CreateUser";

/// What the server makes of a user: refused when nameless, so that errors have a way out too.
fn handler(user: &mut User) -> Result<(), Status> {
    if user.name.is_empty() {
        return Err(Status::invalid_argument("a user needs a name: ä %"));
    }
    user.create();
    Ok(())
}

fn created(mut user: User) -> User {
    user.create();
    user
}

/// A lean server on the other end of the pipe.
fn lean_server() -> DuplexStream {
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(async move {
        server::serve(None, PATH, handler, tokio_stream::once(Ok(theirs))).await;
    });
    ours
}

async fn lean_client<IO>(io: IO) -> LeanClient
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    LeanClient::handshake(io, None, Uri::from_static(URI)).await.expect("HTTP/2 begins")
}

async fn create(client: &mut LeanClient, user: &User) -> Result<User, Status> {
    client.unary(user).await
}

async fn tonic_client(io: DuplexStream) -> tonic::client::Grpc<tonic::transport::Channel> {
    let mut io = Some(io);
    let connect = tower::service_fn(move |_: Uri| {
        let io = io.take().map(hyper_util::rt::TokioIo::new);
        async move { io.ok_or_else(|| std::io::Error::other("one connection only")) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://ladder.invalid");
    let mut grpc = tonic::client::Grpc::new(endpoint.connect_with_connector(connect).await.expect("connects"));
    grpc.ready().await.expect("ready");
    grpc
}

async fn tonic_create(
    grpc: &mut tonic::client::Grpc<tonic::transport::Channel>,
    path: &'static str,
    user: User,
) -> Result<User, Status> {
    let codec = ProstCodec::<User, User>::stock();
    grpc.ready().await.expect("ready");
    Ok(grpc.unary(tonic::Request::new(user), PathAndQuery::from_static(path), codec).await?.into_inner())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// What came back, as it was on the wire.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// The code of a call that ended without a message: in headers, on a stream that ended with them.
    fn refused(&self) -> &str {
        assert_eq!(
            (self.status, &self.headers["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static("application/grpc"))
        );
        assert!(self.body.is_empty() && self.trailers.is_none(), "trailers-only");
        self.headers["grpc-status"].to_str().expect("a number")
    }
}

async fn raw(path: &str, headers: &[(&'static str, &str)], frames: &[&[u8]]) -> Answer {
    let (mut send, connection) = h2::client::handshake(lean_server()).await.expect("HTTP/2 begins");
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://ladder.invalid{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut stream) = send.send_request(request.body(()).expect("valid"), false).expect("sent");
    for frame in frames {
        // Each in a frame of its own, and in a read of its own.
        let _ = stream.send_data(Bytes::copy_from_slice(frame), false);
        tokio::task::yield_now().await;
    }
    let _ = stream.send_data(Bytes::new(), true);
    let (head, mut body) = response.await.expect("an answer").into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("not reset");
        body.flow_control().release_capacity(data.len()).expect("received");
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.expect("not reset");
    Answer { status: head.status, headers: head.headers, body: bytes, trailers }
}

#[tokio::test]
async fn the_servers_answer_is_byte_for_byte_tonics() {
    let request = framed(&sample_user().encode_to_vec());
    let answer = raw(PATH, &[("te", "trailers"), ("content-type", "application/grpc")], &[&request]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.body, framed(&created(sample_user()).encode_to_vec()));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_request_may_be_cut_anywhere(cuts in prop::collection::vec(1usize..40, 0..12), twice: bool) {
        let user = framed(&sample_user().encode_to_vec());
        // tonic answers the first message too where there are two.
        let request = if twice { [user.clone(), user].concat() } else { user };
        let mut rest = &request[..];
        let mut frames = Vec::new();
        for cut in cuts {
            let (frame, behind) = rest.split_at(cut.min(rest.len()));
            frames.push(frame);
            rest = behind;
        }
        frames.push(rest);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answer = runtime.block_on(raw(PATH, &[], &frames));
        prop_assert_eq!(answer.body, framed(&created(sample_user()).encode_to_vec()));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_has_its_status() {
    let user = sample_user().encode_to_vec();
    let good = framed(&user);
    let refused = async |path, headers: &[(&'static str, &str)], body: &[u8]| {
        raw(path, headers, &[body]).await.refused().parse::<i32>().map(Code::from_i32).expect("a code")
    };
    assert_eq!(refused("/ladder.v1.Ladder/Nothing", &[], &good).await, Code::Unimplemented);
    assert_eq!(refused("/", &[], &[]).await, Code::Unimplemented);
    assert_eq!(refused(PATH, &[], &[]).await, Code::Internal, "no message");
    assert_eq!(refused(PATH, &[], &good[..4]).await, Code::Internal, "ends inside the prefix");
    assert_eq!(refused(PATH, &[], &good[..good.len() - 1]).await, Code::Internal, "ends inside the message");
    assert_eq!(refused(PATH, &[], &[&[1], &good[1..]].concat()).await, Code::Internal, "compressed, says the flag");
    assert_eq!(refused(PATH, &[], &[&[7], &good[1..]].concat()).await, Code::Internal, "no such flag");
    assert_eq!(refused(PATH, &[], &framed(&[0xFF; 9])).await, Code::Internal, "no such message");
    assert_eq!(refused(PATH, &[], &framed(&User::default().encode_to_vec())).await, Code::InvalidArgument);
    let over = [&[0][..], &(RECEIVE_LIMIT as u32 + 1).to_be_bytes()].concat();
    assert_eq!(refused(PATH, &[], &over).await, Code::OutOfRange);
    assert_eq!(refused(PATH, &[], &[&[0], &u32::MAX.to_be_bytes()[..]].concat()).await, Code::OutOfRange);
    let gzip = raw(PATH, &[("grpc-encoding", "gzip")], &[&good]).await;
    assert_eq!(gzip.refused(), "12");
    assert_eq!(gzip.headers["grpc-accept-encoding"], "identity");
    assert_eq!(raw(PATH, &[("grpc-encoding", "identity")], &[&good]).await.trailers.expect("sent")["grpc-status"], "0");
    for nonsense in ["", "m", "1", "123456789m", "-1m", "1µ"] {
        let answer = raw(PATH, &[("grpc-timeout", nonsense)], &[&good]).await;
        assert_eq!(answer.trailers.expect("sent")["grpc-status"], "0", "{nonsense}");
    }
}

#[tokio::test]
async fn a_message_of_the_limit_passes_and_one_more_byte_does_not() {
    // The length of the name takes four bytes, its tag one.
    let largest = User { name: "x".repeat(RECEIVE_LIMIT - 5), ..User::default() };
    assert_eq!(largest.encoded_len(), RECEIVE_LIMIT);
    let mut client = lean_client(lean_server()).await;
    // The answer is larger than the request by what the handler adds, and the client has the same limit.
    let error = create(&mut client, &largest).await.expect_err("the answer is too large");
    assert_eq!(error.code(), Code::OutOfRange);
    let fits = User { name: "x".repeat(RECEIVE_LIMIT - 64), ..User::default() };
    assert_eq!(create(&mut client, &fits).await.expect("fits"), created(fits));
    let over = User { name: "x".repeat(RECEIVE_LIMIT - 4), ..User::default() };
    assert_eq!(create(&mut client, &over).await.expect_err("refused").code(), Code::OutOfRange);
    assert_eq!(create(&mut client, &sample_user()).await.expect("the connection lives on"), created(sample_user()));
}

#[tokio::test]
async fn tonics_client_works_with_the_lean_server() {
    let mut grpc = tonic_client(lean_server()).await;
    for _ in 0..3 {
        assert_eq!(tonic_create(&mut grpc, PATH, sample_user()).await.expect("answered"), created(sample_user()));
    }
    let refused = tonic_create(&mut grpc, PATH, User::default()).await.expect_err("refused");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "a user needs a name: ä %"));
    let unknown = tonic_create(&mut grpc, "/ladder.v1.Ladder/Nothing", sample_user()).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_lean_client_works_with_tonics_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let workload = Workload::default();
    let (meter, _measured) = Meter::new(Side::Server, &workload, 0, Options::default());
    let ladder = Ladder::new(Tuning::default(), Arc::new(meter), 0);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(ladder).serve_with_incoming(incoming));
    let mut client = lean_client(TcpStream::connect(address).await.expect("listening")).await;
    for _ in 0..3 {
        assert_eq!(create(&mut client, &sample_user()).await.expect("answered"), created(sample_user()));
    }
    let uri = Uri::from_static("http://ladder.invalid/ladder.v1.Ladder/Nothing");
    let io = TcpStream::connect(address).await.expect("listening");
    let mut unknown = LeanClient::handshake(io, None, uri).await.expect("HTTP/2 begins");
    assert_eq!(create(&mut unknown, &sample_user()).await.expect_err("unknown").code(), Code::Unimplemented);
}

#[tokio::test]
async fn many_calls_share_a_connection_and_a_stalled_one_holds_up_none() {
    let (mut send, connection) = h2::client::handshake(lean_server()).await.expect("HTTP/2 begins");
    tokio::spawn(connection);
    let request = || Request::post(URI).body(()).expect("valid");
    let (stalled, mut stream) = send.send_request(request(), false).expect("sent");
    let user = Bytes::from(framed(&sample_user().encode_to_vec()));
    stream.send_data(user.slice(..10), false).expect("sent");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (response, mut stream) = send.send_request(request(), false).expect("sent");
        stream.send_data(user.clone(), true).expect("sent");
        calls.spawn(async move { response.await.expect("answered").status() });
    }
    for status in calls.join_all().await {
        assert_eq!(status, StatusCode::OK);
    }
    stream.send_data(user.slice(10..), true).expect("sent");
    assert_eq!(stalled.await.expect("answered").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_takes_longer_than_the_call_may_is_given_up() {
    let (mut send, connection) = h2::client::handshake(lean_server()).await.expect("HTTP/2 begins");
    tokio::spawn(connection);
    let request = Request::post(URI).header("grpc-timeout", "20m").body(()).expect("valid");
    let (response, _stream) = send.send_request(request, false).expect("sent");
    // As tonic's `Server` answers: CANCELLED.
    assert_eq!(response.await.expect("answered").headers()["grpc-status"], "1");
}

/// A server that answers every request by `answer`, and the request as it came.
fn odd_server<F>(answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static) -> DuplexStream
where
    F: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.expect("HTTP/2 begins");
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(answer(request, respond));
        }
    });
    ours
}

/// The code a call ends with where the server sends this.
async fn code(
    headers: &'static [(&'static str, &'static str)],
    http: u16,
    body: &[u8],
    trailers: Option<&str>,
) -> Code {
    let body = Bytes::copy_from_slice(body);
    let trailers = trailers.map(str::to_owned);
    let server = odd_server(move |_, mut respond| {
        let (body, trailers) = (body.clone(), trailers.clone());
        async move {
            let mut response = Response::builder().status(http);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            let mut stream = respond.send_response(response.body(()).expect("valid"), false).expect("sent");
            stream.send_data(body, trailers.is_none()).expect("sent");
            if let Some(status) = trailers {
                let status = HeaderValue::from_str(&status).expect("a header's value");
                let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), status)]);
                stream.send_trailers(trailers).expect("sent");
            }
        }
    });
    let mut client = lean_client(server).await;
    create(&mut client, &sample_user()).await.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_has_its_status() {
    let user = framed(&sample_user().encode_to_vec());
    assert_eq!(code(&[], 200, &user, Some("0")).await, Code::Ok);
    assert_eq!(code(&[], 200, &user, Some("00")).await, Code::Unknown, "no such code, as in tonic");
    assert_eq!(code(&[], 200, &user, Some("5")).await, Code::NotFound, "a status outranks the message");
    assert_eq!(code(&[], 200, &user, Some("nonsense")).await, Code::Unknown);
    assert_eq!(code(&[], 200, &user, None).await, Code::Unknown, "no status");
    assert_eq!(code(&[], 200, &[], Some("0")).await, Code::Internal, "no message");
    assert_eq!(code(&[], 200, &user[..9], Some("0")).await, Code::Internal, "ends inside the message");
    assert_eq!(code(&[], 200, &framed(&[0xFF; 9]), Some("0")).await, Code::Internal, "no such message");
    assert_eq!(code(&[("grpc-encoding", "gzip")], 200, &user, Some("0")).await, Code::Unimplemented);
    let over = [&[0][..], &(RECEIVE_LIMIT as u32 + 1).to_be_bytes()].concat();
    assert_eq!(code(&[], 200, &over, Some("0")).await, Code::OutOfRange);
    assert_eq!(code(&[("grpc-status", "7")], 200, &[], None).await, Code::PermissionDenied, "trailers-only");
    assert_eq!(code(&[("grpc-status", "0")], 200, &[], None).await, Code::Internal, "success needs a message");
    assert_eq!(code(&[], 503, b"<html>", None).await, Code::Unavailable);
    assert_eq!(code(&[], 404, b"<html>", None).await, Code::Unimplemented);
    assert_eq!(code(&[], 302, &[], None).await, Code::Unknown);
}

#[tokio::test]
async fn details_that_are_not_base64_harm_nobody() {
    let server = odd_server(|_, mut respond| async move {
        let response = Response::builder()
            .header("grpc-status", "9")
            .header("grpc-message", "100%25 %zz")
            .header("grpc-status-details-bin", "!!!")
            .header("x-more", "kept");
        drop(respond.send_response(response.body(()).expect("valid"), true));
    });
    let status = create(&mut lean_client(server).await, &sample_user()).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "100% %zz"));
    assert_eq!(status.metadata().get("x-more").expect("kept"), "kept");
}

#[tokio::test]
async fn resets_and_broken_connections_have_their_status() {
    let reset = odd_server(|_, mut respond| async move { respond.send_reset(h2::Reason::REFUSED_STREAM) });
    let status = create(&mut lean_client(reset).await, &sample_user()).await.expect_err("reset");
    assert_eq!(status.code(), Code::Unavailable);
    let (ours, mut theirs) = duplex(1024);
    let mut client = lean_client(ours).await;
    theirs.shutdown().await.expect("shut");
    drop(theirs);
    for _ in 0..2 {
        assert_eq!(create(&mut client, &sample_user()).await.expect_err("gone").code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_on_the_wire() {
    let (seen, mut told) = tokio::sync::mpsc::channel(1);
    let server = odd_server(move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let timeout = request.headers()["grpc-timeout"].clone();
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.expect("reset");
            seen.send((timeout, reset)).await.expect("awaited");
        }
    });
    let mut client = lean_client(server).await.timeout(Duration::from_millis(20));
    assert_eq!(create(&mut client, &sample_user()).await.expect_err("late").code(), Code::DeadlineExceeded);
    let (timeout, reset) = told.recv().await.expect("told");
    assert_eq!((timeout.to_str().expect("text"), reset), ("20m", h2::Reason::CANCEL));
}

#[tokio::test]
async fn the_request_is_what_grpc_asks_for() {
    let (seen, mut told) = tokio::sync::mpsc::channel(1);
    let server = odd_server(move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let data = body.data().await.expect("a message").expect("not reset");
            assert!(body.is_end_stream());
            respond.send_reset(h2::Reason::NO_ERROR);
            seen.send((head, data)).await.expect("awaited");
        }
    });
    let mut client = lean_client(server).await;
    assert_eq!(create(&mut client, &sample_user()).await.expect_err("no answer").code(), Code::Internal);
    let (head, data) = told.recv().await.expect("told");
    assert_eq!((head.method, head.uri), (http::Method::POST, Uri::from_static(URI)));
    assert_eq!(
        (&head.headers["te"], &head.headers["content-type"]),
        (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("application/grpc"))
    );
    assert_eq!(data, framed(&sample_user().encode_to_vec()));
}
