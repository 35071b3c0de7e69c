//! Make it allocate less: the ladders' mechanisms as parts for any tonic service. None of them knows a message of this
//! crate's own.
//!
//! Feature `steps`; `gzip`, `deflate` and `zstd` for what messages are compressed with.
//!
//! # Three ways in
//! Handlers, traits, callers and protocols stay as they are; either side of a call may take a step without the other.
//!
//! 1. **One line in Cargo.toml.** `tonic = { package = "alloc-ladder-tonic", version = "0.1" }` in place of tonic itself:
//!    build script, generated code and sources do not know. (`examples/renamed`)
//! 2. **One line in build.rs**, where tonic is to stay tonic:
//!    `.service_generator(Box::new(alloc_ladder::build::generator(tonic_prost_build::configure())))`, feature `build`.
//!    (`examples/generated`)
//! 3. **`cargo alloc-ladder patch CRATE`**, for generated code that is inside somebody else's crate. It copies the crate, in the
//!    version of Cargo.lock, to `patches/CRATE`, writes the line of the first way into the copy's Cargo.toml, and
//!    `CRATE = { path = "patches/CRATE" }` below `[patch.crates-io]` into the workspace's. The crate's sources stay as they are.
//!    Where cargo warns that the patch was not used, Cargo.lock has another version than the copy: remove the copy, run
//!    `cargo update -p CRATE`, and copy anew. tonic itself cannot be patched so: what would stand in its place depends on it,
//!    and cargo takes no two compatible versions of a crate from one registry. (`examples/patched`)
//!
//! # The steps
//! The study's ladders climb on these parts: `cargo xtask list` shows every step with its line, `cargo xtask profile put`
//! what each removes and costs, one after the other, and `profile unary --compress gzip` the same of compressed calls.
//!
//! `cargo run --release -p generated` measures them in a service that anybody may have written: blocks and bytes a message on
//! either side, and the CPU time of both sides together against tonic's. `cargo alloc-ladder advise --prove` tries the first
//! and the allocators on a service of your own, under its own load.
//!
//! | step | the line | what it removes | what it costs | when not to |
//! |---|---|---|---|---|
//! | bodies | one of the three above | the sender's blocks; four codec buffers of 8 KiB a call | recycled memory a thread ([below](#memory)) | codecs that are not prost's: those do not compile |
//! | bodies in somebody else's crate | `cargo alloc-ladder patch CRATE` | what the bodies remove, where that crate holds the generated code | a copy of the crate in `patches/`, made anew for each version of it | crates whose generated code is your own: take the line itself |
//! | released read buffer | the same line | what a stream keeps of a large message while it waits for short ones: tonic's buffers, once grown, stay with the stream, on both sides (`examples/generated/tests/retained.rs` holds how much) | messages that arrive in several frames are copied once | nowhere: it comes with the bodies |
//! | pooled compression | `features = ["gzip"]`, `"deflate"` or `"zstd"` in that line | a compressor and a decompressor a message | their state is kept, a thread ([below](#memory)) | programs with many threads that compress seldom |
//! | zlib-rs | `features = ["gzip", "zlib-rs"]` in that line | CPU time of gzip and deflate, of short messages above all | whatever else the program compresses with flate2 gets it too | compressed bytes that have to stay the same |
//! | `Bytes` | `.bytes(["."])` in build.rs | the copy of each payload from 40 KiB on; the receiver's block for it | handlers see `Bytes`; who keeps one keeps the memory it was received in | payloads of some bytes that are kept for long |
//! | HTTP/2 settings | [`Http2::for_messages(encoded_len)`](Http2::for_messages), `.server(Server::builder())` or `.endpoint(endpoint)` | messages cut into frames of 16 KiB, and by windows | at least 4 MiB a stream may wait in memory for a handler that does not read | peers that are not trusted with that, many streams that are seldom read: see [`Http2::for_streams_of_messages`] |
//! | aligned reads | [`aligned(incoming, http2)`](aligned()), [`connect(endpoint, http2)`](connect()) | h2's new read buffer for each message: all of the receiver's blocks | 64 KiB a connection | TLS in this process; on a multi-thread runtime the receiver may keep some blocks a message ([below](#what-remains)) |
//! | a runtime a core | [`per_core(address, 0, serve)`](per_core()) | work that moves between cores, and with it what aligned reads cannot remove on a multi-thread runtime | connections are spread by address, not by load | few connections, handlers that block |
//! | lean channel | [`LeanChannel::connect`] | tonic's channel: buffer, reconnection, balancing, boxes of each call | all those: see [`channel`] | connections that break and have to come again |
//! | lean server | [`lean::serve`] | hyper and a task for each call; two DATA frames a message become one | TLS, HTTP/1, keepalive: see [`lean`] | servers that face the internet |
//! | pooled messages | `.pooled(".package.Message")` at [`build::generator`](crate::build) | the strings, vectors and nested messages of what is received | signatures say [`Pooled<Message>`](Pooled); kept memory a thread | messages of `Bytes`; messages that are kept |
//! | encode once | [`Encoded::new(&message)`](Encoded), `.encoded(".package.Message")` at [`build::generator`](crate::build) | where a message goes to many streams: the clone and the encoding for each of them but the first | signatures of what methods answer with say [`Encoded<Message>`](Encoded); clients of the same build script call [`message()`](Encoded::message) | messages that differ from stream to stream; a message whose payload is one large `Bytes`, which costs next to nothing to encode |
//! | allocator | `#[global_allocator]` of mimalloc or jemalloc | no block: it makes each cheaper | a dependency in C, and memory that it keeps | where other steps have left no blocks |
//!
//! What they did in the study's reference runs, each beside the step before it. The last column is a ratio and its interval:
//! one with `~` may be noise, one in bold is not.
//!
//! <!-- results:begin -->
//! <!-- Generated by `cargo xtask readme`; edits here are lost. -->
//! | step | in the study | server | client | CPU of both |
//! |---|---|---:|---:|---:|
//! | bodies | put, `rope` | 3.00 blocks a message | 2.91 blocks a message | **×0.971 [0.963, 0.979]** |
//! | bodies | put, `pooled-encode` | 0 blocks a message | 2.91 → 0 blocks a message | **×0.622 [0.618, 0.625]** |
//! | bodies | put, `zero-copy` | 0 blocks a message | 0 → 0.0010 blocks a message | **×1.191 [1.182, 1.197]** |
//! | bodies | get, `pooled-encode` | 2.91 → 0 blocks a message | 12.8 → 12.3 blocks a message | **×0.870 [0.862, 0.878]** |
//! | bodies | get, `zero-copy` | 0 → 0.0010 blocks a message | 12.3 → 12.9 blocks a message | **×0.979 [0.967, 0.989]** |
//! | bodies | get, `rope` | 0.0010 blocks a message | 1.51 blocks a message | **×0.372 [0.365, 0.379]** |
//! | bodies | unary, `small-codec-buffers` | 40.0 blocks a call | 43.0 blocks a call | ×1.001 [0.986, 1.018] |
//! | bodies | unary, `pooled-compression` | 36.0 → 29.0 blocks a call | 32.0 → 23.0 blocks a call | ×0.987 [0.969, 1.005] |
//! | released read buffer | put, `release-read-buffer` | 1.02 MiB → 65.6 KiB held a stream | 20.2 KiB held a stream | – |
//! | `Bytes` | put, `bytes-field` | 12.7 blocks a message | 3.92 → 2.91 blocks a message | **×0.871 [0.868, 0.876]** |
//! | `Bytes` | get, `bytes-field` | 3.91 → 2.91 blocks a message | 13.7 → 12.8 blocks a message | **×0.971 [0.964, 0.977]** |
//! | HTTP/2 settings | put, `tuned-h2` | 12.7 → 3.00 blocks a message | 2.91 blocks a message | **×0.591 [0.588, 0.594]** |
//! | HTTP/2 settings | get, `tuned-h2` | 0.0010 blocks a message | 12.3 → 1.52 blocks a message | **×0.814 [0.794, 0.834]** |
//! | aligned reads | put, `aligned-reads` | 3.00 → 0 blocks a message | 2.91 blocks a message | ×1.011 [1.002, 1.017] |
//! | aligned reads | get, `aligned-reads` | 0.0010 blocks a message | 1.51 → 0 blocks a message | **×0.981 [0.969, 0.992]** |
//! | a runtime a core | put, `core-runtime` | 0 blocks a message | 2.91 blocks a message | ×1.003 [0.998, 1.007] |
//! | a runtime a core | get, `core-runtime` | 0.0010 blocks a message | 1.52 → 1.51 blocks a message | **×1.170 [1.152, 1.194]** |
//! | lean channel | unary, `lean-client` | 29.0 blocks a call | 23.0 → 11.0 blocks a call | **×0.845 [0.833, 0.859]** |
//! | lean server | unary, `lean-server` | 29.0 → 14.0 blocks a call | 11.0 blocks a call | **×0.852 [0.833, 0.876]** |
//! | lean server | get, `one-frame` | 0.0010 blocks a message | 12.9 → 12.3 blocks a message | ×1.013 [0.999, 1.027] |
//! | pooled messages | put, `pooled-message` | 13.7 → 12.7 blocks a message | 3.92 blocks a message | ×1.002 [0.997, 1.006] |
//! | encode once | get, `encode-once` | 6 150 → 3.00 blocks a message | 6 173 → 6 171 blocks a message | – |
//! <!-- results:end -->
//!
//! Some steps stand apart from the ladders. `cargo xtask profile put --idle-streams 256 --large-first 1MiB` measures the
//! released read buffer: what a stream holds after one large message, while it waits for short ones.
//! `cargo xtask profile put --allocators` measures the baseline on mimalloc and jemalloc too, in builds of their own, and
//! `--allocator mimalloc` climbs the whole ladder on one. In an `alloc-ladder.toml` of your own it is a step (`[[step]]`,
//! `allocator = "mimalloc"`).
//!
//! Several at once, for a server of 64 KiB chunks:
//!
//! ```no_run
//! # async fn serve(address: std::net::SocketAddr, routes: tonic::service::Routes) -> Result<(), Box<dyn std::error::Error>> {
//! use alloc_ladder::steps::{Http2, aligned};
//! use tonic::transport::{Server, server::TcpIncoming};
//!
//! let http2 = Http2::for_messages(64 * 1024 + 4);
//! let incoming = TcpIncoming::bind(address)?.with_nodelay(Some(true));
//! http2.server(Server::builder()).add_routes(routes).serve_with_incoming(aligned(incoming, http2)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is as in tonic
//! Messages, codes, metadata, limits (`max_decoding_message_size`, `max_encoding_message_size`), negotiation of compression,
//! deadlines, cancellation, interceptors, layers: a test runs random streams, whole and broken, beside tonic's. What differs:
//! a body that ends inside a message is `INTERNAL`, always; a peer's details that are not base64 are no panic; what was
//! batched before a failing message is still sent; zstd windows above 8 MiB and the receive limit are refused; a request
//! whose `cancellation_handle` was asked for takes tonic's own way.
//!
//! # Memory
//! A thread keeps at most: [`ring::BYTES_MAX`] of buffers in [`ring::BUFFERS_MAX`] blocks; a compressor and a decompressor of
//! each encoding that was used (gzip: 0.4 MB both; zstd: [`compress::CONTEXT_BYTES_MAX`] each) and
//! [`compress::OUTPUT_BYTES_MAX`] of output; of each pooled type [`pooled::MESSAGES_MAX`] messages whose encoded length was at
//! most [`pooled::MESSAGE_BYTES_MAX`] together. No peer makes it more: a message's claimed length takes 256 KiB at most before
//! its bytes arrive.
//!
//! A stream holds no buffer while it waits: what it has received of a message, up to the receive limit, and what it has to
//! send and the peer does not take, up to a batch of 129 KiB or one message. Short messages that wait share blocks of 4 KiB.
//! So 64 streams that wait for slow readers hold 64 batches, and 10,000 idle ones nothing but themselves. HTTP/2's windows come
//! on top: [`Http2`] says how much a connection's streams may send ahead.
//!
//! # Stages
//! The parts enter the stages themselves, on either side, so that every byte keeps its row: encoding is
//! [`Marshal`](crate::Stage::Marshal), the stream that makes the messages [`Handler`](crate::Stage::Handler), frames
//! [`ReceiveBuffer`](crate::Stage::ReceiveBuffer), decoding [`MessageConstruction`](crate::Stage::MessageConstruction), headers
//! [`Dispatch`](crate::Stage::Dispatch) and the lean pair [`Transport`](crate::Stage::Transport). Around a server's handler
//! they know both ends: its row `handler` holds nothing but the service's own code.
//!
//! # What remains
//! gzip of a short message still costs the resetting of flate2's default compressor, miniz_oxide: it writes 0.3 MB of zeroes
//! where a new one also costs pages of memory. The feature `zlib-rs` takes another.
//!
//! On a multi-thread runtime, some blocks a message where payloads are received, as the schedule has it: h2 makes a new read buffer
//! (`FramedRead`, with what `BytesMut` and [`AlignedIo`] do to grow it) when the handler's worker still holds the last frame.
//! `examples/renamed/tests/allocates_nothing.rs` prints how many, and holds a bound. Waiting longer for the handler, up to 32
//! yields a frame, and growing the buffer again sooner did not make them fewer on a machine that was busy.
//! A read buffer that can be taken back (h2#904) would remove them; until then a runtime a core does. A call costs what hyper,
//! h2, tonic's boxed body and generated code's boxed futures make.

mod aligned;
pub mod channel;
pub mod client;
pub mod compress;
pub(crate) mod decode;
mod encode;
mod encoded;
pub(crate) mod frames;
mod http2;
pub mod lean;
pub(crate) mod negotiate;
mod parts;
mod per_core;
pub mod pooled;
pub(crate) mod pump;
pub mod ring;
mod rope;
pub mod server;
mod sockets;
mod status;
pub mod tonic;

pub use aligned::AlignedIo;
pub use channel::LeanChannel;
pub use encoded::Encoded;
pub use http2::Http2;
pub use parts::PartsBuf;
pub use per_core::{Incoming, listeners, per_core, per_core_on};
pub use pooled::Pooled;
pub use pump::H2Body;
pub use sockets::{aligned, connect};

/// What a body or a service fails with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
