//! See which part of a [tonic] service allocates: per RPC method and stage, in tests, on the bench and in production.
//!
//! Every allocated block and byte is counted under the **stage** of the call it was made in ([`Stage`]: marshal, receive
//! buffer, message construction, transport, dispatch, handler), its **side** ([`Side`]) and its **RPC method** ([`Method`]).
//!
//! # Quick start
//! ```toml
//! [dependencies]
//! alloc-ladder = { version = "0.1", features = ["transport", "live"] }
//! ```
//!
//! The allocator counts, the layer says which call it counts for, and the endpoint answers:
//!
//! ```
//! # #[cfg(all(feature = "transport", feature = "live"))]
//! # mod service {
//! use alloc_ladder::CountingAlloc;
//!
//! #[global_allocator]
//! static ALLOC: CountingAlloc = CountingAlloc::new();
//!
//! # pub async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let live = alloc_ladder::serve("127.0.0.1:0")?; // curl localhost:PORT/debug/alloc
//! let server = tonic::transport::Server::builder().layer(alloc_ladder::tonic::ServerLayer::new());
//! let incoming = alloc_ladder::tonic::incoming("127.0.0.1:0".parse()?)?; // for `serve_with_incoming`
//! # live.stop();
//! # let _ = (server, incoming);
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! In a test, without a feature:
//!
//! ```
//! use alloc_ladder::{CountingAlloc, assert::measure, assert_allocs};
//!
//! #[global_allocator]
//! static ALLOC: CountingAlloc = CountingAlloc::new();
//!
//! # fn main() {
//! let bytes = assert_allocs!(measure(|| vec![0u8; 64]), blocks == 1, bytes <= 64);
//! # drop(bytes);
//! # }
//! ```
//!
//! # Modules and features
//! No feature is on by default.
//!
//! | to | use | feature |
//! |---|---|---|
//! | count | [`CountingAlloc`], [`Snapshot`] | |
//! | fail a test that allocates too much | [`assert`](mod@assert), [`assert_allocs!`] | `sampled` for call sites |
//! | tell stages and methods apart in code of your own | [`stage`], [`method`] | |
//! | tell them apart in a tonic service | `tonic`: layers, codec, socket, tasks | `tonic`; `transport` for tonic's own transport |
//! | take call stacks in production | `sampled` | `sampled` |
//! | show those to a tracer outside of the process | `sampled` | `usdt` |
//! | read figures over HTTP or gRPC | `live` | `live`, which includes `tonic` and `sampled` |
//! | export them as OpenTelemetry metrics | `otel` | `otel` |
//! | let `cargo alloc-ladder attach` read a process | `driver` | `driver` |
//! | allocate less | `steps` | `steps`, and `gzip`, `deflate`, `zstd` |
//! | allocate less, in a build script | `build` | `build` |
//!
//! # In continuous integration
//! A test fails with [`assert_allocs!`]. What a whole program allocates is held to the budgets that
//! `cargo alloc-ladder check --bless` once wrote to `alloc-ladder-budgets.toml`. The README has a workflow for GitHub Actions:
//! it records a program that makes the same calls each time and ends, adds a table to the job's summary, and marks the line of
//! the call site where a budget is passed.
//!
//! `--format junit` writes a report that Jenkins, GitLab and others show, and `cargo alloc-ladder compare --base main` what
//! changed since the branch was left, where both commits have a run.
//!
//! # What it does not see
//! - What the C library allocates by itself, memory maps, and thread stacks.
//! - Child processes, and code that uses another allocator.
//! - Work on threads and tasks that were started without a scope: it is counted, under [`Stage::Other`]. `tonic::spawn`
//!   and `tonic::spawn_blocking` carry the scope along.
//! - More than 61 methods, or more than 45 that one side learned by itself: the rest share one row.
//! - Which side of a process a release belongs to: a release is booked where it happens.
//!
//! Who can reach what, and what bounds it, stands in [`trust`].
//!
//! Works on Linux with tonic 0.14. What counting costs is measured by `cargo bench --bench overhead`.
//!
//! [tonic]: https://docs.rs/tonic

pub mod alloc;
pub mod assert;
pub mod method;
pub mod stage;

#[cfg(feature = "build")]
pub mod build;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(any(feature = "http1", feature = "subject"))]
#[doc(hidden)]
pub mod listen;
#[cfg(feature = "live")]
pub mod live;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "record")]
#[doc(hidden)]
pub mod record;
#[cfg(feature = "recorder")]
#[doc(hidden)]
pub mod recorder;
#[cfg(feature = "sampled")]
pub mod sampled;
#[cfg(feature = "steps")]
pub mod steps;
#[cfg(feature = "study")]
#[doc(hidden)]
pub mod subject;
#[cfg(feature = "tonic")]
pub mod tonic;
pub mod trust;
#[doc(hidden)]
pub mod wire;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(feature = "live")]
pub use live::serve;

#[cfg(feature = "recorder")]
pub use alloc::Alloc;
pub use alloc::{CountingAlloc, Snapshot, Tally};
pub use method::{Method, Side};
pub use stage::Stage;
