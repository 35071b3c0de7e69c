//! Received messages, as tonic's own [`Streaming`] or as the one message of a unary call.
//!
//! # Implementation
//! tonic's `Streaming` takes any body and any decoder. [`Fed`] is a body that reads the frames of another, decodes a
//! message, leaves it in a slot and shows tonic a message of no bytes; [`SlotDecoder`] takes it out of the slot. tonic keeps
//! what it does around messages (trailers, status, end), and copies five bytes.
//!
//! One thing differs from tonic: a body that ends inside a message is `INTERNAL`, always. tonic takes it for whole where
//! trailers follow, or where nothing but the message's prefix came.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use prost::Message;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, Streaming};
use tonic::{Code, Status};

use super::BoxError;
use super::frames::{Frames, Receiving};
use super::status::carried;
use crate::Stage;
use crate::tonic::payload;
use crate::wire::grpc::{PREFIX_BYTES, ended_inside_message};

/// What tonic reads into: room for a prefix. It is refilled to hand over each message, and holds none of it.
const TONICS_BYTES: usize = 16;
const TONICS_YIELD_BYTES: usize = 32 * 1024;

/// The messages of a request.
pub(crate) fn request<B, M>(body: B, receiving: Receiving) -> Streaming<M>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
    M: Message + Default + Send + 'static,
{
    let _guard = Stage::ReceiveBuffer.enter();
    let (decoder, body) = fed(body, receiving, Direction::Request);
    Streaming::new_request(decoder, body, None, None)
}

/// The messages of a response whose status is still to come.
pub(super) fn response<B, M>(body: B, status: StatusCode, receiving: Receiving) -> Streaming<M>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
    M: Message + Default + Send + 'static,
{
    let _guard = Stage::ReceiveBuffer.enter();
    let (decoder, body) = fed(body, receiving, Direction::Response);
    Streaming::new_response(decoder, body, status, None, None)
}

/// The messages of a response whose headers said that all went well.
pub(super) fn answered<B, M>(body: B) -> Streaming<M>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
    M: Message + Default + Send + 'static,
{
    let _guard = Stage::ReceiveBuffer.enter();
    let (decoder, body) = fed(body, Receiving::default(), Direction::Answered);
    Streaming::new_empty(decoder, body)
}

/// Reads a body to its end: its first message, and its trailers. Further messages are decoded and dropped, as in tonic.
pub(crate) async fn one<B, M>(
    body: B,
    receiving: Receiving,
    direction: Direction,
) -> Result<(Option<M>, Option<HeaderMap>), Status>
where
    B: Body,
    B::Error: Into<BoxError>,
    M: Message + Default,
{
    let mut body = pin!(body);
    let mut frames = Frames::new(receiving);
    let mut first = None;
    loop {
        while let Some(message) = frames.next()? {
            first.get_or_insert(message);
        }
        let (frame, counted) = std::future::poll_fn(|cx| match payload::decoding(|| body.as_mut().poll_frame(cx)) {
            (Poll::Ready(frame), counted) => Poll::Ready((frame, counted)),
            (Poll::Pending, _) => Poll::Pending,
        })
        .await;
        frames.count_for(counted);
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => frames.push(data.copy_to_bytes(data.remaining())),
            Some(Ok(Err(frame))) => {
                let trailers = frame.into_trailers().ok();
                check_end(&frames, direction, trailers.as_ref())?;
                return Ok((first, trailers));
            }
            Some(Err(error)) => {
                let status = Status::from_error(error.into());
                // A client that goes away ends its stream.
                if direction == Direction::Request && status.code() == Code::Cancelled {
                    return Ok((first, None));
                }
                return Err(status);
            }
            None => {
                check_end(&frames, direction, None)?;
                return Ok((first, None));
            }
        }
    }
}

/// Which side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The body just ends.
    Request,
    /// The status comes in trailers.
    Response,
    /// The status came in the headers.
    Answered,
}

/// A body that ends inside a message has failed; a response whose trailers say why, with that status.
fn check_end(frames: &Frames, direction: Direction, trailers: Option<&HeaderMap>) -> Result<(), Status> {
    if !frames.is_inside_message() {
        return Ok(());
    }
    match trailers.filter(|_| direction == Direction::Response).and_then(carried) {
        Some(Err(status)) => Err(status),
        Some(Ok(())) | None => Err(ended_inside_message()),
    }
}

pin_project! {
    /// A body of messages of no bytes.
    #[derive(Debug)]
    struct Fed<B, M> {
        #[pin]
        body: B,
        frames: Frames,
        direction: Direction,
        slot: Slot<M>,
        done: bool,
    }
}

type Slot<M> = Arc<Mutex<Option<M>>>;

fn fed<B, M>(body: B, receiving: Receiving, direction: Direction) -> (SlotDecoder<M>, Fed<B, M>) {
    let slot = Slot::default();
    let body = Fed { body, frames: Frames::new(receiving), direction, slot: Arc::clone(&slot), done: false };
    (SlotDecoder(slot), body)
}

impl<B, M> Body for Fed<B, M>
where
    B: Body,
    B::Error: Into<BoxError>,
    M: Message + Default,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let ended = loop {
            if *this.done {
                return Poll::Ready(None);
            }
            match this.frames.next::<M>() {
                Ok(Some(message)) => {
                    *this.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PREFIX_BYTES])))));
                }
                Ok(None) => {}
                Err(status) => break Err(status),
            }
            let (frame, counted) = payload::decoding(|| this.body.as_mut().poll_frame(cx));
            this.frames.count_for(counted);
            match ready!(frame).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(mut data))) => this.frames.push(data.copy_to_bytes(data.remaining())),
                Some(Ok(Err(frame))) => {
                    let trailers = frame.into_trailers().ok();
                    break check_end(this.frames, *this.direction, trailers.as_ref())
                        // tonic panics at details that are not base64: such a status is made here.
                        .and_then(|()| {
                            match trailers.as_ref().filter(|trailers| !super::status::is_sound(trailers)) {
                                Some(trailers) => carried(trailers).unwrap_or(Ok(())).map(|()| None),
                                None => Ok(trailers),
                            }
                        });
                }
                Some(Err(error)) => break Err(Status::from_error(error.into())),
                None => break check_end(this.frames, *this.direction, None).map(|()| None),
            }
        };
        *this.done = true;
        Poll::Ready(ended.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

/// Hands over what [`Fed`] made.
struct SlotDecoder<M>(Slot<M>);

impl<M: Send + 'static> Decoder for SlotDecoder<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(TONICS_BYTES, TONICS_YIELD_BYTES)
    }
}
