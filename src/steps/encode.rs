//! The messages of any stream as a gRPC body, in recycled memory. It takes the place of tonic's `EncodeBody`.
//!
//! A body holds no memory of its own: each time it is polled it takes a buffer of its thread's ring, and gives it back at
//! once. Messages that are ready leave together, up to [`BATCH_BYTES`]; payloads of 40 KiB and more leave uncopied.
//!
//! # Implementation
//! How much room is looked for is what the stream's last batch took, and twice that where the room was used up: a stream
//! that sends one short message at a time holds a share of 4 KiB until the message has left, a bulk one a whole batch.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};

use super::compress;
use super::parts::{APART_BYTES, PartsBuf};
use super::ring;
use crate::Stage;
use crate::stage;
use crate::tonic::payload;
use crate::wire::grpc::{GRPC_STATUS, OK, PREFIX_BYTES, prefix};

/// What is ready goes along until there are this many bytes: two payloads of 64 KiB with what stands before them.
pub(super) const BATCH_BYTES: usize = 128 * 1024 + 1024;
/// Room that is looked for at most for a message whose length says little: its payload may be one that is not copied.
const FIRST_BYTES: usize = 1 << 20;

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A request, which just ends; what fails it is an error of the body.
    Client,
    /// A response, which ends with its status in trailers.
    Server,
}

#[derive(Debug)]
enum State {
    Open,
    /// The status follows what is left in `parts`; `None` for success.
    Ending(Option<Status>),
    Done,
}

/// How a stream is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) side: Side,
    pub(super) encoding: Option<CompressionEncoding>,
    /// The largest message.
    pub(super) limit: Option<usize>,
}

pin_project! {
    /// The messages of `S` as a gRPC body.
    #[derive(Debug)]
    pub(super) struct EncodeBody<S> {
        #[pin]
        source: S,
        sending: Sending,
        state: State,
        parts: PartsBuf,
        room: Room,
    }
}

/// What the next buffer needs room for.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// The stream has one message: no room for a batch is looked for.
    single: bool,
    /// Bytes that the last message had copied.
    message: Option<usize>,
    /// Bytes that the next batch will have copied.
    batch: usize,
}

impl Room {
    fn of(self, len: usize) -> usize {
        let message = self.message(len);
        if self.single { message } else { message.max(self.batch.min(BATCH_BYTES)) }
    }

    /// What of a message of `len` bytes will be copied.
    fn message(self, len: usize) -> usize {
        match self.message {
            Some(last) if len >= APART_BYTES => last.min(len),
            _ => len.min(FIRST_BYTES),
        }
    }
}

impl<S> EncodeBody<S> {
    pub(super) fn new(source: S, sending: Sending) -> Self {
        EncodeBody { source, sending, state: State::Open, parts: PartsBuf::default(), room: Room::default() }
    }

    /// Of one message.
    pub(super) fn single(mut self) -> Self {
        self.room.single = true;
        self
    }
}

impl<S, M> Body for EncodeBody<S>
where
    S: Stream<Item = Result<M, Status>>,
    M: Message,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let marshal = stage::current().with_stage(Stage::Marshal);
        let _guard = marshal.enter();
        if let Some(part) = this.parts.pop() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let mut taken = None;
        let mut filled = false;
        while matches!(this.state, State::Open) && !filled {
            let message = {
                // What makes the messages is the service's own.
                let _guard = marshal.with_stage(Stage::Handler).enter();
                payload::source(|| this.source.as_mut().poll_next(cx))
            };
            match message {
                Poll::Pending if taken.is_none() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => *this.state = State::Ending(None),
                Poll::Ready(Some(Err(status))) => *this.state = State::Ending(Some(status)),
                Poll::Ready(Some(Ok(message))) => {
                    let len = PREFIX_BYTES + message.encoded_len();
                    if taken.is_none() {
                        let mut buffer = ring::take(this.room.of(len));
                        *this.parts.head() = std::mem::take(&mut buffer.bytes);
                        taken = Some((buffer, this.parts.head().capacity()));
                    }
                    let before = this.parts.len() - this.parts.kept();
                    match put(&message, len - PREFIX_BYTES, this.parts, *this.sending) {
                        Ok(()) => payload::encoded(len - PREFIX_BYTES),
                        Err(status) => *this.state = State::Ending(Some(status)),
                    }
                    let copied = this.parts.len() - this.parts.kept();
                    this.room.message = Some(copied - before);
                    let room = taken.as_ref().map_or(0, |(_, room)| *room);
                    let full = copied + this.room.message(len) > room;
                    this.room.batch = if full { 2 * copied } else { copied };
                    filled = full || this.parts.len() + len > BATCH_BYTES;
                }
            }
        }
        if let Some((mut buffer, _)) = taken {
            buffer.measure(this.parts.take_block());
            buffer.bytes = std::mem::take(this.parts.head());
            *this.parts.head() = buffer.bytes.split();
            // One part needs no list.
            if this.parts.has_closed() {
                this.parts.close();
            }
            let first = this.parts.pop();
            *this.parts.head() = BytesMut::new();
            ring::give(buffer);
            if let Some(first) = first {
                return Poll::Ready(Some(Ok(Frame::data(first))));
            }
        }
        match std::mem::replace(this.state, State::Done) {
            State::Ending(status) => Poll::Ready(finish(this.sending.side, status)),
            State::Open | State::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Open => false,
            // Nothing follows the last message of a request: its frame says so itself.
            State::Ending(status) => self.sending.side == Side::Client && status.is_none() && self.parts.is_empty(),
            State::Done => true,
        }
    }
}

