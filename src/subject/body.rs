//! Bodies that marshal into recycled memory: the counterpart of tonic's `EncodeBody`, and of grpc-go's `CodecV2` with
//! its buffer pool.

use std::io::IoSlice;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tonic::{Code, Status};

use super::message::{HEAD_BYTES_MAX, Outgoing};
use super::pool::Ring;
use crate::Side;
use crate::wire::grpc::{PREFIX_BYTES, put_prefix};

/// Messages that are ready are sent together until there are this many bytes: two of 64 KiB with what comes before their
/// payloads. tonic stops at 32 KiB. A frame costs two writes' and two wakings' worth of time, so that larger ones are
/// cheaper per byte (`cargo xtask sweep put`).
pub(super) const BATCH_BYTES: usize = 128 * 1024 + 1024;
/// Payloads below this size are copied behind their head, so that several share a frame: h2 sends a frame a write, and
/// down to three payloads a batch the copy costs less than the writes it saves (`cargo xtask sweep put`).
const COPY_BYTES: usize = 40 * 1024;

/// What a body sends at once: two messages at most, each with its payload apart from what comes before it.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    parts: [Bytes; PARTS],
    /// How many were filled.
    count: usize,
}

/// Two messages, each in two parts.
const PARTS: usize = 4;

impl Parts {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts[self.count] = part;
            self.count += 1;
        }
    }

    /// The first part, taken out.
    fn pop(&mut self) -> Option<Bytes> {
        self.parts.iter_mut().find(|part| !part.is_empty()).map(std::mem::take)
    }
}

impl From<Bytes> for Parts {
    fn from(whole: Bytes) -> Parts {
        let mut parts = Parts::default();
        parts.push(whole);
        parts
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part)
    }

    fn advance(&mut self, mut count: usize) {
        for part in &mut self.parts {
            let from_part = count.min(part.len());
            part.advance(from_part);
            count -= from_part;
        }
        assert_eq!(count, 0, "advanced beyond the end");
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts.iter().filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }
}

/// How a body's data leaves it: as one `Bytes` after the other, or all parts at once.
pub trait Wire: Buf + Send + 'static {
    /// The data to send now, and what is left to send next (empty for nothing).
    fn wrap(parts: Parts) -> (Self, Parts)
    where
        Self: Sized;
}

impl Wire for Bytes {
    fn wrap(mut parts: Parts) -> (Bytes, Parts) {
        (parts.pop().unwrap_or_default(), parts)
    }
}

impl Wire for Parts {
    fn wrap(parts: Parts) -> (Parts, Parts) {
        (parts, Parts::default())
    }
}

pin_project! {
    /// A gRPC message stream as a body. `W` is [`Bytes`] for tonic's `Server` and `Channel`, or [`Parts`].
    #[derive(Debug)]
    pub struct PooledBody<S, W> {
        #[pin]
        source: S,
        side: Side,
        state: State,
        ring: Ring,
        // Payloads go out as they are.
        zero_copy: bool,
        // What waits for the part before it to be taken.
        rest: Parts,
        wire: PhantomData<fn() -> W>,
    }
}

#[derive(Debug)]
enum State {
    Open,
    /// The source has ended, with this status.
    Ending(Status),
    Done,
}

impl<S, W> PooledBody<S, W> {
    /// Marshals whole messages into recycled buffers.
    pub fn pooled(side: Side, source: S) -> Self {
        PooledBody {
            source,
            side,
            state: State::Open,
            ring: Ring::default(),
            zero_copy: false,
            rest: Parts::default(),
            wire: PhantomData,
        }
    }

    /// Marshals only what comes before a payload; payloads of 40 KiB and more are sent as they are.
    pub fn zero_copy(side: Side, source: S) -> Self {
        PooledBody { zero_copy: true, ..PooledBody::pooled(side, source) }
    }
}

