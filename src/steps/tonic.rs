//! What generated code names as `tonic` where it is to use the bodies of this crate: tonic itself, but for `server::Grpc` and
//! `client::Grpc`.
//!
//! `tonic = { package = "alloc-ladder-tonic" }` in Cargo.toml makes it a crate's root; [`crate::build`] names it in generated
//! modules.

pub use ::tonic::*;

/// tonic's, with [`Grpc`](crate::steps::server::Grpc) of this crate.
pub mod server {
    pub use crate::steps::server::Grpc;
    pub use ::tonic::server::*;
}

/// tonic's, with [`Grpc`](crate::steps::client::Grpc) of this crate.
pub mod client {
    pub use crate::steps::client::Grpc;
    pub use ::tonic::client::*;
}
