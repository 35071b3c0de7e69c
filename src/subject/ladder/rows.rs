//! The steps, each one row, and the order in which each scenario climbs them.

use super::{
    Allocator, Bodies, ClientStack, Codec, CodecBuffers, CostFigure, Deframe, Encode, FanOut, Glue, Http2,
    MessageSource, Occasion, Payload, Reads, Runtime, ServerStack, Socket, Step,
};
use crate::{Side, Stage};

/// The line of Cargo.toml that gives a service the bodies of this crate, which are three steps here: they receive as rope,
/// send from recycled memory, and leave large `Bytes` uncopied.
const BODIES: &str = "tonic = { package = \"alloc-ladder-tonic\", version = \"0.1\" }";

const BASELINE: Step = Step {
    name: "baseline",
    hypothesis: "tonic and prost as they come, nothing changed.",
    cost: "Nothing: this is what every other step is compared with.",
    cost_figure: None,
    switch: "Server::builder().add_service(service).serve(address).await?",
    file: "src/subject/service.rs",
    reduces: None,
    apply: |_| {},
};

const POOLED_MESSAGE: Step = Step {
    name: "pooled-message",
    hypothesis: "Decoding into a recycled message keeps the capacity of its fields, so message construction stops \
                 allocating.",
    cost: "A thread keeps up to 16 messages of the size they have grown to; signatures say `Pooled<Message>`.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: "alloc_ladder::build::generator(tonic_prost_build::configure()).pooled(\".package.Message\")",
    file: "src/steps/pooled.rs",
    reduces: Some((Side::Server, Stage::MessageConstruction)),
    apply: |tuning| tuning.message = MessageSource::Pooled,
};

const BYTES_FIELD: Step = Step {
    name: "bytes-field",
    hypothesis: "`bytes` fields become `bytes::Bytes`, a slice of the buffer they arrived in or are sent from, instead \
                 of a new `Vec<u8>`.",
    cost: "A payload pins the whole buffer it is a slice of: keeping a small message keeps a large block.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: "prost_build::Config::new().bytes([\".\"])",
    file: "src/subject/pb/bytes.rs",
    reduces: None,
    apply: |tuning| tuning.payload = Payload::Bytes,
};

const TUNED_H2: Step = Step {
    name: "tuned-h2",
    hypothesis: "A frame size above the message size and windows of several MiB leave one DATA frame a message and no \
                 waiting for window updates.",
    cost: "A peer may have a window's worth of bytes in flight on each connection: memory under a slow reader grows by \
           that much.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: "Http2::for_messages(encoded_len).server(Server::builder())",
    file: "src/steps/http2.rs",
    reduces: None,
    apply: |tuning| tuning.http2 = Http2::Tuned,
};

const ADAPTIVE_WINDOW: Step = Step {
    name: "adaptive-window",
    hypothesis: "hyper measures the round trip and what arrives in one, and widens its windows to that, so that a sender \
                 far away does not wait for them.",
    cost: "A ping for each measurement, and windows that a peer of a slow reader may fill.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: "Server::builder().http2_adaptive_window(Some(true))",
    file: "src/subject/http2.rs",
    reduces: None,
    apply: |tuning| tuning.http2 = Http2::Adaptive,
};

const ENCODE_ONCE: Step = Step {
    name: "encode-once",
    hypothesis: "A message for many streams that is encoded once, and whose bytes each stream is given, is neither cloned nor \
                 encoded for each of them.",
    cost: "The bytes stay until the slowest stream has sent them; signatures of what methods answer with say \
           `Encoded<Message>`.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: "alloc_ladder::build::generator(tonic_prost_build::configure()).encoded(\".package.Message\")",
    file: "src/steps/encoded.rs",
    reduces: Some((Side::Server, Stage::Handler)),
    apply: |tuning| tuning.fan_out = FanOut::Once,
};

const MIMALLOC: Step = Step {
    name: "mimalloc",
    hypothesis: "An allocator that has a heap for each thread takes less time for a block; the blocks are as many.",
    cost: "A dependency in C, and memory that it keeps. What allocates nothing gains nothing.",
    cost_figure: Some(CostFigure::Resident),
    switch: "#[global_allocator] static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;",
    file: "src/driver/instrument/inner_mimalloc.rs",
    reduces: None,
    apply: |tuning| tuning.allocator = Allocator::Mimalloc,
};

const JEMALLOC: Step = Step {
    name: "jemalloc",
    switch: "#[global_allocator] static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;",
    file: "src/driver/instrument/inner_jemalloc.rs",
    apply: |tuning| tuning.allocator = Allocator::Jemalloc,
    ..MIMALLOC
};

const ROPE: Step = Step {
    name: "rope",
    hypothesis: "A body that decodes from the `Bytes` frames as they came copies nothing into one contiguous buffer.",
    cost: "A message that spans frames is copied to recycled memory: a thread keeps up to 16 MiB of it.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: BODIES,
    file: "src/steps/rope.rs",
    reduces: None,
    apply: |tuning| tuning.deframe = Deframe::Rope,
};

/// What `rope` does for streams that wait. It is one body: what it gathers it gives back with the last byte of a message.
const RELEASE_READ_BUFFER: Step = Step {
    name: "release-read-buffer",
    hypothesis: "A body that gives its read buffer back with each message holds nothing of a large one while its stream \
                 waits for short ones; tonic's, once grown, stays with the stream.",
    cost: "A thread keeps what streams give back, up to 16 MiB.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: BODIES,
    file: "src/steps/rope.rs",
    reduces: Some((Side::Server, Stage::ReceiveBuffer)),
    apply: |tuning| tuning.deframe = Deframe::Rope,
};

const ALIGNED_READS: Step = Step {
    name: "aligned-reads",
    hypothesis: "An `AsyncRead` wrapper hands h2 one whole frame at a time, so that its read buffer is unshared \
                 whenever it needs room and is reclaimed instead of replaced.",
    cost: "The connection yields once a frame: its task is polled once more a message. It pays only where connection \
           and handler share a thread.",
    cost_figure: Some(CostFigure::ContextSwitches),
    switch: ".serve_with_incoming(aligned(incoming, http2)).await?",
    file: "src/steps/aligned.rs",
    reduces: None,
    apply: |tuning| tuning.reads = Reads::Aligned,
};

const CORE_RUNTIME: Step = Step {
    name: "core-runtime",
    hypothesis: "One current-thread runtime per core, each with its own listener on the one port, keeps connection and \
                 handler on one thread while using every core.",
    cost: "Connections are spread over cores by the kernel, not by load; a busy handler holds up its core's other \
           connections.",
    cost_figure: None,
    switch: "per_core(address, 0, serve)?",
    file: "src/steps/per_core.rs",
    reduces: None,
    apply: |tuning| tuning.runtime = Runtime::PerCore,
};

const SIZED_ENCODE: Step = Step {
    name: "sized-encode",
    hypothesis: "A codec buffer that begins small, and one reservation of a message's exact length, replace an 8 KiB \
                 buffer that each message throws away.",
    cost: "The length is computed twice, once here and once inside prost; small messages are batched in steps.",
    cost_figure: Some(CostFigure::Cpu),
    switch: "dst.reserve(item.encoded_len());",
    file: "src/subject/codec.rs",
    reduces: None,
    apply: |tuning| tuning.encode = Encode::Sized,
};

const POOLED_ENCODE: Step = Step {
    name: "pooled-encode",
    hypothesis: "A body that marshals into recycled buffers, which come back when h2 drops them, allocates nothing per \
                 message.",
    cost: "A thread keeps as many buffers as h2 held unsent at most, up to 16 MiB.",
    cost_figure: Some(CostFigure::PeakHeap),
    switch: BODIES,
    file: "src/steps/encode.rs",
    reduces: None,
    apply: |tuning| tuning.encode = Encode::Pooled,
};

const ZERO_COPY: Step = Step {
    name: "zero-copy",
    hypothesis: "Only the prefix and the field header are written, into a small recycled block; a payload of 40 KiB and \
                 more is sent as the `Bytes` it is, a shorter one is copied, which costs less than a write.",
    cost: "Two DATA frames a message instead of one, and the payload must stay untouched until it is on the wire.",
    cost_figure: Some(CostFigure::Cpu),
    switch: BODIES,
    file: "src/steps/encode.rs",
    reduces: None,
    apply: |tuning| tuning.encode = Encode::ZeroCopy,
};

const ONE_FRAME: Step = Step {
    name: "one-frame",
    hypothesis: "Served on h2 itself, prefix and payload leave as one DATA frame, of two messages where they are short.",
    cost: "tonic's `Server` sends each part in a frame of its own, so it is left out, and TLS, HTTP/1 and keepalive with it.",
    cost_figure: None,
    switch: "lean::serve(http2, incoming, service).await;",
    file: "src/steps/lean.rs",
    reduces: None,
    apply: |tuning| tuning.server = ServerStack::Lean,
};

const ONE_FRAME_CLIENT: Step = Step {
    hypothesis: "Sent on h2 itself, prefix and payload leave as one DATA frame, of two messages where they are short.",
    cost: "tonic's `Channel` sends each part in a frame of its own, so it is left out, and its reconnecting with it.",
    switch: "LeanChannel::connect(address, http2).await?",
    file: "src/steps/channel.rs",
    apply: |tuning| tuning.client = ClientStack::Lean,
    ..ONE_FRAME
};

/// Where the client receives.
const ALIGNED_READS_CLIENT: Step = Step {
    switch: "alloc_ladder::steps::connect(endpoint, http2).await?",
    file: "src/steps/sockets.rs",
    ..ALIGNED_READS
};

const fn on(step: Step, side: Side, stage: Stage) -> Step {
    Step { reduces: Some((side, stage)), ..step }
}

/// Client-streaming upload: the server receives.
pub(super) const PUT: &[Step] = &[
    BASELINE,
    POOLED_MESSAGE,
    on(BYTES_FIELD, Side::Client, Stage::Handler),
    on(TUNED_H2, Side::Server, Stage::ReceiveBuffer),
    ROPE,
    on(ALIGNED_READS, Side::Server, Stage::ReceiveBuffer),
    CORE_RUNTIME,
    on(SIZED_ENCODE, Side::Client, Stage::Marshal),
    on(POOLED_ENCODE, Side::Client, Stage::Marshal),
    ZERO_COPY,
    ONE_FRAME_CLIENT,
];

/// Server-streaming download: the server sends.
pub(super) const GET: &[Step] = &[
    BASELINE,
    on(BYTES_FIELD, Side::Server, Stage::Handler),
    on(SIZED_ENCODE, Side::Server, Stage::Marshal),
    on(POOLED_ENCODE, Side::Server, Stage::Marshal),
    ZERO_COPY,
    ONE_FRAME,
    Step { switch: "Http2::for_messages(encoded_len).endpoint(endpoint)", ..TUNED_H2 },
    CORE_RUNTIME,
    ROPE,
    on(ALIGNED_READS_CLIENT, Side::Client, Stage::ReceiveBuffer),
];

/// Where the server receives.
pub(super) const PUT_APART: &[(Occasion, Step)] = &[
    (Occasion::Far, ADAPTIVE_WINDOW),
    (Occasion::LargeFirst, RELEASE_READ_BUFFER),
    (Occasion::Allocators, MIMALLOC),
    (Occasion::Allocators, JEMALLOC),
];

/// Where the client receives.
pub(super) const GET_APART: &[(Occasion, Step)] = &[
    (Occasion::Far, Step { switch: "endpoint.http2_adaptive_window(true)", ..ADAPTIVE_WINDOW }),
    (Occasion::Spans, ENCODE_ONCE),
    (Occasion::Allocators, MIMALLOC),
    (Occasion::Allocators, JEMALLOC),
];

/// Beside the calls.
pub(super) const UNARY_APART: &[(Occasion, Step)] =
    &[(Occasion::Allocators, MIMALLOC), (Occasion::Allocators, JEMALLOC)];

/// Unary `CreateUser`.
pub(super) const UNARY: &[Step] = &[
    BASELINE,
    Step {
        name: "small-codec-buffers",
        hypothesis: "Codec buffers just above the message size in place of four 8 KiB ones: most of the bytes, few of \
                     the blocks.",
        cost: "A larger message grows the buffer step by step.",
        cost_figure: Some(CostFigure::Reallocs),
        switch: "BufferSettings::new(256, 32 * 1024)",
        file: "src/subject/codec.rs",
        reduces: Some((Side::Server, Stage::ReceiveBuffer)),
        apply: |tuning| tuning.codec_buffers = CodecBuffers::Small,
    },
    POOLED_MESSAGE,
    Step {
        name: "codec-swap",
        hypothesis: "buffa's views, on both sides, read strings where they were received instead of making new ones, \
                     with fewer instructions than prost; the wire's bytes are the same.",
        cost: "A message keeps the buffer it came in for as long as it lives, a changed string is the handler's own, \
               and fields the reader does not know are passed on.",
        cost_figure: Some(CostFigure::PeakHeap),
        switch: "prost_build::Config::new().extern_path(\".package.Message\", \"crate::View\")",
        file: "src/subject/swap.rs",
        reduces: Some((Side::Client, Stage::MessageConstruction)),
        apply: |tuning| tuning.codec = Codec::Swapped,
    },
    Step {
        name: "pooled-compression",
        hypothesis: "Bodies in recycled memory need no codec buffers; where messages are compressed (`--compress`), a thread \
                     keeps its compressor and decompressor, which tonic makes for each message.",
        cost: "A thread keeps up to 16 MiB of buffers, and 0.4 MB of gzip's state or up to 8 MiB of zstd's.",
        cost_figure: Some(CostFigure::PeakHeap),
        switch: BODIES,
        file: "src/steps/compress.rs",
        reduces: Some((Side::Server, Stage::Marshal)),
        apply: |tuning| tuning.bodies = Bodies::Recycled,
    },
    Step {
        name: "lean-client",
        hypothesis: "A client straight on h2, with no buffer, reconnect, balance or dispatch between the call and its \
                     connection, needs no task and few boxes for a call.",
        cost: "One connection that is not opened again when it breaks, and no TLS, keepalive or load balancing.",
        cost_figure: None,
        switch: "LeanChannel::connect(address, http2).await?",
        file: "src/steps/channel.rs",
        reduces: Some((Side::Client, Stage::Transport)),
        apply: |tuning| tuning.client = ClientStack::Lean,
    },
    Step {
        name: "unix-socket",
        hypothesis: "A Unix domain socket passes the same bytes without TCP's segments, acknowledgements and checksums; \
                     allocations stay as they are.",
        cost: "Both ends must share a machine and a file system.",
        cost_figure: None,
        switch: ".serve_with_incoming(UnixListenerStream::new(listener)).await?",
        file: "src/subject/serve.rs",
        reduces: None,
        apply: |tuning| tuning.socket = Socket::Unix,
    },
    Step {
        name: "lean-server",
        hypothesis: "The service on h2's own server, a call polled in its connection's task, needs no task of its own.",
        cost: "No TLS, HTTP/1 or keepalive; a handler that computes for long holds up its connection's other calls.",
        cost_figure: None,
        switch: "lean::serve(http2, incoming, service).await;",
        file: "src/steps/lean.rs",
        reduces: Some((Side::Server, Stage::Transport)),
        apply: |tuning| tuning.server = ServerStack::Lean,
    },
    Step {
        name: "by-hand",
        hypothesis: "The method written by hand on h2, on both sides, without router, layers, boxed bodies and futures, \
                     leaves the headers as all that is allocated for a call.",
        cost: "Code for each method, in place of generated code; no interceptors, layers or compression.",
        cost_figure: None,
        switch: "h2::server::handshake(io).await?",
        file: "src/subject/lean.rs",
        reduces: Some((Side::Server, Stage::Dispatch)),
        apply: |tuning| tuning.glue = Glue::ByHand,
    },
];
