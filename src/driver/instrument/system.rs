//! The system's allocator.

/// The allocator itself.
pub(super) type Inner = std::alloc::System;
/// The one instance.
pub(super) const INNER: Inner = std::alloc::System;
