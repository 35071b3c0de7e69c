//! From the stacks a sampling profiler took to shares of CPU time: the allocator, copying, the kernel, own code.
//!
//! Every sample counts once. A stack with the allocator anywhere on it is the allocator's, with what it copies and what
//! it asks the kernel for; of the others the leaf decides. A signal lands on the way back from the kernel, so a leaf in
//! a C function that wraps a system call is time in the kernel. Two kinds of kernel time have another leaf, page faults
//! and interrupts, which is why the share stands beside what `getrusage` calls system time.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::analyse::dhat::LARGEST_TOTAL;
use crate::analyse::fold;
use crate::analyse::frame::name::Name;
use crate::analyse::frame::runtime;

/// What a sample's time went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spent {
    /// malloc, free and what they call.
    Allocator,
    /// memcpy, memmove and memset, called by anything but the allocator.
    Copy,
    /// System calls of anything but the allocator.
    Kernel,
    /// Everything else.
    Own,
}

impl Spent {
    #[cfg(test)]
    const ALL: [Spent; 4] = [Spent::Allocator, Spent::Copy, Spent::Kernel, Spent::Own];

    /// The one name: the first frame of a folded stack.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Spent::Allocator => "allocator",
            Spent::Copy => "copy",
            Spent::Kernel => "kernel",
            Spent::Own => "own",
        }
    }
}

/// One distinct stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) spent: Spent,
    /// Root first, leaf last, shortened as the allocation graphs' are.
    pub(crate) frames: Vec<String>,
    pub(crate) samples: u64,
}

/// Why a folded file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFolded {
    #[error("a folded file is text, and this is not")]
    NotText,
    #[error("line {line} of the folded stacks has no count: {text}")]
    NoCount { line: usize, text: String },
    #[error("counts that do not fit: the samples of all stacks are more than {LARGEST_TOTAL}")]
    TooLarge,
}

impl BadFolded {
    /// The way out.
    pub(crate) fn help(&self) -> &'static str {
        "profile again: a `cpu` build writes the file when it ends"
    }
}

/// As much of a line as an error needs to show.
fn clipped(line: &str) -> String {
    const SHOWN: usize = 80;
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Every sample of one side of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// Distinct and sorted.
    pub(crate) stacks: Vec<Stack>,
}

impl Samples {
    /// Reads folded stacks with whole names, as a `cpu` build writes them.
    ///
    /// # Errors
    /// See [`BadFolded`].
    pub(crate) fn parse(folded: &[u8]) -> Result<Samples, BadFolded> {
        let folded = std::str::from_utf8(folded).map_err(|_| BadFolded::NotText)?;
        // A name stands in many stacks, and is taken apart once.
        let mut known: HashMap<&str, Name> = HashMap::new();
        let mut merged: BTreeMap<(Spent, Vec<String>), u64> = BTreeMap::new();
        let mut total = 0_u64;
        for (index, line) in folded.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let split = line.rsplit_once(' ').and_then(|(stack, count)| Some((stack, count.parse::<u64>().ok()?)));
            let Some((stack, samples)) = split else {
                return Err(BadFolded::NoCount { line: index + 1, text: clipped(line) });
            };
            total = total.checked_add(samples).filter(|total| *total <= LARGEST_TOTAL).ok_or(BadFolded::TooLarge)?;
            for frame in stack.split(';') {
                known.entry(frame).or_insert_with(|| Name::parse(frame));
            }
            let names: Vec<&Name> = stack.split(';').map(|frame| &known[frame]).collect();
            *merged.entry(place(&names)).or_default() += samples;
        }
        let stacks = merged.into_iter().map(|((spent, frames), samples)| Stack { spent, frames, samples });
        Ok(Samples { stacks: stacks.collect() })
    }

    pub(crate) fn total(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }

    /// The share of samples that went to `spent`, 0 to 1; 0 where there are no samples.
    pub(crate) fn share(&self, spent: Spent) -> f64 {
        let samples: u64 = self.stacks.iter().filter(|stack| stack.spent == spent).map(|stack| stack.samples).sum();
        samples as f64 / self.total().max(1) as f64
    }

    /// The share of samples in code that is neither the allocator's, nor copying, nor the kernel's, 0 to 1.
    pub(crate) fn own_share(&self) -> f64 {
        let others = [Spent::Allocator, Spent::Copy, Spent::Kernel].map(|spent| self.share(spent));
        (1.0 - others.iter().sum::<f64>()).max(0.0)
    }

    /// Folded stacks with short names, a line each: `kernel;frame;…;recv N`.
    pub(crate) fn folded(&self) -> String {
        let mut text = String::new();
        for stack in &self.stacks {
            let _ = writeln!(
                text,
                "{} {}",
                fold::line(stack.spent.name(), stack.frames.iter().map(String::as_str)),
                stack.samples
            );
        }
        text
    }
}

