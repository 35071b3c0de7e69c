//! A service with more methods than there are rows: whole calls share the row of the rest, not parts of calls.
#![cfg(all(feature = "transport", feature = "subject"))]

use std::collections::BTreeMap;
use std::convert::Infallible;

use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const METHODS: usize = 150;

/// Keeps a block for the body and one for itself, and answers as a gRPC service does.
async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let bytes = request.into_body().collect().await.expect("reads").to_bytes();
    let own = std::hint::black_box(vec![1u8; 1000]);
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from(vec![own[0]; bytes.len().max(64)])));
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// What one call of `path` allocates, by row and stage.
async fn charged(path: &str) -> BTreeMap<(String, Stage), u64> {
    let mut service = ServerLayer::new().layer(tower::service_fn(answer));
    let request = Request::post(path).body(Body::empty()).expect("a request");
    let before = Snapshot::of_process();
    let response = service.call(request).await.expect("answers");
    drop(response.into_body().collect().await.expect("reads"));
    let counted = Snapshot::of_process() - before;
    counted
        .rows()
        .filter(|row| row.stage != Stage::Instrument)
        .map(|row| ((row.method.path.to_owned(), row.stage), row.tally.bytes))
        .collect()
}

#[tokio::test]
async fn whole_calls_share_the_row_of_the_rest() {
    for round in 0..2 {
        for method in 0..METHODS {
            charged(&format!("/more.Methods/M{method}")).await;
        }
        if round == 0 {
            assert!(Method::find(Side::Server, "/more.Methods/M0").is_some(), "the first ones are learned");
        }
    }
    let last = format!("/more.Methods/M{}", METHODS - 1);
    assert_eq!(Method::find(Side::Server, &last), None, "there are more than rows");
    let known = charged("/more.Methods/M1").await;
    let rest = charged(&last).await;
    let named = |rows: &BTreeMap<(String, Stage), u64>, name: &str| -> BTreeMap<Stage, u64> {
        let of = |(row, stage): &(String, Stage), bytes: &u64| (row == name).then_some((*stage, *bytes));
        rows.iter().filter_map(|(key, bytes)| of(key, bytes)).collect()
    };
    let (own, shared) = (named(&known, "/more.Methods/M1"), named(&rest, Method::OVERFLOW.name().path));
    assert!(own.get(&Stage::Handler).is_some_and(|bytes| *bytes >= 1000), "{known:?}");
    assert_eq!(own, shared, "known: {known:?}, of the rest: {rest:?}");
}
