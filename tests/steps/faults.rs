//! Every step of put and get under resets, deadlines, slow readers, bad peers and servers that go away.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use alloc_ladder::subject::codec::ProstCodec;
use alloc_ladder::subject::connect::{self, StagedChannel};
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::Tuning;
use alloc_ladder::subject::pb::bytes::Chunk;
use alloc_ladder::subject::pb::owned::PutSummary;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::secure::Security;
use alloc_ladder::wire::grpc::put_prefix;
use bytes::Bytes;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codec::{Codec as _, Streaming};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use crate::checked::{self, Caller, End, Plan, Running, Sending, Then, block_on, step_sets};

fn every_step(scenario: Scenario, work: impl AsyncFn(Running, Caller)) {
    for (name, tuning) in step_sets(scenario) {
        eprintln!("{name}");
        let server = Running::new(tuning);
        block_on(async {
            let caller = Caller::connect(scenario, tuning, &server).await;
            work(server, caller).await;
        });
    }
}

/// Sends the plan's messages and leaves the stream open.
async fn put_open(caller: &Caller, plan: &Plan) -> Result<PutSummary, Status> {
    caller.send(&Sending { plan, end: End::Open, before: Arc::new(|| {}) }).await
}

#[test]
fn a_client_that_resets_its_upload_ends_the_handler_and_nothing_else() {
    every_step(Scenario::Put, async |server, caller| {
        for (calls, sizes) in [(1, [10, 70_000, 3]), (2, [70_000, 3, 65_536])] {
            let before = *server.seen.messages.borrow();
            let plan = Plan::of(4, &sizes);
            tokio::select! {
                answer = put_open(&caller, &plan) => panic!("answered {answer:?}"),
                () = server.seen.messages(before + 3) => {}
            }
            server.seen.ended(2 * calls - 1).await;
            // Shorter content next, on the same connection: nothing of what was reset shows.
            let plan = Plan::of(5, &[9, 60_000, 2, 0]);
            assert_eq!(caller.put(&plan).await.expect("nothing fails").messages, 4);
            server.seen.ended(2 * calls).await;
        }
    });
}

#[test]
fn a_client_that_resets_its_download_ends_the_source_and_nothing_else() {
    every_step(Scenario::Get, async |server, caller| {
        for calls in 1..3 {
            let plan = Plan::of(4, &[10, 70_000, 3]).then(Then::Stop);
            let got = Notify::new();
            // It reads two messages and no more; the source would go on.
            let read = async |index| {
                if index == 1 {
                    got.notify_one();
                    std::future::pending().await
                }
            };
            tokio::select! {
                end = caller.get_slowly(&plan, read) => panic!("ended with {end:?}"),
                () = got.notified() => {}
            }
            server.seen.ended(2 * calls - 1).await;
            let plan = Plan::of(5, &[9, 60_000, 2, 0]);
            assert_eq!(caller.get(&plan).await.expect("nothing fails"), 4);
            server.seen.ended(2 * calls).await;
        }
    });
}

#[test]
fn a_client_that_gives_up_waiting_for_the_answer_ends_the_handler() {
    every_step(Scenario::Put, async |server, caller| {
        let plan = Plan::of(1, &[100]).then(Then::Stop);
        tokio::select! {
            answer = caller.put(&plan) => panic!("answered {answer:?}"),
            () = server.seen.messages(1) => {}
        }
        server.seen.ended(1).await;
        assert_eq!(caller.put(&Plan::of(2, &[3])).await.expect("nothing fails").messages, 1);
    });
}

#[test]
fn a_slow_reader_gets_everything() {
    every_step(Scenario::Get, async |_server, caller| {
        let sizes: Vec<usize> = (0..150).map(|index| [65_536, 70_000, 0, 12][index % 4]).collect();
        let pause = |index: usize| sleep(Duration::from_millis(if index.is_multiple_of(30) { 10 } else { 0 }));
        let received = caller.get_slowly(&Plan::of(7, &sizes), pause).await;
        assert_eq!(received.expect("nothing fails"), sizes.len());
    });
}

