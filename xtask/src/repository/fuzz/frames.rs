//! HTTP/2 frames through `AlignedIo`.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use alloc_ladder::steps::AlignedIo;
use alloc_ladder::wire::http2::{
    FRAME_BYTES_DEFAULT, FrameHeader, HEADER_BYTES, PREFACE, SETTING_BYTES, SETTINGS, UNKNOWN,
};
use bytes::{Buf, Bytes, BytesMut};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::readers::hold;
use super::runner::{Outcome, Try};

/// A read that is not over after so many polls never will be.
const POLLS_MAX: u32 = 1_000_000;

/// What comes out without filler frames is what went in, to the last byte, and there is a filler only behind a preface
/// and settings; an error of the socket comes out once, after all that came before it.
pub(super) fn http2_frames() -> anyhow::Result<Try> {
    Ok(Box::new(|input, rng| {
        // The client's side begins behind the preface.
        let server = rng.u8(..4) != 0 || !input.starts_with(PREFACE);
        let input = if server { input } else { &input[PREFACE.len()..] };
        let max = if rng.bool() { FRAME_BYTES_DEFAULT as usize } else { 1 << 20 };
        let chunk = [1, 9, 100, 9_000, 100_000][if input.len() > 20_000 { rng.usize(2..5) } else { rng.usize(..5) }];
        let socket = Socket { left: input, choices: rng.fork(), chunk, breaks: rng.u8(..5) == 0 };
        let breaks = socket.breaks;
        let io = if server { AlignedIo::server(socket) } else { AlignedIo::client(socket) };
        let read = if rng.bool() {
            like_h2(io.frame_bytes_max(max), rng, server, max)?
        } else {
            any(io.frame_bytes_max(max), rng)?
        };
        hold!(read.broke == (breaks && read.ended), "the socket's error came out {} times", u8::from(read.broke));
        let begin = if server { PREFACE.len() } else { 0 };
        let http2 = (!server || input.starts_with(PREFACE)) && begins(&input[begin.min(input.len())..], max);
        if http2 {
            let fillers = without_fillers(input, &read.bytes, begin, read.ended)?;
            return Ok(if fillers > 0 { Outcome::Accepted } else { Outcome::Refused });
        }
        let whole = if read.ended { read.bytes == input } else { input.starts_with(&read.bytes) };
        hold!(whole, "not HTTP/2, and changed: {} bytes in, {} out", input.len(), read.bytes.len());
        Ok(Outcome::Refused)
    }))
}

/// Whether these are the bytes of a side that begins as HTTP/2 says.
fn begins(frames: &[u8], max: usize) -> bool {
    frames.first_chunk().is_some_and(|head| {
        let FrameHeader { len, kind, stream, .. } = FrameHeader::read(head);
        kind == SETTINGS && stream == 0 && len.is_multiple_of(SETTING_BYTES) && len <= max
    })
}

/// A socket that gives its bytes in pieces, pends now and then, and may break at the end.
#[derive(Debug)]
struct Socket<'a> {
    left: &'a [u8],
    choices: Rng,
    chunk: usize,
    breaks: bool,
}

impl AsyncRead for Socket<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nobody is woken: the reader polls again.
        if self.choices.u8(..6) == 0 {
            return Poll::Pending;
        }
        if self.left.is_empty() {
            let broken = std::mem::take(&mut self.breaks);
            return Poll::Ready(if broken { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) });
        }
        let chunk = self.chunk;
        let count = (1 + self.choices.usize(..chunk)).min(buf.remaining()).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        buf.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

/// All that came out.
#[derive(Debug, Default)]
struct Read {
    bytes: Vec<u8>,
    /// The stream came to its end; h2 stops before it at a frame that is too long.
    ended: bool,
    /// The socket's error came out.
    broke: bool,
}

/// Reads once more into `buf`; false at the end.
fn more(io: &mut AlignedIo<Socket<'_>>, buf: &mut BytesMut, read: &mut Read, polls: &mut u32) -> Result<bool, String> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        *polls += 1;
        hold!(*polls < POLLS_MAX, "reads without end");
        let before = buf.len();
        let polled = pin!(io.read_buf(buf)).poll(&mut context);
        match polled {
            Poll::Pending => continue,
            Poll::Ready(Ok(0)) => {
                read.ended = true;
                return Ok(false);
            }
            Poll::Ready(Ok(count)) => {
                hold!(buf.len() == before + count, "{count} bytes read, {} there", buf.len() - before);
                read.bytes.extend_from_slice(&buf[before..]);
                return Ok(true);
            }
            Poll::Ready(Err(_)) => {
                hold!(!read.broke, "a second error");
                read.broke = true;
            }
        }
    }
}

