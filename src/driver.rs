//! Lets `cargo xtask attach` read the counters of any instrumented program: one line at the start of its `main`.
//!
//! Feature `driver`.
//!
//! ```
//! let _driver = alloc_ladder::driver::install();
//! ```
//!
//! Without the environment variable [`OUT`] that line does nothing. With it a thread writes what the process counted
//! so far to a file of that folder, as one [`Measurement`], whenever [`INTERVAL`] has passed and once more when the returned value
//! is dropped at the end of `main`. A program that ends by a signal leaves what it counted up to an interval ago:
//! handling signals is the program's own business, and `attach` waits for a fresh file before it sends one. The file
//! is named after the process and its program, because programs that this one starts inherit the variable and may have
//! the line too. A child that was forked has no such thread: it counts for itself after a line of its own.
//!
//! # Windows
//! With the environment variable [`WINDOW`] too, parts of the program's life are measured by themselves: a warm-up is left
//! out, and then one window follows the other, by the messages that the [seams](crate#modules-and-features) count on this
//! side of the process, or by the clock. Each is written when it closes, to [`window_file`]. Where windows are missing at the
//! program's end, or the variable says none, [`window_error_file`] says why, and the program runs on as if nobody had asked.
//!
//! The allocator may be [`CountingAlloc`](crate::CountingAlloc), or [`Alloc`](crate#modules-and-features) in whatever mode:
//! where nothing is counted, a record has the clock's and the system's figures alone, and the instrument `time`.
//!
//! # What it costs
//! Every [`INTERVAL`] a snapshot and a file of some kilobytes, charged to [`Stage::Instrument`]. The file is replaced
//! whole, so that a reader never meets half of it. While windows are measured the thread looks at the seams' counters too,
//! forty times a window or, where nothing comes, every 5 ms; a window closes with a snapshot and a file of its own.

#[doc(hidden)]
pub mod instrument;
#[cfg(feature = "retained")]
#[doc(hidden)]
pub mod retained;
mod rounds;
#[doc(hidden)]
pub mod usage;
mod window;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::method::CallSnapshot;
use crate::record::{CallRow, Counts, Instrument, Measurement};
use crate::{Side, Snapshot, Stage};
use rounds::Rounds;
use usage::usage;

pub use window::{
    Amount, BadWindow, MESSAGES_MAX, ROUNDS_MAX, SECONDS_MAX, WINDOW, Window, window_error_file, window_file, window_of,
};

/// The environment variable that names the folder to write to.
pub const OUT: &str = "ALLOC_LADDER_OUT";
/// The environment variable that says which side the process is, `server` (the default) or `client`.
pub const SIDE: &str = "ALLOC_LADDER_SIDE";
/// How often the file is written.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// Bytes of a program's name in a file's.
const NAME_BYTES_MAX: usize = 64;

/// The file that the process with this id, which runs the program of this name, writes in the folder.
pub fn file(folder: &Path, process: u32, name: &str) -> PathBuf {
    folder.join(format!("{process}-{name}.json"))
}

/// Which process wrote a file of the whole process, and what its program is called; `None` for a file of another name.
pub fn process_of(file: &Path) -> Option<(u32, &str)> {
    if window_of(file).is_some() {
        return None;
    }
    let (process, name) = file.file_name()?.to_str()?.strip_suffix(".json")?.split_once('-')?;
    Some((process.parse().ok()?, name))
}

/// What this process's program is called: its file's name, in letters that every file's name may have.
fn own_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().map(plain).take(NAME_BYTES_MAX).collect();
    if window::is_like_a_window(&name) { name.replace('.', "_") } else { name }
}

/// Writes a last time when dropped.
#[derive(Debug)]
#[must_use = "the last snapshot is written when this is dropped: keep it until the end of `main`"]
pub struct Driver(Option<Running>);

