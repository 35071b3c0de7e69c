//! A sink and a source as a hyper service: what an HTTP/2 server without gRPC costs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::outcome::{PeerError, check};
use super::settings::{
    COUNTED_HEADER, TUNED_CONNECTION_WINDOW, TUNED_STREAM_WINDOW, tuned_frame_size, tuned_send_buffer,
};
use super::window::Window;
use super::{Direction, Traffic};
use crate::Side;
use crate::record::Measurement;
use crate::subject::ladder::Http2;

/// The window, put back by whoever had it once its stream is through.
type Slot = Arc<Mutex<Option<Window>>>;

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    settings: Http2,
    direction: Direction,
    traffic: Traffic,
) -> Result<Measurement, PeerError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    if settings == Http2::Tuned {
        builder
            .initial_stream_window_size(TUNED_STREAM_WINDOW)
            .initial_connection_window_size(TUNED_CONNECTION_WINDOW)
            .max_frame_size(tuned_frame_size(traffic.chunk))
            .max_send_buf_size(tuned_send_buffer(traffic.chunk));
    }
    let done: Slot = Arc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let done = done.clone();
        async move {
            let mut window = Window::new(Side::Server, traffic);
            match direction {
                Direction::Put => {
                    receive(request.into_body(), &mut window).await?;
                    let mut response = Response::new(Source::empty());
                    response.headers_mut().insert(COUNTED_HEADER, window.position().into());
                    put_back(&done, window);
                    Ok(response)
                }
                Direction::Get => Ok::<_, hyper::Error>(Response::new(Source::new(traffic, window, done))),
            }
        }
    });
    // The connection ends when the client goes. However that looked, the window says whether all was sent.
    let ended = builder.serve_connection(TokioIo::new(stream), service).await;
    match done.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(window) => check(window, traffic),
        None => Err(ended.err().map_or(PeerError::NoRequest, PeerError::Hyper)),
    }
}

fn put_back(slot: &Slot, window: Window) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
}

async fn receive(mut body: Incoming, window: &mut Window) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            window.advance(data.len());
        }
    }
    Ok(())
}

/// A body that gives the same chunk over and over.
struct Source {
    chunk: Bytes,
    left: u64,
    window: Option<(Window, Slot)>,
}

impl Source {
    fn new(traffic: Traffic, window: Window, done: Slot) -> Source {
        let left = 2 * traffic.warmup + traffic.messages;
        Source { chunk: Bytes::from(vec![0; traffic.chunk]), left, window: Some((window, done)) }
    }

    fn empty() -> Source {
        Source { chunk: Bytes::new(), left: 0, window: None }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let source = self.get_mut();
        if source.left == 0 {
            return Poll::Ready(None);
        }
        source.left -= 1;
        if let Some((window, _)) = &mut source.window {
            window.advance(source.chunk.len());
        }
        if source.left == 0
            && let Some((window, done)) = source.window.take()
        {
            put_back(&done, window);
        }
        Poll::Ready(Some(Ok(Frame::data(source.chunk.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
