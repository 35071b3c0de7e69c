//! The terminal, lent to a program that reads it.
//!
//! A program runs in a group of its own, so the kernel stops it when it reads the terminal. Who has the terminal here
//! hands it over then, as a shell does for the command that it runs, and takes it back in the end.

use std::fs::File;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal of this process, while this process has it or has lent it.
pub(crate) struct Foreground {
    terminal: File,
    own: Pid,
    /// How the terminal was set before it was lent.
    lent: Option<Termios>,
}

impl Foreground {
    /// The terminal that this process runs on; `None` where there is none.
    pub(crate) fn of_this() -> Option<Foreground> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        Some(Foreground { terminal, own: getpgrp(), lent: None })
    }

    /// Whether it was lent and not taken back.
    pub(crate) const fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// Hands the terminal to a group, if it is this process's to lend.
    pub(crate) fn lend(&mut self, group: Pid) -> bool {
        if self.is_lent() {
            return true;
        }
        // In the background it is the shell's, or another command's.
        if tcgetpgrp(&self.terminal) != Ok(self.own) {
            return false;
        }
        let Ok(settings) = tcgetattr(&self.terminal) else { return false };
        // What this process prints meanwhile must not stop it, nor taking the terminal back.
        if ttou().thread_block().is_err() || tcsetpgrp(&self.terminal, group).is_err() {
            let _ = ttou().thread_unblock();
            return false;
        }
        self.lent = Some(settings);
        true
    }

    /// Takes the terminal back, set as it was.
    pub(crate) fn take_back(&mut self) {
        let Some(settings) = self.lent.take() else { return };
        // A terminal that was hung up has nobody to be given to.
        let _ = tcsetpgrp(&self.terminal, self.own);
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &settings);
        let _ = ttou().thread_unblock();
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.take_back();
    }
}

fn ttou() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTTOU);
    signals
}
