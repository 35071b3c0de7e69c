//! The thread that answers, its limits, and which path gives which answer.

use std::net::TcpListener;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::profile::NoProfile;
use super::reading::Reading;
use super::token::Token;
use super::{profile, prometheus, table};
use crate::alloc::{Switch, aside};
use crate::listen::http1::{self, Allowance, Limits};
use crate::wire::host::Hosts;
use crate::{Stage, sampled};

const LIMITS: Limits = Limits {
    connections: 64,
    head_bytes: 16 * 1024,
    head_time: Duration::from_secs(5),
    connection_time: Duration::from_secs(20),
};

/// Who is answered.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) hosts: Hosts,
    pub(super) token: Option<Token>,
    /// The program's allocator, where it can be asked for every stack.
    pub(super) exact: Option<Switch>,
}

/// The thread: answers until told to stop, and drops `starting` when it does.
pub(super) fn run(listener: TcpListener, guard: Guard, starting: Sender<()>, stopped: oneshot::Receiver<()>) {
    // Covers every task of this runtime: they are all polled on this thread, below this guard.
    let _guard = Stage::Instrument.enter();
    sampled::leave_out_thread();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::MAX)
        .on_thread_start(|| {
            // To the thread's end.
            std::mem::forget(aside::enter());
            sampled::leave_out_thread();
        })
        .build()
        .expect("a runtime needs an epoll handle; a process without one left could not have bound the listener");
    // The thread that writes profiles starts now and stays. What starting it moves from thread to thread is in no answer.
    let started = runtime.block_on(runtime.spawn_blocking(|| ()));
    started.expect("the closure does not panic");
    drop(starting);
    let aside = aside::enter();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::select! {
            () = http1::serve(listener, LIMITS, move |request, allowance| answer(request, guard.clone(), allowance)) => {}
            // A dropped handle leaves the endpoints up.
            () = async { if stopped.await.is_err() { std::future::pending::<()>().await } } => {}
        }
    });
    drop(aside);
    // A profile being symbolised must not hold up the caller.
    runtime.shutdown_background();
}

async fn answer(request: Request<()>, guard: Guard, allowance: Allowance) -> Response<Bytes> {
    let named = request.headers().get_all(HOST).into_iter().map(HeaderValue::as_bytes);
    if let Err(refused) = guard.hosts.check(request.uri().authority().map(|authority| authority.as_str()), named) {
        let status = StatusCode::from_u16(refused.status()).expect("the check gives statuses that exist");
        return text(status, refused.message());
    }
    let sent = request.headers().get_all(AUTHORIZATION).into_iter().map(HeaderValue::as_bytes);
    if guard.token.is_some_and(|token| !token.admits(sent)) {
        let mut refused = text(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD: nothing here can be changed\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let query = Query(request.uri().query().unwrap_or_default());
    match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX),
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = prometheus::Format::of(accept);
            respond(StatusCode::OK, format.content_type(), prometheus::render(&Reading::take(), format))
        }
        "/debug/alloc" if query.json(request.headers().get(ACCEPT)) => {
            respond(StatusCode::OK, "application/json", table::json(&Reading::take()))
        }
        "/debug/alloc" => respond(StatusCode::OK, TEXT, table::text(&Reading::take())),
        "/debug/pprof/allocs" => pprof(profile::Kind::Allocs, query, guard.exact, allowance).await,
        "/debug/pprof/heap" => pprof(profile::Kind::Heap, query, None, allowance).await,
        _ => text(
            StatusCode::NOT_FOUND,
            concat!(
                "no such endpoint; there are:\n",
                "/metrics\n/debug/alloc\n/debug/pprof/allocs\n/debug/pprof/heap\n"
            ),
        ),
    }
}

async fn pprof(kind: profile::Kind, query: Query<'_>, exact: Option<Switch>, allowance: Allowance) -> Response<Bytes> {
    let Some(seconds) = query.seconds() else {
        return text(
            StatusCode::BAD_REQUEST,
            &format!("seconds must be a whole number up to {}\n", profile::SECONDS_MAX),
        );
    };
    let exact = match (query.value("every"), kind) {
        (None, _) => None,
        (Some("1"), profile::Kind::Allocs) if seconds > 0 => match exact.filter(|switch| switch.is_in_use()) {
            Some(switch) => Some(switch),
            None => return text(StatusCode::NOT_IMPLEMENTED, NOT_EXACT),
        },
        (Some(_), _) => return text(StatusCode::BAD_REQUEST, EVERY),
    };
    allowance.extend(seconds);
    match profile::take(kind, seconds, exact).await {
        Ok(profile) => respond(StatusCode::OK, "application/octet-stream", Bytes::from_owner(profile)),
        Err(busy @ NoProfile::Busy) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", busy.message())),
        Err(failed @ NoProfile::Failed) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{}\n", failed.message())),
    }
}

const EVERY: &str = "every=1 is for what is to be allocated: /debug/pprof/allocs?seconds=10&every=1\n";
const NOT_EXACT: &str = "every=1 needs the program's allocator, an `alloc_ladder::Alloc`: \
    live::Builder::new().exact_stacks(&ALLOC)\n";
const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "alloc-ladder: what this process allocates\n\n\
    /metrics              Prometheus text\n\
    /debug/alloc          the stage table; ?format=json\n\
    /debug/pprof/allocs   everything allocated, for `go tool pprof`; ?seconds=N, ?seconds=N&every=1\n\
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

fn text(status: StatusCode, body: &str) -> Response<Bytes> {
    respond(status, TEXT, body.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
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