/// How far a share of so many samples may be off, in the worst case and 95 times of 100.
pub(crate) fn margin(samples: u64) -> f64 {
    0.98 / (samples.max(1) as f64).sqrt()
}

/// What a stack, root first, counts as, and the frames to show of it.
fn place(names: &[&Name]) -> (Spent, Vec<String>) {
    if let Some(first) = names.iter().position(|name| is_allocator(name)) {
        // The program asked for something; how the allocator goes about it is not its concern.
        let asked = names[first..].iter().find_map(|name| c_function(&name.path).filter(|c| is_c_allocator(c)));
        return (Spent::Allocator, frames(&names[..first], Some(asked.unwrap_or("allocator"))));
    }
    let Some(leaf) = names.iter().rposition(|name| !is_nameless(name)) else {
        return (Spent::Own, vec!["???".to_owned()]);
    };
    let function = c_function(&names[leaf].path);
    if let Some(copy) = function.and_then(|c| COPIES.iter().find(|copy| c.starts_with(**copy))) {
        return (Spent::Copy, frames(&names[..leaf], Some(copy)));
    }
    if let Some(call) = function.filter(|c| SYSTEM_CALLS.contains(c)) {
        return (Spent::Kernel, frames(&names[..leaf], Some(call)));
    }
    (Spent::Own, frames(&names[..=leaf], None))
}

/// Short names without the runtime's, and `leaf` below them; without one, the innermost frame that is more than a
/// wrapper, for time in the scheduler is the scheduler's and not its caller's.
fn frames(names: &[&Name], leaf: Option<&str>) -> Vec<String> {
    let mut frames = fold::shown(names.iter().copied());
    let inner = || fold::innermost(names).map(|name| name.short.clone());
    if let Some(leaf) = leaf.map(str::to_owned).or_else(inner)
        && frames.last() != Some(&leaf)
    {
        frames.push(leaf);
    }
    frames
}

const COPIES: [&str; 4] = ["memmove", "memcpy", "mempcpy", "memset"];

/// What the C allocators are called by, and the parts of them that are entered without it.
const C_ALLOCATORS: [&str; 13] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "memalign",
    "aligned_alloc",
    "cfree",
    "malloc_consolidate",
    "malloc_usable_size",
    "sysmalloc",
    "unlink_chunk",
];

/// C functions that do next to nothing but a system call.
const SYSTEM_CALLS: &[&str] = &[
    // Sockets and files.
    "read",
    "readv",
    "pread",
    "pread64",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "write",
    "writev",
    "pwrite",
    "pwrite64",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "sendfile",
    "sendfile64",
    "splice",
    "open",
    "open64",
    "openat",
    "openat64",
    "close",
    "fstat",
    "fstat64",
    "lseek",
    "lseek64",
    "ioctl",
    "fcntl",
    "fcntl64",
    "socket",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "getsockname",
    "getpeername",
    // Waiting.
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_ctl",
    "poll",
    "ppoll",
    "select",
    "pselect",
    "eventfd_read",
    "eventfd_write",
    "nanosleep",
    "clock_nanosleep",
    "sched_yield",
    "futex",
    "futex_wait",
    "futex_wake",
    "lll_lock_wait",
    "lll_lock_wait_private",
    "lll_lock_wake",
    "lll_lock_wake_private",
    "syscall",
    "timerfd_settime",
    // Memory and threads.
    "mmap",
    "mmap64",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    "sbrk",
    "clone",
    "clone3",
    "getrusage",
];

/// The C function of a symbol, without the prefixes and suffixes of the C library's own variants.
fn c_function(path: &str) -> Option<&str> {
    if path.contains("::") {
        return None;
    }
    let mut name = path;
    while let Some(rest) = ["__GI_", "__libc_", "_int_", "_"].iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    let name = name.split_once('@').map_or(name, |(name, _version)| name);
    let suffix = ["_nocancel", "_time64"].iter().find_map(|suffix| name.strip_suffix(suffix));
    // A futex wait has a name for every clock and width.
    if name.starts_with("futex_abstimed_wait") { Some("futex_wait") } else { Some(suffix.unwrap_or(name)) }
}