/// Reads as h2 does: whole frames leave one buffer, and payloads are held for a while.
fn like_h2(mut io: AlignedIo<Socket<'_>>, rng: &mut Rng, server: bool, max: usize) -> Result<Read, String> {
    let (mut read, mut polls) = (Read::default(), 0);
    let mut held: Vec<Bytes> = Vec::new();
    let mut buf = BytesMut::with_capacity(8 * 1024);
    let mut preface = if server { PREFACE.len() } else { 0 };
    loop {
        let passed = preface.min(buf.len());
        buf.advance(passed);
        preface -= passed;
        while preface == 0
            && let Some(head) = buf.first_chunk()
        {
            let frame = HEADER_BYTES + FrameHeader::read(head).len;
            if frame > HEADER_BYTES + max {
                return Ok(read);
            }
            if buf.len() < frame {
                buf.reserve(frame - buf.len());
                break;
            }
            let frame = buf.split_to(frame).freeze();
            if rng.u8(..3) == 0 {
                held.push(frame);
            }
            if held.len() > 3 {
                held.remove(0);
            }
        }
        if buf.len() == buf.capacity() {
            buf.reserve(1);
        }
        if !more(&mut io, &mut buf, &mut read, &mut polls)? {
            return Ok(read);
        }
    }
}

/// Reads into buffers of any size.
fn any(mut io: AlignedIo<Socket<'_>>, rng: &mut Rng) -> Result<Read, String> {
    let (mut read, mut polls) = (Read::default(), 0);
    loop {
        let room = if rng.u8(..4) == 0 { rng.usize(1..20) } else { rng.usize(1..70_000) };
        let mut buf = BytesMut::with_capacity(room);
        if !more(&mut io, &mut buf, &mut read, &mut polls)? {
            return Ok(read);
        }
    }
}

/// Walks both in frames; how many fillers came out.
fn without_fillers(input: &[u8], output: &[u8], begin: usize, ended: bool) -> Result<usize, String> {
    let preface = begin.min(output.len());
    hold!(output[..preface] == input[..preface], "the preface differs");
    let (mut input, mut output) = (&input[preface..], &output[preface..]);
    let mut fillers = 0;
    while !output.is_empty() {
        let len = output.first_chunk().map_or(0, |head| FrameHeader::read(head).len);
        let frame = (HEADER_BYTES + len).min(output.len());
        if input.starts_with(&output[..frame]) {
            input = &input[frame..];
        } else {
            let mut filler = FrameHeader { len, kind: UNKNOWN, flags: 0, stream: 0 }.write().to_vec();
            filler.resize(HEADER_BYTES + len, 0);
            hold!(
                filler.starts_with(&output[..frame]),
                "neither the next frame nor a filler, {} bytes before the end",
                output.len()
            );
            fillers += 1;
        }
        output = &output[frame..];
    }
    hold!(!ended || input.is_empty(), "{} bytes are lost", input.len());
    Ok(fillers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_sees_a_lost_a_changed_and_a_foreign_byte() {
        let frame = |kind, payload: &[u8]| {
            let header = FrameHeader { len: payload.len(), kind, flags: 0, stream: 0 }.write();
            [&header[..], payload].concat()
        };
        let input = [frame(SETTINGS, &[]), frame(0, b"data")].concat();
        let output = |middle: &[u8], end: &[u8]| [&frame(SETTINGS, &[]), middle, end].concat();
        let walk = |output: &[u8]| without_fillers(&input, output, 0, true);
        let data = frame(0, b"data");
        assert_eq!(walk(&output(&[], &data)), Ok(0));
        assert_eq!(walk(&output(&frame(UNKNOWN, &[0; 40]), &data)), Ok(1));
        assert!(walk(&output(&frame(UNKNOWN, &[1; 40]), &data)).is_err(), "a filler is zeroes");
        assert!(walk(&output(&frame(7, &[0; 40]), &data)).is_err(), "a filler is of no known type");
        assert!(walk(&output(&[], &frame(0, b"dada"))).is_err());
        assert!(walk(&output(&[], &[])).is_err());
        assert!(walk(&output(&[], &data[..5])).is_err());
        assert!(!begins(&data, 1 << 14) && begins(&input, 1 << 14));
    }
}
