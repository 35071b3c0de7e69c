//! Generated from `proto/` by `cargo xtask codegen` and checked in; CI proves it fresh.

/// Messages whose `bytes` fields are `Vec<u8>`, as prost makes them by default.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod owned;

/// The same messages with `bytes::Bytes` in their `bytes` fields.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod bytes;

/// What unary calls carry, as buffa makes it: owned messages, and views that borrow from the bytes they were decoded from.
#[rustfmt::skip]
#[allow(missing_docs, unused_qualifications, elided_lifetimes_in_paths, clippy::all, reason = "generated code")]
pub mod swapped;
