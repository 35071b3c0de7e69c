//! Reads that leave h2's buffer reclaimable: for sockets whose bytes are HTTP/2 and are read by h2.
//!
//! Whatever does not begin as HTTP/2 begins passes untouched: HTTP/1, TLS records, anything else.
//!
//! h2 gathers frames in one `BytesMut` and hands DATA payloads out as slices of it. When it needs room while such a
//! slice is alive, it must allocate a new block; when no slice is alive, it takes the old block back. Stock reads
//! end anywhere, most often in the middle of the next frame, so h2 needs room while the last payload is still in
//! flight. [`AlignedIo`] ends every read at the end of a frame and yields once before the next frame that would not
//! fit, so that the handler has dropped its payloads by then.
//!
//! That takes a receiver that runs before the connection does again: a task of the connection's runtime. On another
//! thread it may come too late, and so it does as the future given to a current-thread runtime's `block_on`, which is
//! polled once in 61 polls of tasks: spawn it.
//!
//! # Implementation
//! A frame's nine header bytes are read along with the end of the frame before, kept here, and handed over together
//! with the payload when the payload fits behind them, or alone to make h2 reserve room for it. Payloads of
//! [`DIRECT_BYTES`] and more are read straight into h2's buffer; smaller frames pass through a read-ahead buffer,
//! one per connection, because one large read and a copy cost less than a read per frame. Nothing is ever withheld
//! that a peer waits for, and at the end of the stream what is left passes as it is.
//!
//! `BytesMut` grows to exactly what h2 reserves, which leaves no room for the next header behind a payload: h2 then
//! replaces the block instead of reclaiming it, again for every frame. When a payload is seen to fill the buffer to
//! the brim, the buffer is grown once, before the next frame: frames of an unknown type, which every HTTP/2 endpoint
//! ignores (RFC 9113, section 5.5), are put in whose lengths make `BytesMut` double (see its `reserve_inner`) until
//! a payload fits with a header on both sides. That costs up to twice the payload's size in zeroes, once where a
//! stream's frames are of one size. Where the block is lost again and again, because a handler keeps its messages or
//! runs on another thread, growing it again is paid for by one byte in 16 of the payload, no more. No filler is
//! longer than the frames this side has allowed. Where large frames of several sizes alternate, the block is replaced
//! as often as without alignment.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use crate::wire::http2::{
    DATA, FRAME_BYTES_DEFAULT, FrameHeader, HEADER_BYTES, PREFACE, SETTING_BYTES, SETTINGS, UNKNOWN,
};

/// One byte in so many may be spent on growing h2's buffer again after the first time.
const GROWTH_SHARE: usize = 16;
/// Frames' worth of bytes that may be spent beyond that: a block lost now and then is grown again at once.
const GROWTH_FRAMES: usize = 8;
/// Payloads from this size on are read without a copy.
const DIRECT_BYTES: usize = 32 * 1024;
/// Bytes read ahead of small frames.
const AHEAD_BYTES: usize = 64 * 1024;

/// For a socket that h2 reads plain HTTP/2 from: reads end where frames end. One read-ahead buffer of 64 KiB per
/// connection.
///
/// Put it around the socket below TLS only if there is no TLS: encrypted bytes pass untouched, and nothing is gained. On
/// a port that speaks HTTP/1 too, its connections pass untouched as well: bytes are changed (by frames that every
/// endpoint ignores) only after the whole HTTP/2 preface and a settings frame were seen.
#[derive(Debug)]
pub struct AlignedIo<IO> {
    io: Take<IO>,
    ahead: Box<[u8]>,
    /// Bytes of `ahead` that are filled and not yet handed over.
    start: usize,
    end: usize,
    state: State,
    /// DATA was handed over since the last yield: h2's buffer is shared until the handler has run.
    shared: bool,
    /// The last frame was large, so the next header is read alone rather than with what follows it.
    large: bool,
    /// The last payload that h2 reserved room for filled its buffer to the brim.
    tight: bool,
    /// What is known of h2's buffer while it is being grown.
    growth: Option<Growth>,
    /// The room in h2's buffer when it is new, as the first read saw it; 0 before.
    fresh: usize,
    /// Bytes of fillers that may still be spent on growing h2's buffer.
    credit: usize,
    /// The largest frame this side takes.
    frame_bytes_max: usize,
    /// A settings frame was seen, with which either side begins.
    begun: bool,
    /// What the socket failed with, until all that came before it is handed over.
    error: Option<io::Error>,
}