impl State {
    /// A server's stream ends with its status in trailers, a client's just ends or breaks off.
    fn finish<W>(&mut self, side: Side, status: Status) -> Option<Result<Frame<W>, Status>> {
        *self = State::Done;
        match side {
            Side::Server => {
                let mut trailers = HeaderMap::with_capacity(4);
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
            Side::Client => (status.code() != Code::Ok).then_some(Err(status)),
        }
    }
}

impl<S, W, M> Body for PooledBody<S, W>
where
    S: Stream<Item = Result<M, Status>>,
    M: Outgoing,
    W: Wire,
{
    type Data = W;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<W>, Status>>> {
        let mut this = self.project();
        let send = |parts: Parts, rest: &mut Parts| {
            let (data, left) = W::wrap(parts);
            *rest = left;
            Poll::Ready(Some(Ok(Frame::data(data))))
        };
        if this.rest.has_remaining() {
            return send(std::mem::take(this.rest), this.rest);
        }
        let first = match std::mem::replace(this.state, State::Open) {
            State::Open => ready!(this.source.as_mut().poll_next(cx)),
            State::Ending(status) => return Poll::Ready(this.state.finish(*this.side, status)),
            State::Done => {
                *this.state = State::Done;
                return Poll::Ready(None);
            }
        };
        let first = match first {
            Some(Ok(first)) => first,
            Some(Err(status)) => return Poll::Ready(this.state.finish(*this.side, status)),
            None => return Poll::Ready(this.state.finish(*this.side, Status::new(Code::Ok, ""))),
        };
        let apart = |message: &M| *this.zero_copy && message.payload().len() >= COPY_BYTES;
        let first_bytes = PREFIX_BYTES + first.encoded_len();
        // Room for a batch where another message of the size would fit one.
        let batched = 2 * first_bytes <= BATCH_BYTES;
        let mut parts = Parts::default();
        if apart(&first) {
            if let Err(status) = this.ring.put_apart(first, &mut parts) {
                return Poll::Ready(this.state.finish(*this.side, status));
            }
            if batched && let Poll::Ready(next) = this.source.as_mut().poll_next(cx) {
                let put = match next {
                    Some(Ok(second)) if apart(&second) => this.ring.put_apart(second, &mut parts),
                    Some(Ok(second)) => this.ring.put_whole(&second, &mut parts),
                    Some(Err(status)) => Err(status),
                    None => Err(Status::new(Code::Ok, "")),
                };
                if let Err(end) = put {
                    *this.state = State::Ending(end);
                }
            }
            return send(parts, this.rest);
        }
        let want = if batched { BATCH_BYTES } else { first_bytes };
        let mut payload = Bytes::new();
        let batch = this.ring.fill(first_bytes, want, |batch| {
            let room = batch.capacity().min(want);
            put_message(&first, batch)?;
            drop(first);
            // As tonic does, what is ready goes along.
            while batch.len() + first_bytes <= room {
                match this.source.as_mut().poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(message))) if apart(&message) => {
                        put_head(&message, batch)?;
                        payload = message.into_payload();
                        break;
                    }
                    Poll::Ready(Some(Ok(message))) => put_message(&message, batch)?,
                    Poll::Ready(end) => {
                        let status = end.and_then(Result::err).unwrap_or_else(|| Status::new(Code::Ok, ""));
                        *this.state = State::Ending(status);
                        break;
                    }
                }
            }
            Ok::<_, Status>(())
        });
        match batch {
            Ok(batch) => {
                parts.push(batch);
                parts.push(payload);
                send(parts, this.rest)
            }
            Err(status) => Poll::Ready(this.state.finish(*this.side, status)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

impl Ring {
    /// Adds a message whose payload is sent as it is.
    fn put_apart(&mut self, message: impl Outgoing, parts: &mut Parts) -> Result<(), Status> {
        const HEAD_BYTES: usize = PREFIX_BYTES + HEAD_BYTES_MAX;
        parts.push(self.fill(HEAD_BYTES, HEAD_BYTES, |head| put_head(&message, head))?);
        parts.push(message.into_payload());
        Ok(())
    }

    /// Adds a message that is copied.
    fn put_whole(&mut self, message: &impl Outgoing, parts: &mut Parts) -> Result<(), Status> {
        let bytes = PREFIX_BYTES + message.encoded_len();
        parts.push(self.fill(bytes, bytes, |whole| put_message(message, whole))?);
        Ok(())
    }
}

fn put_head(message: &impl Outgoing, buf: &mut BytesMut) -> Result<(), Status> {
    put_prefix(message.encoded_len(), buf)?;
    message.encode_head(buf);
    Ok(())
}

fn put_message(message: &impl Outgoing, buf: &mut BytesMut) -> Result<(), Status> {
    put_prefix(message.encoded_len(), buf)?;
    message.encode(buf).expect("a growing buffer has room for any message");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::pb::bytes::Chunk;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use prost::Message;

    fn sent<W: Wire>(body: PooledBody<impl Stream<Item = Result<Chunk, Status>>, W>) -> (Vec<u8>, Option<HeaderMap>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let collected = runtime.block_on(Box::pin(body).collect()).expect("the source does not fail");
        let trailers = collected.trailers().cloned();
        (collected.to_bytes().to_vec(), trailers)
    }

    proptest! {
        #[test]
        fn every_body_sends_what_tonic_sends(
            lengths in prop::collection::vec(prop_oneof![0usize..300, 7_000usize..9_000, 30_000usize..70_000], 0..20),
        ) {
            let messages: Vec<Chunk> = lengths
                .iter()
                .enumerate()
                .map(|(index, len)| Chunk { data: vec![index as u8 + 1; *len].into() })
                .collect();
            let mut expected = Vec::new();
            for message in &messages {
                expected.push(0);
                expected.extend((message.encoded_len() as u32).to_be_bytes());
                expected.extend(message.encode_to_vec());
            }
            let source = || tokio_stream::iter(messages.clone().into_iter().map(Ok));
            let (pooled, trailers) = sent::<Bytes>(PooledBody::pooled(Side::Server, source()));
            prop_assert_eq!(&pooled, &expected);
            let trailers = trailers.expect("a server ends with trailers");
            prop_assert_eq!(&trailers["grpc-status"], "0");
            let (zero_copy, trailers) = sent::<Bytes>(PooledBody::zero_copy(Side::Client, source()));
            prop_assert_eq!(&zero_copy, &expected);
            prop_assert!(trailers.is_none());
            let (parts, _) = sent::<Parts>(PooledBody::zero_copy(Side::Server, source()));
            prop_assert_eq!(&parts, &expected);
        }
    }

    #[test]
    fn an_error_ends_a_servers_stream_with_its_status_after_what_was_sent() {
        let source = || tokio_stream::iter([Ok(Chunk { data: vec![1; 10].into() }), Err(Status::not_found("gone"))]);
        let (bytes, trailers) = sent::<Bytes>(PooledBody::pooled(Side::Server, source()));
        assert_eq!(bytes.len(), PREFIX_BYTES + 12);
        assert_eq!(trailers.expect("a status")["grpc-status"], "5");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let client = PooledBody::<_, Bytes>::pooled(Side::Client, source());
        let error = runtime.block_on(Box::pin(client).collect()).expect_err("a client's stream breaks off");
        assert_eq!(error.code(), Code::NotFound);
    }
}
