//! Seams that drop into any tonic service: where each stage begins and ends, in public API only.
//!
//! Feature `tonic`; what needs tonic's own transport says so, and is in the feature `transport`.
//!
//! | seam | what it sees | stage |
//! |---|---|---|
//! | [`ServerLayer`] | the service's future; request and response bodies; the connection's task | dispatch, handler, transport, marshal |
//! | [`ClientLayer`] | the channel's future; request and response bodies | transport, marshal |
//! | [`StagedCodec`] | `encode`, `decode`, the buffers tonic sizes around them, and that a handler has answered | marshal, message-construction, receive-buffer, dispatch |
//! | [`StagedIo`] | the connection's reads and writes | receive-buffer, transport |
//! | [`TransportExecutor`] | a client's connection tasks | transport |
//! | `incoming` (feature `transport`) | a server's sockets, accepted as tonic accepts them | receive-buffer, transport |
//! | `StagedListener` (feature `axum`) | the sockets of `axum::serve` | receive-buffer, transport |
//! | `connect` (feature `transport`) | a client's layer and executor at once | transport, marshal |
//! | [`StagedStream`], [`spawn`], [`spawn_blocking`] | message streams, tasks and blocking work of the service's own | handler |
//!
//! What a row `handler` holds depends on them. A call begins as `dispatch`: routing, boxes, the layers and interceptors inside
//! [`ServerLayer`]. With [`StagedCodec`] it is the handler's from where tonic has made the request to where it asks for the
//! answer's encoder; one box of generated code and the answer's header map are still in `handler`. Without that codec it is
//! the handler's from where tonic's router first looks at the body to the end: what tonic boxes after that, the message, its
//! buffers and the answer are in `handler` too. With the parts in `alloc_ladder::steps` in place of tonic's `Grpc`, `handler`
//! is the service's own code and no more. A recording or a dhat profile tells them apart by stack.
//!
//! Each can be left out: a column then merges into its neighbour, and what nothing covers is shown as `other`.
//! What a seam itself allocates (one box per call around a body) is charged to `instrument`.
//!
//! # Channels of every kind
//! [`ClientLayer`] goes around any channel; its connections are staged where each `Endpoint` has the executor.
//! ```no_run
//! # use alloc_ladder::{Stage, stage::FutureExt};
//! # use alloc_ladder::tonic::{ClientLayer, StagedIo, TransportExecutor};
//! # use tonic::transport::{Channel, Endpoint};
//! # #[cfg(all(feature = "transport", feature = "steps"))]
//! # async fn connect(somebody_elses: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = |address| Endpoint::from_static(address).executor(TransportExecutor);
//! // Several servers, or a connection that is made by the first call: in a stage, for they start a task here.
//! let (balanced, lazy) = {
//!     let _guard = Stage::Transport.enter();
//!     let addresses = ["http://[::1]:50051", "http://[::1]:50052"];
//!     (Channel::balance_list(addresses.into_iter().map(endpoint)), endpoint(addresses[0]).connect_lazy())
//! };
//! // A connector of one's own: a socket in a `StagedIo` tells received bytes from the rest.
//! let connector = tower::service_fn(|_| async {
//!     let socket = tokio::net::UnixStream::connect("/run/greeter.sock").await?;
//!     Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(StagedIo::new(socket)))
//! });
//! let local = endpoint("http://local").connect_with_connector(connector).staged(Stage::Transport).await?;
//! let layered = [balanced, lazy, local].map(|channel| tower::ServiceBuilder::new().layer(ClientLayer).service(channel));
//! // A client that takes one type of channel alone: `ClientLayer.boxed()`. One that takes none at all: a stage around it.
//! somebody_elses.staged(Stage::Transport).await;
//! # let _ = layered; Ok(()) }
//! ```
//!
//! # What the layers count
//! Calls that ended and with which status, messages and payload bytes of either direction, by method and side, and how
//! calls differ in blocks, bytes and time: [`Method::call_counts`](crate::Method::call_counts),
//! [`Method::per_call`](crate::Method::per_call), [`CallSnapshot`](crate::method::CallSnapshot). Nothing is allocated for it
//! and no lock is taken; `cargo bench --bench seams --features tonic` measures what the layer costs with it. A body whose
//! frames lie in more pieces than it shows is not looked at: its messages are not counted.
//!
//! # Implementation
//! Tasks of connections are spawned by tonic and hyper and take no guard. A seam that runs inside one notes its
//! tokio task id in a fixed table, and the allocator asks that table for code no guard covers: about the price of
//! reading two thread-local words, paid by unscoped allocations alone. A server that accepts in `main`, which is no task, works
//! for transport between `incoming`'s one connection and the next.

mod body;
mod boxed;
mod call;
mod codec;
#[cfg(feature = "transport")]
mod connect;
mod frames;
#[cfg(feature = "transport")]
mod incoming;
mod io;
mod layer;
#[cfg(feature = "axum")]
mod listener;
pub(crate) mod payload;
mod stream;
mod task;

pub use body::StagedBody;
pub use boxed::{BoxedClientFuture, BoxedClientLayer, BoxedClientService};
#[cfg(feature = "steps")]
pub(crate) use call::handler_will_be_told;
pub use codec::{StagedCodec, StagedDecoder, StagedEncoder};
#[cfg(feature = "transport")]
pub use connect::connect;
#[cfg(feature = "transport")]
pub use incoming::{Incoming, incoming};
pub use io::StagedIo;
pub use layer::{ClientLayer, ClientService, ServerLayer, ServerService};
#[cfg(feature = "axum")]
pub use listener::StagedListener;
pub use stream::StagedStream;
#[cfg(feature = "subject")]
pub(crate) use task::charge_connection;
pub use task::{TransportExecutor, spawn, spawn_blocking};