#[test]
fn a_server_that_goes_away_is_an_error_and_not_a_wait() {
    every_step(Scenario::Get, async |mut server, caller| {
        // More than any window: until the client reads on, the server cannot have sent all of it.
        let plan = Plan::of(1, &vec![65_536; 200]);
        let (began, gone) = (Notify::new(), Notify::new());
        let read = async |index| {
            if index == 0 {
                began.notify_one();
                gone.notified().await;
            }
        };
        let (end, ()) = tokio::join!(caller.get_slowly(&plan, read), async {
            began.notified().await;
            server.stop();
            gone.notify_one();
        });
        assert_eq!(end.expect_err("the stream was cut").code(), Code::Unknown);
    });
    every_step(Scenario::Put, async |mut server, caller| {
        let plan = Plan::of(1, &[65_536, 65_536]);
        let seen = Arc::clone(&server.seen);
        let (end, ()) = tokio::join!(put_open(&caller, &plan), async {
            seen.messages(2).await;
            server.stop();
        });
        // What tonic's channel makes of it, and what a lean one does.
        let code = end.expect_err("the stream was cut").code();
        assert!([Code::Unknown, Code::Unavailable].contains(&code), "{code:?}");
    });
}

/// A channel for requests of any bytes.
async fn channel(tuning: &Tuning, server: &Running) -> StagedChannel {
    let settings = http2::settings(tuning, &Workload::default());
    connect::channel(tuning, settings, (&server.address, Security::Plain), false).await.expect("the server listens")
}

async fn send(channel: &mut StagedChannel, request: http::Request<Body>) -> http::Response<Body> {
    let response = channel.ready().await.expect("connected").call(request).await;
    response.expect("the server answers").map(Body::new)
}

/// Puts these bytes, with these headers, and gives the summary or the status.
async fn put_bytes(
    channel: &mut StagedChannel,
    headers: &[(&'static str, &'static str)],
    body: Body,
) -> Result<PutSummary, Status> {
    let mut request =
        http::Request::post(Scenario::Put.path()).version(http::Version::HTTP_2).body(body).expect("valid");
    for (name, value) in [("te", "trailers"), ("content-type", "application/grpc")].iter().chain(headers) {
        request.headers_mut().insert(*name, http::HeaderValue::from_static(value));
    }
    let (parts, body) = send(channel, request).await.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return Err(status);
    }
    let decoder = ProstCodec::<(), PutSummary>::stock().decoder();
    let mut messages = Streaming::new_response(decoder, body, parts.status, None, None);
    messages.message().await?.ok_or_else(|| Status::data_loss("no summary"))
}

fn bytes(parts: &[Bytes]) -> Body {
    let parts = parts.to_vec();
    Body::new(http_body_util::StreamBody::new(tokio_stream::iter(
        parts.into_iter().map(|part| Ok::<_, Status>(http_body::Frame::data(part))),
    )))
}

fn message(len: usize, gzip: bool) -> Bytes {
    let message = Chunk { data: checked::content(1, 1, len) }.encode_to_vec();
    let mut wire = Vec::new();
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&message).expect("in memory");
        let message = encoder.finish().expect("in memory");
        put_prefix(message.len(), &mut wire).expect("a short message");
        wire[0] = 1;
        wire.extend(message);
    } else {
        put_prefix(message.len(), &mut wire).expect("a short message");
        wire.extend(message);
    }
    wire.into()
}