/// h2's buffer: how large its block is and how far into it the next frame begins.
#[derive(Clone, Copy, Debug)]
struct Growth {
    block: usize,
    offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the preface have passed.
    Preface(usize),
    /// Before or within a header; its first bytes may stand in `ahead`.
    Header,
    /// The header's bytes from `done` on are still to be handed over, then the payload.
    HandOver { header: [u8; HEADER_BYTES], done: usize, payload: usize, filler: bool },
    /// The header went over alone: is there room for more than the payload now?
    Reserved(usize),
    /// Bytes of the current payload still to come.
    Payload(usize),
    /// A filler's header went over: did the buffer grow as it should?
    FillerReserved(usize),
    /// Bytes of a filler still to be handed over.
    Filler(usize),
    /// Passes everything, for good: the stream ended or failed, or it is not HTTP/2.
    Open,
}

impl<IO: AsyncRead + Unpin> AlignedIo<IO> {
    /// Wraps a socket on the server's side, where the client's preface comes first.
    pub fn server(io: IO) -> Self {
        AlignedIo::new(io, State::Preface(0))
    }

    /// Wraps a socket on the client's side, where frames begin at once.
    pub fn client(io: IO) -> Self {
        AlignedIo::new(io, State::Header)
    }

    fn new(io: IO, state: State) -> Self {
        AlignedIo {
            io: io.take(0),
            ahead: vec![0; AHEAD_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            state,
            shared: false,
            large: false,
            tight: false,
            growth: None,
            fresh: 0,
            credit: GROWTH_FRAMES * FRAME_BYTES_DEFAULT as usize,
            frame_bytes_max: FRAME_BYTES_DEFAULT as usize,
            begun: false,
            error: None,
        }
    }

    /// Says how large a frame this side has told its peer to send at most, in bytes (`SETTINGS_MAX_FRAME_SIZE`).
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        self.frame_bytes_max = bytes;
        self.credit = GROWTH_FRAMES * bytes;
        self
    }

    /// The length of the next filler that brings h2's buffer nearer to room for `payload` and a header on both
    /// sides; `None` when it has room, or cannot be brought there.
    fn filler(&mut self, room: usize, payload: usize) -> Option<usize> {
        if !self.tight || (self.growth.is_none() && self.credit < 2 * payload) {
            return None;
        }
        let growth = match &mut self.growth {
            Some(growth) => growth,
            // More room than a new buffer has: this is another block, of a size that is not known.
            None if room > self.fresh => return None,
            none => none.insert(Growth { block: self.fresh, offset: self.fresh - room }),
        };
        let len = growth.block + 1;
        // More than the block holds makes `BytesMut` double it, as long as twice the block is enough.
        let doubles =
            |len: usize| len > growth.block && growth.offset + HEADER_BYTES + len + HEADER_BYTES <= 2 * growth.block;
        let enough = growth.block >= payload + 2 * HEADER_BYTES || doubles(payload);
        if enough || !doubles(len) || len > self.frame_bytes_max {
            self.tight = false;
            self.growth = None;
            return None;
        }
        growth.offset += HEADER_BYTES + len;
        growth.block *= 2;
        self.credit = self.credit.saturating_sub(HEADER_BYTES + len);
        Some(len)
    }

    /// Reads at least one byte into `ahead`, at most `limit`; `false` at the end of the stream.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<bool>> {
        if self.start > 0 {
            self.ahead.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.ahead.len() - self.end;
        let mut buf = ReadBuf::new(&mut self.ahead[self.end..]);
        self.io.set_limit(limit.min(room) as u64);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        let read = buf.filled().len();
        self.end += read;
        Poll::Ready(Ok(read > 0))
    }

    /// Hands over up to `limit` bytes of `ahead`; how many.
    fn hand_over_ahead(&mut self, buf: &mut ReadBuf<'_>, limit: usize) -> usize {
        let bytes = limit.min(self.end - self.start).min(buf.remaining());
        buf.put_slice(&self.ahead[self.start..self.start + bytes]);
        self.start += bytes;
        bytes
    }
}

