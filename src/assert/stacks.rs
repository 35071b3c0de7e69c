//! Measuring with dhat where that is the installed allocator: totals, and the call sites behind them.
//!
//! dhat keeps one profile for the whole process, so measured blocks of several threads wait for one another, and see
//! every thread. Within one thread there is nothing to wait for: a second one inside the first, or beside it in one
//! task, panics and says so. dhat writes a file, which is read back and removed. What it costs is far too much to take
//! times around.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::{env, fs, process};

use super::CallSite;
use super::plumbing::without_plumbing;
use crate::Tally;

/// As the `stacks` instrument keeps.
const FRAMES: usize = 64;

/// Who has dhat's one profile: the thread that took it, or that polled last what did.
static HOLDER: Mutex<Option<ThreadId>> = Mutex::new(None);
static RELEASED: Condvar = Condvar::new();
static FILES: AtomicU32 = AtomicU32::new(0);

/// dhat's one profile, until dropped: by the end of a measured block as by a panic in it.
#[derive(Debug)]
struct Turn;

impl Turn {
    /// Waits until no other thread has it.
    ///
    /// # Panics
    /// Where the current thread has it already and would wait for itself.
    #[track_caller]
    fn take() -> Turn {
        let own = thread::current().id();
        let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(other) = *holder {
            if other == own {
                // Not while it is locked: a thread that unwinds gives its own turn back.
                drop(holder);
                panic!("{NESTED}");
            }
            holder = RELEASED.wait(holder).unwrap_or_else(PoisonError::into_inner);
        }
        *holder = Some(own);
        Turn
    }

    /// Says that the current thread goes on with it.
    fn go_on(&self) {
        *HOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *HOLDER.lock().unwrap_or_else(PoisonError::into_inner) = None;
        RELEASED.notify_one();
    }
}

const NESTED: &str = "this thread is being measured already, and dhat has one profile for the whole process: measure one \
                      block or future after the other, not one within the other or two joined";

/// A profile being recorded.
#[derive(Debug)]
pub(super) struct Recorder {
    // Dropped in `finish`, before the file is read.
    profiler: Option<Profiler>,
    before: Tally,
    file: PathBuf,
    // Given back last.
    turn: Turn,
}

/// Held for its drop.
struct Profiler(#[allow(dead_code, reason = "newer compilers see the drop, older ones do not")] dhat::Profiler);

impl std::fmt::Debug for Profiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dhat::Profiler")
    }
}

impl Recorder {
    /// Waits for its turn and starts recording; `None` where dhat is not the installed allocator.
    ///
    /// # Panics
    /// Where the current thread records already, and where the program has a `dhat::Profiler` of its own.
    #[track_caller]
    pub(super) fn begin() -> Option<Recorder> {
        let turn = Turn::take();
        Recorder::installed().then(|| Recorder::record(turn))
    }

    /// Says that the current thread goes on with what was begun.
    pub(super) fn go_on(&self) {
        self.turn.go_on();
    }

    fn installed() -> bool {
        // Testing mode writes nothing and is silent.
        let _profiler = dhat::Profiler::builder().testing().build();
        drop(black_box(Box::new(black_box(0u8))));
        dhat::HeapStats::get().total_blocks > 0
    }

    fn record(turn: Turn) -> Recorder {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = env::temp_dir().join(format!("alloc-ladder-{}-{number}.json", process::id()));
        let builder = dhat::Profiler::builder().trim_backtraces(Some(FRAMES)).file_name(&file);
        let profiler = Some(Profiler(builder.build()));
        Recorder { profiler, before: totals(), file, turn }
    }

    /// What was allocated since, and where, the largest first. Frees are not in dhat's totals: blocks and bytes alone
    /// are counted.
    pub(super) fn finish(mut self) -> (Tally, Vec<CallSite>) {
        let counted = totals() - self.before;
        drop(self.profiler.take());
        let sites = fs::read_to_string(&self.file).map(|text| read(&text)).unwrap_or_default();
        (counted, sites)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.profiler.take());
        // A file that is gone already needs no removing.
        let _ = fs::remove_file(&self.file);
    }
}

fn totals() -> Tally {
    let stats = dhat::HeapStats::get();
    Tally { blocks: stats.total_blocks, bytes: stats.total_bytes, ..Tally::default() }
}

#[derive(serde::Deserialize)]
struct File {
    pps: Vec<Point>,
    ftbl: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Point {
    tb: u64,
    tbk: u64,
    fs: Vec<usize>,
}

fn read(text: &str) -> Vec<CallSite> {
    let Ok(File { mut pps, ftbl }) = serde_json::from_str(text) else { return Vec::new() };
    pps.sort_by_key(|point| std::cmp::Reverse((point.tb, point.tbk)));
    let site = |point: Point| {
        let frames = point.fs.iter().filter_map(|frame| ftbl.get(*frame)).map(|frame| {
            // `0x1234: function (file:line:column)`.
            frame.split_once(": ").map_or(frame.as_str(), |(_, name)| name).to_owned()
        });
        CallSite { blocks: point.tbk, bytes: point.tb, stage: None, frames: without_plumbing(frames.collect()) }
    };
    pps.into_iter().map(site).collect()
}
