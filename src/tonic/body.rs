//! Bodies on their way in and out.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::call::{Call, body_asked, handler_begins};
use super::codec::receiving;
use super::payload;
use crate::method::{self, Direction, Receiving};
use crate::stage::{self, Scope};
use crate::wire::grpc::Framing;
use crate::{Method, Stage};

pin_project! {
    /// A body that charges the work of its `poll_frame`: marshalling on the way out, transport on the way in.
    ///
    /// On the way in, tonic copies each DATA frame into its receive buffer right after `poll_frame` returned it.
    /// Where the codec is staged too, that copy is charged to [`Stage::ReceiveBuffer`].
    ///
    /// Messages and their bytes are counted as they pass: [`Method::messages_received`] and its neighbours.
    #[derive(Debug)]
    pub struct StagedBody<B> {
        // Before what it counts for: what a call holds is dropped while the call is still open.
        #[pin]
        inner: B,
        scope: Scope,
        call: Option<Call>,
        messages: Option<Messages>,
    }
}

impl<B> StagedBody<B> {
    /// A body whose frames are made here: polling it is [`Stage::Marshal`].
    pub fn outgoing(method: Method, inner: B) -> Self {
        let messages = Some(Messages::sent(method));
        StagedBody { inner, scope: Scope::new(method, Stage::Marshal), call: None, messages }
    }

    /// A body whose frames come from the peer: polling it is [`Stage::Transport`].
    pub fn incoming(method: Method, inner: B) -> Self {
        let messages = Some(Messages::received(method));
        StagedBody { inner, scope: Scope::new(method, Stage::Transport), call: None, messages }
    }

    /// A body of a call that an outer layer counts: its messages are not counted again.
    pub(super) fn passing(scope: Scope, inner: B) -> Self {
        StagedBody { inner, scope, call: None, messages: None }
    }

    /// The answer's body, with which its call ends.
    pub(super) fn ending(self, call: Call) -> Self {
        StagedBody { call: Some(call), ..self }
    }
}

/// The body of an answer that is nothing but its status: an interceptor makes one when it turns a call away.
impl<B: Default> Default for StagedBody<B> {
    fn default() -> Self {
        StagedBody::incoming(Method::NONE, B::default())
    }
}

impl<B: Body> Body for StagedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if stage::UNSTAGED {
            return this.inner.poll_frame(cx);
        }
        // Opened by `StagedDecoder::buffer_settings`, which tonic calls before every frame it asks for.
        let decoding = stage::window::close_any_window() == Some(Stage::ReceiveBuffer);
        if this.messages.as_ref().is_some_and(Messages::is_received) {
            handler_begins();
        }
        // PERF: no closures: a frame is large, and is not to be moved from one to the next.
        let spent = this.call.as_ref().map(Call::before);
        let asked = this.messages.as_mut().map(Messages::before);
        let guard = this.scope.enter();
        let frame = this.inner.poll_frame(cx);
        drop(guard);
        if let (Some(messages), Some(asked)) = (this.messages, asked) {
            messages.after(asked, &frame);
        }
        if let (Some(call), Some(spent)) = (this.call, spent) {
            call.after(spent);
            match &frame {
                Poll::Ready(Some(Ok(frame))) => frame.trailers_ref().into_iter().for_each(|last| call.trailers(last)),
                Poll::Ready(Some(Err(_))) => call.broke(),
                Poll::Ready(None) => call.ended(),
                Poll::Pending => {}
            }
        }
        if decoding && matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            receiving();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        if self.messages.as_ref().is_some_and(Messages::is_received) {
            body_asked(self.scope.method());
        }
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The messages of a stream, read off gRPC's framing as they pass.
#[derive(Debug)]
struct Messages {
    method: Method,
    direction: Direction,
    /// How much of a message has arrived: on the way in alone.
    receiving: Option<Receiving>,
    /// `None` once frames came that cannot be looked at.
    framing: Option<Framing>,
    /// Who encodes or decodes the messages says how long they are.
    is_told: bool,
}

/// Pieces that a frame may lie in: two messages, each with a head apart from its payload.
const PIECES: usize = 8;

impl Messages {
    fn received(method: Method) -> Messages {
        let receiving = Some(Receiving::new(method));
        Messages {
            method,
            direction: Direction::Received,
            receiving,
            framing: Some(Framing::default()),
            is_told: false,
        }
    }

    fn is_received(&self) -> bool {
        self.direction == Direction::Received
    }

    fn sent(method: Method) -> Messages {
        let framing = Some(Framing::default());
        Messages { method, direction: Direction::Sent, receiving: None, framing, is_told: false }
    }

