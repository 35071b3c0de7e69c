//! Messages out of a body's own frames, without gathering them in one buffer.
//!
//! tonic's `Streaming` copies every DATA frame into a contiguous `BytesMut` before it decodes. [`RopeStreaming`] keeps
//! the frames as they came and decodes from them: a payload that lies within one frame is a slice of it, one that
//! spans frames is gathered once, at its exact size. What it holds is bounded by the receive limit and one frame,
//! however short the frames are: short ones are gathered. What it pins may be more, because a frame holds on to the
//! read buffer it is a slice of.
//!
//! A compressed stream is handed to tonic's `Streaming`, which has to gather anyway. Limits and errors are tonic's,
//! with one exception: a body that ends inside a message is an error here, always; tonic takes it for a whole one
//! when trailers say `OK`, and when nothing of the message but its prefix came. A request that is reset just ends, as in
//! tonic.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::{Code, Status};

use super::codec::AnyDecoder;
use crate::Stage;
use crate::stage;
use crate::subject::scenario::RECEIVE_LIMIT;
use crate::wire::grpc::{
    GRPC_ACCEPT_ENCODING, GRPC_ENCODING, IDENTITY, PREFIX_BYTES, ended_inside_message, message_len,
};
use crate::wire::status::{self, code_of_http};

/// A stream of messages decoded from the frames of a body.
pub struct RopeStreaming<D: AnyDecoder>(Kind<D>);

enum Kind<D: AnyDecoder> {
    Rope(Deframer<D>),
    Compressed(Streaming<D::Item>),
}

struct Deframer<D> {
    body: Body,
    decoder: D,
    rope: Rope,
    /// The length of the message whose prefix has been read.
    pending: Option<usize>,
    direction: Direction,
    limit: usize,
    done: bool,
}

/// Which side reads, and what it expects after the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The body just ends.
    Request,
    /// The status comes in trailers.
    Response(StatusCode),
    /// The status came in the headers.
    Answered,
}

impl<D> RopeStreaming<D>
where
    D: AnyDecoder + Send + 'static,
    D::Item: Send + 'static,
{
    /// The messages of a request; `accept` are the encodings the server takes.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when the request is compressed in another encoding, as tonic answers.
    pub fn request(
        decoder: D,
        headers: &HeaderMap,
        body: Body,
        accept: &[CompressionEncoding],
    ) -> Result<Self, Status> {
        let kind = match encoding(headers, accept)? {
            None => Kind::Rope(Deframer::new(decoder, body, Direction::Request)),
            encoding => Kind::Compressed(Streaming::new_request(decoder, body, encoding, Some(RECEIVE_LIMIT))),
        };
        Ok(RopeStreaming(kind))
    }

    /// The messages of a response.
    ///
    /// # Errors
    /// The status the server answered with in its headers; `UNIMPLEMENTED` when the response is compressed in another
    /// encoding than those of `accept`.
    pub fn response(
        decoder: D,
        response: http::Response<Body>,
        accept: &[CompressionEncoding],
    ) -> Result<Self, Status> {
        let (parts, body) = response.into_parts();
        let direction = match status::carried(&parts.headers) {
            Some(answer) => answer.map(|()| Direction::Answered)?,
            None => Direction::Response(parts.status),
        };
        let kind = match encoding(&parts.headers, accept)? {
            None => Kind::Rope(Deframer::new(decoder, body, direction)),
            encoding if direction == Direction::Answered => {
                Kind::Compressed(Streaming::new_request(decoder, body, encoding, Some(RECEIVE_LIMIT)))
            }
            encoding => {
                Kind::Compressed(Streaming::new_response(decoder, body, parts.status, encoding, Some(RECEIVE_LIMIT)))
            }
        };
        Ok(RopeStreaming(kind))
    }

    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// What tonic's `Streaming::message` gives for the same bytes: `OUT_OF_RANGE` above the receive limit, `INTERNAL`
    /// for a bad prefix, a bad message or a body that ends inside one, and the peer's own status.
    pub async fn message(&mut self) -> Result<Option<D::Item>, Status> {
        match &mut self.0 {
            Kind::Rope(deframer) => poll_fn(|cx| deframer.poll_message(cx)).await,
            Kind::Compressed(streaming) => streaming.message().await,
        }
    }
}

