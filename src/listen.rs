//! Listeners that hold out against slow, broken and hostile peers: for this workspace's own crates, without a promise of
//! stability.

#[cfg(feature = "subject")]
pub mod accept;
#[cfg(feature = "http1")]
pub mod http1;
