//! Generated from `proto/` by `cargo xtask codegen` and checked in; CI proves it fresh.

/// Messages whose `bytes` fields are `Vec<u8>`, as prost makes them by default.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod owned;

/// The same messages with `bytes::Bytes` in their `bytes` fields.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod bytes;

/// `User` alone, as buffa makes it: an owned message, and a view that borrows from the bytes it was decoded from.
#[rustfmt::skip]
#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated code")]
pub mod swapped;
