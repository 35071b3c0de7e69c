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
//! is named after the process, because programs that this one starts inherit the variable and may have the line too.
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

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::record::{Counts, Instrument, Measurement};
use crate::{Side, Snapshot, Stage};
use usage::usage;

/// The environment variable that names the folder to write to.
pub const OUT: &str = "ALLOC_LADDER_OUT";
/// The environment variable that says which side the process is, `server` (the default) or `client`.
pub const SIDE: &str = "ALLOC_LADDER_SIDE";
/// How often the file is written.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// The file that the process with this id writes in the folder.
pub fn file(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("{process}.json"))
}

/// Writes a last time when dropped.
#[derive(Debug)]
#[must_use = "the last snapshot is written when this is dropped: keep it until the end of `main`"]
pub struct Driver(Option<Running>);

#[derive(Debug)]
struct Running {
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
    let writer = Writer { path: file(Path::new(&folder), std::process::id()), side, began: Instant::now() };
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
    Driver(thread.ok().map(|thread| Running { writer, stop, thread }))
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(Running { writer, stop, thread }) = self.0.take() else { return };
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
