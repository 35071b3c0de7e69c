//! Tower layers: one line on the server, one on the client's channel.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::Code;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::StagedBody;
use super::call::{Call, Passing, Progress, forget, making_streaming};
use super::task;
use crate::method::{self, Proposal};
use crate::stage::{self, Scope, Staged};
use crate::wire::{grpc, status};
use crate::{Method, Side, Stage};

/// A future that was ready is not polled again.
const POLLED: &str = "a future is not polled after it was ready";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// For `tonic::transport::Server::layer`: every call charged to its stage and RPC method.
///
/// It takes requests with any body of `Bytes` and hands on `tonic::body::Body`, so it fits around axum's `Router`, tonic's
/// `Routes` and any other service that accepts such a body. Applied twice, it counts once.
///
/// A path from the wire gets a row of its own with its first successful answer. All that its calls allocated before moves
/// there with it; until then it stands under `(not answered yet)`. What calls of a path allocate that nobody serves
/// belongs to no method. [`methods`](ServerLayer::methods) registers paths beforehand.
///
/// A call is [`Stage::Dispatch`] until tonic has made what the service's own code reads the request from, and then
/// [`Stage::Handler`]. With a [`StagedCodec`](super::StagedCodec) that moment is known from a method's second call on; else
/// it is taken to be when the body is first asked for, which tonic's router does some blocks too early. A call that is not
/// gRPC, or has no body, is [`Stage::Handler`] throughout. What a layer or an interceptor inside this one does on the way
/// in is `dispatch`, and so is all of a service that never asks for the body: enter a stage there.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerLayer(());

impl ServerLayer {
    /// A layer that learns the methods from their first answers.
    pub fn new() -> Self {
        ServerLayer(())
    }

    /// Gives each path (`/package.Service/Method`) its row beforehand.
    pub fn methods<'a>(self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        for path in paths {
            Method::register(Side::Server, path);
        }
        self
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        method::add_seam(Side::Server);
        ServerService { inner, task: AtomicU64::new(0) }
    }
}

/// What [`ServerLayer`] makes of a service.
///
/// Whatever task clones it, asks whether it is ready or calls it, is taken for one of the server's: what that task
/// allocates outside any guard is [`Stage::Transport`] from then on, until the task ends. Serve from tasks that do
/// nothing else (tonic and hyper do), or enter a stage around other work.
#[derive(Debug)]
pub struct ServerService<S> {
    inner: S,
    /// The task that clones it, and so lives as long as it does; 0 for none.
    task: AtomicU64,
}

impl<S: Clone> Clone for ServerService<S> {
    /// tonic clones the service once per connection, in the task that accepts, and once per request, in the
    /// connection's own task: nothing else of this layer runs there, so this is where that task is known as
    /// [`Stage::Transport`]. The request is then served in a task of its own.
    fn clone(&self) -> Self {
        let task = task::charge_long(Scope::new(Method::NONE, Stage::Transport));
        self.task.store(task.unwrap_or(0), Ordering::Relaxed);
        ServerService { inner: self.inner.clone(), task: AtomicU64::new(0) }
    }
}

