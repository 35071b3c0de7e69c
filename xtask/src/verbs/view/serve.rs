//! A static server for one folder: enough HTTP for a browser on the other end of a forwarded port, and no more.
//!
//! It reads, never writes; GET and HEAD only; a path that leaves the folder, by `..` or by a link, does not exist.
//! A request must ask for this machine by address or as `localhost`: a page elsewhere whose name is made to resolve
//! here (DNS rebinding) asks by that name, and gets nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloc_ladder::subject::scenario::Scenario;
use maud::html;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::render::page;
use crate::store::{find, layout};

/// A request's head is a few hundred bytes; more than this is not a browser.
const HEAD_MAX: u64 = 16 * 1024;
/// A browser opens six connections; the rest is room for a second reader.
const CONNECTIONS_MAX: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until interrupted.
///
/// # Errors
/// The address cannot be bound, or there is no folder to serve.
pub(super) fn serve(address: SocketAddr, profiles: &Path, run: Option<&Path>) -> anyhow::Result<()> {
    let root = profiles.canonicalize().map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot serve {}: {error}", profiles.display()))
            .help("measure something first: cargo xtask profile put")
    })?;
    let listener = TcpListener::bind(address).map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot listen on {address}: {error}"))
            .help("pass another address, such as --serve 127.0.0.1:0 for any free port")
    })?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        terminal::labelled(
            terminal::Style::Warning,
            "warning",
            &format!("{bound} is not loopback: whoever reaches this machine can read {}", root.display()),
        );
    }
    let start = run
        .and_then(|dir| dir.canonicalize().ok()?.strip_prefix(&root).ok().map(Path::to_path_buf))
        .and_then(|name| Some(format!("{}/{}", name.to_str()?, layout::REPORT)));
    terminal::result(&format!("http://{bound}/{}\n", page::encoded(&start.unwrap_or_default())))?;
    terminal::progress("Serving", &format!("{} (Ctrl-C ends it)", profiles.display()));
    accept(&listener, &root)
}

fn accept(listener: &TcpListener, root: &Path) -> anyhow::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        // A connection that failed before it was accepted is the peer's affair.
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (open, root) = (Arc::clone(&open), root.to_path_buf());
        std::thread::spawn(move || {
            // A reader that goes away in the middle of an answer is no fault to report.
            let _ = answer(&stream, &root);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

fn answer(stream: &TcpStream, root: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut lines = BufReader::new(stream.take(HEAD_MAX)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // Of the rest of the head only the host matters here, but an unread one would reset the connection.
    let mut hosts = Vec::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        hosts.extend(
            line.split_once(':')
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
                .map(|(_, host)| host.trim().to_owned()),
        );
    }
    let response = match hosts.as_slice() {
        [host] if is_this_machine(host) => respond(&request, root),
        [_] => Response::plain("421 Misdirected Request"),
        _ => Response::plain("400 Bad Request"),
    };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Content-Type-Options: nosniff\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        response.status,
        response.kind,
        response.body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if !request.starts_with("HEAD ") {
        stream.write_all(&response.body)?;
    }
    stream.flush()
}

/// Whether a `Host` is an address or `localhost`, with or without a port: a name that anybody could give this machine
/// is neither.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // The last group of an IPv6 address is no port.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost"),
    }
}

struct Response {
    status: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

impl Response {
    fn plain(status: &'static str) -> Response {
        Response { status, kind: "text/plain; charset=utf-8", body: format!("{status}\n").into_bytes() }
    }
}

/// The answer to a request line; everything but the line and the folder is left out so that it can be tested.
fn respond(request: &str, root: &Path) -> Response {
    let mut words = request.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Response::plain("400 Bad Request");
    };
    if !version.starts_with("HTTP/1.") {
        return Response::plain("400 Bad Request");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Response::plain("405 Method Not Allowed");
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path == "/" {
        return Response { status: "200 OK", kind: "text/html; charset=utf-8", body: index(root).into_bytes() };
    }
    match resolve(root, path).and_then(|file| Some((std::fs::read(&file).ok()?, kind(&file)))) {
        Some((body, kind)) => Response { status: "200 OK", kind, body },
        None => Response::plain("404 Not Found"),
    }
}

/// The file a path names, if it lies inside `root`.
fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let decoded = decode(path.strip_prefix('/')?)?;
    let relative = Path::new(&decoded);
    // Only plain names: no `..`, no drive, no absolute path, no hidden file.
    let plain = relative.components().all(|component| {
        matches!(component, Component::Normal(name) if name.to_str().is_some_and(|name| !name.starts_with('.')))
    });
    if !plain || decoded.contains(['\\', '\0']) {
        return None;
    }
    // Links are followed before asking where they lead.
    let file = root.join(relative).canonicalize().ok()?;
    (file.starts_with(root) && file.is_file()).then_some(file)
}

/// Percent-decoding; `None` for what is not valid or not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("gz") => "application/gzip",
        _ => "text/plain; charset=utf-8",
    }
}

