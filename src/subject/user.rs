//! `CreateUser`: what the handler does with a user, whichever type it was decoded into.

use std::sync::OnceLock;

use bytes::BytesMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};

use super::codec::{AnyDecoder, AnyEncoder, Pair, PooledDecoder, ProstDecoder, ProstEncoder};
use super::codec::{small_buffers, stock_buffers};
use super::pool::{MessagePool, Pooled, Recycle};
use super::swap::swap_codec;
use crate::subject::ladder::{Codec, CodecBuffers, MessageSource, Tuning};
use crate::subject::pb::owned::User;

/// Bytes that hold a user message and its prefix: the size of small codec buffers.
pub const USER_BUFFER_BYTES: usize = 256;

/// What the handler sets of a user: its id,
pub const CREATED_ID: u64 = 4242;
/// the second it was created,
pub const CREATED_AT: u64 = 1_735_689_600;
/// and its status.
pub const CREATED_STATUS: &str = "active";

/// A received user that can be answered with.
pub trait UserRecord: Send + 'static {
    /// What the handler does: the record as it would be stored.
    fn create(&mut self);

    /// Whether this is what [`create`](UserRecord::create) made: how a client checks an answer.
    fn is_created(&self) -> bool;

    /// Payload bytes, counted as the encoded message.
    fn bytes(&self) -> usize;
}

impl UserRecord for User {
    fn create(&mut self) {
        self.id = CREATED_ID;
        self.created_at = CREATED_AT;
        self.status.clear();
        self.status.push_str(CREATED_STATUS);
    }

    fn is_created(&self) -> bool {
        self.id == CREATED_ID && self.created_at == CREATED_AT && self.status == CREATED_STATUS
    }

    fn bytes(&self) -> usize {
        self.encoded_len()
    }
}

impl Recycle for User {}

impl UserRecord for Pooled<User> {
    fn create(&mut self) {
        self.message_mut().create();
    }

    fn is_created(&self) -> bool {
        (**self).is_created()
    }

    fn bytes(&self) -> usize {
        self.encoded_len()
    }
}

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

/// The user every call sends.
pub fn sample_user() -> User {
    User {
        id: 0,
        name: "Ada Lovelace".to_owned(),
        age: 36,
        paid_plan: true,
        created_at: 0,
        status: "pending".to_owned(),
        subscriptions: ["newsletter", "releases", "security"].map(str::to_owned).to_vec(),
        email: "ada.lovelace@example.org".to_owned(),
    }
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
