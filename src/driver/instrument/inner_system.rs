//! The system's allocator.

/// The allocator itself.
pub(super) type Inner = std::alloc::System;
/// The one instance.
pub(super) const INNER: Inner = std::alloc::System;
/// Whether it is the system's, which is the one that dhat wraps.
pub(super) const IS_SYSTEM: bool = true;
/// Its name.
pub(super) const NAME: &str = "system";
