//! The first calls of a method, before it has an answer: all they allocate is the method's once it has one, and nobody's
//! if it never does.
#![cfg(all(feature = "transport", feature = "subject"))]

use std::convert::Infallible;

use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

/// What the service below allocates for itself in a call.
const OWN: u64 = 1000;
const WAITING: usize = 12;

static ANSWER: Notify = Notify::const_new();

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let own = std::hint::black_box(vec![1u8; OWN as usize]);
    let known = request.uri().path() == "/first.Calls/Known";
    if known {
        ANSWER.notified().await;
    }
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if !known {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
    }
    drop(own);
    Ok(response)
}

/// Bytes that handlers allocated, by the row's name.
fn handlers(counted: &Snapshot, name: &str) -> u64 {
    let own = counted.rows().filter(|row| row.stage == Stage::Handler && row.method.path == name);
    own.map(|row| row.tally.bytes).sum()
}

fn call(path: &str) -> impl Future<Output = Response<Body>> + use<> {
    let mut service = ServerLayer::new().layer(tower::service_fn(answer));
    let request = Request::post(path).body(Body::empty()).expect("a request");
    let response = service.call(request);
    async move { response.await.expect("answers").map(Body::new) }
}

#[tokio::test]
async fn what_first_calls_allocate_becomes_the_methods() {
    let known = "/first.Calls/Known";
    let before = Snapshot::of_process();
    let waiting: Vec<_> = (0..WAITING).map(|_| tokio::spawn(call(known))).collect();
    while Method::UNANSWERED.name().path.is_empty()
        || handlers(&(Snapshot::of_process() - before.clone()), "(not answered yet)") < WAITING as u64 * OWN
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(Method::find(Side::Server, known), None, "nobody answered yet");
    // A path that nobody serves, called meanwhile and often, takes nothing from it.
    for lost in 0..100 {
        drop(call(&format!("/first.Calls/Lost{lost}")).await.into_body().collect().await.expect("reads"));
    }
    assert!(handlers(&(Snapshot::of_process() - before.clone()), "") >= 100 * OWN, "what failed belongs to no method");
    let pending = Snapshot::of_process();
    ANSWER.notify_waiters();
    for call in waiting {
        call.await.expect("no panic");
    }
    let after = Snapshot::of_process();
    assert!(Method::find(Side::Server, known).is_some());
    assert_eq!(Method::registered(), 2, "of the lost paths none has a row");
    let counted = after.clone() - before;
    assert!(handlers(&counted, known) >= WAITING as u64 * OWN, "{counted}");
    assert_eq!(handlers(&counted, "(not answered yet)"), 0, "{counted}");
    for snapshot in [&counted, &pending, &after] {
        assert_eq!(snapshot.rows().map(|row| row.tally.bytes).sum::<u64>(), snapshot.total().bytes);
        assert_eq!(snapshot.rows().map(|row| row.tally.blocks).sum::<u64>(), snapshot.total().blocks);
    }
}

#[tokio::test]
async fn a_path_too_long_for_a_name_shares_the_row_of_the_rest() {
    let long = format!("/first.Calls/{}", "x".repeat(15_000));
    drop(call(&long).await);
    assert_eq!(Method::find(Side::Server, &long), None);
    assert_eq!(Method::register(Side::Server, &long), Method::OVERFLOW);
    assert!(handlers(&Snapshot::of_process(), Method::OVERFLOW.name().path) >= OWN);
}
