//! gRPC messages: read beside tonic, and written into recycled memory.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use alloc_ladder::Side;
use alloc_ladder::steps::{self, Pooled};
use alloc_ladder::subject::codec::ProstCodec;
use alloc_ladder::subject::message::{Copied, Outgoing, Payload};
use alloc_ladder::subject::pb::bytes::Chunk;
use alloc_ladder::subject::pb::owned;
use alloc_ladder::subject::scenario::RECEIVE_LIMIT;
use alloc_ladder::wire::grpc::{Framing, PREFIX_BYTES};
use bytes::Bytes;
use fastrand::Rng;
use http::HeaderMap;
use http::uri::PathAndQuery;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::codegen::Service;
use tonic::server::{ClientStreamingService, StreamingService};
use tonic::{Code, Status, Streaming};

use super::readers::hold;
use super::runner::{Outcome, Try};

/// What never pends is ready long before so many polls.
const POLLS_MAX: u32 = 100_000;

/// The value of a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(value);
        }
    }
    Err("waits for nothing, without end".to_owned())
}

/// The payloads of a stream, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    payloads: Vec<Vec<u8>>,
    end: Result<(), (Code, String)>,
}

impl Received {
    /// Reads to the end.
    fn all<T>(
        mut message: impl FnMut() -> Result<Result<Option<T>, Status>, String>,
        payload: impl Fn(T) -> Vec<u8>,
    ) -> Result<Received, String> {
        let mut payloads = Vec::new();
        let end = loop {
            match message()? {
                Ok(Some(received)) => payloads.push(payload(received)),
                Ok(None) => break Ok(()),
                Err(status) => break Err((status.code(), status.message().to_owned())),
            }
        };
        Ok(Received { payloads, end })
    }
}

/// The same bytes, however they are cut, are the same messages and the same status code as in tonic's `Streaming`, by
/// fresh and by pooled messages, except that a body that ends inside a message is always an error here. A message kept
/// stays as it was while others are read. The framing that seams follow sees the messages there are.
pub(super) fn grpc_frames() -> anyhow::Result<Try> {
    let mut kept: Vec<(Bytes, Vec<u8>)> = Vec::new();
    Ok(Box::new(move |input, rng| {
        let body = Cut {
            bytes: Bytes::copy_from_slice(input),
            choices: rng.fork(),
            // Some hundred frames at most.
            longest: [3, 70, 9000][rng.usize(if input.len() < 1000 { 0 } else { 1 + input.len() / 20_000 }.min(2)..3)],
            end: rng.u8(..6),
        };
        let decoder = ProstCodec::<(), Chunk>::stock().decoder();
        let mut stock = Streaming::<Chunk>::new_request(decoder, body.body(), None, Some(RECEIVE_LIMIT));
        let expected = Received::all(|| now(stock.message()), |chunk| chunk.data.to_vec())?;
        let received = match rng.u8(..3) {
            0 => received::<Chunk>(&body)?,
            1 => received::<Pooled<owned::Chunk>>(&body)?,
            _ => received::<Pooled<Chunk>>(&body)?,
        };
        hold!(
            received.payloads == expected.payloads,
            "tonic has {} messages, this has {}, or others",
            expected.payloads.len(),
            received.payloads.len()
        );
        let inside =
            received.end.as_ref().is_err_and(|(code, words)| *code == Code::Internal && words.contains("ended inside"));
        let (ours, theirs) = (received.end.as_ref().map_err(|end| end.0), expected.end.as_ref().map_err(|end| end.0));
        hold!(inside || ours == theirs, "tonic ends with {:?}, this with {:?}", expected.end, received.end);
        let framing = frames(input, rng)?;
        hold!(!inside || !framing, "ended inside a message, the framing says between two");

        // Slices of the frames themselves.
        let mut slices = Vec::new();
        let mut zero = streaming::<Chunk>(&body)?;
        while let Ok(Some(chunk)) = now(zero.message())? {
            slices.push(chunk.data);
        }
        hold!(slices == expected.payloads, "read twice, the messages differ");
        kept.extend(slices.into_iter().zip(expected.payloads));
        while kept.len() > 64 {
            let (slice, was) = kept.swap_remove(rng.usize(..kept.len()));
            hold!(slice == was, "a message that was kept has changed");
        }
        Ok(if ours.is_ok() { Outcome::Accepted } else { Outcome::Refused })
    }))
}

