//! What the layer of a server costs where nothing is allocated for a call but its own box: nanoseconds a call of one message
//! either way, and a message of a long stream.
//!
//! The service below the layer answers at once, from memory, in no runtime: what is measured is the layer's own work, all
//! of it, and not a call. With `unstaged` the layer does nothing, which is what to subtract. With two threads both make
//! calls of the same method, and the time is the slower one's.
//!
//! ```text
//! cargo bench --bench seams --features tonic
//! cargo bench --bench seams --features tonic,unstaged
//! ```

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const PATH: &str = "/bench.Seams/Call";
/// A message of ten bytes as it travels.
static MESSAGE: [u8; 15] = [0, 0, 0, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// So many messages, and a status where it is an answer.
struct Messages {
    left: u64,
    status: Option<HeaderMap>,
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&MESSAGE)))));
        }
        Poll::Ready(self.status.take().map(|status| Ok(Frame::trailers(status))))
    }
}

/// Reads the request to its end and answers with one message, or as many as it is asked for.
#[derive(Clone)]
struct Answer(u64);

impl Service<Request<Body>> for Answer {
    type Response = Response<Messages>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Messages>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drain(request.into_body());
        let status =
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        let mut response = Response::new(Messages { left: self.0, status: Some(status) });
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        ready(Ok(response))
    }
}

fn drain(body: impl HttpBody) -> u64 {
    let mut body = pin!(body);
    let mut frames = 0;
    while let Poll::Ready(Some(_)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        frames += 1;
    }
    frames
}

/// A call whose answer has so many messages.
fn call<S, B>(service: &mut S, messages: u64)
where
    S: Service<Request<Messages>, Response = Response<B>>,
    B: HttpBody,
{
    let mut request = Request::new(Messages { left: 1, status: None });
    *request.uri_mut() = http::Uri::from_static(PATH);
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("answers at once")
    };
    assert_eq!(drain(response.into_body()), messages + 1, "every message, and the status");
}

/// Without the layer: the body is boxed, which is what the layer does too.
#[derive(Clone)]
struct Bare(Answer);

impl Service<Request<Messages>> for Bare {
    type Response = Response<Messages>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Messages>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Messages>) -> Self::Future {
        self.0.call(request.map(Body::new))
    }
}

/// The time `threads` threads take for `count` calls each, from when all of them stand ready.
fn timed<S, B>(threads: usize, count: u64, messages: u64, service: &(impl Fn() -> S + Sync)) -> Duration
where
    S: Service<Request<Messages>, Response = Response<B>>,
    B: HttpBody,
{
    let ready = Barrier::new(threads);
    let one = || {
        let mut service = service();
        call(&mut service, messages);
        ready.wait();
        let start = Instant::now();
        (0..count).for_each(|_| call(&mut service, messages));
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let own = one();
        others.into_iter().map(|other| other.join().expect("no thread panics")).fold(own, Duration::max)
    })
}

/// Messages of a long stream.
const STREAM: u64 = 1000;

/// The time of `count` messages, out of that of whole streams.
fn per_message(count: u64, timed: impl Fn(u64) -> Duration) -> Duration {
    let calls = count.div_ceil(STREAM);
    timed(calls).mul_f64(count as f64 / (calls * STREAM) as f64)
}

fn seams(c: &mut Criterion) {
    Method::register(Side::Server, PATH);
    let mut group = c.benchmark_group("seams");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for threads in [1, 2] {
        group.bench_function(format!("call, bare/{threads}"), |b| {
            b.iter_custom(|count| timed(threads, count, 1, &|| Bare(Answer(1))));
        });
        group.bench_function(format!("call, layer/{threads}"), |b| {
            b.iter_custom(|count| timed(threads, count, 1, &|| ServerLayer::new().layer(Answer(1))));
        });
        // The answer of a long stream, a message at a time.
        group.bench_function(format!("message, bare/{threads}"), |b| {
            b.iter_custom(|count| per_message(count, |calls| timed(threads, calls, STREAM, &|| Bare(Answer(STREAM)))));
        });
        group.bench_function(format!("message, layer/{threads}"), |b| {
            let service = || ServerLayer::new().layer(Answer(STREAM));
            b.iter_custom(|count| per_message(count, |calls| timed(threads, calls, STREAM, &service)));
        });
    }
    group.finish();
}

criterion_group!(benches, seams);
criterion_main!(benches);
