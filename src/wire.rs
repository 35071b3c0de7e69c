//! Facts of protocols, each written once: for this workspace's own crates, without a promise of stability.
//!
//! Nothing here measures, and nothing here knows a message of ours.

#[cfg(feature = "wire")]
pub mod pprof;
#[cfg(feature = "tonic")]
pub mod status;
