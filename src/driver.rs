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
//! # What it costs
//! Every [`INTERVAL`] a snapshot and a file of some kilobytes, charged to [`Stage::Instrument`]. The file is replaced
//! whole, so that a reader never meets half of it.

#[doc(hidden)]
pub mod instrument;
#[cfg(feature = "retained")]
#[doc(hidden)]
pub mod retained;
#[doc(hidden)]
pub mod usage;
mod window;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::record::{Counts, Instrument, Measurement};
use crate::{Side, Snapshot, Stage};
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
    let process = std::process::id();
    let writer = Writer { path: file(Path::new(&folder), process, &own_name()), side, began: Instant::now() };
    let (stop, stopped) = mpsc::channel();
    let thread = {
        let writer = writer.clone();
        std::thread::Builder::new().name("alloc-ladder-driver".to_owned()).spawn(move || {
            let _guard = Stage::Instrument.enter();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                let _ = writer.write();
            }
        })
    };
    Driver(thread.ok().map(|thread| Running { process, writer, stop, thread }))
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

#[derive(Clone, Debug)]
struct Writer {
    path: PathBuf,
    side: Side,
    began: Instant,
}

impl Writer {
    fn write(&self) -> io::Result<()> {
        let json = serde_json::to_vec(&self.measurement())?;
        let part = self.path.with_extension("part");
        std::fs::write(&part, json)?;
        std::fs::rename(&part, &self.path)
    }

    fn measurement(&self) -> Measurement {
        let (peak_bytes, peak_slack_bytes) = Snapshot::peak_bytes();
        let counts = Counts::from(&Snapshot::of_process());
        Measurement {
            // The program's messages are its own; `attach` is told how many there were.
            messages: 1,
            payload_bytes: 0,
            wall_ns: self.began.elapsed().as_nanos() as u64,
            usage: usage(),
            counts: Some(Counts { peak_bytes, peak_slack_bytes, ..counts }),
            ..Measurement::new(self.side, Instrument::Count)
        }
    }
}