fn is_c_allocator(function: &str) -> bool {
    let inner = ["mi_", "rjem_", "je_", "tcache_"].iter().any(|prefix| function.starts_with(prefix));
    inner || C_ALLOCATORS.contains(&function)
}

fn is_allocator(name: &Name) -> bool {
    // Rust's own shims: `__rust_alloc`, `__rdl_dealloc`, in newer compilers below `__rustc`.
    let shim = name.path.strip_prefix("__rustc::").unwrap_or(&name.path);
    runtime::is_allocator(name)
        || ["__rust_alloc", "__rust_dealloc", "__rust_realloc", "__rdl_", "__rg_"].iter().any(|p| shim.starts_with(p))
        || c_function(&name.path).is_some_and(is_c_allocator)
}

/// A frame that does not say what it is: no symbol, or the C library's way into a system call from its wrapper.
fn is_nameless(name: &Name) -> bool {
    const WAY_IN: [&str; 4] = ["???", "syscall_cancel", "syscall_cancel_arch", "internal_syscall_cancel"];
    c_function(&name.path).is_some_and(|function| WAY_IN.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: &str = "\
        _start;main;server::main;tokio::runtime::Runtime::block_on;h2::proto::connection::Connection<T>::poll;\
        tokio::io::poll_read;__libc_recv 40\n\
        main;server::main;h2::proto::connection::Connection<T>::poll;std::io::Read::read;recv;???;???;\
        __syscall_cancel_arch 10\n\
        main;server::main;bytes::bytes_mut::BytesMut::reserve_inner;alloc::alloc::realloc;__rustc::__rust_realloc;\
        realloc;_int_realloc;__memmove_avx_unaligned_erms 6\n\
        main;server::main;core::ptr::drop_in_place<T>;__GI___libc_free 3\n\
        main;server::main;<std::alloc::System as core::alloc::global::GlobalAlloc>::alloc;_int_malloc;sysmalloc;brk 1\n\
        main;server::main;tonic::codec::decode::Streaming<T>::decode_chunk;__memmove_avx_unaligned_erms 20\n\
        main;server::main;tokio::runtime::Context::run_task;core::cell::Cell<T>::set 12\n\
        main;server::main;free::standing::function 5\n\
        ??? 3\n";

    #[test]
    fn every_sample_counts_once_and_shares_say_where() {
        let samples = Samples::parse(FOLDED.as_bytes()).expect("folded stacks");
        assert_eq!(samples.total(), 100);
        assert_eq!(Spent::ALL.map(|spent| samples.share(spent)), [0.1, 0.2, 0.5, 0.2]);
        let nothing = Samples::parse(b"").expect("no stacks");
        assert_eq!((nothing.total(), nothing.share(Spent::Kernel)), (0, 0.0));
    }

    #[test]
    fn names_are_short_and_end_in_what_was_called() {
        expect_test::expect![[r#"
            allocator;server::main;bytes::BytesMut::reserve_inner;realloc 6
            allocator;server::main;free 3
            allocator;server::main;malloc 1
            copy;server::main;tonic::Streaming::decode_chunk;memmove 20
            kernel;server::main;h2::Connection::poll;recv 50
            own;??? 3
            own;server::main;free::standing::function 5
            own;server::main;tokio::Context::run_task 12
        "#]]
        .assert_eq(&Samples::parse(FOLDED.as_bytes()).expect("folded stacks").folded());
    }

    #[test]
    fn a_line_without_a_count_is_named() {
        let error = Samples::parse(b"main;a 1\nmain;b\n").expect_err("no count");
        assert_eq!(error.to_string(), "line 2 of the folded stacks has no count: main;b");
        let wide = format!("main;a {0}\nmain;b {0}\n", LARGEST_TOTAL / 2 + 1);
        assert_eq!(Samples::parse(wide.as_bytes()), Err(BadFolded::TooLarge));
        assert_eq!(Samples::parse(b"main \xff 1"), Err(BadFolded::NotText));
    }

    #[test]
    fn more_samples_are_a_smaller_margin() {
        assert!((margin(100) - 0.098).abs() < 1e-9);
        assert!(margin(10_000) < 0.01 && margin(0) <= 0.98);
    }
}
