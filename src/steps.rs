//! The ladders' mechanisms as parts for any service. None of them knows a message of this crate's own.

mod aligned;
pub mod channel;
pub mod client;
pub mod compress;
mod decode;
mod encode;
mod frames;
mod http2;
pub mod lean;
mod negotiate;
mod parts;
mod per_core;
pub mod pooled;
mod pump;
pub mod ring;
mod rope;
pub mod server;
mod sockets;
mod status;
pub mod tonic;

pub use aligned::AlignedIo;
pub use channel::LeanChannel;
pub use http2::Http2;
pub use parts::PartsBuf;
pub use per_core::{Incoming, per_core};
pub use pooled::Pooled;
pub use pump::H2Body;
pub use sockets::{aligned, connect};

/// What a body or a service fails with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
