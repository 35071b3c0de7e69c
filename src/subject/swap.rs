//! The codec that plays vtprotobuf's part: buffa's views as messages, for `User`.
//!
//! A view borrows its strings from the received bytes, which it keeps; the handler reads and changes it through
//! [`UnaryRecord`] as it does a prost message, so nothing is converted. What it costs: the receive buffer lives as long
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
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

use super::user::{CREATED_AT, CREATED_ID, CREATED_STATUS, UnaryRecord};
use crate::subject::pb::owned::User;
use crate::subject::pb::swapped::{UserOwnedView, UserView};

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

    /// The view that is written.
    fn answer(&self) -> UserView<'_> {
        // The list of subscriptions is copied, its strings are not.
        let (id, created_at, status) = (self.id(), self.created_at(), self.status());
        UserView { id, created_at, status, ..self.received().clone() }
    }
}

impl From<&User> for SwapUser {
    fn from(user: &User) -> SwapUser {
        SwapUser::decode(user.encode_to_vec().into()).expect("prost writes what buffa reads")
    }
}

impl Default for SwapUser {
    fn default() -> SwapUser {
        SwapUser::decode(Bytes::new()).expect("no bytes are a user of defaults")
    }
}

impl UnaryRecord for SwapUser {
    fn create(&mut self) {
        self.created = true;
    }

    fn is_created(&self) -> bool {
        (self.id(), self.created_at(), self.status()) == (CREATED_ID, CREATED_AT, CREATED_STATUS)
    }
}

/// What lets every codec and body that carries prost's messages carry it: read and written as a whole.
impl Message for SwapUser {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.created { self.answer().encode(buf) } else { self.received().encode(buf) }
    }

    fn encoded_len(&self) -> usize {
        let received = self.received();
        let len = received.encoded_len() as usize;
        if !self.created {
            return len;
        }
        // Without a view of the answer, which would be a list of its own.
        len - created_fields_len(received.id, received.created_at, received.status)
            + created_fields_len(CREATED_ID, CREATED_AT, CREATED_STATUS)
    }

    fn decode(mut buf: impl Buf) -> Result<SwapUser, DecodeError> {
        SwapUser::decode(buf.copy_to_bytes(buf.remaining())).map_err(|error| refused(error.to_string()))
    }

    /// As protobuf has it, two messages one behind the other are merged.
    fn merge(&mut self, buf: impl Buf) -> Result<(), DecodeError> {
        let mut both = self.encode_to_vec();
        both.put(buf);
        *self = <SwapUser as Message>::decode(Bytes::from(both))?;
        Ok(())
    }

    /// # Errors
    /// Always: what holds another message calls this, and nothing holds a user.
    fn merge_field(&mut self, _: u32, _: WireType, _: &mut impl Buf, _: DecodeContext) -> Result<(), DecodeError> {
        Err(refused("a view is read as a whole".to_owned()))
    }

    fn clear(&mut self) {
        *self = SwapUser::default();
    }
}

/// Bytes of the fields that a handler sets. What is zero or empty is not written.
fn created_fields_len(id: u64, created_at: u64, status: &str) -> usize {
    let number = |field, value| if value == 0 { 0 } else { key_len(field) + encoded_len_varint(value) };
    let text = if status.is_empty() { 0 } else { key_len(6) + encoded_len_varint(status.len() as u64) + status.len() };
    number(1, id) + number(5, created_at) + text
}

#[expect(deprecated, reason = "prost has no other way to say why a message is refused")]
pub(super) fn refused(why: String) -> DecodeError {
    DecodeError::new(why)
}
