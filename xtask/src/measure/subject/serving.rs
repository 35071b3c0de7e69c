//! One round: a server that is started, gets its traffic, and is gone again with all that was started.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use alloc_ladder::driver;
use alloc_ladder::record::Measurement;
use anyhow::Context;
use tempfile::TempDir;

use crate::cli::failure::{Failure, Kind};
use crate::measure::cores::Cores;
use crate::measure::interrupt::interrupted;
use crate::measure::process::{Process, State};
use crate::measure::program::Program;
use crate::measure::subject::file::{Length, ProgramTable, Step, Subject};
use crate::measure::subject::ready::{self, failed, last_of};
use crate::measure::subject::text::{Filling, filled};

/// How often a round is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a server may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a load that is not needed any more may take to end by itself, where what it leaves behind matters.
const LINGER: Duration = Duration::from_secs(2);
/// How long after a load's end its last messages may take to be counted, and a driver to show itself.
const SETTLE: Duration = driver::INTERVAL.saturating_mul(5);

/// What one round is of.
pub(super) struct Round<'a> {
    pub(super) subject: &'a Subject,
    pub(super) step: &'a Step,
    pub(super) server: &'a Path,
    pub(super) loads: &'a [PathBuf],
    /// What the instrument adds to the server's environment.
    pub(super) environment: &'a [(&'static str, OsString)],
    /// The cores of the server and of its loads; none holds them to none.
    pub(super) cores: Cores,
    /// The calls that the loads are asked for.
    pub(super) calls: u64,
    /// The round's number, from 0.
    pub(super) number: u32,
    /// Let loads end by themselves, so that what is live in the end is what they leave behind.
    pub(super) lingers: bool,
}

/// How a round ended.
pub(super) enum End {
    Seen(Box<Seen>),
    /// The window opened too late to close within the traffic, and may close within more of it.
    TooLate(anyhow::Error),
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Seen {
    /// The server's process.
    pub(super) process: u32,
    /// The window that the server's driver measured; `None` of a server without one.
    pub(super) window: Option<Measurement>,
    /// What the driver said of the whole process last.
    pub(super) whole: Option<Measurement>,
    pub(super) wall: Duration,
    /// The most memory that was resident, bytes; 0 for unknown.
    pub(super) rss_bytes_max: u64,
}

impl Seen {
    /// Messages of the whole process, as far as it counted them.
    pub(super) fn messages(&self) -> Option<u64> {
        let whole = self.whole.as_ref().map(counted).filter(|messages| *messages > 0);
        whole.or(self.window.as_ref().map(|window| window.messages))
    }
}

/// A server and its loads, while they run.
struct Running<'a> {
    round: &'a Round<'a>,
    folder: &'a Path,
    server: Process,
    loads: Vec<Process>,
    /// When the loads began.
    began: Instant,
}

impl Round<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// [`Kind::Environment`] for a port that is taken, [`Kind::Run`] when the server or a load fails or hangs, or there
    /// was no traffic to measure, [`Kind::Interrupted`]. Whatever was started has ended.
    pub(super) fn run(&self) -> anyhow::Result<End> {
        let folder = TempDir::new().context("no temporary folder")?;
        ready::port_is_free(&self.subject.server)?;
        let log = folder.path().join("server.log");
        let file = File::create(&log).context("no temporary folder")?;
        let mut server = Process::logged("server", &self.server_program(folder.path()), file).map_err(not_there)?;
        ready::wait(&mut server, &self.subject.server, &log)?;
        let mut running =
            Running { round: self, folder: folder.path(), server, loads: Vec::new(), began: Instant::now() };
        running.start_loads()?;
        running.finish()
    }

    fn server_program(&self, folder: &Path) -> Program {
        let Subject { server, window, .. } = self.subject;
        let table = &server.program;
        let own = table.args.iter().chain(&self.step.args);
        let mut program = self
            .program(self.server, table, own)
            .on_cores(&self.cores.server_of_many)
            .env(driver::OUT, folder)
            .env(driver::SIDE, server.side.name())
            .env(driver::WINDOW, window.variable());
        for (name, value) in &self.step.env {
            program = program.env(name, self.filled(value));
        }
        for (name, value) in self.environment {
            program = program.env(name, value);
        }
        program
    }

    /// A load's arguments: its own, those of the traffic, and those of the step.
    fn load_args<'b>(&'b self, table: &'b ProgramTable) -> impl Iterator<Item = &'b String> {
        table.args.iter().chain(&self.subject.traffic_args).chain(&self.step.load_args)
    }

    fn program<'b>(&self, path: &Path, table: &ProgramTable, args: impl Iterator<Item = &'b String>) -> Program {
        let fill = |text: &String| self.filled(text);
        let of_command = table.command.iter().flat_map(|words| words.0.iter().skip(1));
        let mut program =
            Program::new(path).in_folder(self.subject.base()).args(of_command.map(fill)).args(args.map(fill));
        for (name, value) in &table.env {
            program = program.env(name, fill(value));
        }
        program
    }

    /// A text of the file with its placeholders filled.
    fn filled(&self, text: &str) -> String {
        let Subject { server, workload, .. } = self.subject;
        filled(text, &Filling { port: server.port, calls: self.calls, workload: &workload.values() })
    }
}

