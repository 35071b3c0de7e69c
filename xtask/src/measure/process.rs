//! A child process: started in a group of its own, listened to, and gone afterwards with everything in its group.
//!
//! A terminal's Ctrl-C reaches this process only, which ends the group when it has written down what it has. The
//! group's first process is not reaped before the group is empty: until then the kernel gives its number to nobody
//! else, so a signal to the group cannot reach a stranger.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::cores;
use crate::measure::interrupt::{Cancel, catch_interrupts};
use crate::measure::program::Program;

/// How often a wait looks whether Ctrl-C came.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// How long a process that is not needed any more has to go by itself.
const GRACE: Duration = Duration::from_millis(300);
/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// Lines that wait to be read; a child that prints more waits too.
const LINES_MAX: usize = 16;
/// Bytes of one line. A record has some kilobytes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Bytes kept of what a child says on stderr, from its end.
const SAID_BYTES_MAX: usize = 64 << 10;

/// What a child's stdin, stdout and stderr are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Stdin is held open, stdout is read by lines, the end of stderr is kept: for a child that reports to this process.
    Heard,
    /// All three are this process's own: for somebody's program.
    Shared,
    /// Stdin is nothing, stdout is read by lines, stderr is this process's own: for a tool that shows its progress.
    Told,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It was stopped since the last look, by this signal.
    Stopped(i32),
    Ended(ExitStatus),
}

/// A child process and its group, ended and reaped when dropped.
pub(crate) struct Process {
    what: String,
    shown: String,
    /// The child's id, which is its group's id too.
    id: Pid,
    status: Option<ExitStatus>,
    /// Held open: a child of ours goes when it closes, also when this process dies.
    stdin: Option<ChildStdin>,
    lines: Option<Receiver<io::Result<String>>>,
    said: Option<Said>,
    watch: Option<Box<Watch>>,
    cancel: Cancel,
}

impl Process {
    /// Starts `program`; messages call it `what`. Its waits end with `cancel` too.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be started.
    pub(crate) fn start(
        what: impl Into<String>,
        program: &Program,
        streams: Streams,
        cancel: &Cancel,
    ) -> anyhow::Result<Process> {
        let mut command = program.command();
        match streams {
            Streams::Heard => command
                // What a process says of a failure is for the reader of a terminal.
                .env("RUST_LIB_BACKTRACE", "0")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
            Streams::Shared => command.stdin(Stdio::inherit()),
            Streams::Told => command.stdin(Stdio::null()).stdout(Stdio::piped()),
        };
        Process::spawn(what.into(), program, command, cancel)
    }