#[test]
fn every_step_of_put_takes_and_refuses_what_the_baseline_does() {
    for (name, tuning) in step_sets(Scenario::Put) {
        eprintln!("{name}");
        let server = Running::counting(tuning);
        block_on(async {
            let mut channel = channel(&tuning, &server).await;
            let code = async |channel: &mut StagedChannel, headers: &[_], parts: &[Bytes]| {
                put_bytes(channel, headers, bytes(parts)).await.expect_err("refused").code()
            };
            let gzip = [("grpc-encoding", "gzip")];
            let summary = put_bytes(&mut channel, &[], bytes(&[message(10, false), message(70_000, false)])).await;
            assert_eq!(summary.expect("taken"), PutSummary { messages: 2, bytes: 70_010 });
            // A stream that may be compressed has messages of both kinds.
            let mixed = [message(50_000, true), message(10, false), message(0, true)];
            let summary = put_bytes(&mut channel, &gzip, bytes(&mixed)).await.expect("taken");
            assert_eq!(summary, PutSummary { messages: 3, bytes: 50_010 });
            assert_eq!(code(&mut channel, &[], &mixed).await, Code::Internal);
            assert_eq!(
                code(&mut channel, &[("grpc-encoding", "zstd")], &[message(1, false)]).await,
                Code::Unimplemented
            );
            assert_eq!(code(&mut channel, &[("grpc-encoding", "br")], &[]).await, Code::Unimplemented);
            let identity = put_bytes(&mut channel, &[("grpc-encoding", "identity")], bytes(&[message(1, false)])).await;
            assert_eq!(identity.expect("taken").messages, 1);
            // Garbage: behind a prefix, in place of one, cut short, and compressed badly.
            let garbage = |flag: u8, len: u8| Bytes::from([&[flag, 0, 0, 0, len][..], &[0xEE; 40]].concat());
            assert_eq!(code(&mut channel, &[], &[message(9, false), garbage(0, 40)]).await, Code::Internal);
            assert_eq!(code(&mut channel, &[], &[garbage(7, 40)]).await, Code::Internal);
            assert_eq!(code(&mut channel, &[], &[garbage(0, 50)]).await, Code::Internal);
            assert_eq!(code(&mut channel, &[], &[Bytes::from_static(&[0, 0xFF, 0, 0, 0])]).await, Code::OutOfRange);
            assert_eq!(code(&mut channel, &gzip, &[garbage(1, 40)]).await, Code::Internal);
            // The connection is as good as before.
            assert_eq!(put_bytes(&mut channel, &[], bytes(&[message(4, false)])).await.expect("taken").bytes, 4);
        });
    }
}

#[test]
fn every_server_keeps_a_calls_deadline() {
    for scenario in [Scenario::Put, Scenario::Get] {
        for (name, tuning) in step_sets(scenario) {
            eprintln!("{name}");
            let server = Running::counting(tuning);
            block_on(async {
                // h2 itself: tonic's channel would keep the deadline on its own.
                let stream = TcpStream::connect(&server.address).await.expect("the server listens");
                let (mut client, connection) = h2::client::handshake(stream).await.expect("a server");
                tokio::spawn(connection);
                let request = http::Request::post(format!("http://ladder.invalid{}", scenario.path()))
                    .header("te", "trailers")
                    .header("content-type", "application/grpc")
                    .header("grpc-timeout", "20m")
                    .body(())
                    .expect("valid");
                let (response, _open) = client.send_request(request, false).expect("sent");
                // The stream stays open: without the deadline there would be no answer.
                let late = Status::from_header_map(response.await.expect("answered").headers()).expect("a status");
                assert_eq!(late.code(), Code::Cancelled);
            });
        }
    }
}

#[test]
fn every_step_of_get_refuses_an_encoding_it_does_not_know() {
    for (name, tuning) in step_sets(Scenario::Get) {
        eprintln!("{name}");
        let server = Running::counting(tuning);
        block_on(async {
            let mut channel = channel(&tuning, &server).await;
            let mut request = http::Request::post(Scenario::Get.path())
                .version(http::Version::HTTP_2)
                .header("content-type", "application/grpc")
                .header("grpc-encoding", "zstd")
                .body(bytes(&[Bytes::from_static(&[0; 5])]))
                .expect("valid");
            request.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
            let response = send(&mut channel, request).await;
            let status = Status::from_header_map(response.headers()).expect("refused in headers");
            assert_eq!(status.code(), Code::Unimplemented);
        });
    }
}
