//! Following a program of somebody else's to its end, and the counters that it and its children leave.
//!
//! All of it ends together: its group, and any process that left the group and still has the environment it was started with (a
//! daemon). Processes that go on when the program has left are followed too.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};

use alloc_ladder::driver;
use rustix::process::{Pid, PidfdFlags, Signal, getpgid, pidfd_open, pidfd_send_signal};

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::guest::{Ended, Guest, number};
use crate::measure::interrupt::{catch_interrupts, interrupted};
use crate::measure::process::{State, group, processes};
use crate::measure::program::Program;

/// How long a program may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often processes that go on without the program are looked for, among all processes there are.
const SEARCH: Duration = Duration::from_millis(250);

/// A program that has ended.
pub(crate) struct Followed {
    /// The process's id.
    pub(crate) process: u32,
    pub(crate) status: ExitStatus,
    /// Whether it was told to end.
    pub(crate) told: bool,
}

/// Runs `program`, which messages call `name`, to its end, or for `limit`, or until Ctrl-C. Instrumented processes leave their counters in `folder`.
///
/// # Errors
/// [`Kind::Environment`] when it cannot be started.
pub(crate) fn follow(
    name: &str,
    program: &Program,
    folder: &Path,
    limit: Option<Duration>,
) -> anyhow::Result<Followed> {
    catch_interrupts()?;
    // Ctrl-C does not end its waits: it ends the program, after its counters were read.
    let guest = Guest::start("attach", &program.clone().env(driver::OUT, folder))?;
    terminal::progress("Attached", &format!("to {name} (process {})", guest.number()));
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    Following { guest, folder, until }.finish()
}

struct Following<'a> {
    guest: Guest,
    folder: &'a Path,
    until: Option<Instant>,
}

impl Following<'_> {
    fn finish(mut self) -> anyhow::Result<Followed> {
        let process = self.guest.number();
        loop {
            if let Some(Ended { status, told }) = self.guest.look()? {
                self.follow_the_rest(status);
                return Ok(Followed { process, status, told });
            }
            if self.is_over() {
                self.end();
                return match self.guest.process.look()? {
                    State::Ended(status) => Ok(Followed { process, status, told: true }),
                    _ => Err(Failure::new(Kind::Run, "the program cannot be ended, not even by SIGKILL").into()),
                };
            }
            std::thread::sleep(LOOK);
        }
    }

    fn is_over(&self) -> bool {
        interrupted().is_err() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// The program has left. What it started and did not wait for goes on, and is waited for.
    fn follow_the_rest(&mut self, status: ExitStatus) {
        let rest = self.rest();
        if rest.is_empty() {
            return;
        }
        let line = format!(
            "the program left ({status}) while {} of it goes on; attach waits for its end, and Ctrl-C ends it",
            shown(&rest),
        );
        terminal::labelled(Style::Warning, "warning", &line);
        while !self.rest().is_empty() {
            if self.is_over() {
                self.end();
                break;
            }
            std::thread::sleep(SEARCH);
        }
        let records = records(self.folder);
        let silent = |process: &Pid| records.iter().all(|record| record.process != number(*process));
        for process in rest.into_iter().filter(silent) {
            let line = format!(
                "process {process} left no counters; one that was forked must call `alloc_ladder::driver::install()` again"
            );
            terminal::labelled(Style::Warning, "warning", &line);
        }
    }

    /// Waits for counters newer than now, then tells all of it to end; makes it if it will not.
    fn end(&mut self) {
        let asked = SystemTime::now();
        let fresh = |records: &[Record]| records.iter().any(|record| record.written > asked);
        wait(4 * driver::INTERVAL, || fresh(&records(self.folder)) || self.rest().is_empty());
        self.guest.process.signal(Signal::TERM);
        strays(self.folder, self.guest.process.id()).iter().for_each(|stray| stray.signal(Signal::TERM));
        // One that is stopped hears of it only when it goes on.
        self.guest.process.signal(Signal::CONT);
        wait(PATIENCE, || self.guest.process.is_gone() && self.rest().is_empty());
        let rest = self.rest();
        if !rest.is_empty() {
            let line = format!("{} did not end at SIGTERM and is killed", shown(&rest));
            terminal::labelled(Style::Warning, "warning", &line);
        }
        self.guest.process.signal(Signal::KILL);
        strays(self.folder, self.guest.process.id()).iter().for_each(|stray| stray.signal(Signal::KILL));
        wait(PATIENCE, || self.guest.process.is_gone() && self.rest().is_empty());
    }

    /// The processes of it that have not ended.
    fn rest(&self) -> Vec<Pid> {
        let mut rest = group(self.guest.process.id());
        rest.extend(strays(self.folder, self.guest.process.id()).iter().map(|stray| stray.process));
        rest
    }
}

fn wait(limit: Duration, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() && began.elapsed() < limit {
        std::thread::sleep(LOOK);
    }
}

/// A process that left the group and still has the environment of the program.
struct Stray {
    process: Pid,
    /// Held, so that a signal does not reach another process that got its number.
    handle: std::os::fd::OwnedFd,
}

impl Stray {
    fn signal(&self, signal: Signal) {
        // It has ended by itself otherwise.
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

/// The processes that were started to write their counters to `folder`, without those of the group.
fn strays(folder: &Path, own: Pid) -> Vec<Stray> {
    let mut variable = driver::OUT.as_bytes().to_vec();
    variable.push(b'=');
    variable.extend(folder.as_os_str().as_bytes());
    let ours = |process: Pid| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable)
    };
    let stray = |process: Pid| {
        let handle = pidfd_open(process, PidfdFlags::empty()).ok()?;
        // Asked when the handle is held: one that ended before has no environment any more.
        (ours(process) && getpgid(Some(process)) != Ok(own)).then_some(Stray { process, handle })
    };
    processes().filter_map(stray).collect()
}

/// Processes for a message: `a child (process 12, svc)`.
fn shown(processes: &[Pid]) -> String {
    let one = |process: &Pid| {
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        format!("process {process}, {}", name.trim_end())
    };
    match processes {
        [process] => format!("a child ({})", one(process)),
        processes => format!("children ({})", processes.iter().map(one).collect::<Vec<_>>().join("; ")),
    }
}

/// Counters that a process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) process: u32,
    /// What the process's program is called.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    written: SystemTime,
}

/// The counters in the folder, those of one process after the other.
pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut records: Vec<Record> = files
        .filter_map(|file| {
            let (process, name) = driver::process_of(&file)?;
            let name = name.to_owned();
            let written = std::fs::metadata(&file).and_then(|file| file.modified()).ok()?;
            Some(Record { process, name, file, written })
        })
        .collect();
    records.sort_by(|a, b| (a.process, &a.name).cmp(&(b.process, &b.name)));
    records
}

/// The program's own counters, or where it left none those written last: a script's, say, that starts the program.
pub(crate) fn own(records: &[Record], process: u32) -> Option<&Record> {
    let of_process = records.iter().filter(|record| record.process == process);
    of_process.max_by_key(|record| record.written).or_else(|| records.iter().max_by_key(|record| record.written))
}
