//! Codecs between stock prost and the bodies that bypass tonic's: a recycled message, a reserved length, small
//! buffers.

use std::marker::PhantomData;

use bytes::BytesMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::pool::{MessagePool, Pooled, Recycle};
use crate::tonic::{StagedDecoder, StagedEncoder};

/// tonic's default for both of its codec buffers, in bytes, and for batching small messages.
const STOCK_BUFFER_BYTES: usize = 8 * 1024;
const STOCK_YIELD_BYTES: usize = 32 * 1024;
/// Below the 1 KiB from which on `BytesMut` remembers a block's size.
const SIZED_FIRST_BYTES: usize = 64;

/// tonic's defaults.
pub fn stock_buffers() -> BufferSettings {
    BufferSettings::default()
}

/// Codec buffers of `bytes`.
pub fn small_buffers(bytes: usize) -> BufferSettings {
    BufferSettings::new(bytes.min(STOCK_BUFFER_BYTES), STOCK_YIELD_BYTES)
}

/// An encoder and a decoder as a codec, both staged.
#[derive(Clone, Debug)]
pub struct Pair<E, D>(pub E, pub D);

impl<E, D> Codec for Pair<E, D>
where
    E: Encoder<Error = Status> + Clone + Send + 'static,
    E::Item: Send + 'static,
    D: Decoder<Error = Status> + Clone + Send + 'static,
    D::Item: Send + 'static,
{
    type Encode = E::Item;
    type Decode = D::Item;
    type Encoder = StagedEncoder<E>;
    type Decoder = StagedDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        StagedEncoder(self.0.clone())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StagedDecoder(self.1.clone())
    }
}

/// prost's encoder as tonic-prost has it, and with the exact length reserved first where asked for.
#[derive(Debug)]
pub struct ProstEncoder<M> {
    buffers: BufferSettings,
    sized: bool,
    message: PhantomData<fn(M)>,
}

impl<M> ProstEncoder<M> {
    /// Encodes as tonic-prost does.
    pub fn stock(buffers: BufferSettings) -> Self {
        ProstEncoder { buffers, sized: false, message: PhantomData }
    }

    /// Reserves a message's length before it writes.
    ///
    /// tonic reserves room for the prefix first, in a new block as large as the very first one was (`BytesMut`
    /// remembers): a small first block keeps that reservation from being 8 KiB thrown away with every message.
    pub fn sized() -> Self {
        ProstEncoder { sized: true, ..ProstEncoder::stock(small_buffers(SIZED_FIRST_BYTES)) }
    }
}

impl<M> Clone for ProstEncoder<M> {
    fn clone(&self) -> Self {
        ProstEncoder { ..*self }
    }
}

impl<M: Message> Encoder for ProstEncoder<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, item: M, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if self.sized {
            dst.reserve(item.encoded_len());
        }
        item.encode(dst).expect("a growing buffer has room for any message");
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.buffers
    }
}

/// prost's decoder as tonic-prost has it.
#[derive(Debug)]
pub struct ProstDecoder<M> {
    buffers: BufferSettings,
    message: PhantomData<fn() -> M>,
}

impl<M> ProstDecoder<M> {
    /// Decodes into a new message each time.
    pub fn new(buffers: BufferSettings) -> Self {
        ProstDecoder { buffers, message: PhantomData }
    }
}

impl<M> Clone for ProstDecoder<M> {
    fn clone(&self) -> Self {
        ProstDecoder { ..*self }
    }
}

impl<M: Message + Default> Decoder for ProstDecoder<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        M::decode(src).map(Some).map_err(bad_message)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.buffers
    }
}

/// Decodes into a recycled message, whose fields keep the capacity they have grown to.
#[derive(Debug)]
pub struct PooledDecoder<M> {
    buffers: BufferSettings,
    pool: MessagePool<M>,
}

impl<M> PooledDecoder<M> {
    /// Takes its messages from `pool`.
    pub fn new(buffers: BufferSettings, pool: MessagePool<M>) -> Self {
        PooledDecoder { buffers, pool }
    }
}

impl<M> Clone for PooledDecoder<M> {
    fn clone(&self) -> Self {
        PooledDecoder { buffers: self.buffers, pool: self.pool.clone() }
    }
}

impl<M: Recycle> Decoder for PooledDecoder<M> {
    type Item = Pooled<M>;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Pooled<M>>, Status> {
        decode_pooled(&self.pool, src)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.buffers
    }
}

/// Merges `src` into a recycled message.
fn decode_pooled<M: Recycle>(pool: &MessagePool<M>, src: impl bytes::Buf) -> Result<Option<Pooled<M>>, Status> {
    let mut message = pool.take();
    message.message_mut().merge(src).map_err(bad_message)?;
    Ok(Some(message))
}

fn bad_message(error: prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// A decoder that takes its bytes from any buffer: tonic's `Decoder` sees tonic's own buffer only.
pub trait AnyDecoder: Decoder<Error = Status> {
    /// Decodes one message that fills `src`.
    ///
    /// # Errors
    /// `INTERNAL` when `src` is no such message, as tonic's codecs give.
    fn decode_any(&mut self, src: impl bytes::Buf) -> Result<Self::Item, Status>;
}

/// An encoder that writes to any growing buffer: only tonic can make tonic's `EncodeBuf`.
pub trait AnyEncoder: Encoder<Error = Status> {
    /// Appends one message to `dst`.
    ///
    /// # Errors
    /// What the encoder's own `encode` gives.
    fn encode_any(&mut self, item: &Self::Item, dst: &mut BytesMut) -> Result<(), Status>;
}

impl<M: Message> AnyEncoder for ProstEncoder<M> {
    fn encode_any(&mut self, item: &M, dst: &mut BytesMut) -> Result<(), Status> {
        item.encode(dst).expect("a growing buffer has room for any message");
        Ok(())
    }
}

impl<M: Message + Default> AnyDecoder for ProstDecoder<M> {
    fn decode_any(&mut self, src: impl bytes::Buf) -> Result<M, Status> {
        M::decode(src).map_err(bad_message)
    }
}

impl<M: Recycle> AnyDecoder for PooledDecoder<M> {
    fn decode_any(&mut self, src: impl bytes::Buf) -> Result<Pooled<M>, Status> {
        decode_pooled(&self.pool, src).map(|message| message.expect("a decoded message is always whole"))
    }
}
