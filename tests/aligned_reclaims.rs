//! The filler's arithmetic against `BytesMut` itself: a `FramedRead` as h2 configures it takes its buffer back.

#![cfg(feature = "subject")]

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use alloc_ladder::assert::measure;
use alloc_ladder::steps::AlignedIo;
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{Http2, Tuning};
use alloc_ladder::subject::message::chunk_encoded_len;
use alloc_ladder::subject::scenario::Workload;
use alloc_ladder::wire::grpc::PREFIX_BYTES;
use alloc_ladder::{CountingAlloc, assert_allocs};
use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_stream::Stream;
use tokio_util::codec::FramedRead;
use tokio_util::codec::length_delimited::{Builder, LengthDelimitedCodec};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const FILLER: u8 = 0xFF;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const HEADERS: u8 = 1;
/// What a socket has ready at once, at most.
const SOCKET_BYTES: usize = 200 * 1000;

/// A sender that is never slower than the reader: a connection's first frames, then DATA without end.
struct Sender {
    opening: Vec<u8>,
    frames: Vec<u8>,
    at: usize,
}

impl Sender {
    /// Sends payloads of these sizes, over and over.
    fn of(payloads: &[usize]) -> Sender {
        let opening = [(SETTINGS, 24), (WINDOW_UPDATE, 4), (SETTINGS, 0), (HEADERS, 113)];
        let opening = opening.into_iter().flat_map(|(kind, len)| frame(kind, len)).collect();
        Sender { opening, frames: payloads.iter().flat_map(|len| frame(DATA, *len)).collect(), at: 0 }
    }
}

fn frame(kind: u8, len: usize) -> Vec<u8> {
    let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
    // Settings and credit are the connection's.
    frame.extend([kind, 0, 0, 0, 0, u8::from(matches!(kind, DATA | HEADERS))]);
    frame.resize(HEADER_BYTES + len, kind);
    frame
}

impl AsyncRead for Sender {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut left = buf.remaining().min(SOCKET_BYTES);
        while left > 0 {
            let at = self.at;
            let source = match self.opening.get(at..) {
                Some(opening) if !opening.is_empty() => opening,
                _ => &self.frames[(at - self.opening.len()) % self.frames.len()..],
            };
            let count = left.min(source.len());
            buf.put_slice(&source[..count]);
            self.at += count;
            left -= count;
        }
        Poll::Ready(Ok(()))
    }
}

/// Receives `count` DATA frames as h2 and a handler do, which drops its payloads whenever the connection waits;
/// returns the bytes of fillers that came along.
fn receive(
    reader: &mut (impl Stream<Item = io::Result<BytesMut>> + Unpin),
    held: &mut Vec<BytesMut>,
    count: usize,
) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut received, mut filler_bytes) = (0, 0);
    while received < count {
        match Pin::new(&mut *reader).poll_next(&mut cx) {
            // A stock connection waits for its socket now and then; here it never has to.
            Poll::Pending => held.clear(),
            Poll::Ready(frame) => {
                let frame = frame.expect("the stream is endless").expect("frames are within the limit");
                match frame[3] {
                    DATA => {
                        received += 1;
                        held.push(frame);
                        if held.len() == held.capacity() {
                            held.clear();
                        }
                    }
                    FILLER => filler_bytes += frame.len(),
                    _ => {}
                }
            }
        }
    }
    filler_bytes
}

type Framed<R> = FramedRead<R, LengthDelimitedCodec>;

/// h2's own reader: `h2::codec::Codec::with_max_recv_frame_size`.
fn framed<R: AsyncRead>(io: R, frame_bytes_max: usize) -> Framed<R> {
    let mut framed = Builder::new().big_endian().length_field_length(3).length_adjustment(9).num_skip(0).new_read(io);
    framed.decoder_mut().set_max_frame_length(frame_bytes_max);
    framed
}

