#![doc = include_str!("../README.md")]

pub mod alloc;
pub mod assert;
pub mod method;
pub mod stage;

#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "live")]
pub mod live;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "recorder")]
#[doc(hidden)]
pub mod recorder;
#[cfg(feature = "sampled")]
pub mod sampled;
#[cfg(feature = "steps")]
pub mod steps;
#[cfg(feature = "study")]
#[doc(hidden)]
pub mod subject;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(any(feature = "steps", feature = "tonic", feature = "wire"))]
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "live")]
pub use live::serve;

#[cfg(feature = "recorder")]
pub use alloc::Alloc;
pub use alloc::{CountingAlloc, Snapshot, Tally};
pub use method::{Method, Side};
pub use stage::Stage;
