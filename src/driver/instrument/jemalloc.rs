//! jemalloc.

/// The allocator itself.
pub(super) type Inner = tikv_jemallocator::Jemalloc;
/// The one instance.
pub(super) const INNER: Inner = tikv_jemallocator::Jemalloc;