fn finish(side: Side, status: Option<Status>) -> Option<Result<Frame<Bytes>, Status>> {
    match (side, status) {
        (Side::Client, None) => None,
        (Side::Client, Some(status)) => (status.code() != Code::Ok).then_some(Err(status)),
        (Side::Server, None) => {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(GRPC_STATUS, HeaderValue::from_static(OK));
            Some(Ok(Frame::trailers(trailers)))
        }
        (Side::Server, Some(status)) => {
            let mut trailers = HeaderMap::with_capacity(2);
            Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
        }
    }
}

/// Appends a message of `len` bytes.
fn put<M: Message>(message: &M, len: usize, parts: &mut PartsBuf, sending: Sending) -> Result<(), Status> {
    let Some(encoding) = sending.encoding else {
        check(len, sending.limit)?;
        parts.put_slice(&prefix(len)?);
        message.encode_raw(parts);
        return Ok(());
    };
    let mut plain = ring::take(len);
    message.encode_raw(&mut plain.bytes);
    let head = parts.head();
    let at = head.len();
    head.put_bytes(0, PREFIX_BYTES);
    let put = compress::compress(encoding, &plain.bytes, head)
        .map_err(|error| Status::internal(format!("Error compressing: {error}")))
        .and_then(|()| {
            let len = head.len() - at - PREFIX_BYTES;
            check(len, sending.limit)?;
            let mut prefix = prefix(len)?;
            prefix[0] = 1;
            head[at..at + PREFIX_BYTES].copy_from_slice(&prefix);
            Ok(())
        });
    ring::give(plain);
    // What came before still leaves.
    put.inspect_err(|_| head.truncate(at))
}

fn check(len: usize, limit: Option<usize>) -> Result<(), Status> {
    match limit {
        Some(limit) if len > limit => Err(Status::out_of_range(format!(
            "Error, encoded message length too large: found {len} bytes, the limit is: {limit} bytes"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Chunk {
        #[prost(bytes = "bytes", tag = "1")]
        data: Bytes,
        #[prost(bytes = "vec", tag = "2")]
        owned: Vec<u8>,
    }

    /// What a body sends, and how it ends.
    fn sent(side: Side, messages: Vec<Result<Chunk, Status>>) -> (Vec<u8>, Result<Option<HeaderMap>, Status>) {
        let sending = Sending { side, encoding: None, limit: None };
        let mut body = pin!(EncodeBody::new(tokio_stream::iter(messages), sending));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut bytes, mut trailers) = (Vec::new(), None);
        loop {
            match body.as_mut().poll_frame(&mut cx) {
                Poll::Pending => panic!("the source is ready"),
                Poll::Ready(None) => return (bytes, Ok(trailers)),
                Poll::Ready(Some(Err(status))) => return (bytes, Err(status)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn framed(messages: &[Chunk]) -> Vec<u8> {
        let mut framed = Vec::new();
        for message in messages {
            framed.extend(prefix(message.encoded_len()).expect("a short message"));
            framed.extend(message.encode_to_vec());
        }
        framed
    }

    proptest! {
        #[test]
        fn every_side_sends_each_message_behind_its_prefix(
            messages in prop::collection::vec(
                (prop_oneof![0usize..300, 7_000usize..9_000, 30_000usize..70_000], 0usize..20_000, any::<u8>()),
                0..20,
            ),
        ) {
            let chunk = |(data, owned, fill)| Chunk { data: vec![fill; data].into(), owned: vec![!fill; owned] };
            let messages: Vec<Chunk> = messages.into_iter().map(chunk).collect();
            for side in [Side::Client, Side::Server] {
                let (bytes, end) = sent(side, messages.iter().cloned().map(Ok).collect());
                prop_assert!(bytes == framed(&messages));
                let trailers = end.expect("nothing fails");
                prop_assert_eq!(trailers.is_some(), side == Side::Server);
                prop_assert!(trailers.is_none_or(|trailers| trailers[GRPC_STATUS] == OK));
            }
        }
    }

    #[test]
    fn an_error_ends_a_servers_stream_with_its_status_after_what_was_sent() {
        let message = Chunk { data: vec![1; 10].into(), owned: Vec::new() };
        let messages = || vec![Ok(message.clone()), Err(Status::not_found("gone"))];
        let (bytes, end) = sent(Side::Server, messages());
        assert_eq!(bytes, framed(std::slice::from_ref(&message)));
        assert_eq!(end.expect("trailers").expect("a status")[GRPC_STATUS], "5");
        let (bytes, end) = sent(Side::Client, messages());
        assert_eq!(bytes, framed(std::slice::from_ref(&message)));
        assert_eq!(end.expect_err("a client's stream breaks off").code(), Code::NotFound);
    }
}
