//! mimalloc.

/// The allocator itself.
pub(super) type Inner = mimalloc::MiMalloc;
/// The one instance.
pub(super) const INNER: Inner = mimalloc::MiMalloc;
/// Its name in records and flags.
pub const NAME: &str = "mimalloc";
