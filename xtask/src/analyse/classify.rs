//! Which stage a stack is charged to: a table of rules over function paths.
//!
//! Frames are read from the leaf to the root and the first one a rule decides on wins, so a message decoded inside a
//! handler is the decoder's. Frames of the runtime and of helper crates decide nothing: their caller does.
//! Exact per-scope counts come from `CountingAlloc`; this attribution by name is printed beside them.

use alloc_ladder::Stage;

use crate::analyse::frame::name::Name;
use crate::analyse::frame::runtime::{covers, is_allocator};

/// Frames that match are charged to the stage.
pub(crate) struct Rule {
    /// `None`: the frame decides nothing and its caller is asked.
    pub(crate) stage: Option<Stage>,
    /// Entries as [`covers`] reads them; behind `as`, about the trait whose method the frame is.
    pub(crate) paths: &'static [&'static str],
    /// Frames that decide instead, where the next frame outwards that any rule decides on is one of them.
    pub(crate) unless_within: &'static [&'static str],
    /// Why, in words: shown beside the stage table.
    pub(crate) because: &'static str,
}

const fn rule(stage: Stage, paths: &'static [&'static str], because: &'static str) -> Rule {
    Rule { stage: Some(stage), paths, unless_within: &[], because }
}

const fn nobody(paths: &'static [&'static str], because: &'static str) -> Rule {
    Rule { stage: None, paths, unless_within: &[], because }
}