/// The messages of a body as the steps read them.
fn streaming<M: Payload>(body: &Cut) -> Result<Streaming<M>, String> {
    let kept = Keep::<M>::default();
    let mut grpc = steps::server::Grpc::new(ProstCodec::<(), M>::stock());
    now(grpc.client_streaming(kept.clone(), http::Request::new(body.body())))?;
    let messages = kept.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    messages.ok_or_else(|| "a request without headers was refused".to_owned())
}

/// A method that keeps its request, to be read outside.
struct Keep<M>(Arc<Mutex<Option<Streaming<M>>>>);

impl<M> Clone for Keep<M> {
    fn clone(&self) -> Self {
        Keep(Arc::clone(&self.0))
    }
}

impl<M> Default for Keep<M> {
    fn default() -> Self {
        Keep(Arc::default())
    }
}

impl<M: Payload> ClientStreamingService<M> for Keep<M> {
    type Response = ();
    type Future = Ready<Result<tonic::Response<()>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Self::Future {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.into_inner());
        ready(Ok(tonic::Response::new(())))
    }
}

fn received<M: Payload>(body: &Cut) -> Result<Received, String> {
    let mut messages = streaming::<M>(body)?;
    let received = Received::all(|| now(messages.message()), |message| message.payload().to_vec())?;
    // tonic's `Streaming` says an error of its body twice.
    let behind = now(messages.message())?;
    let again = received.end.is_err() && behind.is_err() && matches!(now(messages.message())?, Ok(None));
    hold!(again || matches!(behind, Ok(None)), "something comes behind the end");
    Ok(received)
}

/// Whether the framing ends between two messages, which is what a walk over the whole says too.
fn frames(input: &[u8], rng: &mut Rng) -> Result<bool, String> {
    let (mut framing, mut rest) = (Framing::default(), input);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
        framing.pass(now, |_| {});
        rest = later;
    }
    let mut rest = input;
    while let Some(&[_, a, b, c, d]) = rest.first_chunk::<PREFIX_BYTES>() {
        let whole = PREFIX_BYTES + u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(behind) = rest.get(whole..) else { break };
        rest = behind;
    }
    hold!(framing.is_between_messages() == rest.is_empty(), "the framing is elsewhere than the messages");
    Ok(rest.is_empty())
}

/// A body, cut the same way each time it is made.
struct Cut {
    bytes: Bytes,
    choices: Rng,
    longest: usize,
    end: u8,
}

impl Cut {
    fn body(&self) -> Body {
        let (mut rng, mut left) = (self.choices.clone(), self.bytes.clone());
        let mut frames: Vec<Result<Frame<Bytes>, Status>> = Vec::new();
        while !left.is_empty() {
            if rng.u8(..9) == 0 {
                frames.push(Ok(Frame::data(Bytes::new())));
            }
            frames.push(Ok(Frame::data(left.split_to(rng.usize(1..=self.longest.min(left.len()))))));
        }
        match self.end {
            0 => frames.push(Err(Status::unavailable("reset"))),
            1 => frames.push(Ok(Frame::trailers(HeaderMap::new()))),
            2 => frames.push(Err(Status::cancelled("gone"))),
            _ => {}
        }
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }
}

/// Every four bytes of the input are a message: what fills it, and how long it is. What comes out is tonic's framing of
/// those messages, no byte of one in another; a frame that was handed out stays as it is however long it is held; a
/// server ends with trailers, a client with nothing.
pub(super) fn pooled_body() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| match rng.bool() {
        true => sent::<Chunk>(input, rng),
        false => sent::<Copied<Chunk>>(input, rng),
    }))
}

fn sent<M: Outgoing>(input: &[u8], rng: &mut Rng) -> Result<Outcome, String> {
    let side = if rng.bool() { Side::Server } else { Side::Client };
    // A client's stream of messages has no errors.
    let fails = side == Side::Server && rng.u8(..4) == 0;
    let mut messages: Vec<Result<M, Status>> = Vec::new();
    let mut expected = Vec::new();
    for four in input.as_chunks::<4>().0.iter().take(12) {
        let [fill, a, b, c] = *four;
        let length = u32::from_be_bytes([0, a, b, c]) as usize % (160 * 1024);
        let chunk = M::with_payload(&vec![fill; length].into());
        let encoded = chunk.encode_to_vec();
        expected.push(0);
        expected.extend((encoded.len() as u32).to_be_bytes());
        expected.extend(encoded);
        messages.push(Ok(chunk));
    }
    if fails {
        messages.push(Err(Status::aborted("planned")));
    }
    let pends = rng.bool();
    let source = Source { messages: messages.into_iter(), choices: rng.fork(), pends };
    let body = match side {
        Side::Server => answered(source)?,
        Side::Client => requested(source)?,
    };
    drain(body, side, fails, &expected, rng)?;
    Ok(if fails { Outcome::Refused } else { Outcome::Accepted })
}

