//! `cpu`: a sampling profiler inside the process, for the share of CPU time that allocating, copying and the kernel take.
//!
//! pprof's handler of `SIGPROF` takes the stack of whichever thread is running when the process has used up another
//! slice of CPU time; a thread that sleeps is not sampled. The allocator is the plain one. The kernel rounds slices to
//! its own tick, so that fewer than [`HERTZ`] samples a second may come (250 or 100 on common kernels): shares stay
//! right, they only get coarser. A signal lands on the way back from the kernel, so time in the kernel shows as the C
//! function that called it (`recv`, `writev`), and time in page faults as whatever touched the page.
//!
//! pprof merges samples by function, not by place in it, so functions that were inlined show as the one they were
//! inlined into, and the outermost frames of a stack deeper than 128 are missing. Walking a stack costs time that the
//! samples do not show, and the tables a hundred megabytes: shares of this build may be quoted, its times and its peak
//! memory may not.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io::Write;
use std::path::PathBuf;

use nix::libc;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use super::Options;
use crate::record::Measurement;

pub(super) const AVAILABLE: bool = true;

/// Samples asked for in a second of CPU time: no multiple of anything periodic.
const HERTZ: i32 = 997;

/// The measured part: a running sampler. Closing it writes the folded stacks.
pub(super) struct Window {
    sampler: pprof::Result<ProfilerGuard<'static>>,
    file: Option<PathBuf>,
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Window {
    /// Opens the measured part. The sampler's tables are made before its first sample.
    pub(super) fn begin(options: &Options) -> Window {
        Window { sampler: ProfilerGuardBuilder::default().frequency(HERTZ).build(), file: options.stacks_file.clone() }
    }

    /// Closes the measured part and writes its folded stacks, root first: `main;serve;malloc 12`.
    pub(super) fn end(self, _measurement: &mut Measurement) {
        let Some(file) = self.file else { return };
        let folded = self.sampler.and_then(|sampler| folded(&sampler)).map_err(std::io::Error::other);
        if let Err(error) = folded.and_then(|text| std::fs::write(&file, text)) {
            // The record says nothing of it: who asked for the file misses it, and shows this with its own error.
            let _ = writeln!(std::io::stderr(), "cannot write the samples to {}: {error}", file.display());
        }
    }
}

/// Every distinct stack with its samples, a line each.
fn folded(sampler: &ProfilerGuard<'_>) -> pprof::Result<String> {
    // Samples that come from here on are thrown away: reading holds the lock the handler only tries to take.
    let report = sampler.report().build_unresolved()?;
    let copies = copies();
    let mut stacks: BTreeMap<String, isize> = BTreeMap::new();
    for (stack, samples) in &report.data {
        let frames = &stack.frames;
        // Leaf first: the handler and what it called, the trampoline that returns from it, what it interrupted.
        let handler = frames.iter().position(|frame| name(frame.ip()).contains("perf_signal_handler"));
        let leaf = handler.map_or(0, |handler| handler + 2).min(frames.len());
        let names = frames[leaf..].iter().enumerate().map(|(depth, frame)| {
            // What was interrupted goes on here; every other frame goes on behind the call it waits for, and looking
            // it up takes the byte before, lest a call that ends a function be found in the next one.
            let next = frame.ip() as usize + usize::from(depth == 0);
            let begins = [frame.symbol_address() as usize, frame.ip() as usize];
            let copy = copies.iter().find(|(address, _)| begins.contains(address));
            copy.map_or_else(|| name(next as *mut c_void), |(_, name)| (*name).to_owned()).replace(';', ",")
        });
        let mut names: Vec<String> = names.collect();
        names.reverse();
        *stacks.entry(names.join(";")).or_default() += samples;
    }
    Ok(stacks.iter().map(|(stack, samples)| format!("{stack} {samples}\n")).collect())
}

/// The function the byte before `next` is in, without its hash; `???` where no symbol says.
fn name(next: *mut c_void) -> String {
    let mut name = None;
    // Inlined functions come first, the one that was called last.
    backtrace::resolve(next, |symbol| {
        name = symbol.name().map(|symbol| format!("{symbol:#}")).or(name.take());
    });
    name.unwrap_or_else(|| "???".to_owned())
}

/// Where the C library's copying functions begin. Their variants for this CPU are in no symbol table that is always
/// installed, and a profile in which copying has no name would be half a profile.
fn copies() -> [(usize, &'static str); 3] {
    [
        (libc::memmove as *const () as usize, "memmove"),
        (libc::memcpy as *const () as usize, "memcpy"),
        (libc::memset as *const () as usize, "memset"),
    ]
}
