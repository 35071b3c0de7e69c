//! Random streams, whole and broken, cut anywhere: the steps' `Grpc` gives the messages and the code that tonic's gives.
//!
//! One difference is meant: a body that ends inside a message has failed, where tonic may take it for whole.

#![cfg(all(feature = "steps", feature = "gzip"))]

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use alloc_ladder::steps;
use bytes::{BufMut, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use proptest::prelude::*;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::{Code, Request, Response, Status};

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(string, tag = "2")]
    name: String,
}

type Codec = tonic_prost::ProstCodec<Chunk, Chunk>;

/// How a body ends.
#[derive(Clone, Debug)]
enum End {
    Nothing,
    Trailers(&'static str),
    Error(Code),
}

/// A stream as it arrives.
#[derive(Clone, Debug)]
struct Wire {
    frames: Vec<Bytes>,
    end: End,
    /// Not all of the last message is there.
    inside: bool,
}

const LIMIT: usize = 1000;

impl Wire {
    fn body(&self) -> Body {
        Body::new(Arriving { frames: self.frames.clone().into_iter(), end: Some(self.end.clone()) })
    }
}

struct Arriving {
    frames: std::vec::IntoIter<Bytes>,
    end: Option<End>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.frames.next() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        Poll::Ready(match self.end.take() {
            None | Some(End::Nothing) => None,
            Some(End::Error(code)) => Some(Err(Status::new(code, "broke"))),
            Some(End::Trailers(code)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.parse().expect("a value"));
                trailers.insert("grpc-message", "so%20it%20is".parse().expect("a value"));
                Some(Ok(Frame::trailers(trailers)))
            }
        })
    }
}

/// What is wrong with a stream.
#[derive(Clone, Debug)]
enum Fault {
    None,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
}

fn wire() -> impl Strategy<Value = Wire> {
    let message = (0usize..900, "[a-z]{0,12}", any::<bool>());
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, by)| Fault::Flip(at, by)),
        1 => any::<prop::sample::Index>().prop_map(Fault::Cut),
    ];
    let end = prop_oneof![
        Just(End::Nothing),
        Just(End::Trailers("0")),
        Just(End::Trailers("5")),
        Just(End::Trailers("nonsense")),
        Just(End::Error(Code::Cancelled)),
        Just(End::Error(Code::Unavailable)),
    ];
    let cuts = prop::collection::vec(prop_oneof![1usize..8, 1usize..2000], 1..20);
    (prop::collection::vec(message, 0..6), fault, end, cuts).prop_map(|(messages, fault, end, cuts)| {
        let mut bytes = Vec::new();
        for (size, name, packed) in messages {
            let chunk = Chunk { data: vec![size as u8; size].into(), name };
            let mut encoded = chunk.encode_to_vec();
            if packed {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&encoded).expect("a vector takes all");
                encoded = gzip.finish().expect("a vector takes all");
            }
            bytes.put_u8(packed.into());
            bytes.put_u32(encoded.len() as u32);
            bytes.extend(encoded);
        }
        match fault {
            Fault::Flip(at, by) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            Fault::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
            _ => {}
        }
        let inside = ends_inside(&bytes);
        let mut left = Bytes::from(bytes);
        let mut frames = Vec::new();
        for cut in cuts.iter().cycle() {
            if left.is_empty() {
                break;
            }
            frames.push(left.split_to((*cut).min(left.len())));
        }
        Wire { frames, end, inside }
    })
}

fn ends_inside(mut bytes: &[u8]) -> bool {
    while let [_, a, b, c, d, rest @ ..] = bytes {
        match rest.get(u32::from_be_bytes([*a, *b, *c, *d]) as usize..) {
            Some(rest) => bytes = rest,
            None => return true,
        }
    }
    !bytes.is_empty()
}

/// The messages that came, and how the stream ended.
type Outcome = (Vec<Chunk>, Result<(), (Code, String)>);

fn code_and_message(status: Status) -> (Code, String) {
    // What fails to be decoded is described by the decoder, which tells other places in other buffers.
    let message = if status.code() == Code::Internal { String::new() } else { status.message().to_owned() };
    (status.code(), message)
}

async fn read(mut stream: Streaming<Chunk>) -> Outcome {
    let mut messages = Vec::new();
    loop {
        match stream.next().await {
            Some(Ok(message)) => messages.push(message),
            Some(Err(status)) => return (messages, Err(code_and_message(status))),
            None => return (messages, Ok(())),
        }
    }
}

/// A channel whose every call is answered with a wire.
#[derive(Clone)]
struct Answers(Wire, bool);