/// The body that a server answers with.
fn answered<M: Outgoing>(source: Source<M>) -> Result<Body, String> {
    let mut grpc = steps::server::Grpc::new(ProstCodec::<M, ()>::stock());
    let answer = now(grpc.streaming(Answer(Some(source)), http::Request::new(Body::empty())))?;
    Ok(answer.into_body())
}

struct Answer<M>(Option<Source<M>>);

impl<M: Outgoing> StreamingService<()> for Answer<M> {
    type Response = M;
    type ResponseStream = Source<M>;
    type Future = Ready<Result<tonic::Response<Source<M>>, Status>>;

    fn call(&mut self, _: tonic::Request<Streaming<()>>) -> Self::Future {
        let source = self.0.take().ok_or_else(|| Status::internal("called twice"));
        ready(source.map(tonic::Response::new))
    }
}

/// The body that a client calls with.
fn requested<M: Outgoing>(source: Source<M>) -> Result<Body, String> {
    let server = Caller::default();
    let mut grpc = steps::client::Grpc::new(server.clone());
    let messages = source.map(|message| message.expect("a client's source has no errors"));
    let path = PathAndQuery::from_static("/fuzz.Fuzz/Put");
    let codec = ProstCodec::<M, ()>::stock();
    // It ends without an answer, which is nothing to this.
    let _ = now(grpc.client_streaming(tonic::Request::new(messages), path, codec))?;
    let body = server.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    body.ok_or_else(|| "no request was made".to_owned())
}

/// Keeps the body that it is called with.
#[derive(Clone, Default)]
struct Caller(Arc<Mutex<Option<Body>>>);

impl Service<http::Request<Body>> for Caller {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.into_body());
        ready(Ok(http::Response::new(Body::empty())))
    }
}

struct Source<M> {
    messages: std::vec::IntoIter<Result<M, Status>>,
    choices: Rng,
    pends: bool,
}

/// Nothing in it is pinned.
impl<M> Unpin for Source<M> {}

impl<M> Stream for Source<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pends && self.choices.u8(..4) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(self.messages.next())
    }
}

/// Takes a body's frames and holds them for a while.
fn drain(body: Body, side: Side, fails: bool, expected: &[u8], rng: &mut Rng) -> Result<(), String> {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let (mut got, mut held): (Vec<u8>, Vec<(Bytes, Vec<u8>)>) = (Vec::new(), Vec::new());
    let mut trailers = None;
    for polls in 0.. {
        hold!(polls < POLLS_MAX, "a body without end");
        match body.as_mut().poll_frame(&mut context) {
            Poll::Pending => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(status))) => return Err(format!("the body failed: {status}")),
            Poll::Ready(Some(Ok(frame))) => {
                hold!(trailers.is_none(), "a frame behind the trailers");
                match frame.into_data() {
                    Ok(data) => {
                        got.extend_from_slice(&data);
                        held.push((data.clone(), data.to_vec()));
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
        }
        while held.len() > 6 {
            unchanged(held.swap_remove(rng.usize(..held.len())))?;
        }
    }
    held.into_iter().try_for_each(unchanged)?;
    hold!(got == expected, "{} bytes were to come, {} came, or others", expected.len(), got.len());
    let status = trailers.as_ref().and_then(|trailers| Some(trailers.get("grpc-status")?.as_bytes()));
    let ends = if fails { &b"10"[..] } else { &b"0"[..] };
    match side {
        Side::Server => hold!(status == Some(ends), "a server ends with {status:?}"),
        Side::Client => hold!(trailers.is_none(), "a client ends with {trailers:?}"),
    }
    Ok(())
}

fn unchanged((data, bytes): (Bytes, Vec<u8>)) -> Result<(), String> {
    hold!(data == bytes, "a frame changed after it was handed out");
    Ok(())
}
