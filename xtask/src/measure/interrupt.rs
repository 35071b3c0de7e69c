//! Ctrl-C, SIGTERM and a terminal that is closed: noticed by each wait, so that everything started is taken down in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::failure::{Failure, Kind};

/// From now on Ctrl-C ends a wait instead of this process. So does a terminal that is closed, unless this process is to
/// outlive it (`nohup`): a program in a group of its own would not hear of that.
///
/// # Errors
/// When the kernel refuses the handler.
pub(crate) fn catch_interrupts() -> anyhow::Result<()> {
    if INTERRUPTED.get().is_none() {
        let flag = Arc::new(AtomicBool::new(false));
        let closed = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(closed) {
            signal_hook::flag::register(signal, flag.clone()).context("cannot listen for Ctrl-C")?;
        }
        let _ = INTERRUPTED.set(flag);
    }
    Ok(())
}

/// Whether this process was started with a signal ignored; `false` where nobody can tell.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // The first signal is number 1.
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Fails when Ctrl-C came.
///
/// # Errors
/// [`Kind::Interrupted`].
pub(crate) fn interrupted() -> anyhow::Result<()> {
    Cancel::default().check()
}

/// What ends a wait before its time: Ctrl-C, and where the work is somebody else's, that somebody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Option<Arc<AtomicBool>>);

impl Cancel {
    /// One that [`Cancel::cancel`] works on; the default one hears of Ctrl-C alone.
    pub(crate) fn new() -> Cancel {
        Cancel(Some(Arc::default()))
    }

    /// Ends every wait that was given a clone of this.
    pub(crate) fn cancel(&self) {
        if let Some(flag) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Fails when the work is to end.
    ///
    /// # Errors
    /// [`Kind::Interrupted`].
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        if INTERRUPTED.get().is_some_and(set) || self.0.as_ref().is_some_and(set) {
            return Err(Failure::new(Kind::Interrupted, "interrupted").into());
        }
        Ok(())
    }
}