    /// Starts `program` with stdin held open, and stdout and stderr written to `log`: for somebody's server.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(crate) fn logged(what: impl Into<String>, program: &Program, log: File) -> anyhow::Result<Process> {
        let what = what.into();
        let both = log.try_clone().with_context(|| format!("cannot keep what the {what} prints"))?;
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(log).stderr(both);
        Ok(Process::spawn(what, program, command, &Cancel::default())?.watched())
    }

    fn spawn(what: String, program: &Program, mut command: Command, cancel: &Cancel) -> anyhow::Result<Process> {
        // Who starts a group has to end it.
        catch_interrupts()?;
        command.process_group(0);
        let mut child = cores::on(program.cores(), || command.spawn())
            .with_context(|| format!("cannot start the {what}: {program}"))?;
        Ok(Process {
            what,
            shown: program.to_string(),
            id: Pid::from_child(&child),
            status: None,
            stdin: child.stdin.take(),
            lines: child.stdout.take().map(lines),
            said: child.stderr.take().map(Said::listen),
            watch: None,
            cancel: cancel.clone(),
        })
    }

    /// Ends its group with this process, even where this process is killed: for a program that does not go when its
    /// stdin closes.
    pub(crate) fn watched(mut self) -> Process {
        self.watch = Watch::over(self.id).map(Box::new);
        self
    }

    /// The child's id, and its group's.
    pub(crate) const fn id(&self) -> Pid {
        self.id
    }

    /// The next line of its stdout, as it is.
    pub(crate) fn text(&mut self, until: Instant) -> anyhow::Result<String> {
        loop {
            self.cancel.check()?;
            let lines = self.lines.as_ref().expect("only a child that is heard is asked for lines");
            match lines.recv_timeout(LOOK) {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(error)) => return Err(self.failure(&format!("cannot be understood ({error})"))),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("took too long")),
                Err(RecvTimeoutError::Disconnected) => {
                    let how = match self.wait(until)? {
                        Some(status) => format!("ended without a record ({status})"),
                        None => "closed its stdout without a record".to_owned(),
                    };
                    return Err(self.failure(&how));
                }
            }
        }
    }

    /// The next line of its stdout, read as JSON.
    pub(crate) fn line<T: serde::de::DeserializeOwned>(&mut self, until: Instant) -> anyhow::Result<T> {
        let line = self.text(until)?;
        serde_json::from_str(&line)
            .with_context(|| format!("the {} printed no record: {}", self.what, shortened(&line)))
    }

    /// All lines of its stdout, until it closes that or its time is up.
    pub(crate) fn lines(&mut self, until: Instant) -> anyhow::Result<Vec<String>> {
        let mut read = Vec::new();
        loop {
            self.cancel.check()?;
            let lines = self.lines.as_ref().expect("only a child that is heard is asked for lines");
            match lines.recv_timeout(LOOK) {
                Ok(Ok(line)) => read.push(line),
                Ok(Err(error)) => return Err(self.failure(&format!("cannot be understood ({error})"))),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("took too long")),
                Err(RecvTimeoutError::Disconnected) => return Ok(read),
            }
        }
    }

    /// Waits until it ends by itself; `None` when its time is up.
    pub(crate) fn wait(&mut self, until: Instant) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            self.cancel.check()?;
            match self.look()? {
                State::Ended(status) => return Ok(Some(status)),
                _ if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                _ => return Ok(None),
            }
        }
    }

    /// Waits until it ends by itself, successfully.
    pub(crate) fn ended(&mut self, until: Instant) -> anyhow::Result<()> {
        match self.wait(until)? {
            Some(status) if status.success() => {
                self.pass_on();
                Ok(())
            }
            Some(status) => {
                // Ctrl-C came between: then that is why.
                self.cancel.check()?;
                Err(self.failure(&format!("failed ({status})")))
            }
            None => Err(self.failure("did not end")),
        }
    }

    /// What it does right now. A stop is told once.
    pub(crate) fn look(&mut self) -> io::Result<State> {
        if let Some(status) = self.status {
            return Ok(State::Ended(status));
        }
        let ask = |options| rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.id), options | WaitIdOptions::NOHANG));
        if let Some(seen) = ask(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)? {
            let status = match (seen.exit_status(), seen.terminating_signal()) {
                (Some(code), _) => ExitStatus::from_raw(code << 8),
                (None, signal) => ExitStatus::from_raw(signal.unwrap_or(0)),
            };
            self.status = Some(status);
            return Ok(State::Ended(status));
        }
        match ask(WaitIdOptions::STOPPED) {
            Ok(seen) => Ok(seen.and_then(|seen| seen.stopping_signal()).map_or(State::Running, State::Stopped)),
            // It has ended since, and no process that has ended can be stopped: the next look tells.
            Err(Errno::CHILD) => Ok(State::Running),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes its stdin, which ends a child of ours.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to its whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        // It fails only where the group has nobody left who may be signalled.
        let _ = kill_process_group(self.id, signal);
    }

    /// Whether it and all of its group have ended.
    pub(crate) fn is_gone(&mut self) -> bool {
        matches!(self.look(), Ok(State::Ended(_)) | Err(_)) && group(self.id).is_empty()
    }

    /// Ends its group: SIGTERM, and SIGKILL for who is still there after `patience`.
    pub(crate) fn end(&mut self, patience: Duration) {
        self.stdin = None;
        self.watch = None;
        if !self.is_gone() {
            self.signal(Signal::TERM);
            // One that is stopped hears of it only when it goes on.
            self.signal(Signal::CONT);
            let until = Instant::now() + patience;
            while !self.is_gone() && Instant::now() < until {
                std::thread::sleep(GLANCE);
            }
        }
        self.signal(Signal::KILL);
        let until = Instant::now() + GRACE;
        while !self.is_gone() && Instant::now() < until {
            std::thread::sleep(GLANCE);
        }
    }

    /// Ends it and tells what it said.
    pub(crate) fn failure(&mut self, how: &str) -> anyhow::Error {
        self.end(GRACE);
        let mut message = format!("the {} {how}: {}", self.what, self.shown);
        if let Some(said) = self.said() {
            message.push_str("\nit said:\n");
            message.push_str(&said);
        }
        Failure::new(Kind::Run, message).into()
    }

    /// What is to be said of `error`, which somebody failed with who depends on this process: its own failure, if it
    /// failed first, or else both.
    pub(crate) fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        // It may be about to fail.
        match self.wait(Instant::now() + LOOK) {
            Err(_) => error,
            Ok(Some(status)) if !status.success() => self.failure(&format!("failed ({status})")),
            Ok(_) => {
                self.end(GRACE);
                match self.said() {
                    Some(said) => {
                        let message = format!("{error}\nmeanwhile the {} said:\n{said}", self.what);
                        Failure::new(Kind::Run, message).into()
                    }
                    None => error,
                }
            }
        }
    }

    /// Shows what it said although it succeeded: why a file of its is missing, say. dhat's own summary is no news.
    fn pass_on(&mut self) {
        let said = self.said().unwrap_or_default();
        let news = |line: &&str| !line.starts_with("dhat: ") || line.starts_with("dhat: error");
        for line in said.lines().filter(news) {
            terminal::labelled(Style::Warning, &self.what, line);
        }
    }

    /// What it wrote to stderr, once it has ended; `None` for nothing.
    pub(crate) fn said(&mut self) -> Option<String> {
        self.said.take().map(Said::text).filter(|said| !said.is_empty())
    }
}