/// The runs of a folder, newest first.
fn index(root: &Path) -> String {
    let runs = find::runs(root);
    page::shell(
        "Allocation profiles",
        &html! {
            main {
                header.top {
                    p.eyebrow { "alloc-ladder" }
                    h1 { "Allocation profiles" }
                }
                section.panel {
                    @if runs.is_empty() {
                        p.empty { "No runs yet. Measure one: " code { "cargo xtask profile put" } }
                    } @else {
                        table.runs {
                            thead {
                                tr {
                                    th scope="col" { "run" }
                                    th scope="col" { "scenario" }
                                    th scope="col" { "begun" }
                                    th.number scope="col" { "steps" }
                                }
                            }
                            tbody {
                                @for found in &runs {
                                    tr {
                                        th scope="row" {
                                            @if found.dir.join(layout::REPORT).is_file() {
                                                a href={ (page::encoded(&found.name)) "/" (layout::REPORT) } { (found.name) }
                                            } @else {
                                                (found.name) " " small { "not rendered: cargo xtask report " (found.name) }
                                            }
                                        }
                                        td { (found.run.scenario.map_or("a program of its own", Scenario::words)) }
                                        td { (found.run.created) }
                                        td.number {
                                            (found.run.steps.len()) @if found.run.partial { " (partial)" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().expect("a folder");
        std::fs::write(outer.path().join("secret"), "secret").expect("writes");
        let root = outer.path().join("profiles");
        std::fs::create_dir_all(root.join("put 1")).expect("a folder");
        std::fs::write(root.join("put 1/report.html"), "<p>report").expect("writes");
        std::fs::write(root.join(".hidden"), "hidden").expect("writes");
        let root = root.canonicalize().expect("exists");
        (outer, root)
    }

    #[test]
    fn files_inside_the_folder_are_served_with_their_type() {
        let (_outer, root) = folder();
        let response = respond("GET /put%201/report.html?x=1 HTTP/1.1", &root);
        assert_eq!((response.status, response.kind), ("200 OK", "text/html; charset=utf-8"));
        assert_eq!(response.body, b"<p>report");
        assert!(respond("GET / HTTP/1.1", &root).body.starts_with(b"<!DOCTYPE html>"));
    }

    #[test]
    fn nothing_outside_the_folder_exists() {
        let (outer, root) = folder();
        for path in [
            "/../secret",
            "/put%201/../../secret",
            "/%2e%2e/secret",
            "/%2e%2e%2fsecret",
            "//secret",
            "/..%5csecret",
            "/.hidden",
            "/put%201",
            "/%00",
            "/%zz",
            "/%ff",
            "secret",
        ] {
            assert_eq!(respond(&format!("GET {path} HTTP/1.1"), &root).status, "404 Not Found", "{path}");
        }
        let absolute = format!("GET /{} HTTP/1.1", outer.path().join("secret").display());
        assert_eq!(respond(&absolute, &root).status, "404 Not Found");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outer.path().join("secret"), root.join("link")).expect("links");
            assert_eq!(respond("GET /link HTTP/1.1", &root).status, "404 Not Found");
        }
    }

    #[test]
    fn only_reading_is_allowed() {
        let (_outer, root) = folder();
        assert_eq!(respond("POST / HTTP/1.1", &root).status, "405 Method Not Allowed");
        assert_eq!(respond("GET /", &root).status, "400 Bad Request");
        assert_eq!(respond("", &root).status, "400 Bad Request");
    }

    #[test]
    fn a_browser_gets_an_answer_over_a_socket() {
        let (_outer, root) = folder();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || accept(&listener, &root));
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).expect("connects");
            stream.write_all(request.as_bytes()).expect("writes");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("reads");
            answer
        };
        let answer = ask("GET /put%201/report.html HTTP/1.1\r\nAccept: */*\r\nhost: localhost:8733\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n<p>report"), "{answer}");
        assert!(ask("HEAD /put%201/report.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ends_with("\r\n\r\n"));
        for (host, status) in [
            ("Host: evil.example:8733\r\n", "421 "),
            ("Host: 127.0.0.1\r\nHost: evil.example\r\n", "400 "),
            ("", "400 "),
        ] {
            let answer = ask(&format!("GET /put%201/report.html HTTP/1.1\r\n{host}\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && !answer.contains("<p>report"), "{answer}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for host in ["127.0.0.1:8733", "localhost", "LOCALHOST:1", "10.0.0.7", "[::1]:8733", "[fe80::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", ":80", "[evil]", "::1", "1"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn the_index_links_a_run_of_any_name() {
        let (_outer, root) = folder();
        let run = page::fixture::bare();
        for name in ["put 1", "put #2?%"] {
            std::fs::create_dir_all(root.join(name)).expect("a folder");
            std::fs::write(root.join(name).join("report.html"), "<p>report").expect("writes");
            std::fs::write(root.join(name).join("run.json"), serde_json::to_vec(&run).expect("serialises"))
                .expect("writes");
        }
        let html = index(&root);
        let links: Vec<&str> = html.split("<a href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(links.len(), 2, "{html}");
        for link in links {
            assert_eq!(respond(&format!("GET /{link} HTTP/1.1"), &root).body, b"<p>report", "{link}");
        }
    }
}