fn aligned(sender: Sender, frame_bytes_max: usize) -> Framed<AlignedIo<Sender>> {
    framed(AlignedIo::client(sender).frame_bytes_max(frame_bytes_max), frame_bytes_max)
}

/// The largest frame that the `tuned-h2` step allows for chunks of this size.
fn frame_bytes_max(chunk: usize) -> usize {
    let tuning = Tuning { http2: Http2::Tuned, ..Tuning::default() };
    let settings = http2::settings(&tuning, &Workload { chunk, ..Workload::default() });
    settings.expect("tuned settings").max_frame_size as usize
}

#[test]
fn a_buffer_is_taken_back_whatever_the_size_of_the_payload() {
    let sizes = [1000, 4096, 8160, 8192, 12_000, 16_000, 16_384, 20_000, 32_000, 32_760, 32_768, 48_000, 65_000];
    let larger = [65_536, 100_000, 131_072, 200_000, 262_144, 500_000, 1 << 20, 3 << 20];
    for chunk in sizes.into_iter().chain(larger) {
        let most = frame_bytes_max(chunk);
        let payload = PREFIX_BYTES + chunk_encoded_len(chunk);
        let mut held = Vec::with_capacity(64);
        let mut reader = aligned(Sender::of(&[payload]), most);
        let fillers = receive(&mut reader, &mut held, 8);
        assert!(fillers <= 2 * most, "{chunk}: {fillers} bytes of fillers");
        let fillers = assert_allocs!(measure(|| receive(&mut reader, &mut held, 64)), blocks == 0, bytes == 0);
        assert_eq!(fillers, 0, "{chunk}: fillers in steady state");
        held.clear();

        // The same reader without alignment replaces its buffer, or else nothing here would be shown.
        let mut stock = framed(Sender::of(&[payload]), most);
        let mut held = Vec::with_capacity(1);
        receive(&mut stock, &mut held, 8);
        let stock = measure(|| receive(&mut stock, &mut held, 64)).snapshot.total_without_instrument();
        assert!(chunk < 16_384 || stock.blocks >= 64, "{chunk}: {stock:?} without alignment");
    }
}

#[test]
fn short_frames_between_large_ones_change_nothing() {
    for payloads in [[100, 65_545], [5, 65_540], [30_000, 65_545]] {
        let mut reader = aligned(Sender::of(&payloads), 81_920);
        let mut held = Vec::with_capacity(64);
        receive(&mut reader, &mut held, 32);
        let fillers = assert_allocs!(measure(|| receive(&mut reader, &mut held, 200)), blocks == 0);
        assert_eq!(fillers, 0, "{payloads:?}");
    }
}

#[test]
fn a_buffer_that_is_always_shared_costs_few_fillers() {
    for payload in [16_393, 65_545, 262_153] {
        let most = payload + 16_384;
        let mut reader = aligned(Sender::of(&[payload]), most);
        let mut kept = VecDeque::new();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut received, mut fillers) = (0, 0);
        while received < 300 {
            let Poll::Ready(frame) = Pin::new(&mut reader).poll_next(&mut cx) else { continue };
            let frame = frame.expect("the stream is endless").expect("frames are within the limit");
            if frame[3] == FILLER {
                fillers += frame.len();
            } else if frame[3] == DATA {
                received += 1;
                // At every moment some payload is alive.
                kept.push_back(frame);
                if kept.len() > 2 {
                    kept.pop_front();
                }
            }
        }
        let most = 8 * most + 300 * payload / 16;
        assert!(fillers > 0 && fillers <= most, "{payload}: {fillers} bytes of fillers, at most {most}");
    }
}

#[test]
fn frames_of_the_default_size_are_taken_back_too() {
    let mut reader = aligned(Sender::of(&[16_384]), 16_384);
    let mut held = Vec::with_capacity(64);
    assert!(receive(&mut reader, &mut held, 8) <= 2 * 16_384);
    assert_allocs!(measure(|| receive(&mut reader, &mut held, 64)), blocks == 0);
}
