//! Frames that say how the program runs, not what it does: left out of folded stacks.

use super::name::Name;

/// Paths whose frames are left out, and why; see [`covers`].
pub(crate) const RUNTIME: &[(&[&str], &str)] = &[
    (&["alloc", "core", "std"], "collections, formatting, wrappers of futures: who uses them is the next frame"),
    (&["dhat"], "the profiler itself"),
    (
        &["backtrace", "gimli", "addr2line", "object", "rustc_demangle"],
        "resolving a backtrace: hundreds of stacks that all mean the error in the next frame",
    ),
    (&["__rustc"], "the allocator's shims and the panic runtime"),
    (&["tikv_jemallocator", "tikv_jemalloc_sys", "mimalloc", "libmimalloc_sys"], "the inner allocator"),
    (&["hashbrown::raw", "hashbrown::alloc", "hashbrown::table"], "below `HashMap::insert`, which is kept"),
    (&["tokio::runtime", "tokio::task", "tokio::loom", "tokio::io", "tokio::util", "tokio::macros"], "the scheduler"),
    (&["tokio::future", "tokio::time", "tokio::park", "tokio::signal", "tokio::process"], "the scheduler's drivers"),
    (&["futures_core", "futures_util", "futures_channel", "futures_executor", "futures"], "wrappers of futures"),
    (&["pin_project", "pin_project_lite", "tracing", "tracing_core", "log"], "wrappers that do nothing of their own"),
    (&["tower_service", "tower_layer"], "traits: the frame that implements them is kept"),
    (
        &[
            "http_body_util::combinators::*::poll_frame",
            "tonic::body::Body::poll_frame",
            "axum_core::body::Body::poll_frame",
        ],
        "polling through a body's wrappers, three to a layer: the body inside is kept, and so is making a wrapper",
    ),
];

/// Symbols without a path that are left out.
const SYMBOLS: &[&[&str]] = &[
    // The allocator: Rust's shims and C's functions.
    &["__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc", "__rdl_alloc", "__rg_alloc"],
    &["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"],
    // Below the program, and what resolving a backtrace goes through.
    &["start_thread", "clone", "clone3", "__clone", "_start", "main", "__libc_start_main", "__libc_start_main_impl"],
    &["__libc_start_call_main", "[root]", "__rust_try", "???", "_Unwind_Backtrace"],
];

/// Implementations of the allocator interface: any author's are the allocator.
const ALLOCATOR: &str = "core::alloc::global::GlobalAlloc";

/// Whether the frame is left out.
pub(crate) fn is_runtime(name: &Name) -> bool {
    is_allocator(name)
        || SYMBOLS.iter().any(|symbols| symbols.contains(&name.path.as_str()))
        || RUNTIME.iter().any(|(paths, _)| paths.iter().any(|path| covers(path, &name.path)))
}

/// Whether the frame is an allocator's own method: it neither shows nor decides.
pub(crate) fn is_allocator(name: &Name) -> bool {
    name.implements.as_deref().is_some_and(|of| below(of, ALLOCATOR))
}

/// Whether a table's entry is about this path: the entry covers itself and everything below, `*` is any text.
pub(crate) fn covers(entry: &str, path: &str) -> bool {
    let Some((start, rest)) = entry.split_once('*') else { return below(path, entry) };
    let Some(mut path) = path.strip_prefix(start) else { return false };
    for part in rest.split('*') {
        match path.find(part) {
            Some(at) => path = &path[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Whether `path` is `prefix` or something inside it.
pub(crate) fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
