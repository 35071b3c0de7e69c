//! gRPC messages: read beside tonic, and written into recycled memory.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use alloc_ladder::Side;
use alloc_ladder::subject::body::{Parts, PooledBody, Wire};
use alloc_ladder::subject::codec::{AnyDecoder, PooledDecoder, ProstDecoder, stock_buffers};
use alloc_ladder::subject::message::Payload;
use alloc_ladder::subject::pb::bytes::Chunk;
use alloc_ladder::subject::pb::owned;
use alloc_ladder::subject::pool::{MessagePool, Pooled, Recycle};
use alloc_ladder::subject::rope::RopeStreaming;
use alloc_ladder::subject::scenario::RECEIVE_LIMIT;
use alloc_ladder::wire::grpc::{Framing, PREFIX_BYTES};
use bytes::{Buf, Bytes};
use fastrand::Rng;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use prost::Message;
use tokio_stream::Stream;
use tonic::body::Body;
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
    let (owned, shared) = (MessagePool::<owned::Chunk>::default(), MessagePool::<Chunk>::default());
    let mut kept: Vec<(Bytes, Vec<u8>)> = Vec::new();
    Ok(Box::new(move |input, rng| {
        let body = Cut {
            bytes: Bytes::copy_from_slice(input),
            choices: rng.fork(),
            // Some hundred frames at most.
            longest: [3, 70, 9000][rng.usize(if input.len() < 1000 { 0 } else { 1 + input.len() / 20_000 }.min(2)..3)],
            end: rng.u8(..6),
        };
        let mut stock =
            Streaming::<Chunk>::new_request(ProstDecoder::new(stock_buffers()), body.body(), None, Some(RECEIVE_LIMIT));
        let expected = Received::all(|| now(stock.message()), |chunk| chunk.data.to_vec())?;
        let received = match rng.u8(..3) {
            0 => rope(ProstDecoder::<Chunk>::new(stock_buffers()), &body, |chunk| chunk.data.to_vec())?,
            1 => rope(PooledDecoder::new(stock_buffers(), owned.clone()), &body, payload::<owned::Chunk>)?,
            _ => rope(PooledDecoder::new(stock_buffers(), shared.clone()), &body, payload::<Chunk>)?,
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
        let mut zero =
            RopeStreaming::request(ProstDecoder::<Chunk>::new(stock_buffers()), &HeaderMap::new(), body.body(), &[])
                .map_err(|status| status.to_string())?;
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

fn payload<M: Recycle + Payload>(message: Pooled<M>) -> Vec<u8>
where
    Pooled<M>: Payload,
{
    Payload::payload(&message).to_vec()
}

fn rope<D>(decoder: D, body: &Cut, payload: impl Fn(D::Item) -> Vec<u8>) -> Result<Received, String>
where
    D: AnyDecoder + Send + 'static,
    D::Item: Send + 'static,
{
    let mut rope =
        RopeStreaming::request(decoder, &HeaderMap::new(), body.body(), &[]).map_err(|status| status.to_string())?;
    let received = Received::all(|| now(rope.message()), payload)?;
    hold!(matches!(now(rope.message())?, Ok(None)), "something comes behind the end");
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
/// server ends with trailers, a client with the source's error and nothing else.
pub(super) fn pooled_body() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        let fails = rng.u8(..8) == 0;
        let mut messages: Vec<Result<Chunk, Status>> = Vec::new();
        let mut expected = Vec::new();
        for four in input.as_chunks::<4>().0.iter().take(12) {
            let [fill, a, b, c] = *four;
            let length = u32::from_be_bytes([0, a, b, c]) as usize % (160 * 1024);
            let chunk = Chunk { data: vec![fill; length].into() };
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
        let side = if rng.bool() { Side::Server } else { Side::Client };
        match (rng.bool(), rng.bool()) {
            (true, true) => drain(PooledBody::<_, Bytes>::pooled(side, source), side, fails, &expected, rng),
            (true, false) => drain(PooledBody::<_, Bytes>::zero_copy(side, source), side, fails, &expected, rng),
            (false, true) => drain(PooledBody::<_, Parts>::pooled(side, source), side, fails, &expected, rng),
            (false, false) => drain(PooledBody::<_, Parts>::zero_copy(side, source), side, fails, &expected, rng),
        }?;
        Ok(if fails { Outcome::Refused } else { Outcome::Accepted })
    }))
}

struct Source {
    messages: std::vec::IntoIter<Result<Chunk, Status>>,
    choices: Rng,
    pends: bool,
}

impl Stream for Source {
    type Item = Result<Chunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pends && self.choices.u8(..4) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(self.messages.next())
    }
}

/// Takes a body's frames and holds them for a while.
fn drain<W: Wire + Clone>(
    body: PooledBody<Source, W>,
    side: Side,
    fails: bool,
    expected: &[u8],
    rng: &mut Rng,
) -> Result<(), String> {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let (mut got, mut held): (Vec<u8>, Vec<(W, Vec<u8>)>) = (Vec::new(), Vec::new());
    let (mut failed, mut trailers) = (None, None);
    for polls in 0.. {
        hold!(polls < POLLS_MAX, "a body without end");
        match body.as_mut().poll_frame(&mut context) {
            Poll::Pending => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(status))) => failed = Some(status.code()),
            Poll::Ready(Some(Ok(frame))) => {
                hold!(trailers.is_none(), "a frame behind the trailers");
                match frame.into_data() {
                    Ok(data) => {
                        let bytes = read(data.clone());
                        got.extend_from_slice(&bytes);
                        held.push((data, bytes));
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
    let (code, ends) = if fails { (Code::Aborted, &b"10"[..]) } else { (Code::Ok, &b"0"[..]) };
    match side {
        Side::Server => hold!(status == Some(ends) && failed.is_none(), "a server ends with {status:?} and {failed:?}"),
        Side::Client => {
            hold!(failed == fails.then_some(code) && trailers.is_none(), "a client ends with {failed:?}, {trailers:?}");
        }
    }
    Ok(())
}

fn read(mut data: impl Buf) -> Vec<u8> {
    let mut bytes = vec![0; data.remaining()];
    data.copy_to_slice(&mut bytes);
    bytes
}

fn unchanged<W: Wire>((data, bytes): (W, Vec<u8>)) -> Result<(), String> {
    hold!(read(data) == bytes, "a frame changed after it was handed out");
    Ok(())
}