/// The rules. The first that matches a frame speaks for it; a path no rule names is the user's own code.
pub(crate) static RULES: &[Rule] = &[
    // This project's own mechanisms, each charged to what it stands in for.
    rule(
        Stage::Instrument,
        &["alloc_ladder::alloc", "alloc_ladder::driver", "dhat", "tracking_allocator"],
        "what measuring itself allocates",
    ),
    rule(Stage::Instrument, &["alloc_ladder::subject::meter"], "the stopwatch and its record"),
    nobody(
        &["alloc_ladder::stage", "alloc_ladder::method", "alloc_ladder::tonic::task"],
        "scopes and tasks wrap the code they are about",
    ),
    nobody(&["alloc_ladder::wire"], "facts of a protocol serve their caller"),
    nobody(
        &["alloc_ladder::steps::ring", "alloc_ladder::steps::compress"],
        "recycled memory and compressors are made for their caller",
    ),
    // The codec's contract comes before crates: anybody's encoder marshals.
    rule(
        Stage::Marshal,
        &["as tonic::codec::Encoder", "as prost::message::Message::encode*"],
        "an encoder turns a message into bytes",
    ),
    rule(
        Stage::MessageConstruction,
        &["as tonic::codec::Decoder::decode", "as prost::message::Message", "tonic_prost::codec::ProstDecoder"],
        "a decoder turns bytes into a message",
    ),
    nobody(&["as tonic::codec::Codec", "as tonic::codec::Decoder"], "asking for a codec or its settings is no work"),
    nobody(&["as bytes::buf::buf_impl::Buf"], "reading from a buffer is the reader's work, not the buffer's"),
    rule(
        Stage::Marshal,
        &["alloc_ladder::subject::codec::*Encode*", "alloc_ladder::steps::encode", "alloc_ladder::steps::parts"],
        "this project's encoders, and the body that sends what they wrote",
    ),
    rule(
        Stage::MessageConstruction,
        &["alloc_ladder::subject::codec::*Decode*", "alloc_ladder::steps::pooled"],
        "this project's decoders, and messages that are used again",
    ),
    rule(
        Stage::ReceiveBuffer,
        &[
            "alloc_ladder::steps::rope",
            "alloc_ladder::steps::frames",
            "alloc_ladder::steps::decode",
            "alloc_ladder::steps::aligned",
        ],
        "memory that received bytes wait in, in place of tonic's and h2's",
    ),
    rule(Stage::Marshal, &["alloc_ladder::subject::swap::SwapUser::answer"], "the swapped codec writing a view"),
    rule(
        Stage::MessageConstruction,
        &["alloc_ladder::subject::swap::SwapUser::decode"],
        "the swapped codec reading a view",
    ),
    rule(
        Stage::Dispatch,
        &[
            "as tonic::server::service::UnaryService",
            "as tonic::server::service::ServerStreamingService",
            "as tonic::server::service::ClientStreamingService",
            "as tonic::server::service::StreamingService",
            "*_server::*Server as tower_service::Service",
        ],
        "what tonic's generator writes around a handler",
    ),
    rule(
        Stage::Dispatch,
        &["alloc_ladder::subject::service::Ladder", "alloc_ladder::subject::service::CreateUser"],
        "what stands in the study's service for generated code",
    ),
    nobody(&["alloc_ladder::subject::pb"], "generated code works for the codec or the handler that calls it"),
    rule(Stage::Marshal, &["alloc_ladder::subject::lean::marshal"], "a message behind its prefix, for bare HTTP/2"),
    rule(
        Stage::Transport,
        &[
            "alloc_ladder::subject::lean",
            "alloc_ladder::steps::channel",
            "alloc_ladder::steps::lean",
            "alloc_ladder::steps::per_core",
            "alloc_ladder::steps::pump",
            "alloc_ladder::steps::sockets",
        ],
        "heads, trailers, streams and connections of calls on bare HTTP/2",
    ),
    rule(
        Stage::Dispatch,
        &[
            "alloc_ladder::steps::server",
            "alloc_ladder::steps::client",
            "alloc_ladder::steps::negotiate",
            "alloc_ladder::steps::status",
        ],
        "the glue between the generated code and the wire, in place of tonic's",
    ),
    nobody(&["alloc_ladder::steps"], "recycled memory and compression belong to who uses them"),
    rule(Stage::Instrument, &["alloc_ladder::tonic"], "boxes the seams allocate exist only to measure"),
    rule(
        Stage::Transport,
        &["alloc_ladder::subject::serve", "alloc_ladder::subject::connect"],
        "the connections a server accepts and a client opens",
    ),
    rule(Stage::Handler, &["alloc_ladder"], "the service, its client and what sets them up"),
    // tonic and prost.
    rule(
        Stage::Marshal,
        &["tonic::codec::encode", "tonic::codec::buffer::EncodeBuf", "tonic_prost::codec::ProstEncoder"],
        "the body and buffer a message is marshalled into",
    ),
    rule(Stage::Marshal, &["prost::*::encode*", "prost::encode*"], "prost writing a message"),
    rule(Stage::MessageConstruction, &["prost", "prost_types"], "prost reading a message"),
    rule(
        Stage::ReceiveBuffer,
        &["tonic::codec::decode", "tonic::codec::buffer::DecodeBuf"],
        "the buffer DATA frames are gathered in until a message is whole",
    ),
    rule(Stage::Transport, &["tonic::transport"], "channels, connections, listeners"),
    Rule {
        stage: Some(Stage::Dispatch),
        paths: &[
            "tonic::status::Status::to_header_map",
            "tonic::status::Status::add_header",
            "tonic::status::Status::into_http",
            "tonic::status::Status::from_header_map",
            "tonic::status::infer_grpc_status",
        ],
        unless_within: &["tonic::codec::encode"],
        because: "a status to headers and back; the one that ends a body is part of what the body marshals",
    },
    rule(
        Stage::Dispatch,
        &["tonic::server", "tonic::client", "tonic::service"],
        "the glue between the generated code and the wire",
    ),
    rule(Stage::Handler, &["tonic_health", "tonic_reflection"], "services that tonic's authors wrote"),
    nobody(&["tonic", "tonic_prost"], "statuses, metadata, requests, bodies and compression belong to who uses them"),
    // What is below tonic.
    rule(
        Stage::ReceiveBuffer,
        &[
            "h2::codec::framed_read",
            "tokio_util::codec::length_delimited",
            "tokio_util::codec::framed_read",
            "tokio_util::util::poll_buf::poll_read_buf",
        ],
        "h2's read buffer",
    ),
    rule(
        Stage::Transport,
        &["h2", "hyper", "hyper_util", "hyper_timeout", "tokio::net", "tokio_stream::wrappers::tcp_listener"],
        "connections and HTTP/2 frames",
    ),
    rule(
        Stage::Transport,
        &["rustls", "tokio_rustls", "ring", "aws_lc_rs", "webpki", "rustls_native_certs", "socket2", "mio"],
        "sockets and their encryption",
    ),
    rule(
        Stage::Transport,
        &[
            "tower::buffer",
            "tower::balance",
            "tower::reconnect",
            "tower::discover",
            "tower::load",
            "tower::load_shed",
            "tower::limit",
            "tower::make",
        ],
        "the layers of a channel",
    ),
    rule(Stage::Transport, &["tonic_web"], "gRPC-web's framing of a body"),
    nobody(&["axum_core::body"], "a body's wrapper belongs to the body"),
    rule(Stage::Dispatch, &["axum", "axum_core", "matchit"], "routing a request to its handler"),
    // Helpers that are called from any stage.
    nobody(&["alloc", "core", "std", "__rustc", "compiler_builtins"], "std is at home everywhere"),
    nobody(
        &["backtrace", "gimli", "addr2line", "object", "rustc_demangle", "adler2", "anyhow", "thiserror"],
        "errors and their backtraces belong to who makes them",
    ),
    nobody(
        &["tokio", "tokio_stream", "tokio_util", "futures", "futures_*", "async_stream", "async_trait", "async_*"],
        "runtime frames never decide: what they poll does",
    ),
    nobody(
        &["bytes", "http", "http_body", "http_body_util", "indexmap", "hashbrown", "slab", "smallvec", "atomic_waker"],
        "containers belong to who fills them",
    ),
    nobody(
        &["tower", "tower_http", "tower_service", "tower_layer", "tracing", "tracing_*", "log", "pin_project*"],
        "wrappers belong to what they wrap",
    ),
    nobody(
        &["parking_lot", "parking_lot_core", "once_cell", "crossbeam_*", "arc_swap", "rand", "rand_*", "itoa", "ryu"],
        "helpers",
    ),
    nobody(
        &["fnv", "memchr", "httparse", "httpdate", "percent_encoding", "base64", "sync_wrapper", "want", "try_lock"],
        "helpers of hyper and tonic",
    ),
    nobody(&["flate2", "miniz_oxide", "zstd", "zstd_safe", "brotli"], "compression belongs to the body it is done for"),
    nobody(
        &["buffa", "quick_protobuf", "pilota", "protobuf", "faststr", "serde", "serde_json"],
        "other codecs: the encoder or decoder around them decides",
    ),
    nobody(
        &["mimalloc", "tikv_jemallocator", "libmimalloc_sys", "tikv_jemalloc_sys"],
        "the allocator works for its caller",
    ),
];