impl<S> Drop for ServerService<S> {
    fn drop(&mut self) {
        match *self.task.get_mut() {
            0 => {}
            task => task::end(task),
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ServerService<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    ReqBody: http_body::Body<Data = Bytes> + Send + 'static,
    ReqBody::Error: Into<BoxError>,
    ResBody: http_body::Body,
{
    type Response = Response<StagedBody<ResBody>>;
    type Error = S::Error;
    type Future = ServerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Asked in the call's own task before tonic's layers around this one box bodies and note the peer's address.
        task::charge(Scope::new(Method::NONE, Stage::Transport));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> ServerFuture<S::Future> {
        let passing = Passing::of(Side::Server, request.uri());
        if passing.is_inside_another() {
            let (scope, progress) = (stage::current(), Progress::default());
            let future = self.inner.call(request.map(Body::new));
            return ServerFuture { future, scope, charged: true, progress, call: None, passing };
        }
        // For servers that do not ask whether the service is ready.
        task::charge(Scope::new(Method::NONE, Stage::Transport));
        let (method, proposal) = known(Side::Server, &request);
        // The body tells when the glue is done, where there is one and tonic reads it.
        let told = is_grpc(request.headers()) && !request.body().is_end_stream();
        let request = staged(request, |body| StagedBody::incoming(method, body));
        let stage = if told { Stage::Dispatch } else { Stage::Handler };
        let _guard = Scope::new(method, stage).enter();
        let mut call = Call::new(Side::Server, method, proposal);
        let mut progress = Progress::begun();
        let spent = call.before();
        let future = progress.within(|| passing.within(|| self.inner.call(request)));
        call.after(spent);
        let scope = stage::window::outside_window();
        ServerFuture { future, scope, charged: false, progress, call: Some(call), passing }
    }
}

/// The request with its body staged, in a box that is the instrument's.
fn staged<B, T>(request: Request<B>, stage: impl FnOnce(B) -> StagedBody<B>) -> Request<Body>
where
    B: http_body::Body<Data = Bytes, Error = T> + Send + 'static,
    T: Into<BoxError> + 'static,
{
    if stage::UNSTAGED {
        return request.map(Body::new);
    }
    request.map(|body| {
        let _guard = Stage::Instrument.enter();
        Body::new(stage(body))
    })
}

/// The row that the call is charged to, and what gave it one where its path has none of its own.
fn known<B>(side: Side, request: &Request<B>) -> (Method, Option<Proposal>) {
    let path = request.uri().path();
    match Method::find(side, path) {
        Some(method) => (method, None),
        // No answer can give it a row: all of the call belongs to the row that such methods share.
        None if Method::is_full(side) || path.len() > Method::PATH_BYTES_MAX => (Method::OVERFLOW, None),
        None => match Proposal::of(side, path) {
            Some(proposal) => {
                forget(proposal.method());
                (proposal.method(), Some(proposal))
            }
            None => (Method::NONE, None),
        },
    }
}

pin_project! {
    /// The future of [`ServerService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ServerFuture<F> {
        #[pin]
        future: F,
        scope: Scope,
        // The task hyper spawned for this call is known.
        charged: bool,
        progress: Progress,
        // Until the answer's body has it; `None` for a call that an outer layer counts.
        call: Option<Call>,
        passing: Passing,
    }
}

impl<F, ResBody, E> Future for ServerFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: http_body::Body,
{
    type Output = Result<Response<StagedBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let method = this.scope.method();
        if !std::mem::replace(this.charged, true) {
            task::charge(Scope::new(method, Stage::Transport));
        }
        if this.passing.is_inside_another() {
            let response = ready!(this.future.as_mut().poll(cx))?;
            let marshal = Scope::new(method, Stage::Marshal);
            return Poll::Ready(Ok(response.map(|body| StagedBody::passing(marshal, body))));
        }
        let call = this.call.as_mut().expect(POLLED);
        let spent = call.before();
        let response = {
            let _guard = this.scope.enter();
            let response = this.progress.within(|| this.passing.within(|| this.future.as_mut().poll(cx)));
            *this.scope = stage::window::outside_window();
            response
        };
        call.after(spent);
        let response = ready!(response).inspect_err(|_| call.broke())?;
        let mut call = this.call.take().expect(POLLED);
        let code = status::code(response.headers());
        call.head(&response, code);
        if succeeds(&response, code) {
            call.answered();
        }
        Poll::Ready(Ok(response.map(|body| StagedBody::outgoing(method, body).ending(call))))
    }
}

/// Whether some gRPC service answers to the path. A status in the headers may come from a layer or an interceptor that
/// refuses every path alike (`UNAUTHENTICATED`, say), and so tells nothing of the path; and so may a page that is no
/// gRPC, from a router that stands beside tonic's services and answers to everything.
fn succeeds<B>(response: &Response<B>, code: Option<Code>) -> bool {
    response.status().is_success() && is_grpc(response.headers()) && !refuses(code)
}

/// Whether a request or an answer with these headers says that it is gRPC's.
fn is_grpc(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(grpc::CONTENT.as_bytes()))
}

/// Whether the answer is nothing but a failure.
fn refuses(code: Option<Code>) -> bool {
    code.is_some_and(|code| code != Code::Ok)
}

/// For a client's channel: every call charged to its stage and RPC method.
///
/// As on a server, a path gets a row of its own with its first successful answer, for a gateway calls what others ask it
/// to; [`methods`](ClientLayer::methods) registers paths beforehand.
///
/// ```no_run
/// # async fn connect() -> Result<(), tonic::transport::Error> {
/// let channel = tonic::transport::Endpoint::from_static("http://[::1]:50051")
///     .executor(alloc_ladder::tonic::TransportExecutor)
///     .connect()
///     .await?;
/// let channel = tower::ServiceBuilder::new().layer(alloc_ladder::tonic::ClientLayer).service(channel);
/// # let _ = channel; Ok(()) }
/// ```
///
/// Where nothing stands between, `alloc_ladder::tonic::connect` does all of it (feature `transport`).
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLayer;

impl ClientLayer {
    /// Gives each path (`/package.Service/Method`) its row beforehand.
    pub fn methods<'a>(self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        for path in paths {
            Method::register(Side::Client, path);
        }
        self
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        method::add_seam(Side::Client);
        ClientService { inner }
    }
}

/// What [`ClientLayer`] makes of a channel.
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
}

