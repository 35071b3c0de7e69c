//! The listener, its limits, and which path gives which answer.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::profile::NoProfile;
use super::{profile, prometheus, table};
use crate::sampled::Live;
use crate::{Snapshot, Stage};

/// Connections served at once.
const CONNECTIONS: usize = 16;
/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a connection lives, besides the seconds a profile is asked to last.
const CONNECTION_TIME: Duration = Duration::from_secs(20);
/// The largest request line and headers together.
const REQUEST_BYTES: usize = 16 * 1024;

/// The thread: answers until told to stop.
pub(super) fn run(listener: TcpListener, hosts: Hosts, stopped: oneshot::Receiver<()>) {
    // Covers every task of this runtime: they are all polled on this thread, below this guard.
    let _guard = Stage::Instrument.enter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime needs an epoll handle; a process without one left could not have bound the listener");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::select! {
            () = accept(listener, hosts) => {}
            // A dropped handle leaves the endpoints up.
            () = async { if stopped.await.is_err() { std::future::pending::<()>().await } } => {}
        }
    });
    // A profile being symbolised must not hold up the caller.
    runtime.shutdown_background();
}

async fn accept(listener: tokio::net::TcpListener, hosts: Hosts) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(async move {
                    connection(socket, hosts).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, or a client that went away: neither is a reason to stop answering.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One request and its answer, within the time it is given.
async fn connection(socket: TcpStream, hosts: Hosts) {
    let began = Instant::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let service = {
        let seconds = Arc::clone(&seconds);
        hyper::service::service_fn(move |request| answer(request, hosts, Arc::clone(&seconds)))
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        let end = began + CONNECTION_TIME + Duration::from_secs(seconds.load(Ordering::Relaxed));
        tokio::select! {
            // Garbage, an aborted scrape, a reset: the client's business, and it is gone.
            _ = &mut connection => return,
            () = tokio::time::sleep_until(end) => {
                let end_now = began + CONNECTION_TIME + Duration::from_secs(seconds.load(Ordering::Relaxed));
                if end == end_now {
                    return;
                }
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    hosts: Hosts,
    allowed: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !hosts.allow(request.uri().host(), request.headers().get(HOST)) {
        return Ok(text(StatusCode::MISDIRECTED_REQUEST, "ask for it by its address, or as localhost\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD: nothing here can be changed\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let query = Query(request.uri().query().unwrap_or_default());
    Ok(match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX),
        "/metrics" => {
            let body = prometheus::render(&Snapshot::of_process(), &prometheus::Heap::now());
            respond(StatusCode::OK, prometheus::CONTENT_TYPE, body)
        }
        "/debug/alloc" => {
            let (snapshot, heap) = (Snapshot::of_process(), Live::read());
            if query.json(request.headers().get(ACCEPT)) {
                respond(StatusCode::OK, "application/json", table::json(&snapshot, &heap))
            } else {
                respond(StatusCode::OK, TEXT, table::text(&snapshot, &heap))
            }
        }
        "/debug/pprof/allocs" => pprof(profile::Kind::Allocs, query, &allowed).await,
        "/debug/pprof/heap" => pprof(profile::Kind::Heap, query, &allowed).await,
        _ => text(
            StatusCode::NOT_FOUND,
            concat!(
                "no such endpoint; there are:\n",
                "/metrics\n/debug/alloc\n/debug/pprof/allocs\n/debug/pprof/heap\n"
            ),
        ),
    })
}

async fn pprof(kind: profile::Kind, query: Query<'_>, allowed: &AtomicU64) -> Response<Full<Bytes>> {
    let Some(seconds) = query.seconds() else {
        return text(
            StatusCode::BAD_REQUEST,
            &format!("seconds must be a whole number up to {}\n", profile::SECONDS_MAX),
        );
    };
    allowed.store(u64::from(seconds), Ordering::Relaxed);
    match profile::take(kind, seconds).await {
        Ok(profile) => respond(StatusCode::OK, "application/octet-stream", profile),
        Err(busy @ NoProfile::Busy) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", busy.message())),
        Err(failed @ NoProfile::Failed) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{}\n", failed.message())),
    }
}

/// By which names the endpoints may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// By any: other machines reach them by names of their own.
    Any,
    /// By an address or as `localhost`. A page from elsewhere whose name was made to resolve to loopback cannot read
    /// what is served there: its browser asks by that name.
    Local,
}

impl Hosts {
    /// Whether what the request line or the `Host` header names may be asked; a client that names none is no browser.
    fn allow(self, target: Option<&str>, header: Option<&HeaderValue>) -> bool {
        if self == Hosts::Any {
            return true;
        }
        let named = |host: &str| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
        };
        let header = header.map(|value| value.to_str().ok().and_then(|host| host.parse::<Authority>().ok()));
        target.is_none_or(named) && header.is_none_or(|host| host.is_some_and(|host| named(host.host())))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "alloc-ladder: what this process allocates\n\n\
    /metrics              Prometheus text\n\
    /debug/alloc          the stage table; ?format=json\n\
    /debug/pprof/allocs   everything allocated, for `go tool pprof`; ?seconds=N\n\
    /debug/pprof/heap     live memory first; ?seconds=N\n";

/// The part of the address after `?`.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn value(self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    }

    /// `None` for anything but a number of seconds within bounds.
    fn seconds(self) -> Option<u32> {
        match self.value("seconds") {
            None => Some(0),
            Some(seconds) => seconds.parse().ok().filter(|seconds| *seconds <= profile::SECONDS_MAX),
        }
    }

    fn json(self, accept: Option<&HeaderValue>) -> bool {
        match self.value("format") {
            Some(format) => format == "json",
            None => accept.and_then(|accept| accept.to_str().ok()).is_some_and(|accept| {
                accept
                    .split(',')
                    .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
            }),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, TEXT, body.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_are_answered_to_on_loopback() {
        let header = |host: &str| HeaderValue::from_str(host).expect("a header value");
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "127.0.0.1"] {
            assert!(Hosts::Local.allow(None, Some(&header(host))), "{host}");
        }
        for host in ["evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "x", "", "a b"] {
            assert!(!Hosts::Local.allow(None, Some(&header(host))), "{host}");
            assert!(Hosts::Any.allow(None, Some(&header(host))), "{host}");
        }
        assert!(Hosts::Local.allow(None, None));
        assert!(!Hosts::Local.allow(Some("evil.example"), Some(&header("localhost"))));
    }

    #[test]
    fn queries_are_read_whole_or_refused() {
        assert_eq!(Query("").seconds(), Some(0));
        assert_eq!(Query("a=b&seconds=30").seconds(), Some(30));
        for bad in ["seconds=", "seconds=-1", "seconds=1e9", "seconds=301", "seconds=1.5"] {
            assert_eq!(Query(bad).seconds(), None, "{bad}");
        }
        assert!(Query("format=json").json(None));
        assert!(Query("").json(Some(&HeaderValue::from_static("text/html, application/json;q=0.9"))));
        assert!(!Query("format=text").json(Some(&HeaderValue::from_static("application/json"))));
        assert!(!Query("").json(Some(&HeaderValue::from_static("*/*"))));
    }
}
