//! Message streams of the service's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::Stage;
use crate::stage;

pin_project! {
    /// A stream of messages whose making is [`Stage::Handler`] rather than part of the body that sends them.
    ///
    /// tonic polls a response stream inside the response body, which is [`Stage::Marshal`]; wrap the stream so that
    /// what the service does for a message is told apart from marshalling it.
    #[derive(Debug)]
    pub struct StagedStream<S> {
        #[pin]
        inner: S,
    }
}

impl<S> StagedStream<S> {
    /// Wraps a stream.
    pub fn new(inner: S) -> Self {
        StagedStream { inner }
    }
}

impl<S: Stream> Stream for StagedStream<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let _guard = stage::current().with_stage(Stage::Handler).enter();
        self.project().inner.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
