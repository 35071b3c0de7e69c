//! A program of somebody else's, which has this process's streams and may have its terminal.
//!
//! It runs in a group of its own. As under a shell it may read the terminal, be stopped and go on.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_current_process_group};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::foreground::Foreground;
use crate::measure::interrupt::Cancel;
use crate::measure::process::{Process, State, Streams};
use crate::measure::program::Program;

/// A program that was started, ended and reaped with its group when dropped.
pub(crate) struct Guest {
    pub(crate) process: Process,
    /// The verb that started it, for messages.
    host: &'static str,
    terminal: Option<Foreground>,
    /// The signal that stopped it when it wanted the terminal, until it can have it.
    waits: Option<i32>,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Whether that was Ctrl-C at the terminal that it had.
    pub(crate) told: bool,
}

impl Guest {
    /// Starts it for the verb `host`. Ctrl-C ends no wait for it: whoever waits looks for that.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be started.
    pub(crate) fn start(host: &'static str, program: &Program) -> anyhow::Result<Guest> {
        let process = Process::start("program", program, Streams::Shared, &Cancel::default()).map_err(|error| {
            Failure::new(Kind::Environment, format!("{error:#}"))
                .help("name the program's file, as `-- target/release/my-server`")
        })?;
        Ok(Guest { process, host, terminal: Foreground::of_this(), waits: None })
    }

    /// The process's number.
    pub(crate) fn number(&self) -> u32 {
        number(self.process.id())
    }

    /// Whether it has the terminal now: nobody else should write there.
    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.as_ref().is_some_and(Foreground::is_lent)
    }

    /// How it ended; `None` while it runs. Lends it the terminal, or says why it is stopped.
    ///
    /// # Errors
    /// What the kernel gives.
    pub(crate) fn look(&mut self) -> anyhow::Result<Option<Ended>> {
        match self.process.look()? {
            State::Ended(status) => {
                // Ctrl-C on a terminal that was lent reaches the program alone.
                let told = self.has_terminal() && matches!(status.signal(), Some(SIGINT | SIGQUIT));
                self.terminal = None;
                return Ok(Some(Ended { status, told }));
            }
            State::Stopped(signal) => self.stopped(signal),
            State::Running => {}
        }
        if self.waits.is_some() && self.lend() {
            self.waits = None;
        }
        Ok(None)
    }

    /// Says why the program was stopped, and sees to it that it goes on where that is to be had.
    fn stopped(&mut self, signal: i32) {
        match signal {
            SIGTTIN | SIGTTOU if self.lend() => {}
            SIGTTIN | SIGTTOU => {
                self.waits = Some(signal);
                let line = format!(
                    "the program is stopped: it wants the terminal, which {0} does not have itself; it goes on when {0} is \
                     brought to the foreground",
                    self.host
                );
                terminal::labelled(Style::Warning, "warning", &line);
            }
            SIGTSTP if self.has_terminal() => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.take_back();
                }
                // As the shell would have stopped both. Without a shell the kernel stops nobody.
                let _ = kill_current_process_group(Signal::TSTP);
                if !self.lend() {
                    self.waits = Some(signal);
                }
            }
            _ => {
                let line = format!(
                    "the program was stopped ({}); `kill -CONT {}` lets it go on, Ctrl-C ends it",
                    name(signal),
                    self.number(),
                );
                terminal::labelled(Style::Warning, "warning", &line);
            }
        }
    }

    /// Lets the program have the terminal, and go on.
    fn lend(&mut self) -> bool {
        let group = self.process.id();
        let lent = self.terminal.as_mut().is_some_and(|terminal| terminal.lend(group));
        if lent {
            self.process.signal(Signal::CONT);
        }
        lent
    }
}

/// A process's number as messages and files have it.
pub(crate) fn number(process: Pid) -> u32 {
    process.as_raw_pid().unsigned_abs()
}

fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}