/// Said of a frame no rule names.
pub(crate) const USER_CODE: Rule = rule(Stage::Handler, &[], "no library's: the program's own code");

/// The stage of a stack, from the frames that [`decide`], read from the leaf to the root; [`Stage::Other`] when none does.
pub(crate) fn first<'a>(decided: impl IntoIterator<Item = (&'a Name, &'static Rule)>) -> Stage {
    let mut decided = decided.into_iter();
    let Some((_, rule)) = decided.next() else { return Stage::Other };
    let outer = match rule.unless_within {
        [] => None,
        within => decided
            .find(|(_, outer)| !std::ptr::eq(*outer, rule))
            .filter(|(name, _)| within.iter().any(|pattern| matches(name, pattern)))
            .map(|(_, outer)| outer),
    };
    outer.unwrap_or(rule).stage.unwrap_or(Stage::Other)
}

/// The rule that decides on this frame, if one does.
pub(crate) fn decide(name: &Name) -> Option<&'static Rule> {
    // Symbols of other languages and generic leftovers have no crate; an allocator's method is nobody's work.
    if !name.path.contains("::") || is_allocator(name) {
        return None;
    }
    let rule = matching(name).unwrap_or(&USER_CODE);
    rule.stage.is_some().then_some(rule)
}

fn matching(name: &Name) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.paths.iter().any(|pattern| matches(name, pattern)))
}

fn matches(name: &Name, pattern: &str) -> bool {
    let Some((path, of)) = pattern.split_once("as ") else { return covers(pattern, &name.path) };
    let path = path.trim_end();
    (path.is_empty() || covers(path, &name.path)) && name.implements.as_deref().is_some_and(|found| covers(of, found))
}

/// The stage of a stack that a seam has charged: what the seam says, with two exceptions. The service's code and the glue
/// around it are told apart by the stack, which sees where one calls the other. And where a seam is left out its work stands in
/// the scope around it, and the stack names it: tonic's codec, where generated code names another than `StagedCodec` or a
/// channel has no layer; a stream of messages that is not `StagedStream`; and what a connection reads into, where its socket
/// is not `StagedIo`.
pub(crate) fn refined(seam: Stage, by_stack: Stage, works: Works) -> Stage {
    match (seam, by_stack, works) {
        (Stage::Dispatch | Stage::Handler, Stage::Dispatch | Stage::Handler, _) => by_stack,
        (Stage::Dispatch | Stage::Handler | Stage::Transport, stage, Works::ForTonic) if is_left_out(stage) => by_stack,
        (Stage::Marshal | Stage::Transport, Stage::Handler, Works::Streaming) => by_stack,
        (Stage::Transport, Stage::ReceiveBuffer, _) => by_stack,
        _ => seam,
    }
}

/// Whether a seam that may be left out has its work in this stage.
fn is_left_out(stage: Stage) -> bool {
    matches!(stage, Stage::Marshal | Stage::ReceiveBuffer | Stage::MessageConstruction)
}

/// What a stack does, as tonic's codec and the service call each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Works {
    /// tonic sends or receives a message.
    ForTonic,
    /// The service makes the next message of a stream that tonic sends.
    Streaming,
    /// The service does something of its own, or nobody does.
    ForItself,
}

/// From the frames that [`decide`], leaf first.
pub(crate) fn works<'a>(decided: impl IntoIterator<Item = (&'a Name, &'static Rule)>) -> Works {
    let mut own = false;
    for (name, rule) in decided {
        match (own, rule.stage == Some(Stage::Handler)) {
            (false, true) => own = true,
            (true, true) => {}
            (true, false) if covers("tonic::codec::encode", &name.path) => return Works::Streaming,
            (true, false) => return Works::ForItself,
            (false, false) if covers("tonic::codec", &name.path) => return Works::ForTonic,
            (false, false) => {}
        }
    }
    Works::ForItself
}

#[cfg(test)]
mod tests;
