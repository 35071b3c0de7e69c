//! Facts of protocols, each written once: for this workspace's own crates, without a promise of stability.
//!
//! Nothing here measures, and nothing here knows a message of ours.

#[cfg(feature = "tonic")]
pub mod grpc;
pub mod host;
#[cfg(any(feature = "steps", feature = "tonic", feature = "wire"))]
pub mod http2;
#[cfg(feature = "wire")]
pub mod pprof;
#[cfg(feature = "tonic")]
pub mod status;
