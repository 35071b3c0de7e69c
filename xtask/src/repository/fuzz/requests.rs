//! HTTP/1 requests to the live endpoints and to `view --serve`, over loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;
use fastrand::Rng;

use super::readers::hold;
use super::runner::{Outcome, Try};
use crate::verbs::view::serve;

/// How long a server may take, once the client has sent all it will: less than a case may take.
const DEADLINE: Duration = Duration::from_millis(4500);
/// After so many cases a good request is sent, which is answered.
const HEALTH: u64 = 64;
/// No answer of a test's server is longer, in bytes.
const ANSWER_MAX: u64 = 8 << 20;

/// Each connection gets one answer or is closed, within the deadline; an answer is as long as it says, and nothing
/// comes behind it; and good requests are answered all along.
pub(super) fn live() -> anyhow::Result<Try> {
    let live = alloc_ladder::serve("127.0.0.1:0")?;
    // Dropped, it goes on to serve.
    let address = live.addr();
    Ok(requests(address, "/metrics", &[]))
}

/// As the live endpoints'; and no byte of a file outside the folder comes out, by `..` or through a link.
pub(super) fn view() -> anyhow::Result<Try> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let root = folder.path().join("runs");
    std::fs::create_dir_all(root.join("put-a"))?;
    std::fs::write(root.join("put-a/report.html"), "<!DOCTYPE html><title>a run</title>")?;
    std::fs::write(root.join("put-a/.hidden"), SECRET)?;
    std::fs::write(folder.path().join("secret"), SECRET)?;
    std::os::unix::fs::symlink("../../secret", root.join("put-a/link"))?;
    std::os::unix::fs::symlink("..", root.join("up"))?;
    let root = root.canonicalize()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    // It serves until the process ends.
    std::thread::Builder::new().name("fuzz-view".to_owned()).spawn(move || {
        let _folder = folder;
        serve::answer_all(listener, root)
    })?;
    Ok(requests(address, "/put-a/report.html", SECRET))
}

const SECRET: &[u8] = b"out of the folder: 6e1f0c";

fn requests(address: SocketAddr, good: &'static str, secret: &'static [u8]) -> Try {
    let mut cases = 0;
    Box::new(move |input, rng| {
        cases += 1;
        if cases % HEALTH == 1 {
            healthy(address, good)?;
        }
        let Some(answer) = exchange(address, input, !is_whole(input) || rng.u8(..4) == 0, rng)? else {
            return Ok(Outcome::Refused);
        };
        hold!(
            secret.is_empty() || !answer.windows(secret.len()).any(|bytes| bytes == secret),
            "a file outside is served"
        );
        let status = one_answer(&answer, is_head(input))?;
        Ok(if status == 200 { Outcome::Accepted } else { Outcome::Refused })
    })
}

/// Whether the answer has no body.
fn is_head(input: &[u8]) -> bool {
    begun(input).starts_with(b"HEAD ")
}

/// Whether a server has all it needs to answer at once. Whoever closes before there is an answer may get none.
fn is_whole(input: &[u8]) -> bool {
    let has = |what: &[u8]| begun(input).windows(what.len()).any(|bytes| bytes == what);
    // A profile of some seconds is answered after them.
    has(b"\r\n\r\n") && !has(b"seconds")
}

/// Empty lines may stand before a request (RFC 9112, section 2.2).
fn begun(input: &[u8]) -> &[u8] {
    let begin = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
    &input[begin..]
}

fn healthy(address: SocketAddr, path: &str) -> Result<(), String> {
    let mut socket = connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(|error| format!("a good request cannot be sent: {error}"))?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).map_err(|error| format!("a good request has no answer: {error}"))?;
    let status = one_answer(&answer, false)?;
    hold!(status == 200, "a good request is answered with {status}");
    Ok(())
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).map_err(|error| format!("cannot connect: {error}"))?;
    let set = socket.set_nodelay(true).and_then(|()| socket.set_read_timeout(Some(DEADLINE)));
    set.and_then(|()| socket.set_write_timeout(Some(DEADLINE)))
        .map_err(|error| format!("a socket's options: {error}"))?;
    Ok(socket)
}

/// Sends the input in up to four pieces, closes that direction if asked to, and reads what comes; `None` where the
/// connection is closed without a byte.
pub(super) fn exchange(
    address: SocketAddr,
    input: &[u8],
    closes: bool,
    rng: &mut Rng,
) -> Result<Option<Vec<u8>>, String> {
    let mut socket = connect(address)?;
    let mut rest = input;
    for piece in 0..4 {
        let count = if piece == 3 { rest.len() } else { rng.usize(..=rest.len()) };
        let (now, later) = rest.split_at(count);
        // A server may close before it has read everything.
        if socket.write_all(now).is_err() {
            break;
        }
        rest = later;
    }
    if closes {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match socket.take(ANSWER_MAX).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Err(format!("open after {} ms, {} bytes were answered", DEADLINE.as_millis(), answer.len()));
        }
        Err(error) => return Err(format!("cannot read: {error}")),
    }
    Ok((!answer.is_empty()).then_some(answer))
}

/// The status of the only answer there is.
fn one_answer(answer: &[u8], head: bool) -> Result<u16, String> {
    let shown = || String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else { return Err(format!("the head has no end: {:?}", shown())) };
    let text = std::str::from_utf8(&answer[..end]).map_err(|_| format!("the head is not text: {:?}", shown()))?;
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    let Some(status) = status else { return Err(format!("not an answer: {:?}", shown())) };
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = answer.len() - end - 4;
    hold!(head || body == length.unwrap_or(0), "a body of {body} bytes, said to be {length:?}: {:?}", shown());
    hold!(!head || body == 0 || Some(body) == length, "HEAD has a body of {body} bytes: {:?}", shown());
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_only_for_what_is_answered_at_once() {
        assert!(is_whole(b"\r\nGET / HTTP/1.1\r\n\r\n") && is_head(b"\r\n\r\nHEAD / HTTP/1.1\r\n\r\n"));
        for waits in [&b"\r\n\r\nGET / HTTP/1.1\r\n"[..], b"GET /?seconds=300 HTTP/1.1\r\n\r\n", b"", b"\r\n\r\n"] {
            assert!(!is_whole(waits), "{waits:?}");
        }
        assert!(!is_head(b"") && !is_head(b"GET / HEAD "));
    }

    #[test]
    fn the_oracle_sees_a_second_answer_a_short_one_and_none() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(one_answer(good, false), Ok(200));
        assert_eq!(one_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", true), Ok(200));
        assert!(one_answer(&[&good[..], good].concat(), false).is_err(), "request splitting");
        assert!(one_answer(&good[..good.len() - 1], false).is_err());
        assert!(one_answer(b"hello", false).is_err());
        assert!(one_answer(b"SMTP 200\r\n\r\n", false).is_err());
    }
}
