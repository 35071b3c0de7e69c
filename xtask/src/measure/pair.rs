//! One measurement: a server and a client process, started, listened to, and gone afterwards whatever happens.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Listening, Measurement};

use crate::analyse::peers::BothSides;
use crate::cli::failure::{Failure, Kind};
use crate::measure::interrupt::Cancel;
use crate::measure::process::{Process, Streams};
use crate::measure::program::Program;

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
    run_pair(Box::new(start(Side::Server, server)?), client, timeout)
}

/// Starts one of the two.
///
/// # Errors
/// What [`Process::start`] gives.
pub(crate) fn start(side: Side, program: &Program) -> anyhow::Result<Process> {
    Process::start(side.name(), program, Streams::Heard, &Cancel::default())
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
    fn let_go(self: Box<Self>, until: Instant) -> anyhow::Result<()>;
}

/// As [`spawn_pair`], with a server that was started already.
pub(crate) fn run_pair(
    mut server: Box<dyn Serving + '_>,
    client: impl FnOnce(&str) -> Program,
    timeout: Duration,
) -> anyhow::Result<BothSides> {
    let until = Instant::now() + timeout;
    let address = server.address(until)?;
    let mut client = start(Side::Client, &client(&address))?;
    // A server that fails first is why the client then fails: its own words are the better ones.
    let measured = client.line(until).map_err(|error| server.last_words(error))?;
    client.ended(until)?;
    let sides = BothSides { server: server.record(until)?, client: measured };
    server.let_go(until)?;
    Ok(sides)
}

/// Runs `client` alone, against a server that is already there.
pub(crate) fn spawn_client(client: &Program, timeout: Duration) -> anyhow::Result<Measurement> {
    let until = Instant::now() + timeout;
    let mut client = start(Side::Client, client)?;
    let measured = client.line(until)?;
    client.ended(until)?;
    Ok(measured)
}

impl Serving for Process {
    fn address(&mut self, until: Instant) -> anyhow::Result<String> {
        self.line(until).map(|Listening { address }| address)
    }

    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement> {
        self.line(until)
    }

    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        Process::last_words(self, error)
    }

    fn let_go(mut self: Box<Self>, until: Instant) -> anyhow::Result<()> {
        self.close();
        self.ended(until)
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
