//! Just enough HTTP/1.1 to ask the live endpoints, on nothing but `std`.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the endpoint accepts");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout");
    stream
}

/// Sends a request line with these headers and reads the answer to the end of the connection.
pub(crate) fn ask(addr: SocketAddr, request: &str, headers: &str) -> Answer {
    ask_once(addr, request, headers).expect("a head")
}

/// As [`ask`]; `None` where the connection was closed without a word: after the time that one may last.
pub(crate) fn ask_once(addr: SocketAddr, request: &str, headers: &str) -> Option<Answer> {
    let mut stream = connect(addr);
    write!(stream, "{request} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n").expect("the endpoint reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the endpoint answers and closes");
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the head is text").to_ascii_lowercase();
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path}"), "")
}