/// A program that cannot be started is the file's fault, or the machine's.
fn not_there(error: anyhow::Error) -> anyhow::Error {
    Failure::new(Kind::Environment, format!("{error:#}"))
        .help("see what `command` names; paths are relative to the file")
        .into()
}

/// What goes on in a round.
enum Now {
    /// The window has closed, or what was to be recorded is recorded.
    Done,
    GoesOn,
    /// As [`End::TooLate`].
    TooLate(anyhow::Error),
}

impl Running<'_> {
    fn start_loads(&mut self) -> anyhow::Result<()> {
        for (index, (path, table)) in self.round.loads.iter().zip(&self.round.subject.load).enumerate() {
            let program = self.round.program(path, table, self.round.load_args(table));
            let log = File::create(self.log(index)).context("no temporary folder")?;
            let program = program.on_cores(&self.round.cores.client);
            self.loads.push(Process::logged("load", &program, log).map_err(not_there)?);
        }
        Ok(())
    }

    /// What a load prints.
    fn log(&self, index: usize) -> PathBuf {
        self.folder.join(format!("load-{index}.log"))
    }

    fn server_log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn finish(mut self) -> anyhow::Result<End> {
        let timeout = self.timeout();
        let mut rss_bytes_max = 0;
        // When all loads had ended.
        let mut quiet: Option<Instant> = None;
        loop {
            interrupted()?;
            rss_bytes_max = rss_bytes_max.max(resident(self.server.id().as_raw_pid()));
            match self.look(&mut quiet)? {
                Now::Done => break,
                Now::TooLate(why) => return Ok(End::TooLate(why)),
                Now::GoesOn => {}
            }
            if self.began.elapsed() > timeout {
                return Err(self.hung(timeout));
            }
            std::thread::sleep(LOOK);
        }
        if self.round.lingers {
            self.linger()?;
        }
        let wall = self.began.elapsed();
        for load in &mut self.loads {
            load.end(LINGER);
        }
        let whole = whole(self.folder);
        let process = self.server.id().as_raw_pid().unsigned_abs();
        let mut window = window(self.folder)?;
        self.server.end(PATIENCE);
        if let Some(window) = &mut window {
            window.round = self.round.number;
        }
        Ok(End::Seen(Box::new(Seen { process, window, whole, wall, rss_bytes_max })))
    }

    /// The longest a round may take: a window of time takes what it takes.
    fn timeout(&self) -> Duration {
        let window = &self.round.subject.window;
        let asked = match window.length {
            Length::Seconds(seconds) => Duration::from_secs_f64(seconds + window.warmup),
            Length::Messages(_) => Duration::ZERO,
        };
        asked + Duration::from_secs(window.timeout)
    }

    fn look(&mut self, quiet: &mut Option<Instant>) -> anyhow::Result<Now> {
        if let Some(said) = window_error(self.folder) {
            return Err(self.said(&format!("the server cannot measure the window: {said}"), None));
        }
        if window(self.folder)?.is_some() {
            return Ok(Now::Done);
        }
        for index in 0..self.loads.len() {
            if let State::Ended(status) = self.loads[index].look()?
                && !status.success()
            {
                // One whose server has died fails too, and the server's words are the better ones.
                std::thread::sleep(10 * LOOK);
                if let State::Ended(server) = self.server.look()? {
                    return self.server_ended(server);
                }
                let log = self.log(index);
                return Err(failed(&mut self.loads[index], &format!("failed ({status})"), &log, None));
            }
        }
        if let State::Ended(status) = self.server.look()? {
            return self.server_ended(status);
        }
        let all_ended = self.loads.iter_mut().all(|load| matches!(load.look(), Ok(State::Ended(_))));
        if !self.loads.is_empty() && all_ended && quiet.get_or_insert_with(Instant::now).elapsed() >= SETTLE {
            return self.without_window();
        }
        if self.time_is_up() && !self.has_driver() {
            return Ok(Now::Done);
        }
        Ok(Now::GoesOn)
    }

    /// A server that nobody told to end may do so where it is all there is.
    fn server_ended(&mut self, status: ExitStatus) -> anyhow::Result<Now> {
        let alone = self.round.subject.load.is_empty();
        if alone && status.success() {
            return if self.has_driver() { self.without_window() } else { Ok(Now::Done) };
        }
        let log = self.server_log();
        Err(failed(&mut self.server, &format!("ended in the middle of a round ({status})"), &log, None))
    }

    /// The traffic is over, and no window has closed.
    fn without_window(&mut self) -> anyhow::Result<Now> {
        if !self.has_driver() {
            return Ok(Now::Done);
        }
        let window = &self.round.subject.window;
        let counted = whole(self.folder).map(|whole| counted(&whole));
        let seams = "the seams count calls: `ServerLayer` in the server, and `install()` in its main";
        let (message, help) = match (window.length, counted) {
            (Length::Seconds(seconds), _) => (
                format!("the traffic ended before the window of {} s + {seconds} s closed", window.warmup),
                "make the load last longer, or the window shorter",
            ),
            (Length::Messages(_), Some(0)) => ("the load made no calls that the server counted".to_owned(), seams),
            // The driver's thread opens a window when it looks, which on a busy machine is late.
            (Length::Messages(messages), Some(counted)) if counted as f64 >= window.warmup + messages as f64 => {
                let needs = format!("{} + {messages}", window.warmup);
                let message = format!(
                    "the window of {needs} messages opened too late to close within the {counted} that the server \
                     counted: the machine was busy"
                );
                let help = "let the load make as many calls as `{calls}` says, or try again on a quieter machine";
                return Ok(Now::TooLate(self.said(&message, Some(help))));
            }
            (Length::Messages(messages), counted) => {
                let counted = counted.map_or_else(String::new, |counted| format!("; the server counted {counted}"));
                let needs = format!("{} + {messages}", window.warmup);
                let message = format!("the traffic ended before the window closed: it needs {needs} messages{counted}");
                (message, "make the load longer (`{calls}` is what it needs), or the window shorter")
            }
        };
        Err(self.said(&message, Some(help)))
    }

    /// Whether a window of time is over, of a server that measures none itself.
    fn time_is_up(&self) -> bool {
        let window = &self.round.subject.window;
        matches!(window.length, Length::Seconds(seconds)
            if self.began.elapsed() >= Duration::from_secs_f64(window.warmup + seconds) + SETTLE)
    }

    /// Whether the server has shown a driver.
    fn has_driver(&self) -> bool {
        whole(self.folder).is_some()
    }

    /// Waits a moment for loads that would end by themselves, and for the server to count their last calls.
    fn linger(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LINGER;
        while Instant::now() < until && !self.loads.iter_mut().all(|load| matches!(load.look(), Ok(State::Ended(_)))) {
            interrupted()?;
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(2 * driver::INTERVAL);
        Ok(())
    }

    fn hung(&mut self, timeout: Duration) -> anyhow::Error {
        let counted = whole(self.folder).map(|whole| counted(&whole));
        let so_far = match counted {
            Some(counted) => format!("; the server counted {counted} messages"),
            None => "; nothing in the server counts messages".to_owned(),
        };
        let alone = self.round.subject.load.is_empty();
        let what =
            if alone { "the server measured no window" } else { "the load did not end and the window did not close" };
        let help = match counted {
            Some(_) => "give a round more time with `[window] timeout`, or make the window shorter",
            None => {
                "a server without the driver is measured until its load ends: bound the load, or use `[window] seconds`"
            }
        };
        self.said(&format!("{what} within {} s{so_far}", timeout.as_secs()), Some(help))
    }

    /// A failure with what everybody printed.
    fn said(&self, message: &str, help: Option<&str>) -> anyhow::Error {
        let mut message = message.to_owned();
        let logs = (0..self.loads.len()).map(|index| ("load", self.log(index))).chain([("server", self.server_log())]);
        for (who, log) in logs {
            let said = last_of(&log);
            if !said.is_empty() {
                message += &format!("\nthe {who} printed:\n{said}");
            }
        }
        let failure = Failure::new(Kind::Run, message);
        match help {
            Some(help) => failure.help(help).into(),
            None => failure.into(),
        }
    }
}