/// The encoding of a message stream, if it is one of `accept`.
pub(super) fn encoding(
    headers: &HeaderMap,
    accept: &[CompressionEncoding],
) -> Result<Option<CompressionEncoding>, Status> {
    let Some(name) = headers.get(GRPC_ENCODING).filter(|name| *name != IDENTITY) else { return Ok(None) };
    let name = name.to_str().unwrap_or("(not text)");
    match accept.iter().find(|encoding| encoding.to_string() == name) {
        Some(encoding) => Ok(Some(*encoding)),
        None => {
            let mut status = Status::unimplemented(format!("messages compressed with `{name}` are not accepted"));
            let names: Vec<String> = accept.iter().map(ToString::to_string).chain([IDENTITY.to_owned()]).collect();
            if let Ok(value) = names.join(",").parse() {
                status.metadata_mut().insert(GRPC_ACCEPT_ENCODING, value);
            }
            Err(status)
        }
    }
}

impl<D: AnyDecoder> Deframer<D> {
    fn new(decoder: D, body: Body, direction: Direction) -> Self {
        Deframer { body, decoder, rope: Rope::default(), pending: None, direction, limit: RECEIVE_LIMIT, done: false }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<D::Item>, Status>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(None));
            }
            match self.next_from_rope() {
                Ok(None) => {}
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(status) => return Poll::Ready(Err(self.fail(status))),
            }
            let receiving = Stage::ReceiveBuffer.enter();
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rope.push(data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            drop(receiving);
                            return Poll::Ready(self.end(Some(&trailers)));
                        }
                    }
                },
                Some(Err(status)) => {
                    drop(receiving);
                    // A client that goes away ends its stream; tonic says so by ending it too.
                    if self.direction == Direction::Request && status.code() == Code::Cancelled {
                        self.done = true;
                        return Poll::Ready(Ok(None));
                    }
                    return Poll::Ready(Err(self.fail(status)));
                }
                None => {
                    drop(receiving);
                    return Poll::Ready(self.end(None));
                }
            }
        }
    }

    /// Decodes a message if the rope holds a whole one.
    fn next_from_rope(&mut self) -> Result<Option<D::Item>, Status> {
        let len = match self.pending {
            Some(len) => len,
            None => {
                if self.rope.remaining() < PREFIX_BYTES {
                    return Ok(None);
                }
                let mut prefix = [0; PREFIX_BYTES];
                self.rope.copy_to_slice(&mut prefix);
                let len = message_len(prefix, self.limit)?;
                self.pending = Some(len);
                len
            }
        };
        if self.rope.remaining() < len {
            return Ok(None);
        }
        self.pending = None;
        let _constructing = stage::current().with_stage(Stage::MessageConstruction).enter();
        let message = self.decoder.decode_any((&mut self.rope).take(len))?;
        Ok(Some(message))
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<Option<D::Item>, Status> {
        let unfinished = self.pending.is_some() || self.rope.has_remaining();
        let status = match self.direction {
            _ if unfinished && trailers.is_none() => Some(ended_inside_message()),
            Direction::Response(http) => match trailers.and_then(status::carried) {
                Some(answer) => answer.err(),
                None => Some(Status::new(code_of_http(http), format!("HTTP {http} and no gRPC status"))),
            },
            // Trailers of a request mean nothing.
            Direction::Request | Direction::Answered => None,
        };
        match status.or_else(|| unfinished.then(ended_inside_message)) {
            Some(status) => Err(self.fail(status)),
            None => {
                self.done = true;
                Ok(None)
            }
        }
    }

    /// Nothing comes after an error.
    fn fail(&mut self, status: Status) -> Status {
        self.done = true;
        self.rope = Rope::default();
        status
    }
}

/// Frames in order, read as one buffer.
#[derive(Debug, Default)]
struct Rope {
    frames: VecDeque<Bytes>,
    /// What comes after `frames`: short frames, gathered in recycled memory so that none of them pins the connection's
    /// read buffer, nor takes a place of its own in `frames`.
    short: BytesMut,
    /// Bytes of both.
    bytes: usize,
}

/// Frames up to this size are copied: a prefix that comes in a frame of its own would otherwise hold the whole read
/// buffer while its payload is being read.
const SHORT_BYTES: usize = 64;
/// The size of the block that short frames are copied to.
const SHORT_BLOCK_BYTES: usize = 4096;