/// What one step of a read came to.
enum Step {
    /// There may be more to do for this read.
    Again,
    /// This read ends with what was handed over.
    Done,
    /// The socket has nothing now, and will wake this task.
    Pending,
}

/// The state machine of a read: one method a state.
impl<IO: AsyncRead + Unpin> AlignedIo<IO> {
    /// What a failed or pending read of the socket makes of this step. What came before an error is handed over before
    /// the error is: a socket gives its error once.
    fn unready<T>(&mut self, poll: Poll<io::Result<T>>) -> Result<T, Step> {
        match poll {
            Poll::Ready(Ok(value)) => Ok(value),
            Poll::Ready(Err(error)) => {
                self.error = Some(error);
                self.state = State::Open;
                Err(Step::Again)
            }
            Poll::Pending => Err(Step::Pending),
        }
    }

    /// Reads ahead; at the end of the stream everything that is left passes.
    fn read_ahead(&mut self, cx: &mut Context<'_>, limit: usize) -> Step {
        let poll = self.poll_ahead(cx, limit);
        match self.unready(poll) {
            Ok(true) => Step::Again,
            Ok(false) => {
                self.state = State::Open;
                Step::Again
            }
            Err(step) => step,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, before: usize) -> Step {
        match self.state {
            State::Open => self.pass(cx, buf, before),
            State::Preface(passed) => self.preface(cx, buf, passed),
            State::Header => self.header(cx, buf, before),
            State::HandOver { header, done, payload, filler } => self.hand_over(buf, header, done, payload, filler),
            State::Reserved(payload) => {
                self.tight = buf.remaining() < payload + HEADER_BYTES;
                self.credit = (self.credit + payload / GROWTH_SHARE).min(GROWTH_FRAMES * self.frame_bytes_max);
                self.state = State::Payload(payload);
                Step::Again
            }
            State::FillerReserved(len) => {
                if buf.remaining() < len + HEADER_BYTES {
                    // It was replaced instead of grown: something in it is still in use. The next frame tells whether
                    // to try again.
                    self.growth = None;
                    self.tight = false;
                }
                self.state = State::Filler(len);
                Step::Again
            }
            State::Filler(left) => {
                let count = left.min(buf.remaining());
                buf.initialize_unfilled_to(count).fill(0);
                buf.advance(count);
                self.state = if count == left { State::Header } else { State::Filler(left - count) };
                Step::Done
            }
            State::Payload(left) => self.payload(cx, buf, left),
        }
    }

    /// Everything as it comes.
    fn pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, before: usize) -> Step {
        if self.start < self.end {
            self.hand_over_ahead(buf, usize::MAX);
            return Step::Again;
        }
        if buf.filled().len() > before || self.error.is_some() {
            return Step::Done;
        }
        self.io.set_limit(u64::MAX);
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        match self.unready(poll) {
            Ok(()) | Err(Step::Again) => Step::Done,
            Err(step) => step,
        }
    }

    /// The preface, of which so many bytes have passed: the first byte that differs says that this is not HTTP/2.
    fn preface(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, passed: usize) -> Step {
        if self.start == self.end {
            return self.read_ahead(cx, AHEAD_BYTES);
        }
        let expected = &PREFACE[passed..];
        let have = &self.ahead[self.start..self.end];
        if !have.iter().zip(expected).all(|(have, expected)| have == expected) {
            self.state = State::Open;
            return Step::Again;
        }
        let passed = passed + self.hand_over_ahead(buf, expected.len());
        self.state = if passed == PREFACE.len() { State::Header } else { State::Preface(passed) };
        Step::Again
    }

