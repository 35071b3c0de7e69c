#![doc = include_str!("../README.md")]

pub mod alloc;
pub mod assert;
pub mod method;
pub mod stage;

#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "grpc")]
pub mod instrument;
#[cfg(feature = "record")]
pub mod ladder;
#[cfg(feature = "live")]
pub mod live;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "grpc")]
pub mod pb;
#[cfg(feature = "record")]
pub mod peer;
#[cfg(feature = "record")]
pub mod process;
#[cfg(feature = "record")]
pub mod record;
#[cfg(all(feature = "retained", feature = "record"))]
pub mod retained;
#[cfg(feature = "sampled")]
pub mod sampled;
#[cfg(feature = "record")]
pub mod scenario;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(any(feature = "driver", feature = "grpc"))]
pub mod usage;

#[cfg(feature = "live")]
pub use live::serve;

pub use alloc::{CountingAlloc, Snapshot, Tally};
pub use method::{Method, Side};
pub use stage::Stage;
