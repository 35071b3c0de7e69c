//! Which codec a tuning asks for on `CreateUser`.

use std::sync::OnceLock;

use bytes::BytesMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};

use super::codec::{AnyDecoder, AnyEncoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder};
use super::codec::{small_buffers, stock_buffers};
use super::ladder::{Codec, CodecBuffers, MessageSource, Tuning};
use super::pb::owned::User;
use super::pool::{MessagePool, Pooled};
use super::swap::swap_codec;
use super::user::{USER_BUFFER_BYTES, UserRecord};

/// What is done with the codec a tuning says, whichever types it is made of.
pub trait WithUserCodec {
    /// What comes of it.
    type Output;

    /// Called once, with the codec.
    fn with<U, E, D>(self, codec: Pair<E, D>) -> Self::Output
    where
        U: UserRecord + Sync,
        E: AnyEncoder<Item = U> + Clone + Send + Sync + 'static,
        D: AnyDecoder<Item = U> + Clone + Send + Sync + 'static;
}

/// The codec of a server's `CreateUser`.
pub fn server_codec<W: WithUserCodec>(tuning: &Tuning, with: W) -> W::Output {
    let buffers = codec_buffers(tuning);
    match (tuning.codec, tuning.message) {
        (Codec::Prost, MessageSource::Fresh) => {
            with.with(Pair(ProstEncoder::<User>::stock(buffers), ProstDecoder::<User>::new(buffers)))
        }
        // A view has nothing to recycle: its strings are the receive buffer's.
        (Codec::Swapped, _) => with.with(swap_codec(buffers)),
        (Codec::Prost, MessageSource::Pooled) => {
            with.with(Pair(PooledEncoder(buffers), PooledDecoder::new(buffers, pool())))
        }
    }
}

/// The sizes of tonic's buffers around the codec.
pub fn codec_buffers(tuning: &Tuning) -> BufferSettings {
    match tuning.codec_buffers {
        CodecBuffers::Stock => stock_buffers(),
        CodecBuffers::Small => small_buffers(USER_BUFFER_BYTES),
    }
}

/// Recycled users outlive their call: one pool for the process.
fn pool() -> MessagePool<User> {
    static POOL: OnceLock<MessagePool<User>> = OnceLock::new();
    POOL.get_or_init(MessagePool::default).clone()
}

/// Encodes a recycled message, which goes back to its pool right after.
#[derive(Clone, Copy, Debug)]
pub struct PooledEncoder(pub BufferSettings);

impl Encoder for PooledEncoder {
    type Item = Pooled<User>;
    type Error = Status;

    fn encode(&mut self, item: Pooled<User>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(dst).expect("a growing buffer has room for any message");
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

impl AnyEncoder for PooledEncoder {
    fn encode_any(&mut self, item: &Pooled<User>, dst: &mut BytesMut) -> Result<(), Status> {
        item.encode(dst).expect("a growing buffer has room for any message");
        Ok(())
    }
}
