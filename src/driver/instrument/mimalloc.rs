//! mimalloc.

/// The allocator itself.
pub(super) type Inner = mimalloc::MiMalloc;
/// The one instance.
pub(super) const INNER: Inner = mimalloc::MiMalloc;
