//! The codec: where a message becomes bytes and bytes become a message.

use bytes::BufMut;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::call::{decoder_asked, encoder_asked, handler_begins, is_making_streaming};
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
        StagedDecoder(self.0.decoder())
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
#[derive(Clone, Copy, Debug, Default)]
pub struct StagedDecoder<D>(pub D);

impl<D: Decoder<Error = Status>> Decoder for StagedDecoder<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        stage::window::close_window();
        let _guard = Stage::MessageConstruction.enter();
        self.0.decode(src)
    }

    fn buffer_settings(&self) -> BufferSettings {
        if is_making_streaming() {
            // tonic boxes the decoder (where it has a size) and the body and makes the buffer; then comes the service's
            // own code, until it asks for a message.
            let allocations = if size_of::<Self>() == 0 { 2 } else { 3 };
            stage::window::open_window_for_first(allocations, Stage::ReceiveBuffer);
            handler_begins();
        } else {
            // tonic reserves room for the message between this call and `decode` or the next `poll_frame`, which both
            // close the window.
            receiving();
        }
        self.0.buffer_settings()
    }
}

/// Opens the window in which tonic makes room for what it has received.
///
/// A message that tonic refuses (too long, say) is followed by neither of the hooks that close it. A guard then ends
/// it; where none is entered it would reach other tasks of this thread, so it is for the one buffer alone.
pub(super) fn receiving() {
    if stage::window::guarded() {
        stage::window::open_window(Stage::ReceiveBuffer);
    } else {
        stage::window::open_window_for_next(Stage::ReceiveBuffer);
    }
}
