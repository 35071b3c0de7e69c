//! A service as with tonic itself: nothing here knows that Cargo.toml calls another crate `tonic`.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::field_reassign_with_default,
    clippy::useless_conversion,
    reason = "generated code, and code that is shared with it"
)]

pub mod pb {
    tonic::include_proto!("toy.v1");
}

include!("../../support/toy/handler.rs");
include!("../../support/toy/caller.rs");
