//! Instructions per message, from valgrind's callgrind: the steady figure beside noisy time.
//!
//! A program runs twice, with N and with 2N messages; the difference is what N messages cost, and start-up, connection
//! set-up and warm-up cancel out. Nothing in the program has to switch collection on and off. Instructions in the
//! kernel are not counted, nor how long any of them takes; a run is some fifty times slower than without.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::analyse::peers::InstructionsPerMessage;
use crate::cli::failure::{Failure, Kind};
use crate::measure::pair::spawn_pair;
use crate::measure::program::{self, Program};

/// What is missing and how to get it, in one line: for a verb that goes on without.
pub(crate) const MISSING: &str = "valgrind is not installed; to count instructions: apt-get install valgrind";

/// How long one of the two runs may take: callgrind is slow, and the machine may be too.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs server and client under callgrind with `messages` and with twice as many, and returns the difference per
/// message. `server` and `client` make the programs for a number of messages, the client's with the server's address.
///
/// # Errors
/// [`Kind::Environment`] without valgrind, [`Kind::Run`] when a run fails.
pub(crate) fn per_message(
    messages: u64,
    server: impl Fn(u64) -> Program,
    client: impl Fn(u64, &str) -> Program,
) -> anyhow::Result<InstructionsPerMessage> {
    let valgrind = program::find("valgrind").ok_or_else(|| Failure::new(Kind::Environment, MISSING))?;
    let folder = TempDir::with_prefix("alloc-ladder-").context("cannot make a temporary folder")?;
    let counted = |messages: u64| -> anyhow::Result<(u64, u64)> {
        let under = |program: Program, out: &Path| {
            let tool = Program::new(&valgrind).args(["--tool=callgrind", "--quiet"]);
            program.under(tool.arg(format!("--callgrind-out-file={}", out.display())))
        };
        let (server_out, client_out) = (folder.path().join("server"), folder.path().join("client"));
        let client = |address: &str| under(client(messages, address), &client_out);
        spawn_pair(&under(server(messages), &server_out), client, TIMEOUT)?;
        Ok((total(&server_out)?, total(&client_out)?))
    };
    let (once, twice) = (counted(messages)?, counted(2 * messages)?);
    let per_message = |once: u64, twice: u64| (twice as f64 - once as f64) / messages as f64;
    Ok(InstructionsPerMessage { server: per_message(once.0, twice.0), client: per_message(once.1, twice.1) })
}

fn total(out: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(out).with_context(|| format!("callgrind left no {}", out.display()))?;
    instructions(&text).with_context(|| format!("{} says no total", out.display()))
}

/// The total of a callgrind file: its `totals:` line where it has one, else its `summary:` lines, of which a program
/// that dumps more than once has several.
fn instructions(text: &str) -> Option<u64> {
    let of = |key: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
        values.reduce(|sum: u64, value| sum + value)
    };
    of("totals:").or_else(|| of("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_either_line() {
        assert_eq!(instructions("events: Ir\nsummary: 120\nfn=(1)\n1 2\ntotals: 123 4\n"), Some(123));
        assert_eq!(instructions("events: Ir\nsummary: 120\nsummary: 5\n"), Some(125));
        assert_eq!(instructions("totals: many\n"), None);
        assert_eq!(instructions(""), None);
    }
}
