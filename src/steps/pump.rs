//! Bodies on an h2 stream: sent by [`Pump`], received by [`H2Body`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tonic::Status;

use super::encode::BATCH_BYTES;

/// A part up to this size waits for the one behind it, if that is there: a head and its payload leave together.
const HEAD_BYTES: usize = 4096;
/// So much of a body is sent without asking h2 for room first: what a unary call has.
const AT_ONCE_BYTES: usize = 16 * 1024;
/// What one DATA frame is made of: up to two messages, each with its payload apart.
const PARTS_MAX: usize = 4;

/// What a stream or a connection that broke amounts to.
pub(crate) fn broken(error: h2::Error) -> Status {
    let ended = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    if error.is_io() || ended {
        return Status::unavailable(format!("the connection broke: {error}"));
    }
    Status::from_error(Box::new(error))
}

/// Parts that leave as one DATA frame.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: [Bytes; PARTS_MAX],
    count: usize,
}

impl Parts {
    fn push(&mut self, part: Bytes) {
        self.parts[self.count] = part;
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count == PARTS_MAX
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
            let step = count.min(part.len());
            part.advance(step);
            count -= step;
        }
        assert_eq!(count, 0, "cannot advance past the end");
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts.iter().filter(|part| !part.is_empty())) {
            *slice = std::io::IoSlice::new(part);
            filled += 1;
        }
        filled
    }
}

pin_project! {
    /// Sends a body, as far as the peer's windows allow. A body that fails resets its stream, as it does in hyper.
    #[derive(Debug)]
    pub(super) struct Pump<B> {
        #[pin]
        body: B,
        stream: SendStream<Parts>,
        // What is sent next.
        data: Parts,
        trailers: Option<HeaderMap>,
        // Nothing comes after `data` and `trailers`.
        ended: bool,
        at_once: usize,
        // h2 was asked for room for `data`.
        asked: bool,
        // The call it belongs to, where that can be given up.
        call: Option<oneshot::Receiver<()>>,
    }
}

impl<B> Pump<B> {
    pub(super) fn new(body: B, stream: SendStream<Parts>) -> Self {
        Pump {
            body,
            stream,
            data: Parts::default(),
            trailers: None,
            ended: false,
            at_once: AT_ONCE_BYTES,
            asked: false,
            call: None,
        }
    }

    /// Resets the stream when the sender is dropped.
    pub(super) fn of_call(mut self, call: oneshot::Receiver<()>) -> Self {
        self.call = Some(call);
        self
    }
}

impl<B> Future for Pump<B>
where
    B: Body<Data = Bytes>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(call) = self.as_mut().project().call
            && Pin::new(call).poll(cx).is_ready()
        {
            self.project().stream.send_reset(h2::Reason::CANCEL);
            return Poll::Ready(());
        }
        loop {
            // What the peer reset, or a connection that is gone, is told by the response.
            if !ready!(self.as_mut().poll_send(cx)) {
                return Poll::Ready(());
            }
            let this = self.as_mut().project();
            if *this.ended {
                match this.trailers.take() {
                    Some(trailers) => drop(this.stream.send_trailers(trailers)),
                    None => drop(this.stream.send_data(Parts::default(), true)),
                }
                return Poll::Ready(());
            }
            if this.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if ready!(self.as_mut().poll_gather(cx)).is_err() {
                self.project().stream.send_reset(h2::Reason::INTERNAL_ERROR);
                return Poll::Ready(());
            }
        }
    }
}

impl<B> Pump<B>
where
    B: Body<Data = Bytes>,
{
    /// Sends what has been gathered; `false` where the stream is over.
    fn poll_send(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.project();
        let bytes = this.data.remaining();
        if bytes == 0 {
            return Poll::Ready(true);
        }
        let last = *this.ended && this.trailers.is_none();
        if bytes <= *this.at_once {
            *this.at_once -= bytes;
        } else {
            *this.at_once = 0;
            if !std::mem::replace(this.asked, true) {
                this.stream.reserve_capacity(bytes);
            }
            while this.stream.capacity() == 0 {
                match ready!(this.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(false),
                }
            }
            *this.asked = false;
        }
        // As hyper does: h2 takes all of it, and sends as windows allow.
        let sent = this.stream.send_data(std::mem::take(this.data), last);
        Poll::Ready(sent.is_ok() && !last)
    }

    /// Gathers what is ready for the next frame: a head with its payload, and more while as much again is within a batch.
    /// A batch takes no other along: the receiver's frames hold one, and two would be cut inside a message.
    fn poll_gather(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), B::Error>> {
        let mut this = self.project();
        let mut short = true;
        while (short || this.data.remaining() <= BATCH_BYTES / 2) && !*this.ended && !this.data.is_full() {
            let frame = match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if this.data.has_remaining() => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    short = data.len() <= HEAD_BYTES;
                    if !data.is_empty() {
                        this.data.push(data);
                    }
                    // The last frame says so itself.
                    *this.ended = this.body.is_end_stream();
                }
                Some(Ok(Err(frame))) => {
                    *this.trailers = frame.into_trailers().ok();
                    *this.ended = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => *this.ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A received body. Credit is given back for what was taken out of it: a reader that stops stops its sender.
#[derive(Debug)]
pub struct H2Body {
    stream: Option<RecvStream>,
    data_done: bool,
    /// Dropped with the body, which ends a request that is still being sent.
    _request: Option<oneshot::Sender<()>>,
}

impl H2Body {
    pub(crate) fn new(stream: RecvStream, request: Option<oneshot::Sender<()>>) -> Self {
        H2Body { stream: Some(stream), data_done: false, _request: request }
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        if !this.data_done {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails where the stream is over already.
                    let _ = stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    this.stream = None;
                    // As hyper does: a stream that was reset without an error just ends.
                    return Poll::Ready(match error.reason() {
                        Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL) if !error.is_io() => None,
                        _ => Some(Err(broken(error))),
                    });
                }
                None => this.data_done = true,
            }
        }
        let trailers = ready!(stream.poll_trailers(cx));
        this.stream = None;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(broken(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}
