//! Waiting until a server is ready, and saying in words why one is not.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::failure::{Failure, Kind};
use crate::measure::interrupt::interrupted;
use crate::measure::process::{Process, State, group};
use crate::measure::subject::file::Server;
use crate::measure::subject::{health, ports};

/// How often a server is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long connections that have the server's port may take to give it back: the kernel keeps it for a minute after their
/// end.
const CONNECTIONS: Duration = Duration::from_secs(70);
/// Bytes of a log that an error shows, from its end.
const SHOWN: u64 = 4096;

/// Refuses to start a server on a port that somebody else has.
///
/// # Errors
/// [`Kind::Environment`], with the process that listens on it.
pub(super) fn port_is_free(server: &Server) -> anyhow::Result<()> {
    let Some(port) = server.port else { return Ok(()) };
    if ports::reachable(port).is_none() {
        return port_is_nobody_s(port);
    }
    let who = ports::holder(port).map_or_else(|| "another program".to_owned(), |process| format!("process {process}"));
    Err(Failure::new(Kind::Environment, format!("port {port} is taken: {who} listens on it"))
        .help("end it, or write another `port` into the file")
        .into())
}

/// Waits for a port on which nobody listens and that a connection of some program has all the same, as its own end of it:
/// the kernel hands out most high ports so.
fn port_is_nobody_s(port: u16) -> anyhow::Result<()> {
    let until = Instant::now() + CONNECTIONS;
    while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
        interrupted()?;
        if Instant::now() >= until {
            let message = format!("port {port} is taken: a connection of some program has it as its own end");
            return Err(Failure::new(Kind::Environment, message)
                .help("write a `port` below 32768 into the file: those above are handed out to connections")
                .into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits until the server is ready.
///
/// # Errors
/// [`Kind::Run`] when it ends, or is not ready in time; [`Kind::Interrupted`].
pub(super) fn wait(process: &mut Process, server: &Server, log: &Path) -> anyhow::Result<()> {
    let within = Duration::from_secs(server.ready_within);
    let until = Instant::now() + within;
    let mut seen = Seen::new(server.line.as_deref());
    loop {
        interrupted()?;
        let missing = match seen.in_log(log) {
            false => Some(format!("it has not printed `{}`", server.line.as_deref().unwrap_or_default())),
            true => unreachable_why(process, server),
        };
        let Some(missing) = missing else { return Ok(()) };
        // One that nothing is waited for may have done all its work by now.
        if let State::Ended(status) = process.look()? {
            return Err(failed(process, &format!("ended before it was ready ({status})"), log, None));
        }
        if Instant::now() >= until {
            let help = "give it more time with `ready-within`, or mend what says that it is ready";
            let how = format!("was not ready within {} s: {missing}", within.as_secs());
            return Err(failed(process, &how, log, Some(help)));
        }
        std::thread::sleep(LOOK);
    }
}

/// Why nobody can call the server yet; `None` where somebody can.
fn unreachable_why(process: &Process, server: &Server) -> Option<String> {
    let port = server.port?;
    let Some(address) = ports::reachable(port) else {
        let others = ports::of(&group(process.id()));
        let others: Vec<String> = others.iter().map(u16::to_string).collect();
        return Some(match others.is_empty() {
            true => format!("nothing listens on port {port}, and it listens on no port at all"),
            false => format!("nothing listens on port {port}; it listens on {}", others.join(", ")),
        });
    };
    health::check(address, server.health.as_deref()?).err()
}

/// A failure of a process that writes to a log, with the log's end.
pub(super) fn failed(process: &mut Process, how: &str, log: &Path, help: Option<&str>) -> anyhow::Error {
    let error = process.failure(how);
    let said = last_of(log);
    let said = if said.is_empty() { "\nit printed nothing".to_owned() } else { format!("\nit printed:\n{said}") };
    let failure = Failure::new(Kind::Run, format!("{error}{said}"));
    match help {
        Some(help) => failure.help(help).into(),
        None => failure.into(),
    }
}

/// The end of what a process printed.
pub(super) fn last_of(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
        let mut bytes = Vec::new();
        file.take(SHOWN).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Whether a text was printed, looked for in what was added since the last look.
struct Seen<'a> {
    text: Option<&'a str>,
    at: u64,
}

impl<'a> Seen<'a> {
    fn new(text: Option<&'a str>) -> Seen<'a> {
        Seen { text, at: 0 }
    }

    fn in_log(&mut self, log: &Path) -> bool {
        let Some(text) = self.text else { return true };
        let read = || {
            let mut file = File::open(log)?;
            file.seek(SeekFrom::Start(self.at))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            std::io::Result::Ok(bytes)
        };
        let Ok(bytes) = read() else { return false };
        let found = memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        // A text may be cut in two where the last look ended.
        self.at += bytes.len().saturating_sub(text.len()) as u64;
        if found {
            self.text = None;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::measure::program::Program;

    fn server(port: Option<u16>, line: Option<&str>) -> Server {
        Server {
            program: Default::default(),
            features: vec![],
            default_features: true,
            profile: String::new(),
            side: alloc_ladder::Side::Server,
            port,
            line: line.map(str::to_owned),
            health: None,
            ready_within: 20,
        }
    }

    fn start(script: &str, server: &Server) -> anyhow::Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let program = Program::new("/bin/sh").args(["-c", script]);
        let file = File::create(&log).expect("creates");
        wait(&mut Process::logged("server", &program, file).expect("starts"), server, &log)
    }

    #[test]
    fn a_line_makes_a_server_ready_wherever_it_is_printed() {
        start("echo starting; sleep 0.1; echo now listening on 7 >&2; sleep 60", &server(None, Some("listening on")))
            .expect("ready");
        start("sleep 60", &server(None, None)).expect("nothing to wait for");
        start("exit 0", &server(None, None)).expect("it may be done already");
    }

    #[test]
    fn a_server_that_is_not_ready_says_why_in_words() {
        let died = start("echo no config >&2; exit 3", &server(None, Some("up"))).expect_err("died").to_string();
        assert!(died.starts_with("the server ended before it was ready (exit status: 3)"), "{died}");
        assert!(died.ends_with("it printed:\nno config"), "{died}");
        let never = Server { ready_within: 0, ..server(None, Some("up")) };
        let never = start("sleep 60", &never).expect_err("silent").to_string();
        assert!(never.contains("was not ready within 0 s: it has not printed `up`"), "{never}");
        assert!(never.ends_with("it printed nothing"), "{never}");
        let nowhere = Server { ready_within: 0, ..server(Some(1), None) };
        let nowhere = start("sleep 60", &nowhere).expect_err("deaf").to_string();
        assert!(nowhere.contains("nothing listens on port 1, and it listens on no port at all"), "{nowhere}");
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_with_the_process() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = socket.local_addr().expect("bound").port();
        let error = port_is_free(&server(Some(port), None)).expect_err("taken");
        let failure = error.downcast::<Failure>().expect("a failure");
        assert_eq!(failure.kind, Kind::Environment);
        assert!(failure.message.contains(&format!("process {}", std::process::id())), "{failure}");
    }

    #[test]
    fn a_text_is_found_across_two_looks() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut file = File::create(&log).expect("creates");
        let mut seen = Seen::new(Some("listening"));
        file.write_all(b"xx liste").expect("writes");
        assert!(!seen.in_log(&log));
        file.write_all(b"ning").expect("writes");
        assert!(seen.in_log(&log) && seen.in_log(&log));
    }
}