    /// Before the body they are of is polled; gives what [`after`](Messages::after) needs.
    #[inline]
    fn before(&mut self) -> u64 {
        match self.direction {
            Direction::Received => {
                self.is_told |= payload::is_decoded(self.method);
                0
            }
            Direction::Sent => payload::ask(),
        }
    }

    /// Counts what a poll of the body brought.
    #[inline]
    fn after<D: Buf, E>(&mut self, asked: u64, frame: &Poll<Option<Result<Frame<D>, E>>>) {
        let told = match self.direction {
            Direction::Received => None,
            Direction::Sent => payload::told(asked),
        };
        self.is_told |= told.is_some();
        let (messages, bytes) = match frame {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or((0, 0), |data| self.pass(data)),
            _ => (0, 0),
        };
        let bytes = if self.is_told { told.unwrap_or(0) } else { bytes };
        if messages | bytes > 0 {
            method::add_messages(self.method, self.direction, messages, bytes);
        }
    }

    /// Looks at a DATA frame: how many messages end in it, and how long they are as they travel. One that cannot be
    /// looked at without being consumed ends the counting.
    fn pass(&mut self, data: &impl Buf) -> (u64, u64) {
        let Some(framing) = &mut self.framing else { return (0, 0) };
        let mut counted = (0, 0);
        let mut look = |bytes: &[u8]| {
            framing.pass(bytes, |passed| {
                if let Some(receiving) = &mut self.receiving {
                    receiving.arrived(passed.bytes);
                }
                if passed.whole {
                    counted = (counted.0 + 1, counted.1 + u64::from(passed.bytes));
                }
            });
        };
        let bytes = data.chunk();
        if bytes.len() == data.remaining() {
            look(bytes);
            return counted;
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = data.chunks_vectored(&mut pieces);
        if pieces[..count].iter().map(|piece| piece.len()).sum::<usize>() == data.remaining() {
            pieces[..count].iter().for_each(|piece| look(piece));
        } else {
            self.framing = None;
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(lengths: &[u32]) -> Vec<u8> {
        let mut wire = Vec::new();
        for length in lengths {
            wire.push(1);
            wire.extend(length.to_be_bytes());
            wire.extend(std::iter::repeat_n(0xff, *length as usize));
        }
        wire
    }

    fn is_between(messages: &Messages) -> bool {
        messages.framing.is_some_and(|framing| framing.is_between_messages())
    }

    #[test]
    fn the_largest_message_is_known_while_its_stream_is_read_however_it_is_cut() {
        let method = Method::register(crate::Side::Server, "/body.Test/Largest");
        let wire = wire(&[0, 3, 1000, 0, 70_000, 9]);
        for frame in [1, 2, 7, 16_384, wire.len()] {
            let mut messages = Messages::received(method);
            assert_eq!(method.largest_received(), 0);
            let counted: Vec<(u64, u64)> = wire.chunks(frame).map(|frame| messages.pass(&frame)).collect();
            assert!(is_between(&messages), "frames of {frame}");
            assert_eq!(method.largest_received(), (1 << 17) - 1, "frames of {frame}");
            let sum = counted.iter().fold((0, 0), |sum, counted| (sum.0 + counted.0, sum.1 + counted.1));
            assert_eq!(sum, (6, 71_012), "frames of {frame}");
        }
        assert_eq!(method.largest_received(), 0, "no stream is read any more");
        // A length that is only claimed is not what arrived.
        let mut messages = Messages::received(method);
        assert_eq!(messages.pass(&&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3][..]), (0, 0));
        assert_eq!(method.largest_received(), 3);
    }

    /// A buffer in pieces, which may keep all but the first to itself.
    struct Pieces(Vec<&'static [u8]>, bool);

    impl Buf for Pieces {
        fn remaining(&self) -> usize {
            self.0.iter().map(|piece| piece.len()).sum()
        }

        fn chunk(&self) -> &[u8] {
            self.0[0]
        }

        fn advance(&mut self, _: usize) {
            unreachable!("nothing is consumed");
        }

        fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
            let shown = if self.1 { self.0.len() } else { 1 };
            slices.iter_mut().zip(&self.0[..shown]).for_each(|(slice, piece)| *slice = IoSlice::new(piece));
            shown
        }
    }

    #[test]
    fn a_frame_in_pieces_is_looked_at_or_ends_the_counting() {
        let pieces = |shown| Pieces(vec![&[0, 0, 0, 0, 2, 7], &[7, 0, 0, 0], &[0, 0]], shown);
        let mut messages = Messages::sent(Method::NONE);
        assert_eq!(messages.pass(&pieces(true)), (2, 2));
        assert!(is_between(&messages));
        assert_eq!(messages.pass(&pieces(false)), (0, 0));
        assert_eq!(messages.pass(&&[0, 0, 0, 0, 0][..]), (0, 0), "what follows cannot be told apart");
    }
}