impl Drop for Process {
    /// Closes its stdin first, so that it can take its socket's file away.
    fn drop(&mut self) {
        self.stdin = None;
        let until = Instant::now() + GRACE;
        while matches!(self.look(), Ok(State::Running | State::Stopped(_))) && Instant::now() < until {
            std::thread::sleep(GLANCE);
        }
        self.end(GRACE);
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.id), WaitIdOptions::EXITED));
    }
}

/// A shell in a child's group that kills the group when its own stdin ends: when this process is gone, however it went.
struct Watch(Child);

impl Watch {
    /// `None` where there is nobody to watch any more, or no shell.
    fn over(group: Pid) -> Option<Watch> {
        let mut shell = Program::new("/bin/sh").args(["-c", "read -r nothing; kill -KILL 0"]).command();
        shell.process_group(group.as_raw_pid());
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Watch)
    }
}

impl Drop for Watch {
    /// It goes alone.
    fn drop(&mut self) {
        // Either fails only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes of a group that have not ended.
pub(crate) fn group(group: Pid) -> Vec<Pid> {
    // After the name, which may hold anything: state, parent, group.
    let of_group = |stat: &str| {
        let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, _, group) = (rest.next()?, rest.next()?, rest.next()?);
        (!matches!(state, "Z" | "X")).then(|| group.parse::<i32>().ok())?
    };
    let members = processes().filter(|process| {
        let stat = std::fs::read(format!("/proc/{process}/stat")).unwrap_or_default();
        of_group(&String::from_utf8_lossy(&stat)) == Some(group.as_raw_pid())
    });
    members.collect()
}

/// Every process there is.
pub(crate) fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
}

/// Reads a child's stdout by lines, none of them longer than a record may be.
fn lines(stdout: impl Read + Send + 'static) -> Receiver<io::Result<String>> {
    let (sender, lines) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            let read = stdout.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(read) if read as u64 == LINE_BYTES_MAX => {
                    Err(io::Error::other(format!("a line of more than {LINE_BYTES_MAX} bytes")))
                }
                Ok(_) => Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(error),
            };
            let last = line.is_err();
            if sender.send(line).is_err() || last {
                return;
            }
        }
    });
    lines
}

/// The end of what a child writes to stderr.
struct Said {
    kept: Arc<Mutex<Kept>>,
    /// Disconnected when the child, and any process that inherited its stderr, has closed it.
    open: Receiver<()>,
}

#[derive(Default)]
struct Kept {
    bytes: VecDeque<u8>,
    left_out: u64,
}

impl Said {
    fn listen(mut stderr: impl Read + Send + 'static) -> Said {
        let kept = Arc::<Mutex<Kept>>::default();
        let (sender, open) = channel();
        let of_thread = Arc::clone(&kept);
        std::thread::spawn(move || {
            let _sender: std::sync::mpsc::Sender<()> = sender;
            let mut part = [0; 8192];
            while let Ok(read @ 1..) = stderr.read(&mut part) {
                of_thread.lock().unwrap_or_else(PoisonError::into_inner).add(&part[..read]);
            }
        });
        Said { kept, open }
    }

