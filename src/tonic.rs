//! Seams that drop into any tonic service: where each stage begins and ends, in public API only.
//!
//! Feature `tonic`; what needs tonic's own transport says so, and is in the feature `transport`.
//!
//! | seam | what it sees | stage |
//! |---|---|---|
//! | [`ServerLayer`] | the service's future; request and response bodies; the connection's task | handler, transport, marshal |
//! | [`ClientLayer`] | the channel's future; request and response bodies | transport, marshal |
//! | [`StagedCodec`] | `encode`, `decode`, and the buffers tonic sizes around them | marshal, message-construction, receive-buffer |
//! | [`StagedIo`] | the connection's reads and writes | receive-buffer, transport |
//! | [`TransportExecutor`] | a client's connection tasks | transport |
//! | `incoming` (feature `transport`) | a server's sockets, accepted as tonic accepts them | receive-buffer, transport |
//! | `connect` (feature `transport`) | a client's layer and executor at once | transport, marshal |
//! | [`StagedStream`], [`spawn`], [`spawn_blocking`] | message streams, tasks and blocking work of the service's own | handler |
//!
//! Each can be left out: a column then merges into its neighbour, and what nothing covers is shown as `other`.
//! What a seam itself allocates (one box per call around a body) is charged to `instrument`.
//!
//! # Implementation
//! Tasks of connections are spawned by tonic and hyper and take no guard. A seam that runs inside one notes its
//! tokio task id in a fixed table, and the allocator asks that table for code no guard covers: about the price of
//! reading two thread-local words, paid by unscoped allocations alone.

mod body;
mod call;
mod codec;
#[cfg(feature = "transport")]
mod connect;
mod frames;
#[cfg(feature = "transport")]
mod incoming;
mod io;
mod layer;
mod stream;
mod task;

pub use body::StagedBody;
pub use codec::{StagedCodec, StagedDecoder, StagedEncoder};
#[cfg(feature = "transport")]
pub use connect::connect;
#[cfg(feature = "transport")]
pub use incoming::{Incoming, incoming};
pub use io::StagedIo;
pub use layer::{ClientLayer, ClientService, ServerLayer, ServerService};
pub use stream::StagedStream;
#[cfg(feature = "subject")]
pub(crate) use task::charge_connection;
pub use task::{TransportExecutor, spawn, spawn_blocking};
