//! The codec that plays vtprotobuf's part: buffa's views behind tonic's `Codec`, for `User`.
//!
//! A view borrows its strings from the received bytes, which it keeps; the handler reads and changes it through
//! [`UserRecord`] as it does a prost message, so nothing is converted. What it costs: the receive buffer lives as long
//! as the message, and a string that is changed is the handler's own. On the wire the two codecs are the same
//! (`tests/swap.rs`), but for unknown fields: prost drops them, buffa passes them on.
//!
//! # The candidates
//! One `User` of 83 bytes with three subscriptions, decoded from `Bytes` and encoded into a buffer that is there, in a
//! program that was thrown away; instructions are callgrind's, the counting allocator's own among them. What prost and
//! the chosen one cost on the study's own user: `cargo bench --bench codec`.
//!
//! | codec | decode: allocs, bytes, instructions | encode: allocs, instructions | why or why not |
//! |---|---|---|---|
//! | prost 0.14 | 7, 160, 4292 | 0, 2134 | as tonic comes |
//! | prost, recycled message | 3, 29, 2939 | 0, 2134 | a repeated string is a new string each time |
//! | buffa 0.9, owned | 7, 154, 3383 | 0, 1873 | allocates as prost does |
//! | buffa 0.9, owned and recycled | 3, 23, 1983 | 0, 1873 | the same again, faster |
//! | **buffa 0.9, view that owns its bytes** | 1, 64, 1565 | 0, 1860 | chosen: `'static`, as `Codec` wants it; unknown fields kept; pure Rust; generates from protox's descriptors, so no protoc; Apache-2.0 |
//! | quick-protobuf 0.8 | 1, 96, 2134 | 0, 875 | the fastest, but its messages borrow and cannot be a `Codec`'s item without a copy of every string; unknown fields dropped; no release since 2022 |
//! | pilota 0.13 | 1, 128, 2809 | 3 (979 bytes), 3057 | writes into its own linked buffer only |
//! | protobuf 4.36 (upb) | not measured here | | needs a C compiler to build, and protoc of exactly its own version to generate |

use buffa::ViewEncode as _;
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::codec::{AnyDecoder, AnyEncoder, Pair};
use super::user::{CREATED_AT, CREATED_ID, CREATED_STATUS, UserRecord};
use crate::subject::pb::owned::User;
use crate::subject::pb::swapped::{UserOwnedView, UserView};

/// buffa behind tonic's `Codec`, both ways.
pub type SwapCodec = Pair<SwapEncoder, SwapDecoder>;

/// The codec with these buffers.
pub fn swap_codec(buffers: BufferSettings) -> SwapCodec {
    Pair(SwapEncoder(buffers), SwapDecoder(buffers))
}

/// A user as it was received, and what the handler made of it.
#[derive(Clone, Debug)]
pub struct SwapUser {
    received: UserOwnedView,
    created: bool,
}

impl SwapUser {
    /// The user in `bytes`.
    ///
    /// # Errors
    /// What buffa says of bytes that are no user.
    pub fn decode(bytes: Bytes) -> Result<SwapUser, buffa::DecodeError> {
        Ok(SwapUser { received: UserOwnedView::decode(bytes)?, created: false })
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        if self.created { CREATED_ID } else { self.received.id() }
    }

    /// When it was created, seconds since 1970.
    pub fn created_at(&self) -> u64 {
        if self.created { CREATED_AT } else { self.received.created_at() }
    }

    /// Its status.
    pub fn status(&self) -> &str {
        if self.created { CREATED_STATUS } else { self.received.status() }
    }

    /// Every field as it was received.
    pub fn received(&self) -> &UserView<'_> {
        self.received.view()
    }

    /// Writes it.
    pub fn encode(&self, buf: &mut impl bytes::BufMut) {
        if !self.created {
            return self.received().encode(buf);
        }
        // The list of subscriptions is copied, its strings are not.
        let (id, created_at, status) = (self.id(), self.created_at(), self.status());
        UserView { id, created_at, status, ..self.received().clone() }.encode(buf);
    }
}

impl From<&User> for SwapUser {
    fn from(user: &User) -> SwapUser {
        SwapUser::decode(user.encode_to_vec().into()).expect("prost writes what buffa reads")
    }
}

impl UserRecord for SwapUser {
    fn create(&mut self) {
        self.created = true;
    }

    fn is_created(&self) -> bool {
        (self.id(), self.created_at(), self.status()) == (CREATED_ID, CREATED_AT, CREATED_STATUS)
    }

    fn bytes(&self) -> usize {
        if !self.created {
            return self.received().encoded_len() as usize;
        }
        let (id, created_at, status) = (self.id(), self.created_at(), self.status());
        UserView { id, created_at, status, ..self.received().clone() }.encoded_len() as usize
    }
}

/// Writes a view.
#[derive(Clone, Copy, Debug)]
pub struct SwapEncoder(pub BufferSettings);

impl Encoder for SwapEncoder {
    type Item = SwapUser;
    type Error = Status;

    fn encode(&mut self, item: SwapUser, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(dst);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

/// Reads a view of the receive buffer, which it takes the message's part of.
#[derive(Clone, Copy, Debug)]
pub struct SwapDecoder(pub BufferSettings);

impl Decoder for SwapDecoder {
    type Item = SwapUser;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<SwapUser>, Status> {
        self.decode_any(src).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

impl AnyEncoder for SwapEncoder {
    fn encode_any(&mut self, item: &SwapUser, dst: &mut BytesMut) -> Result<(), Status> {
        item.encode(dst);
        Ok(())
    }
}

impl AnyDecoder for SwapDecoder {
    fn decode_any(&mut self, mut src: impl Buf) -> Result<SwapUser, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        SwapUser::decode(bytes).map_err(|error| Status::internal(error.to_string()))
    }
}
