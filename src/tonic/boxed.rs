//! A client's layer in the types that other people's clients take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::layer::{ClientLayer, ClientService};
use crate::Stage;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A [`ClientLayer`] whose answers have `tonic::body::Body` as their body and whose failures are boxed; made by
/// [`ClientLayer::boxed`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BoxedClientLayer(ClientLayer);

impl ClientLayer {
    /// For clients that take a channel of one type alone: `Response<tonic::body::Body>` and a boxed error, in a
    /// `tower::util::BoxCloneSyncService` (etcd-client's `Channel::Custom`, say). Costs a box a call, which is the
    /// instrument's.
    ///
    /// ```no_run
    /// use alloc_ladder::tonic::{ClientLayer, TransportExecutor};
    /// use tower::util::BoxCloneSyncService;
    /// # async fn connect() -> Result<(), tonic::transport::Error> {
    /// let endpoint = tonic::transport::Endpoint::from_static("http://[::1]:2379").executor(TransportExecutor);
    /// let channel = tower::ServiceBuilder::new().layer(ClientLayer.boxed()).service(endpoint.connect().await?);
    /// let channel: BoxCloneSyncService<
    ///     http::Request<tonic::body::Body>,
    ///     http::Response<tonic::body::Body>,
    ///     tower::BoxError,
    /// > = BoxCloneSyncService::new(channel);
    /// # let _ = channel; Ok(()) }
    /// ```
    pub fn boxed(self) -> BoxedClientLayer {
        BoxedClientLayer(self)
    }
}

impl<S> Layer<S> for BoxedClientLayer {
    type Service = BoxedClientService<S>;

    fn layer(&self, inner: S) -> BoxedClientService<S> {
        BoxedClientService(self.0.layer(inner))
    }
}

/// What [`BoxedClientLayer`] makes of a channel.
#[derive(Clone, Debug)]
pub struct BoxedClientService<S>(ClientService<S>);

impl<S, ResBody> Service<Request<Body>> for BoxedClientService<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxedClientFuture<<ClientService<S> as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        BoxedClientFuture { future: self.0.call(request) }
    }
}

pin_project! {
    /// The future of [`BoxedClientService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct BoxedClientFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, ResBody, E> Future for BoxedClientFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().future.poll(cx)).map_err(Into::into)?;
        Poll::Ready(Ok(response.map(|body| {
            let _guard = Stage::Instrument.enter();
            Body::new(body)
        })))
    }
}