    /// The next frame's header: what may be handed over of the frame, and when.
    fn header(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, before: usize) -> Step {
        let have = self.end - self.start;
        if have < HEADER_BYTES {
            // After a large frame a large one is likely: leave its payload for a direct read.
            let limit = if self.large { HEADER_BYTES - have } else { AHEAD_BYTES };
            return self.read_ahead(cx, limit);
        }
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.ahead[self.start..self.start + HEADER_BYTES]);
        let FrameHeader { len: payload, kind, stream, .. } = FrameHeader::read(&header);
        // Either side begins with its settings, and no endpoint goes on after a frame larger than it allowed.
        let begins = self.begun || (kind == SETTINGS && stream == 0 && payload.is_multiple_of(SETTING_BYTES));
        if !begins || payload > self.frame_bytes_max {
            self.state = State::Open;
            return Step::Again;
        }
        self.begun = true;
        // A header behind the payload must fit too, or h2 would need room the moment the frame ends.
        let fits = buf.remaining() >= HEADER_BYTES + payload + HEADER_BYTES;
        if !fits {
            if buf.filled().len() > before {
                return Step::Done;
            }
            if self.shared {
                self.shared = false;
                cx.waker().wake_by_ref();
                return Step::Pending;
            }
        }
        let data = kind == DATA;
        // Only before DATA: nothing may stand inside a block of HEADERS and CONTINUATION.
        if data
            && !fits
            && let Some(len) = self.filler(buf.remaining(), payload)
        {
            let header = FrameHeader { len, kind: UNKNOWN, flags: 0, stream: 0 }.write();
            self.state = State::HandOver { header, done: 0, payload: len, filler: true };
            return Step::Again;
        }
        self.start += HEADER_BYTES;
        self.large = payload >= DIRECT_BYTES;
        self.shared |= data;
        self.state = State::HandOver { header, done: 0, payload, filler: false };
        Step::Again
    }

    /// A header's bytes from `done` on.
    fn hand_over(
        &mut self,
        buf: &mut ReadBuf<'_>,
        header: [u8; HEADER_BYTES],
        done: usize,
        payload: usize,
        filler: bool,
    ) -> Step {
        let count = (HEADER_BYTES - done).min(buf.remaining());
        buf.put_slice(&header[done..done + count]);
        let done = done + count;
        if done < HEADER_BYTES {
            self.state = State::HandOver { header, done, payload, filler };
            return Step::Done;
        }
        if filler || buf.remaining() < payload + HEADER_BYTES {
            // h2 reads the header and reserves room for the payload.
            self.state = if filler { State::FillerReserved(payload) } else { State::Reserved(payload) };
            return Step::Done;
        }
        self.state = State::Payload(payload);
        Step::Again
    }

    /// A payload of which so many bytes are still to come.
    fn payload(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, left: usize) -> Step {
        if left == 0 {
            self.state = State::Header;
            return Step::Again;
        }
        if self.start < self.end {
            self.state = State::Payload(left - self.hand_over_ahead(buf, left));
            return Step::Again;
        }
        if left < DIRECT_BYTES && !self.large {
            return self.read_ahead(cx, AHEAD_BYTES);
        }
        let spare = if buf.remaining() >= left + HEADER_BYTES { HEADER_BYTES } else { 0 };
        self.io.set_limit((left + spare) as u64);
        let at = buf.filled().len();
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Err(step) = self.unready(poll) {
            return step;
        }
        let read = buf.filled().len() - at;
        if read == 0 {
            self.state = State::Open;
            return Step::Done;
        }
        if read > left {
            // The beginning of the next header came along: take it back.
            let header = &buf.filled()[at + left..];
            self.start = 0;
            self.end = header.len();
            self.ahead[..header.len()].copy_from_slice(header);
            buf.set_filled(at + left);
        }
        self.state = State::Payload(left.saturating_sub(read));
        // One read a call, as tokio's own sockets do: what came is worth more than waiting for the rest.
        Step::Done
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for AlignedIo<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        // h2 reads the preface into a buffer of its own.
        if this.fresh == 0 && !matches!(this.state, State::Preface(_)) {
            this.fresh = buf.remaining();
        }
        while buf.remaining() > 0 {
            match this.step(cx, buf, before) {
                Step::Again => {}
                Step::Done => break,
                // What is already handed over must be reported before anything can be pending.
                Step::Pending if buf.filled().len() > before => break,
                Step::Pending => return Poll::Pending,
            }
        }
        if buf.filled().len() == before
            && let Some(error) = this.error.take()
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AlignedIo<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }
}

/// Feature `transport`.
#[cfg(feature = "transport")]
impl<IO: AsyncRead + tonic::transport::server::Connected> tonic::transport::server::Connected for AlignedIo<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        self.io.get_ref().connect_info()
    }
}
