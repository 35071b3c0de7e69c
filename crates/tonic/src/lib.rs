//! tonic 0.14, but for `server::Grpc` and `client::Grpc`, which use the bodies of
//! [`alloc_ladder::steps`](https://docs.rs/alloc-ladder). One line, in place of tonic's own:
//!
//! ```toml
//! tonic = { package = "alloc-ladder-tonic", version = "0.1" }
//! ```
//!
//! Build scripts, generated code, handlers and callers stay as they are. What it removes, what it costs and when not to use it
//! stands in the table of `alloc_ladder::steps`.

pub use alloc_ladder::steps::tonic::*;
