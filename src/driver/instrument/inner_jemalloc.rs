//! jemalloc.

/// The allocator itself.
pub(super) type Inner = tikv_jemallocator::Jemalloc;
/// The one instance.
pub(super) const INNER: Inner = tikv_jemallocator::Jemalloc;
/// Whether it is the system's, which is the one that dhat wraps.
pub(super) const IS_SYSTEM: bool = false;
/// Its name.
pub(super) const NAME: &str = "jemalloc";