#[derive(Debug)]
struct Running {
    /// The process whose thread it is: one that was forked has the value and not the thread.
    process: u32,
    writer: Writer,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts writing if [`OUT`] is set.
///
/// A file that cannot be written is not this program's trouble: `attach` says that none came.
pub fn install() -> Driver {
    let _guard = Stage::Instrument.enter();
    let Some(folder) = std::env::var_os(OUT) else { return Driver(None) };
    let side = match std::env::var(SIDE) {
        Ok(side) if side == Side::Client.name() => Side::Client,
        _ => Side::Server,
    };
    let folder = PathBuf::from(folder);
    let (process, name) = (std::process::id(), own_name());
    let peak = Peak::default();
    let writer = Writer { path: file(&folder, process, &name), side, began: Instant::now(), peak: peak.clone() };
    let rounds = match std::env::var(WINDOW).as_deref().map(str::parse::<Window>) {
        Ok(Ok(window)) => Some(Rounds::new(window, side, folder, process, name, peak)),
        Ok(Err(bad)) => {
            rounds::say(&folder, process, &name, &format!("{WINDOW}: {bad}"));
            None
        }
        Err(_) => None,
    };
    let (stop, stopped) = mpsc::channel();
    let thread = {
        let writer = writer.clone();
        let named = std::thread::Builder::new().name("alloc-ladder-driver".to_owned());
        named.spawn(move || drive(&writer, rounds, &stopped))
    };
    Driver(thread.ok().map(|thread| Running { process, writer, stop, thread }))
}

/// The driver's thread, until it is told to stop.
fn drive(writer: &Writer, mut rounds: Option<Rounds>, stopped: &Receiver<()>) {
    let _guard = Stage::Instrument.enter();
    let mut due = Instant::now() + INTERVAL;
    loop {
        let look = rounds.as_mut().map_or(INTERVAL, Rounds::look);
        let wait = due.saturating_duration_since(Instant::now()).min(look);
        if !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
            break;
        }
        if Instant::now() >= due {
            let _ = writer.write();
            due = Instant::now() + INTERVAL;
        }
    }
    if let Some(rounds) = rounds {
        rounds.finish();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(running) = self.0.take() else { return };
        if running.process != std::process::id() {
            // There is no thread here to be joined, and a lock that it held is held for good.
            return std::mem::forget(running);
        }
        let Running { writer, stop, thread, .. } = running;
        let _guard = Stage::Instrument.enter();
        drop(stop);
        // The two must not write at once; a thread that panicked does not write either.
        let _ = thread.join();
        let _ = writer.write();
    }
}

/// The process's peak, of which windows begin anew.
#[derive(Clone, Debug, Default)]
struct Peak(Arc<AtomicU64>);

impl Peak {
    /// A window opens: what was the peak so far is kept here.
    fn begin(&mut self) {
        self.0.fetch_max(Snapshot::peak_bytes().0, Ordering::Relaxed);
        Snapshot::reset_peak();
    }

    /// The most live bytes since the process began, and by how many bytes that may be off.
    fn read(&self) -> (u64, u64) {
        let (peak, slack) = Snapshot::peak_bytes();
        (peak.max(self.0.load(Ordering::Relaxed)), slack)
    }
}

#[derive(Clone, Debug)]
struct Writer {
    path: PathBuf,
    side: Side,
    began: Instant,
    peak: Peak,
}

impl Writer {
    fn write(&self) -> io::Result<()> {
        write_whole(&self.path, &self.measurement())
    }

    fn measurement(&self) -> Measurement {
        let (peak_bytes, peak_slack_bytes) = self.peak.read();
        let calls = CallSnapshot::of_process();
        let counted = Snapshot::of_process();
        let instrument = instrument_of(&counted);
        let counts = Counts { peak_bytes, peak_slack_bytes, ..Counts::from(&counted) };
        Measurement {
            // Where no seam counts, messages are the program's own; `attach` can be told how many there were.
            messages: calls.messages(self.side).max(1),
            payload_bytes: calls.payload_bytes(self.side),
            wall_ns: self.began.elapsed().as_nanos() as u64,
            usage: usage(),
            counts: (instrument == Instrument::Count).then_some(counts),
            calls: CallRow::all(&calls),
            ..Measurement::new(self.side, instrument)
        }
    }
}

/// What a process measures with that counted this: an allocator that is asked for something else counts nothing.
fn instrument_of(counted: &Snapshot) -> Instrument {
    if !counted.total().is_zero() {
        return Instrument::Count;
    }
    #[cfg(feature = "sampled")]
    if crate::sampled::every_bytes().is_some() {
        return Instrument::Sampled;
    }
    Instrument::Time
}

/// Writes a file so that no reader ever meets half of it.
fn write_whole(path: &Path, measurement: &Measurement) -> io::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, serde_json::to_vec(measurement)?)?;
    std::fs::rename(&part, path)
}