impl Rope {
    fn push(&mut self, frame: Bytes) {
        if frame.is_empty() {
            return;
        }
        self.bytes += frame.len();
        if frame.len() <= SHORT_BYTES {
            if !self.short.try_reclaim(frame.len()) {
                self.close_short();
                self.short = BytesMut::with_capacity(SHORT_BLOCK_BYTES);
            }
            self.short.extend_from_slice(&frame);
        } else {
            self.close_short();
            self.frames.push_back(frame);
        }
    }

    /// Puts the short frames gathered so far in their place.
    fn close_short(&mut self) {
        if !self.short.is_empty() {
            self.frames.push_back(self.short.split().freeze());
        }
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&self.short, |frame| frame)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "cannot advance past the end");
        self.bytes -= count;
        while count > 0 {
            let Some(front) = self.frames.front_mut() else { return self.short.advance(count) };
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.frames.pop_front();
            }
        }
    }

    /// A slice of the first frame where it is long enough, gathered at its exact size otherwise.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.bytes, "cannot copy past the end");
        if len == 0 {
            return Bytes::new();
        }
        match self.frames.front_mut() {
            Some(front) if front.len() >= len => {
                let bytes = front.split_to(len);
                self.bytes -= len;
                if front.is_empty() {
                    self.frames.pop_front();
                }
                return bytes;
            }
            Some(_) => {}
            None => {
                self.bytes -= len;
                return self.short.split_to(len).freeze();
            }
        }
        let mut gathered = BytesMut::with_capacity(len);
        while gathered.len() < len {
            let step = (len - gathered.len()).min(self.chunk().len());
            gathered.extend_from_slice(&self.chunk()[..step]);
            self.advance(step);
        }
        gathered.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::codec::{ProstDecoder, stock_buffers};
    use crate::subject::pb::bytes::Chunk;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use prost::Message;

    fn body(frames: Vec<Bytes>) -> Body {
        let frames = frames.into_iter().map(|frame| Ok::<_, Status>(http_body::Frame::data(frame)));
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }

    async fn read(frames: Vec<Bytes>) -> Result<Vec<Chunk>, Status> {
        let decoder = ProstDecoder::<Chunk>::new(stock_buffers());
        let mut rope = RopeStreaming::request(decoder, &HeaderMap::new(), body(frames), &[])?;
        let mut messages = Vec::new();
        while let Some(message) = rope.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn wire(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Vec::new();
        for data in messages {
            let message = Chunk { data: data.clone().into() }.encode_to_vec();
            crate::wire::grpc::put_prefix(message.len(), &mut wire).expect("a short message");
            wire.extend(message);
        }
        wire
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn any_message_boundaries_against_any_frame_boundaries(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
            cuts in prop::collection::vec(1usize..64, 1..40),
        ) {
            let mut left = Bytes::from(wire(&messages));
            let mut frames = Vec::new();
            for cut in cuts.iter().cycle() {
                if left.is_empty() { break }
                frames.push(left.split_to((*cut).min(left.len())));
            }
            let read = block_on(read(frames)).expect("a valid stream");
            let payloads: Vec<Vec<u8>> = read.into_iter().map(|chunk| chunk.data.to_vec()).collect();
            prop_assert_eq!(payloads, messages);
        }

        #[test]
        fn garbage_never_panics(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let _ = block_on(read(frames.into_iter().map(Bytes::from).collect()));
        }
    }

    /// A stream as both deframers read it: what came out, and what ended it.
    #[derive(Debug, PartialEq)]
    struct Reading {
        payloads: Vec<Vec<u8>>,
        end: Result<(), Code>,
        inside_a_message: bool,
    }

    async fn reading<S: AsyncFnMut() -> Result<Option<Chunk>, Status>>(mut next: S) -> Reading {
        let mut payloads = Vec::new();
        loop {
            match next().await {
                Ok(Some(chunk)) => payloads.push(chunk.data.to_vec()),
                Ok(None) => return Reading { payloads, end: Ok(()), inside_a_message: false },
                Err(status) => {
                    let inside_a_message = status.message().contains("ended inside a message");
                    return Reading { payloads, end: Err(status.code()), inside_a_message };
                }
            }
        }
    }

    /// The end of a body: nothing, trailers with or without a status, or a reset by the peer.
    #[derive(Clone, Debug)]
    enum End {
        Plain,
        Trailers(Option<i32>),
        Reset(Code),
    }

    proptest! {
        #[test]
        fn any_stream_reads_as_tonic_reads_it(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..6),
            // Garbage at some place, and a body that ends anywhere.
            garbage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in prop::option::of(any::<prop::sample::Index>()),
            sizes in prop::collection::vec(1usize..150, 1..10),
            end in prop_oneof![
                Just(End::Plain),
                prop::option::of(prop::sample::select(vec![0, 0, 5, 14, 99])).prop_map(End::Trailers),
                prop::sample::select(vec![Code::Cancelled, Code::Unavailable]).prop_map(End::Reset),
            ],
            // `None` is a request.
            response in prop::option::of(prop::sample::select(vec![200u16, 200, 400, 401, 403, 404, 429, 500, 502, 503])),
        ) {
            let mut bytes = wire(&messages);
            if let Some((index, value)) = garbage && !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            let body = || {
                let mut left = Bytes::from(bytes.clone());
                let mut frames = Vec::new();
                for size in sizes.iter().cycle() {
                    if left.is_empty() { break }
                    frames.push(Ok(http_body::Frame::data(left.split_to((*size).min(left.len())))));
                }
                match &end {
                    End::Plain => {}
                    End::Trailers(status) => {
                        let entry = |status: &i32| (http::HeaderName::from_static("grpc-status"), (*status).into());
                        frames.push(Ok(http_body::Frame::trailers(HeaderMap::from_iter(status.iter().map(entry)))));
                    }
                    End::Reset(code) => frames.push(Err(Status::new(*code, "reset"))),
                }
                Body::new(StreamBody::new(tokio_stream::iter(frames)))
            };
            let decoder = || ProstDecoder::<Chunk>::new(stock_buffers());
            let http = response.map(|code| StatusCode::from_u16(code).expect("a status"));
            let mut tonic = match http {
                None => Streaming::new_request(decoder(), body(), None, None),
                Some(http) => Streaming::new_response(decoder(), body(), http, None, None),
            };
            let mut rope = match http {
                None => RopeStreaming::request(decoder(), &HeaderMap::new(), body(), &[]),
                Some(http) => {
                    let mut response = http::Response::new(body());
                    *response.status_mut() = http;
                    RopeStreaming::response(decoder(), response, &[])
                }
            }.expect("nothing is refused by headers");
            let expected = block_on(reading(async || tonic.message().await));
            let read = block_on(reading(async || rope.message().await));
            prop_assert_eq!(&read.payloads, &expected.payloads);
            if read.inside_a_message {
                // Where tonic sees no error, or only the one it infers from HTTP.
                prop_assert!((cut.is_some() || garbage.is_some()) && !matches!(end, End::Reset(_)));
            } else {
                prop_assert_eq!(read.end, expected.end);
            }
            prop_assert_eq!(block_on(rope.message()).expect("nothing comes after the end"), None);
        }
    }

    #[test]
    fn a_message_in_frames_of_one_byte_is_held_in_its_own_size() {
        let mut rope = Rope::default();
        let message: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
        for byte in &message {
            rope.push(Bytes::copy_from_slice(&[*byte]));
        }
        assert!(rope.frames.len() <= (1 << 20) / SHORT_BLOCK_BYTES, "{} pieces", rope.frames.len());
        assert_eq!(rope.copy_to_bytes(1 << 20), message);
        assert_eq!(rope.remaining(), 0);
    }

    #[test]
    fn a_status_in_the_headers_needs_no_trailers() {
        let mut response = http::Response::new(body(vec![Bytes::from(wire(&[vec![1; 3]]))]));
        response.headers_mut().insert("grpc-status", "0".parse().expect("a value"));
        let decoder = ProstDecoder::<Chunk>::new(stock_buffers());
        let mut rope = RopeStreaming::response(decoder, response, &[]).expect("not refused");
        assert_eq!(block_on(rope.message()).expect("a message").expect("a message").data, vec![1; 3]);
        assert_eq!(block_on(rope.message()).expect("the end"), None);
    }

    #[test]
    fn a_payload_within_a_frame_is_a_slice_of_it() {
        let frame = Bytes::from(wire(&[vec![5; 1000]]));
        let range = frame.as_ptr_range();
        let messages = block_on(read(vec![frame.clone()])).expect("a valid stream");
        assert!(range.contains(&messages[0].data.as_ptr()));
    }

    #[test]
    fn limits_and_bad_prefixes_are_refused_as_tonic_does() {
        let prefix = |flag: u8, len: u32| Bytes::from([&[flag][..], &len.to_be_bytes()].concat());
        let code = |frames| block_on(read(frames)).expect_err("refused").code();
        assert_eq!(code(vec![prefix(0, RECEIVE_LIMIT as u32 + 1)]), Code::OutOfRange);
        assert_eq!(code(vec![prefix(1, 4)]), Code::Internal);
        assert_eq!(code(vec![prefix(2, 4)]), Code::Internal);
        assert_eq!(code(vec![prefix(0, 4)]), Code::Internal);
        assert_eq!(code(vec![Bytes::from_static(&[0, 0])]), Code::Internal);
    }

    #[test]
    fn an_unknown_encoding_is_unimplemented_and_says_what_is_accepted() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-encoding", "zstd".parse().expect("a header value"));
        let decoder = ProstDecoder::<Chunk>::new(stock_buffers());
        let status = RopeStreaming::request(decoder, &headers, body(vec![]), &[]).err().expect("refused");
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.metadata().get("grpc-accept-encoding").expect("named"), "identity");
    }

    #[test]
    fn compressed_responses_are_read_whether_their_status_comes_first_or_last() {
        let compressed = || {
            let message = Chunk { data: vec![3; 5000].into() }.encode_to_vec();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut gzip, &message).expect("in memory");
            let message = gzip.finish().expect("in memory");
            let mut wire = Vec::new();
            crate::wire::grpc::put_prefix(message.len(), &mut wire).expect("a short message");
            wire[0] = 1;
            wire.extend(message);
            Bytes::from(wire)
        };
        let read = |in_headers: Option<&'static str>, in_trailers: Option<&'static str>, accept: &[_]| {
            let status = |value| (http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(value));
            let trailers = in_trailers.map(|value| http_body::Frame::trailers(HeaderMap::from_iter([status(value)])));
            let frames = [http_body::Frame::data(compressed())].into_iter().chain(trailers).map(Ok::<_, Status>);
            let mut response = http::Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))));
            response.headers_mut().extend(in_headers.map(status));
            response.headers_mut().insert("grpc-encoding", http::HeaderValue::from_static("gzip"));
            let decoder = ProstDecoder::<Chunk>::new(stock_buffers());
            let mut rope = RopeStreaming::response(decoder, response, accept)?;
            block_on(async {
                let first = rope.message().await?.map(|chunk| chunk.data.to_vec());
                assert!(rope.message().await?.is_none());
                Ok::<_, Status>(first)
            })
        };
        let gzip = [CompressionEncoding::Gzip];
        assert_eq!(read(None, Some("0"), &gzip).expect("read"), Some(vec![3; 5000]));
        assert_eq!(read(Some("0"), None, &gzip).expect("read"), Some(vec![3; 5000]));
        assert_eq!(read(None, Some("5"), &gzip).expect_err("the status").code(), Code::NotFound);
        assert_eq!(read(None, Some("0"), &[]).expect_err("not accepted").code(), Code::Unimplemented);
    }

    #[test]
    fn a_response_needs_its_status() {
        let read = |trailers: Option<HeaderMap>| {
            let frames = trailers.into_iter().map(|trailers| Ok::<_, Status>(http_body::Frame::trailers(trailers)));
            let response = http::Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))));
            let decoder = ProstDecoder::<Chunk>::new(stock_buffers());
            block_on(async { RopeStreaming::response(decoder, response, &[])?.message().await })
        };
        let trailers = |code: &str| {
            HeaderMap::from_iter([("grpc-status".parse().expect("a name"), code.parse().expect("a value"))])
        };
        assert_eq!(read(Some(trailers("0"))).expect("ok"), None);
        assert_eq!(read(Some(trailers("5"))).expect_err("not found").code(), Code::NotFound);
        assert_eq!(read(None).expect_err("no status").code(), Code::Unknown);
    }
}
