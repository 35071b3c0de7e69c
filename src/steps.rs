//! The ladders' mechanisms as parts for any service. None of them knows a message of this crate's own.
//!
//! Feature `steps`.
//!
//! | part | what it does | what it needs |
//! |---|---|---|
//! | [`AlignedIo`] | ends every read where an HTTP/2 frame ends, so that h2 reclaims its read buffer instead of replacing it | the socket, before TLS |

mod aligned;

pub use aligned::AlignedIo;
