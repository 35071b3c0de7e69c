//! prost behind tonic's `Codec`, as tonic-prost has it, with buffers of other sizes and with a reserved length.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::ladder::{CodecBuffers, Encode, Tuning};
use super::user::USER_BUFFER_BYTES;
use crate::record::Compression;
use crate::tonic::{StagedDecoder, StagedEncoder};

/// tonic's default for both of its codec buffers, in bytes, and for batching small messages.
const STOCK_BUFFER_BYTES: usize = 8 * 1024;
const STOCK_YIELD_BYTES: usize = 32 * 1024;
/// Below the 1 KiB from which on `BytesMut` remembers a block's size.
const SIZED_FIRST_BYTES: usize = 64;

/// What tonic calls a compression; `None` where this build does not have it.
pub const fn encoding(compression: Compression) -> Option<CompressionEncoding> {
    match compression {
        Compression::Gzip => Some(CompressionEncoding::Gzip),
        #[cfg(feature = "zstd")]
        Compression::Zstd => Some(CompressionEncoding::Zstd),
        #[cfg(not(feature = "zstd"))]
        Compression::Zstd => None,
    }
}

/// A `Grpc`, tonic's or the steps', of a server or of a client, that compresses both ways where that is asked for.
macro_rules! grpc {
    ($grpc:expr, $compress:expr) => {
        match $compress.and_then($crate::subject::codec::encoding) {
            Some(encoding) => $grpc.accept_compressed(encoding).send_compressed(encoding),
            None => $grpc,
        }
    };
}
pub(super) use grpc;

/// Encodes `E`, decodes `D`; both staged.
#[derive(Debug)]
pub struct ProstCodec<E, D> {
    buffers: BufferSettings,
    sized: bool,
    messages: PhantomData<fn(E) -> D>,
}

impl<E, D> ProstCodec<E, D> {
    /// As tonic comes.
    pub fn stock() -> Self {
        ProstCodec { buffers: BufferSettings::default(), sized: false, messages: PhantomData }
    }

    /// For a stream's messages.
    pub fn of_stream(tuning: &Tuning) -> Self {
        match tuning.encode {
            // tonic reserves room for the prefix first, in a new block as large as the very first one was (`BytesMut`
            // remembers): a small first block keeps that reservation from being 8 KiB thrown away with every message.
            Encode::Sized => ProstCodec { buffers: buffers(SIZED_FIRST_BYTES), sized: true, messages: PhantomData },
            Encode::Stock | Encode::Pooled | Encode::ZeroCopy => ProstCodec::stock(),
        }
    }

    /// For users.
    pub fn of_users(tuning: &Tuning) -> Self {
        match tuning.codec_buffers {
            CodecBuffers::Stock => ProstCodec::stock(),
            CodecBuffers::Small => ProstCodec { buffers: buffers(USER_BUFFER_BYTES), ..ProstCodec::stock() },
        }
    }
}

/// Codec buffers of `bytes`.
fn buffers(bytes: usize) -> BufferSettings {
    BufferSettings::new(bytes.min(STOCK_BUFFER_BYTES), STOCK_YIELD_BYTES)
}

impl<E, D> Clone for ProstCodec<E, D> {
    fn clone(&self) -> Self {
        ProstCodec { ..*self }
    }
}

impl<E, D> Codec for ProstCodec<E, D>
where
    E: Message + 'static,
    D: Message + Default + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = StagedEncoder<ProstEncoder<E>>;
    type Decoder = StagedDecoder<ProstDecoder<D>>;

    fn encoder(&mut self) -> Self::Encoder {
        StagedEncoder(ProstEncoder { buffers: self.buffers, sized: self.sized, message: PhantomData })
    }

    fn decoder(&mut self) -> Self::Decoder {
        StagedDecoder::new(ProstDecoder { buffers: self.buffers, message: PhantomData })
    }
}

/// prost's encoder as tonic-prost has it, and with the exact length reserved first where asked for.
#[derive(Debug)]
pub struct ProstEncoder<M> {
    buffers: BufferSettings,
    sized: bool,
    message: PhantomData<fn(M)>,
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

impl<M: Message + Default> Decoder for ProstDecoder<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        M::decode(src).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.buffers
    }
}
