//! Recycled memory never shows one message's bytes in another: not with messages that are kept, calls that are dropped,
//! handlers that panic, threads that end.

#![cfg(all(feature = "steps", feature = "gzip"))]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use alloc_ladder::steps::{client, ring, server};
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use proptest::prelude::*;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::{Request, Response, Status};

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    /// Every byte of `data`.
    #[prost(uint32, tag = "1")]
    byte: u32,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
    /// Bytes that are copied rather than shared.
    #[prost(string, tag = "3")]
    text: String,
}

impl Chunk {
    fn new(byte: u8, size: usize) -> Chunk {
        Chunk {
            byte: byte.into(),
            data: vec![byte; size].into(),
            text: char::from(b'a' + byte % 26).to_string().repeat(size % 100),
        }
    }

    fn check(&self) {
        let byte = u8::try_from(self.byte).expect("a byte");
        assert!(self.data.iter().all(|of| *of == byte), "another message's bytes");
        assert!(self.text.bytes().all(|of| of == b'a' + byte % 26), "another message's text");
    }
}

type Codec = tonic_prost::ProstCodec<Chunk, Chunk>;
type Replies = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

/// A service that answers each message with itself, checked.
#[derive(Clone, Copy)]
struct Echo {
    /// Panics at this message.
    panic_at: usize,
}

impl tower_service::Service<Request<Streaming<Chunk>>> for Echo {
    type Response = Response<Replies>;
    type Error = Status;
    type Future = std::future::Ready<Result<Response<Replies>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Chunk>>) -> Self::Future {
        let (mut left, mut kept) = (self.panic_at, Vec::new());
        let replies = request.into_inner().map(move |chunk| {
            let chunk = chunk?;
            left = left.checked_sub(1).expect("asked to panic");
            chunk.check();
            kept.push(chunk.clone());
            kept.iter().for_each(Chunk::check);
            Ok(chunk)
        });
        std::future::ready(Ok(Response::new(Box::pin(replies))))
    }
}

/// A channel that is the service itself, whose frames are cut on their way.
#[derive(Clone)]
struct Loopback(Echo, Vec<usize>);

impl tower_service::Service<http::Request<Body>> for Loopback {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Loopback(echo, cuts) = self.clone();
        let cut = move |body| Body::new(Cut { body, left: Bytes::new(), cuts: cuts.clone(), at: 0 });
        Box::pin(async move {
            let mut grpc = server::Grpc::new(Codec::default())
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            Ok(grpc.streaming(echo, request.map(&cut)).await.map(&cut))
        })
    }
}

/// A body whose frames are cut, each piece in memory that is overwritten when the frame is dropped: as h2 reads into the
/// same buffer again.
struct Cut {
    body: Body,
    left: Bytes,
    cuts: Vec<usize>,
    at: usize,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.left.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let cut = self.cuts[self.at % self.cuts.len()].min(self.left.len());
        self.at += 1;
        let piece = Bytes::from_owner(Poisoned(self.left.chunk()[..cut].to_vec()));
        self.left.advance(cut);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

struct Poisoned(Vec<u8>);

impl AsRef<[u8]> for Poisoned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Poisoned {
    fn drop(&mut self) {
        self.0.fill(0xEE);
        // Not given back to the allocator: whoever still looked at it would see the poison.
        std::mem::forget(std::mem::take(&mut self.0));
    }
}

/// Calls on this thread: what they gave, as far as each was read.
fn calls(sizes: &[usize], cuts: &[usize], drop_at: usize, panic_at: usize, packed: bool) -> Vec<Chunk> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut kept = Vec::new();
    for round in 0..3u8 {
        let echo = Echo { panic_at: if round == 1 { panic_at } else { usize::MAX } };
        let mut grpc = client::Grpc::new(Loopback(echo, cuts.to_vec()));
        if packed {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        }
        let messages: Vec<Chunk> =
            sizes.iter().enumerate().map(|(at, size)| Chunk::new(round * 64 + at as u8, *size)).collect();
        let sent = tokio_stream::iter(messages.clone());
        let call = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let path = http::uri::PathAndQuery::from_static("/test.Test/Echo");
                let replies = grpc.streaming(Request::new(sent), path, Codec::default()).await;
                let mut replies = replies.expect("begins").into_inner();
                for (at, message) in messages.iter().enumerate() {
                    if round == 0 && at == drop_at {
                        return;
                    }
                    let reply = replies.message().await.expect("goes well").expect("a reply");
                    assert_eq!(reply, *message);
                    kept.push(reply);
                }
                assert!(replies.message().await.expect("ends well").is_none());
            });
        });
        let panicked = std::panic::catch_unwind(call).is_err();
        assert_eq!(panicked, round == 1 && panic_at < sizes.len());
        kept.iter().for_each(Chunk::check);
    }
    assert!(ring::kept().1 <= ring::BYTES_MAX);
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_message_shows_another(
        sizes in prop::collection::vec(prop_oneof![0usize..300, 3000usize..6000, 30_000usize..90_000], 1..10),
        cuts in prop::collection::vec(prop_oneof![1usize..100, 1000usize..5000, Just(100_000)], 1..6),
        drop_at in 0usize..10,
        panic_at in 0usize..12,
        packed in any::<bool>(),
    ) {
        // Cuts of some bytes and messages of many would take their time.
        let cuts: Vec<usize> = cuts.into_iter().chain([20_000]).collect();
        // Panics that are asked for are not printed.
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.to_string().contains("asked to panic") {
                print(panic);
            }
        }));
        let far = std::thread::scope(|scope| {
            scope.spawn(|| calls(&sizes, &cuts, drop_at, panic_at, packed)).join().expect("the assertions hold")
        });
        let near = calls(&sizes, &cuts, drop_at, panic_at, packed);
        let _ = std::panic::take_hook();
        // The other thread has ended, and its memory went its ways.
        far.iter().chain(&near).for_each(Chunk::check);
    }
}