/// Messages that a process counted, as far as its record says.
fn counted(whole: &Measurement) -> u64 {
    let rows = whole.counts.iter().flat_map(|counts| &counts.rows);
    // A process's own record has 1 message where no seam counted any.
    let named = whole.calls.iter().map(|row| &row.rpc).chain(rows.map(|row| &row.rpc));
    if named.into_iter().all(String::is_empty) { 0 } else { whole.messages }
}

/// Why there is no window, in the server's words.
fn window_error(folder: &Path) -> Option<String> {
    files(folder, ".window-error").next().and_then(|file| std::fs::read_to_string(file).ok())
}

/// The window that a process measured.
fn window(folder: &Path) -> anyhow::Result<Option<Measurement>> {
    let Some(file) = files(folder, ".json").find(|file| driver::window_of(file).is_some()) else { return Ok(None) };
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let window = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Kind::Run, format!("the server's record of the window cannot be read: {error}"))
            .help("use the same version of alloc-ladder in the server and of this command")
    })?;
    Ok(Some(window))
}

/// The newest record of a whole process.
fn whole(folder: &Path) -> Option<Measurement> {
    let file = files(folder, ".json").filter(|file| driver::window_of(file).is_none());
    let newest = file.max_by_key(|file| file.metadata().and_then(|file| file.modified()).ok())?;
    serde_json::from_str(&std::fs::read_to_string(newest).ok()?).ok()
}

fn files(folder: &Path, end: &'static str) -> impl Iterator<Item = PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(move |file| file.to_string_lossy().ends_with(end))
}

/// Memory of a process that is resident, bytes.
fn resident(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}
