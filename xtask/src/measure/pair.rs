//! One measurement: a server and a client process, started, listened to, and gone afterwards whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Listening, Measurement};
use anyhow::Context;

use crate::analyse::peers::BothSides;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::program::Program;

/// How often a wait looks whether Ctrl-C came.
const LOOK: Duration = Duration::from_millis(50);

/// How long a process that is not needed any more has to go by itself.
const GRACE: Duration = Duration::from_millis(300);

/// Runs `server`, gives its address to `client`, and returns both records.
///
/// # Errors
/// [`Kind::Run`] when either process fails, prints something else than its record, or takes longer than `timeout`;
/// [`Kind::Interrupted`] after Ctrl-C. Both processes are reaped in every case.
pub(crate) fn spawn_pair(
    server: &Program,
    client: impl FnOnce(&str) -> Program,
    timeout: Duration,
) -> anyhow::Result<BothSides> {
    run_pair(Process::start(Side::Server.name(), server)?, client, timeout)
}

/// A server being measured, in a process of this host or of another.
pub(crate) trait Serving {
    /// Where it listens.
    fn address(&mut self, until: Instant) -> anyhow::Result<String>;
    /// What it measured, once its client is done.
    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement>;
    /// What is to be said of `error`, which its client failed with: the server's own failure, if it failed first, or
    /// else both, because a client that waits in vain waits for its server.
    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error;
    /// Tells it to go and waits for it.
    fn let_go(self, until: Instant) -> anyhow::Result<()>;
}

/// As [`spawn_pair`], with a server that was started already.
pub(crate) fn run_pair(
    mut server: impl Serving,
    client: impl FnOnce(&str) -> Program,
    timeout: Duration,
) -> anyhow::Result<BothSides> {
    let until = Instant::now() + timeout;
    let address = server.address(until)?;
    let mut client = Process::start(Side::Client.name(), &client(&address))?;
    // A server that fails first is why the client then fails: its own words are the better ones.
    let measured = client.line(until).map_err(|error| server.last_words(error))?;
    client.ended(until)?;
    let pair = BothSides { server: server.record(until)?, client: measured };
    server.let_go(until)?;
    Ok(pair)
}

/// Runs `client` alone, against a server that is already there.
pub(crate) fn spawn_client(client: &Program, timeout: Duration) -> anyhow::Result<Measurement> {
    let until = Instant::now() + timeout;
    let mut client = Process::start(Side::Client.name(), client)?;
    let measured = client.line(until)?;
    client.ended(until)?;
    Ok(measured)
}

/// A child process, killed and reaped when dropped.
pub(crate) struct Process {
    what: &'static str,
    shown: String,
    child: Child,
    /// Held open: a server goes when it closes, also when this process dies.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    pub(crate) fn start(what: &'static str, program: &Program) -> anyhow::Result<Process> {
        let mut child = program
            .command()
            // What a process says of a failure is for the reader of a terminal.
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a terminal's Ctrl-C is this process's to pass on, after it wrote down what it has.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {what}: {program}"))?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let stdin = child.stdin.take();
        Ok(Process { what, shown: program.to_string(), child, stdin, lines, stderr: Some(stderr) })
    }

    /// The next line of its stdout, read as JSON.
    pub(crate) fn line<T: serde::de::DeserializeOwned>(&mut self, until: Instant) -> anyhow::Result<T> {
        loop {
            interrupted()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => {
                    return serde_json::from_str(&line)
                        .with_context(|| format!("the {} printed no record: {line}", self.what));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("took too long")),
                Err(RecvTimeoutError::Disconnected) => {
                    interrupted()?;
                    let how = match self.child.wait() {
                        Ok(status) => format!("ended without a record ({status})"),
                        Err(error) => format!("ended without a record ({error})"),
                    };
                    return Err(self.failure(&how));
                }
            }
        }
    }

    /// Waits until it ends by itself, successfully.
    pub(crate) fn ended(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            interrupted()?;
            match self.child.try_wait()? {
                Some(status) if status.success() => {
                    self.pass_on();
                    return Ok(());
                }
                Some(_) if interrupted().is_err() => return interrupted(),
                Some(status) => return Err(self.failure(&format!("failed ({status})"))),
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                None => return Err(self.failure("did not end")),
            }
        }
    }

    /// Closes its stdin and gives it `patience` to go, whatever else is the matter.
    pub(crate) fn close(&mut self, patience: Duration) {
        self.stdin = None;
        let until = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it and tells what it said.
    pub(crate) fn failure(&mut self, how: &str) -> anyhow::Error {
        self.kill();
        let mut message = format!("the {} {how}: {}", self.what, self.shown);
        if let Some(said) = self.said() {
            message.push_str("\nit said:\n");
            message.push_str(&said);
        }
        Failure::new(Kind::Run, message).into()
    }

    /// Shows what it said although it succeeded: why a file of its is missing, say. dhat's own summary is no news.
    fn pass_on(&mut self) {
        let said = self.said().unwrap_or_default();
        let news = |line: &&str| !line.starts_with("dhat: ") || line.starts_with("dhat: error");
        for line in said.lines().filter(news) {
            terminal::labelled(Style::Warning, self.what, line);
        }
    }

    /// What it wrote to stderr, once it has ended; `None` for nothing.
    fn said(&mut self) -> Option<String> {
        let said = self.stderr.take()?.join().ok()?;
        Some(said.trim_end().to_owned()).filter(|said| !said.is_empty())
    }

    fn kill(&mut self) {
        self.stdin = None;
        // Both fail only when it has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving for Process {
    fn address(&mut self, until: Instant) -> anyhow::Result<String> {
        self.line(until).map(|Listening { address }| address)
    }

    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement> {
        self.line(until)
    }

    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        if interrupted().is_err() {
            return error;
        }
        std::thread::sleep(LOOK);
        if let Ok(Some(status)) = self.child.try_wait()
            && !status.success()
        {
            return self.failure(&format!("failed ({status})"));
        }
        self.kill();
        match self.said() {
            Some(said) => Failure::new(Kind::Run, format!("{error}\nmeanwhile the {} said:\n{said}", self.what)).into(),
            None => error,
        }
    }

    fn let_go(mut self, until: Instant) -> anyhow::Result<()> {
        self.stdin = None;
        self.ended(until)
    }
}

