//! Which allocator a binary installs and what it measures with it: twin modules of one shape, chosen by feature.
//!
//! A binary declares `#[global_allocator] static GLOBAL: instrument::Global = instrument::GLOBAL;` and holds no `cfg`
//! of its own. Each module opens a [`Window`] on the measured part of a case and closes it into a
//! [`Measurement`](crate::record::Measurement). Where several features are on, the most intrusive instrument wins;
//! every record names it, and `xtask` refuses a record of another instrument than it asked for.

#[cfg_attr(feature = "mimalloc", path = "instrument/mimalloc.rs")]
#[cfg_attr(all(feature = "jemalloc", not(feature = "mimalloc")), path = "instrument/jemalloc.rs")]
#[cfg_attr(not(any(feature = "mimalloc", feature = "jemalloc")), path = "instrument/system.rs")]
#[cfg_attr(feature = "stacks", allow(dead_code, reason = "dhat wraps the system's allocator by itself"))]
mod inner;

#[cfg_attr(feature = "stacks", path = "instrument/stacks.rs")]
#[cfg_attr(all(feature = "retained", not(feature = "stacks")), path = "instrument/retained.rs")]
#[cfg_attr(all(feature = "count", not(any(feature = "stacks", feature = "retained"))), path = "instrument/count.rs")]
#[cfg_attr(
    all(feature = "cpu", not(any(feature = "stacks", feature = "retained", feature = "count"))),
    path = "instrument/cpu.rs"
)]
#[cfg_attr(
    all(feature = "sampled", not(any(feature = "stacks", feature = "retained", feature = "count", feature = "cpu"))),
    path = "instrument/sampled.rs"
)]
#[cfg_attr(
    not(any(feature = "count", feature = "stacks", feature = "retained", feature = "cpu", feature = "sampled")),
    path = "instrument/time.rs"
)]
mod chosen;

pub use chosen::{GLOBAL, Global, INSTRUMENT, Window, start};

/// What a window needs to know beforehand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Messages of the measured part, to space heap samples.
    pub messages: u64,
    /// Where the `stacks` instrument writes dhat's JSON, and `cpu` its folded stacks.
    pub stacks_file: Option<std::path::PathBuf>,
}
