//! Tower layers: one line on the server, one on the client's channel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::StagedBody;
use super::codec::making_streaming;
use super::task;
use crate::method::OpenCall;
use crate::stage::{self, Scope, Staged};
use crate::{Method, Side, Stage};

/// For `tonic::transport::Server::layer`: every call charged to its stage and RPC method.
///
/// A path from the wire gets a row of its own from its first successful answer. Until then it is booked without a
/// method, and so are, to their end, the request and the handler of calls that began before: a stream that is called
/// once and stays open never gets a row by itself. [`methods`](ServerLayer::methods) registers paths beforehand and
/// leaves nothing out.
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
        ServerService { inner }
    }
}

/// What [`ServerLayer`] makes of a service.
#[derive(Debug)]
pub struct ServerService<S> {
    inner: S,
}

impl<S: Clone> Clone for ServerService<S> {
    /// tonic clones the service once per connection, in the task that accepts, and once per request, in the
    /// connection's own task: nothing else of this layer runs there, so this is where that task is known as
    /// [`Stage::Transport`]. The request is then served in a task of its own.
    fn clone(&self) -> Self {
        task::charge(Scope::new(Method::NONE, Stage::Transport));
        ServerService { inner: self.inner.clone() }
    }
}

impl<S, ResBody> Service<Request<Body>> for ServerService<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
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

    fn call(&mut self, request: Request<Body>) -> ServerFuture<S::Future> {
        // For servers that do not ask whether the service is ready.
        task::charge(Scope::new(Method::NONE, Stage::Transport));
        let (method, unknown) = match Method::find(Side::Server, request.uri().path()) {
            Some(method) => (method, None),
            None => (Method::NONE, Some(request.uri().clone())),
        };
        let request = request.map(|body| {
            let _guard = Stage::Instrument.enter();
            Body::new(StagedBody::incoming(method, body))
        });
        let scope = Scope::new(method, Stage::Handler);
        let _guard = scope.enter();
        let call = Some(OpenCall::new(method));
        ServerFuture {
            future: Staged::new(scope, self.inner.call(request)),
            unknown,
            charged: false,
            making: true,
            call,
        }
    }
}

pin_project! {
    /// The future of [`ServerService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ServerFuture<F> {
        #[pin]
        future: Staged<F>,
        // The path of a method without a row.
        unknown: Option<http::Uri>,
        // The task hyper spawned for this call is known.
        charged: bool,
        // tonic has not made the request's `Streaming` yet.
        making: bool,
        // Until the answer's body has it.
        call: Option<OpenCall>,
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
        let mut method = this.future.as_ref().scope().method();
        if !std::mem::replace(this.charged, true) {
            task::charge(Scope::new(method, Stage::Transport));
        }
        let outer = making_streaming(*this.making);
        let response = this.future.as_mut().poll(cx);
        *this.making = making_streaming(outer);
        let response = ready!(response)?;
        if let Some(uri) = this.unknown.take()
            && succeeds(&response)
        {
            method = Method::register(Side::Server, uri.path());
            *this.call = Some(OpenCall::new(method));
        }
        let call = this.call.take().expect("a future is not polled after it was ready");
        Poll::Ready(Ok(response.map(|body| StagedBody::outgoing(method, body).ending(call))))
    }
}

/// Whether some service answers to the path. A status in the headers may come from a layer or an interceptor that
/// refuses every path alike (`UNAUTHENTICATED`, say), and so tells nothing of the path.
fn succeeds<B>(response: &Response<B>) -> bool {
    let code = response.headers().get("grpc-status").map(http::HeaderValue::as_bytes);
    response.status().is_success() && code.is_none_or(|code| code == b"0")
}

/// For a client's channel: every call charged to its stage and RPC method.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLayer;

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
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
        stage::close_window();
        // The path is the caller's own code, so it may have its row at once.
        let method = Method::register(Side::Client, request.uri().path());
        let request = request.map(|body| {
            let _guard = Stage::Instrument.enter();
            Body::new(StagedBody::outgoing(method, body))
        });
        let scope = Scope::new(method, Stage::Transport);
        let _guard = scope.enter();
        let call = Some(OpenCall::new(method));
        ClientFuture { future: Staged::new(scope, self.inner.call(request)), call }
    }
}

pin_project! {
    /// The future of [`ClientService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ClientFuture<F> {
        #[pin]
        future: Staged<F>,
        // Until the answer's body has it.
        call: Option<OpenCall>,
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
        let response = ready!(this.future.as_mut().poll(cx))?;
        let method = this.future.as_ref().scope().method();
        // Of the response, by the caller, before anything else.
        making_streaming(true);
        let call = this.call.take().expect("a future is not polled after it was ready");
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
            if let Some(code) = code {
                response.headers_mut().insert("grpc-status", code.parse().expect("a header value"));
            }
            response
        };
        assert!(succeeds(&answer(None)) && succeeds(&answer(Some("0"))));
        for refused in ["12", "16", "7"] {
            assert!(!succeeds(&answer(Some(refused))), "{refused}");
        }
        let mut lost = answer(None);
        *lost.status_mut() = http::StatusCode::NOT_FOUND;
        assert!(!succeeds(&lost));
    }
}