impl<S, ResBody> Service<Request<Body>> for ClientService<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    ResBody: http_body::Body,
{
    type Response = Response<StagedBody<ResBody>>;
    type Error = S::Error;
    type Future = ClientFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let _guard = Stage::Transport.enter();
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> ClientFuture<S::Future> {
        let passing = Passing::of(Side::Client, request.uri());
        if passing.is_inside_another() {
            let future = Staged::new(stage::current(), self.inner.call(request));
            return ClientFuture { future, call: None, passing };
        }
        stage::window::close_window();
        let (method, proposal) = known(Side::Client, &request);
        let request = staged(request, |body| StagedBody::outgoing(method, body));
        let scope = Scope::new(method, Stage::Transport);
        let _guard = scope.enter();
        let mut call = Call::new(Side::Client, method, proposal);
        let spent = call.before();
        let future = passing.within(|| self.inner.call(request));
        call.after(spent);
        ClientFuture { future: Staged::new(scope, future), call: Some(call), passing }
    }
}

pin_project! {
    /// The future of [`ClientService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ClientFuture<F> {
        #[pin]
        future: Staged<F>,
        // Until the answer's body has it; `None` for a call that an outer layer counts.
        call: Option<Call>,
        passing: Passing,
    }
}

impl<F, ResBody, E> Future for ClientFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: http_body::Body,
{
    type Output = Result<Response<StagedBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.passing.is_inside_another() {
            let response = ready!(this.future.as_mut().poll(cx))?;
            let transport = stage::current().with_stage(Stage::Transport);
            return Poll::Ready(Ok(response.map(|body| StagedBody::passing(transport, body))));
        }
        let method = this.future.as_ref().scope().method();
        let call = this.call.as_mut().expect(POLLED);
        let spent = call.before();
        let response = this.passing.within(|| this.future.as_mut().poll(cx));
        call.after(spent);
        let response = ready!(response).inspect_err(|_| call.broke())?;
        let mut call = this.call.take().expect(POLLED);
        let code = status::code(response.headers());
        call.head(&response, code);
        if succeeds(&response, code) {
            call.answered();
        }
        // Of the response, by the caller, before anything else; of a refusal none.
        making_streaming(!refuses(code));
        Poll::Ready(Ok(response.map(|body| StagedBody::incoming(method, body).ending(call))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_the_headers_tells_nothing_of_the_path() {
        let answer = |code: Option<&str>| {
            let mut response = Response::new(());
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc+proto"));
            if let Some(code) = code {
                response.headers_mut().insert("grpc-status", code.parse().expect("a header value"));
            }
            response
        };
        let has_answered = |response: &Response<()>| succeeds(response, status::code(response.headers()));
        assert!(has_answered(&answer(None)) && has_answered(&answer(Some("0"))));
        for refused in ["12", "16", "7"] {
            assert!(!has_answered(&answer(Some(refused))), "{refused}");
        }
        let mut lost = answer(None);
        *lost.status_mut() = http::StatusCode::NOT_FOUND;
        assert!(!has_answered(&lost));
        // An axum fallback, say, that answers every path with a page.
        let mut page = answer(None);
        page.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
        assert!(!has_answered(&page));
        page.headers_mut().remove("content-type");
        assert!(!has_answered(&page));
    }

    /// A channel whose every call is answered alike.
    struct Answers(Option<&'static str>);

    impl Service<Request<Body>> for Answers {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Response<Body>, std::convert::Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            if let Some(code) = self.0 {
                response.headers_mut().insert("grpc-status", http::HeaderValue::from_static(code));
            }
            std::future::ready(Ok(response))
        }
    }

    async fn call(code: Option<&'static str>, path: &'static str) -> Response<StagedBody<Body>> {
        let request = Request::post(path).body(Body::empty()).expect("a request");
        ClientLayer.layer(Answers(code)).call(request).await.expect("answers")
    }

    #[tokio::test]
    async fn a_client_learns_a_path_from_its_first_answer() {
        const PATH: &str = "/layer.Test/Answered";
        drop(call(Some("12"), PATH).await);
        assert_eq!(Method::find(Side::Client, PATH), None);
        let answer = call(None, PATH).await;
        let method = Method::find(Side::Client, PATH).unwrap_or(Method::OVERFLOW);
        assert_ne!(method, Method::NONE);
        assert!(method.open_calls() >= 1);
        drop(answer);
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_stream_leaves_nothing_told() {
        // A refusal, of which tonic makes nothing.
        let refused = call(Some("16"), "/layer.Test/Refused").await;
        assert!(!making_streaming(false));
        drop(refused);
        // An answer that tonic drops unread: it is compressed as nobody can read it, say.
        let answered = call(None, "/layer.Test/Dropped").await;
        assert!(making_streaming(true));
        drop(answered);
        assert!(!making_streaming(false));
    }
}
