//! Bodies on their way in and out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::call::{Call, body_asked, handler_begins};
use super::codec::receiving;
use crate::method::Receiving;
use crate::stage::{self, Scope};
use crate::wire::grpc::Framing;
use crate::{Method, Stage};

pin_project! {
    /// A body that charges the work of its `poll_frame`: marshalling on the way out, transport on the way in.
    ///
    /// On the way in, tonic copies each DATA frame into its receive buffer right after `poll_frame` returned it.
    /// Where the codec is staged too, that copy is charged to [`Stage::ReceiveBuffer`].
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
        StagedBody { inner, scope: Scope::new(method, Stage::Marshal), call: None, messages: None }
    }

    /// A body whose frames come from the peer: polling it is [`Stage::Transport`].
    pub fn incoming(method: Method, inner: B) -> Self {
        let messages = Some(Messages::of(Receiving::new(method)));
        StagedBody { inner, scope: Scope::new(method, Stage::Transport), call: None, messages }
    }

    /// An incoming body of a call that an outer layer counts: its messages are not counted again.
    pub(super) fn passing(inner: B) -> Self {
        StagedBody { inner, scope: stage::current().with_stage(Stage::Transport), call: None, messages: None }
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
        if this.messages.is_some() {
            handler_begins();
        }
        let frame = {
            let _guard = this.scope.enter();
            this.inner.poll_frame(cx)
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Some(messages) = this.messages {
                messages.pass(data);
            }
            if decoding {
                receiving();
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        if self.messages.is_some() {
            body_asked(self.scope.method());
        }
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How much of a message has arrived on a stream, read off gRPC's framing as it passes.
#[derive(Debug)]
struct Messages {
    receiving: Receiving,
    framing: Framing,
}

impl Messages {
    fn of(receiving: Receiving) -> Messages {
        Messages { receiving, framing: Framing::default() }
    }

    /// Looks at a DATA frame. What is not contiguous cannot be looked at without being consumed, and is passed over.
    fn pass(&mut self, data: &impl Buf) {
        let bytes = data.chunk();
        if bytes.len() == data.remaining() {
            self.framing.pass(bytes, |bytes| self.receiving.arrived(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_message_is_known_while_its_stream_is_read_however_it_is_cut() {
        let method = Method::register(crate::Side::Server, "/body.Test/Largest");
        let mut wire = Vec::new();
        for length in [0u32, 3, 1000, 0, 70_000, 9] {
            wire.push(1);
            wire.extend(length.to_be_bytes());
            wire.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for frame in [1, 2, 7, 16_384, wire.len()] {
            let mut messages = Messages::of(Receiving::new(method));
            assert_eq!(method.largest_received(), 0);
            for frame in wire.chunks(frame) {
                messages.pass(&frame);
            }
            assert!(messages.framing.is_between_messages(), "frames of {frame}");
            assert_eq!(method.largest_received(), (1 << 17) - 1, "frames of {frame}");
        }
        assert_eq!(method.largest_received(), 0, "no stream is read any more");
        // A length that is only claimed is not what arrived.
        let mut messages = Messages::of(Receiving::new(method));
        messages.pass(&&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3][..]);
        assert_eq!(method.largest_received(), 3);
    }
}