impl Drop for Process {
    /// Closes its stdin first, so that it can take its socket's file away.
    fn drop(&mut self) {
        self.close(GRACE);
        self.kill();
    }
}

/// Whether a server could listen on `address`; port 0 always is free. Asked before anything is built, and without
/// sharing the port, because servers of several runtimes share theirs and would take half of another run's connections.
///
/// # Errors
/// [`Kind::Environment`] when it is in use or not of this machine.
pub(crate) fn port_is_free(address: SocketAddr) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(Kind::Environment, format!("cannot listen on {address}: {error}"))
            .help("leave --bind out, or give it port 0, to take a free port")
            .into()),
    }
}

/// From now on Ctrl-C ends a wait instead of this process, so that everything started is taken down in order.
pub(crate) fn catch_interrupts() -> anyhow::Result<()> {
    if INTERRUPTED.get().is_none() {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, flag.clone()).context("cannot listen for Ctrl-C")?;
        }
        let _ = INTERRUPTED.set(flag);
    }
    Ok(())
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Fails when Ctrl-C came.
///
/// # Errors
/// [`Kind::Interrupted`].
pub(crate) fn interrupted() -> anyhow::Result<()> {
    if INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        return Err(Failure::new(Kind::Interrupted, "interrupted").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Program {
        Program::new("/bin/sh").args(["-c", script])
    }

    const ADDRESS: &str = r#"echo '{"address":"127.0.0.1:9"}';"#;

    fn failure(server: &str, client: &str, timeout: Duration) -> String {
        spawn_pair(&sh(server), |_| sh(client), timeout).expect_err("it fails").to_string()
    }

    #[test]
    fn a_process_that_fails_is_shown_with_what_it_said() {
        let long = Duration::from_secs(20);
        let died = failure("echo no port >&2; exit 3", "true", long);
        assert!(died.starts_with("the server ended without a record (exit status: 3)"), "{died}");
        assert!(died.ends_with("it said:\nno port"), "{died}");
        let client = failure(&format!("{ADDRESS} cat >/dev/null"), "echo lost >&2; exit 4", long);
        assert!(client.starts_with("the client ended") && client.ends_with("lost"), "{client}");
        let server = failure(&format!("{ADDRESS} echo full >&2; exit 5"), "sleep 0.2; exit 1", long);
        assert!(server.starts_with("the server failed (exit status: 5)") && server.ends_with("full"), "{server}");
        let prints = failure("echo hello", "true", long);
        assert_eq!(prints, "the server printed no record: hello");
    }

    #[test]
    fn a_process_that_hangs_is_killed_when_its_time_is_up() {
        let began = Instant::now();
        let hung = failure(&format!("{ADDRESS} exec sleep 60"), "exec sleep 60", Duration::from_millis(200));
        assert!(hung.starts_with("the client took too long"), "{hung}");
        // A client that waits in vain waits for its server: what that says may be why.
        let server =
            failure(&format!("{ADDRESS} echo stuck >&2; exec sleep 60"), "exec sleep 60", Duration::from_secs(1));
        assert!(server.ends_with("meanwhile the server said:\nstuck"), "{server}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
