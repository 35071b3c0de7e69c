//! A static server for one folder: enough HTTP for a browser on the other end of a forwarded port, and no more.
//!
//! It reads, never writes; GET and HEAD only; a path that leaves the folder, by `..` or by a link, does not exist.
//! A request must ask for this machine by address or as `localhost`: a page elsewhere whose name is made to resolve
//! here (DNS rebinding) asks by that name, and gets nothing.

use std::net::{SocketAddr, TcpListener};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloc_ladder::listen::http1::{self, Limits};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::wire::host::Hosts;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use maud::html;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::render::page;
use crate::store::{find, layout, place};

const LIMITS: Limits = Limits {
    // A browser opens six; the rest is room for further readers.
    connections: 64,
    // A browser's head is a few hundred bytes.
    head_bytes: 16 * 1024,
    head_time: Duration::from_secs(5),
    // For the largest file over a slow forwarded port.
    connection_time: Duration::from_secs(120),
};

/// Serves until interrupted.
///
/// # Errors
/// The address cannot be bound, or there is no folder to serve.
pub(super) fn serve(address: SocketAddr, profiles: &Path, run: Option<&Path>) -> anyhow::Result<()> {
    let root = profiles.canonicalize().map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot serve {}: {error}", profiles.display()))
            .help(format!("measure something first: {}", place::first_run(None)))
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
            &format!("{bound} is not loopback: anyone who can reach this machine can read {}", root.display()),
        );
    }
    let start = run
        .and_then(|dir| dir.canonicalize().ok()?.strip_prefix(&root).ok().map(Path::to_path_buf))
        .and_then(|name| Some(format!("{}/{}", name.to_str()?, layout::REPORT)));
    terminal::result(&format!("http://{bound}/{}\n", page::encoded(&start.unwrap_or_default())))?;
    terminal::progress("Serving", &format!("{} (Ctrl-C ends it)", profiles.display()));
    answer_all(listener, root)
}

/// Answers every request until the process ends.
pub(crate) fn answer_all(listener: TcpListener, root: PathBuf) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    // Files are read beside the thread that watches the connections.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let root: Arc<Path> = root.into();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let answer = move |request, _| {
            let root = Arc::clone(&root);
            async move {
                let answer = tokio::task::spawn_blocking(move || answer(&request, &root));
                answer.await.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
            }
        };
        http1::serve(listener, LIMITS, answer).await;
        Ok(())
    })
}

fn answer(request: &Request<()>, root: &Path) -> Response<Bytes> {
    let named = request.headers().get_all(HOST).into_iter().map(HeaderValue::as_bytes);
    let target = request.uri().authority().map(|authority| authority.as_str());
    if let Err(refused) = Hosts::Local.check(target, named) {
        let status = StatusCode::from_u16(refused.status()).expect("the check gives statuses that exist");
        return respond(status, TEXT, refused.message().into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path();
    if path == "/" {
        return respond(StatusCode::OK, HTML, index(root).into());
    }
    match resolve(root, path).and_then(|file| Some((std::fs::read(&file).ok()?, kind(&file)))) {
        Some((body, kind)) => respond(StatusCode::OK, kind, body.into()),
        None => plain(StatusCode::NOT_FOUND),
    }
}

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer that is its status.
fn plain(status: StatusCode) -> Response<Bytes> {
    respond(status, TEXT, format!("{status}\n").into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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
        Some("html") => HTML,
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("gz") => "application/gzip",
        _ => TEXT,
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
                        p.empty { "No runs yet. Measure one: " code { (place::first_run(None)) } }
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
                                                (found.name) " " small { "not rendered: " (place::command()) " report " (found.name) }
                                            }
                                        }
                                        td { (Scenario::of(&found.run.subject).map_or("a program of its own", Scenario::words)) }
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
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn ask(method: &str, path: &str, root: &Path) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        answer(&request.body(()).expect("a request"), root)
    }

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
        let response = ask("GET", "/put%201/report.html?x=1", &root);
        assert_eq!(
            (response.status(), &response.headers()[CONTENT_TYPE]),
            (StatusCode::OK, &HTML.parse().expect("one"))
        );
        assert_eq!(response.body(), "<p>report");
        assert!(ask("GET", "/", &root).body().starts_with(b"<!DOCTYPE html>"));
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
        ] {
            assert_eq!(ask("GET", path, &root).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let absolute = format!("/{}", outer.path().join("secret").display());
        assert_eq!(ask("GET", &absolute, &root).status(), StatusCode::NOT_FOUND);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outer.path().join("secret"), root.join("link")).expect("links");
            assert_eq!(ask("GET", "/link", &root).status(), StatusCode::NOT_FOUND);
        }
    }

    #[test]
    fn only_reading_is_allowed() {
        let (_outer, root) = folder();
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(ask(method, "/", &root).status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        }
    }

    /// A server for `root`, until the test's process ends.
    fn serving(root: PathBuf) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || answer_all(listener, root));
        address
    }

    fn send(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(request.as_bytes()).expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("reads");
        answer
    }

    #[test]
    fn a_browser_gets_an_answer_over_a_socket() {
        let (_outer, root) = folder();
        let address = serving(root);
        let answer = send(address, "GET /put%201/report.html HTTP/1.1\r\nAccept: */*\r\nhost: localhost:8733\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n<p>report"), "{answer}");
        let head = send(address, "HEAD /put%201/report.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for (host, status) in [
            ("Host: evil.example:8733\r\n", "421 "),
            ("Host: 127.0.0.1\r\nHost: evil.example\r\n", "400 "),
            ("Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n", "400 "),
            ("Host: evil@127.0.0.1\r\n", "400 "),
            ("", "400 "),
        ] {
            let answer = send(address, &format!("GET /put%201/report.html HTTP/1.1\r\n{host}\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && !answer.contains("<p>report"), "{answer}");
        }
        let target = "GET http://evil.example/put%201/report.html HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(send(address, target).starts_with("HTTP/1.1 421 "));
    }

    #[test]
    fn requests_that_are_never_finished_keep_no_reader_waiting() {
        let (_outer, root) = folder();
        let address = serving(root);
        let page = "GET /put%201/report.html HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let began = std::time::Instant::now();
        let slow: Vec<TcpStream> = (0..8 * LIMITS.connections)
            .map(|index| {
                let mut stream = TcpStream::connect(address).expect("connects");
                let start = ["", "G", "GET / HTTP/1.1\r\nX: "][index % 3];
                // The connection may be closed by now: others came after it.
                let _ = stream.write_all(start.as_bytes());
                if index % LIMITS.connections == 0 {
                    assert!(send(address, page).ends_with("<p>report"), "after {index}");
                }
                stream
            })
            .collect();
        assert!(send(address, page).ends_with("<p>report"));
        // Served beside them, and not because their time was up.
        assert!(began.elapsed() < LIMITS.head_time, "{:?}", began.elapsed());
        drop(slow);
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
            assert_eq!(ask("GET", &format!("/{link}"), &root).body(), "<p>report", "{link}");
        }
    }
}
