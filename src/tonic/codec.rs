//! The codec: where a message becomes bytes and bytes become a message.

use bytes::BufMut;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::call::{decoder_asked, encoder_asked, handler_begins, is_making_streaming, will_make_streaming};
use super::payload;
use crate::Stage;
use crate::stage;

/// Any codec, with its work charged to [`Stage::Marshal`] and [`Stage::MessageConstruction`], and the buffers tonic
/// makes around it to [`Stage::Marshal`] and [`Stage::ReceiveBuffer`].
///
/// Name it at code generation (`codec_path`) or wrap a codec by hand. Receive buffers are seen where a
/// [`ServerLayer`](super::ServerLayer) or [`ClientLayer`](super::ClientLayer) stages the bodies too. What is decoded has
/// the RPC method that is current: on a client that of the task which awaits the answer, often none. The buffer that a
/// client's request is encoded into has no method either: tonic allocates it before it calls the channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct StagedCodec<C>(pub C);

impl<C: Codec> Codec for StagedCodec<C> {
    type Encode = C::Encode;
    type Decode = C::Decode;
    type Encoder = StagedEncoder<C::Encoder>;
    type Decoder = StagedDecoder<C::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        encoder_asked(self);
        StagedEncoder(self.0.encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        decoder_asked(self);
        StagedDecoder::new(self.0.decoder())
    }
}

/// An encoder whose work is [`Stage::Marshal`].
#[derive(Clone, Copy, Debug, Default)]
pub struct StagedEncoder<E>(pub E);

impl<E: Encoder<Error = Status>> Encoder for StagedEncoder<E> {
    type Item = E::Item;
    type Error = Status;

    fn encode(&mut self, item: E::Item, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let _guard = Stage::Marshal.enter();
        let room = dst.remaining_mut();
        self.0.encode(item, dst)?;
        // What a buffer that grows has left to grow, less what went in.
        payload::encoded(room.saturating_sub(dst.remaining_mut()));
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        // tonic allocates the buffer it encodes into right after it asked for its size, then makes headers and boxes.
        stage::window::open_window_for_next(Stage::Marshal);
        self.0.buffer_settings()
    }
}

/// A decoder whose work is [`Stage::MessageConstruction`].
///
/// What tonic allocates for what it receives is [`Stage::ReceiveBuffer`] where the body is staged too: only such a body says
/// when the next frame is asked for. So the decoder of a client without a [`ClientLayer`](super::ClientLayer) leaves that
/// to whoever calls it.
#[derive(Debug)]
pub struct StagedDecoder<D> {
    inner: D,
    /// A layer has staged the body that it decodes.
    is_fed: bool,
}

impl<D> StagedDecoder<D> {
    /// Stages a decoder; for codecs, which make it when tonic asks.
    pub fn new(inner: D) -> Self {
        StagedDecoder { inner, is_fed: will_make_streaming() }
    }
}

impl<D: Decoder<Error = Status>> Decoder for StagedDecoder<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        stage::window::close_window();
        let _guard = Stage::MessageConstruction.enter();
        self.inner.decode(src)
    }

    fn buffer_settings(&self) -> BufferSettings {
        if is_making_streaming() {
            // tonic boxes the decoder and the body and makes the buffer; then comes the service's own code, until it asks
            // for a message.
            stage::window::open_window_for_first(3, Stage::ReceiveBuffer);
            handler_begins();
        } else if self.is_fed {
            // tonic reserves room for the message between this call and `decode` or the next `poll_frame`, which both
            // close the window.
            receiving();
        }
        self.inner.buffer_settings()
    }
}

impl<D> Drop for StagedDecoder<D> {
    /// A message that tonic refuses (too long, say) is followed by neither of the hooks that close the window. The stream is
    /// seldom used after it.
    fn drop(&mut self) {
        if self.is_fed {
            stage::window::close_window();
        }
    }
}

/// Opens the window in which tonic makes room for what it has received.
///
/// Where a message is refused, the end of the stream or of the guard closes it; where no guard is entered it would reach
/// other tasks of this thread, so it is for the one buffer alone.
pub(super) fn receiving() {
    if stage::window::guarded() {
        stage::window::open_window(Stage::ReceiveBuffer);
    } else {
        stage::window::open_window_for_next(Stage::ReceiveBuffer);
    }
}
