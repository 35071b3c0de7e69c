//! mimalloc.

/// The allocator itself.
pub(super) type Inner = mimalloc::MiMalloc;
/// The one instance.
pub(super) const INNER: Inner = mimalloc::MiMalloc;
/// Whether it is the system's, which is the one that dhat wraps.
pub(super) const IS_SYSTEM: bool = false;
/// Its name.
pub(super) const NAME: &str = "mimalloc";