    /// All of it, once the child has ended. A process that outlives it may hold stderr open: it is not waited for.
    fn text(self) -> String {
        let _ = self.open.recv_timeout(GRACE);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text: Vec<u8> = kept.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        match kept.left_out {
            0 => text,
            left_out => format!("[{left_out} bytes left out] {text}"),
        }
    }
}

impl Kept {
    fn add(&mut self, part: &[u8]) {
        self.bytes.extend(part);
        let over = self.bytes.len().saturating_sub(SAID_BYTES_MAX);
        self.bytes.drain(..over);
        self.left_out += over as u64;
    }
}

/// The beginning of a line for a message.
fn shortened(line: &str) -> String {
    const SHOWN: usize = 300;
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Process {
        let program = Program::new("/bin/sh").args(["-c", script]);
        Process::start("program", &program, Streams::Heard, &Cancel::default()).expect("starts")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// Whether a process is there and has not ended.
    fn alive(process: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    #[test]
    fn whatever_is_left_of_its_group_ends_with_it() {
        // The second ignores SIGTERM; the first process is gone before its children.
        for script in
            ["sleep 600 & echo $!; exit 0", "sh -c 'trap \"\" TERM; echo $$; sleep 600; sleep 600' & sleep 600"]
        {
            let mut process = sh(script);
            let child: u32 = process.line(soon()).expect("an id");
            assert!(alive(child));
            drop(process);
            assert!(!alive(child), "{script}");
        }
    }

    /// The two questions of a look see it alive and gone: with a thousand of them it happens.
    #[test]
    fn one_that_ends_during_a_look_is_no_error() {
        for _ in 0..1_000 {
            let mut process = sh("exit 0");
            while process.look().expect("it is a child") == State::Running {}
        }
    }

    #[test]
    fn a_wait_ends_with_who_wanted_it() {
        let cancel = Cancel::new();
        let program = Program::new("/bin/sh").args(["-c", "echo $$; exec sleep 600"]);
        let mut process = Process::start("program", &program, Streams::Heard, &cancel).expect("starts");
        let id: u32 = process.line(soon()).expect("an id");
        let waiting = std::thread::spawn(move || process.wait(soon()));
        cancel.cancel();
        let error = waiting.join().expect("no panic").expect_err("cancelled");
        assert_eq!(error.downcast_ref::<Failure>().expect("a failure").kind, Kind::Interrupted);
        assert!(!alive(id), "it was dropped with the wait");
    }

    #[test]
    fn only_the_end_of_what_it_says_is_kept() {
        let mut process = sh(
            "i=0; while [ $i -lt 2000 ]; do echo $i: 0123456789012345678901234567890123456789012345; i=$((i+1)); done >&2; exit 3",
        );
        let error = process.ended(soon()).expect_err("it fails").to_string();
        assert!(error.contains("failed (exit status: 3)") && error.contains("\n1999: 0"), "{error}");
        assert!(error.contains("bytes left out]") && error.len() < SAID_BYTES_MAX + 1000, "{}", error.len());
    }

    #[test]
    fn a_stderr_that_outlives_the_child_is_not_waited_for() {
        // The one that goes on leaves the group, so that it is not ended with it.
        let mut process = sh("setsid sh -c 'echo $$; exec sleep 600' & read never; exit 4");
        let stranger: i32 = process.line(soon()).expect("an id");
        process.close();
        let error = process.ended(soon()).expect_err("it fails").to_string();
        assert!(error.contains("failed (exit status: 4)"), "{error}");
        rustix::process::kill_process(Pid::from_raw(stranger).expect("an id"), Signal::KILL).expect("it goes on");
    }

    #[test]
    fn a_stop_is_told_once() {
        let mut process = sh("kill -STOP $$; echo on; read never");
        let until = soon();
        let signal = loop {
            match process.look().expect("looks") {
                State::Stopped(signal) => break signal,
                State::Running => assert!(Instant::now() < until, "it never stops"),
                State::Ended(status) => panic!("{status}"),
            }
        };
        assert_eq!(signal, signal_hook::consts::SIGSTOP);
        assert_eq!(process.look().expect("looks"), State::Running);
        process.signal(Signal::CONT);
        assert_eq!(process.text(until).expect("a line"), "on");
    }
}
