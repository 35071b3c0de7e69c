//! Bodies on their way in and out.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::method::OpenCall;
use crate::stage::{self, Scope};
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
        call: Option<OpenCall>,
    }
}

impl<B> StagedBody<B> {
    /// A body whose frames are made here: polling it is [`Stage::Marshal`].
    pub fn outgoing(method: Method, inner: B) -> Self {
        StagedBody { inner, scope: Scope::new(method, Stage::Marshal), call: None }
    }

    /// A body whose frames come from the peer: polling it is [`Stage::Transport`].
    pub fn incoming(method: Method, inner: B) -> Self {
        StagedBody { inner, scope: Scope::new(method, Stage::Transport), call: None }
    }

    /// The answer's body, with which its call ends.
    pub(super) fn ending(self, call: OpenCall) -> Self {
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
        // Opened by `StagedDecoder::buffer_settings`, which tonic calls before every frame it asks for.
        let receiving = stage::close_any_window() == Some(Stage::ReceiveBuffer);
        let frame = {
            let _guard = this.scope.enter();
            this.inner.poll_frame(cx)
        };
        if receiving && matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            stage::open_window(Stage::ReceiveBuffer);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