impl tower_service::Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let mut response = http::Response::new(self.0.body());
        response.headers_mut().insert("grpc-encoding", "gzip".parse().expect("a value"));
        if self.1 {
            response.headers_mut().insert("grpc-status", "0".parse().expect("a value"));
        }
        std::future::ready(Ok(response))
    }
}

/// A service that keeps what it is sent.
#[derive(Clone, Default)]
struct Keeps(Arc<Mutex<Option<Outcome>>>);

impl tower_service::Service<Request<Streaming<Chunk>>> for Keeps {
    type Response = Response<Chunk>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Chunk>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Chunk>>) -> Self::Future {
        let kept = self.0.clone();
        Box::pin(async move {
            *kept.lock().expect("no panic") = Some(read(request.into_inner()).await);
            Ok(Response::new(Chunk::default()))
        })
    }
}

impl tower_service::Service<Request<Chunk>> for Keeps {
    type Response = Response<Chunk>;
    type Error = Status;
    type Future = std::future::Ready<Result<Response<Chunk>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Chunk>) -> Self::Future {
        *self.0.lock().expect("no panic") = Some((vec![request.into_inner()], Ok(())));
        std::future::ready(Ok(Response::new(Chunk::default())))
    }
}

/// Both sides with one `Grpc` or the other: the outcome of a streamed response, of a unary one, of a streamed request and of
/// a unary one.
macro_rules! outcomes {
    ($client:path, $server:path, $wire:expr, $answered:expr) => {{
        use $client as Client;
        use $server as Server;
        let wire: &Wire = $wire;
        let path = || http::uri::PathAndQuery::from_static("/test.Test/Call");
        let client = || {
            Client::new(Answers(wire.clone(), $answered))
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(LIMIT)
        };
        let server = || {
            Server::new(Codec::default()).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(LIMIT)
        };
        let request = || http::Request::builder().header("grpc-encoding", "gzip").body(wire.body()).expect("a request");
        let streamed = match client().server_streaming(Request::new(Chunk::default()), path(), Codec::default()).await {
            Ok(response) => read(response.into_inner()).await,
            Err(status) => (Vec::new(), Err(code_and_message(status))),
        };
        let unary = match client().unary(Request::new(Chunk::default()), path(), Codec::default()).await {
            Ok(response) => (vec![response.into_inner()], Ok(())),
            Err(status) => (Vec::new(), Err(code_and_message(status))),
        };
        let keeps = Keeps::default();
        drop(server().client_streaming(keeps.clone(), request()).await);
        let sent = keeps.0.lock().expect("no panic").take().expect("called");
        let keeps = Keeps::default();
        let answer = server().unary(keeps.clone(), request()).await;
        let sent_alone = match Status::from_header_map(answer.headers()) {
            Some(status) => (Vec::new(), Err(code_and_message(status))),
            None => keeps.0.lock().expect("no panic").take().expect("called"),
        };
        [streamed, unary, sent, sent_alone]
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_same_messages_and_the_same_code(wire in wire(), answered in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (stock, ours) = runtime.block_on(async {
            (
                outcomes!(tonic::client::Grpc, tonic::server::Grpc, &wire, answered),
                outcomes!(steps::client::Grpc, steps::server::Grpc, &wire, answered),
            )
        });
        for (call, (stock, ours)) in stock.iter().zip(&ours).enumerate() {
            if wire.inside && stock != ours {
                // The one difference: never more messages, and a failure.
                prop_assert!(ours.1.is_err(), "call {call}: {ours:?}");
                prop_assert!(stock.0.starts_with(&ours.0) || ours.0.is_empty(), "call {call}: {stock:?} {ours:?}");
            } else {
                prop_assert_eq!(stock, ours, "call {}", call);
            }
        }
    }
}

#[test]
fn details_that_are_not_base64_are_no_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    struct Broken(bool);
    impl HttpBody for Broken {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(None);
            }
            let pairs = [("grpc-status", "5"), ("grpc-status-details-bin", "!!!")];
            let trailers = pairs.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
            Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter(trailers)))))
        }
    }
    #[derive(Clone)]
    struct Answers;
    impl tower_service::Service<http::Request<Body>> for Answers {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<http::Response<Body>, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::ready(Ok(http::Response::new(Body::new(Broken(false)))))
        }
    }
    runtime.block_on(async {
        let path = || http::uri::PathAndQuery::from_static("/test.Test/Call");
        let mut client = steps::client::Grpc::new(Answers);
        let status = client.unary(Request::new(Chunk::default()), path(), Codec::default()).await.expect_err("fails");
        assert_eq!(status.code(), Code::NotFound);
        let stream = client.server_streaming(Request::new(Chunk::default()), path(), Codec::default()).await;
        let status = stream.expect("begins").into_inner().message().await.expect_err("fails");
        assert_eq!(status.code(), Code::NotFound);
    });
}
