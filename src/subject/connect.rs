//! The client's connections.

use std::time::Duration;

use anyhow::Context as _;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http2::SendRequest;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::body::Parts;
use super::http2::Settings;
use super::lean::client::LeanClient;
use crate::steps::AlignedIo;
use crate::subject::ladder::{Reads, Socket, Tuning};
use crate::tonic::{ClientLayer, ClientService, StagedBody, StagedIo, TransportExecutor};
use crate::wire::grpc::CONTENT_VALUE;

/// A channel with the client's seam on it.
pub type StagedChannel = ClientService<Channel>;

/// What clients call the server by, whatever its address is.
const ORIGIN: &str = "http://ladder.invalid";
/// How long a server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects one channel to `address` (`host:port` or a Unix socket's path).
///
/// `aligned` wraps the socket's reads: where this side receives the payload and the tuning says so.
///
/// # Errors
/// When nobody answers; the message names the address.
pub async fn channel(
    tuning: &Tuning,
    settings: Option<Settings>,
    address: &str,
    aligned: bool,
) -> anyhow::Result<StagedChannel> {
    let mut endpoint = Endpoint::from_static(ORIGIN).executor(TransportExecutor).connect_timeout(CONNECT_TIMEOUT);
    if let Some(settings) = settings {
        endpoint = endpoint
            .max_frame_size(settings.max_frame_size)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window);
    }
    let frame = settings.unwrap_or_default().max_frame_size as usize;
    let aligned = (aligned && tuning.reads == Reads::Aligned).then_some(frame);
    let owned = address.to_owned();
    let channel = match tuning.socket {
        Socket::Tcp => {
            let connect = move |_: Uri| {
                let address = owned.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(wrap(tcp(&address).await?, aligned))) }
            };
            endpoint.connect_with_connector(service_fn(connect)).await
        }
        Socket::Unix => {
            let connect = move |_: Uri| {
                let path = owned.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(wrap(UnixStream::connect(path).await?, aligned))) }
            };
            endpoint.connect_with_connector(service_fn(connect)).await
        }
    };
    let channel = channel.with_context(|| format!("cannot connect to {address}"))?;
    Ok(tower_layer::Layer::layer(&ClientLayer, channel))
}

/// Connects a client of `path` alone to `address`, with no channel between them.
///
/// # Errors
/// When nobody answers; the message names the address.
pub async fn lean(
    tuning: &Tuning,
    settings: Option<Settings>,
    address: &str,
    path: &'static str,
) -> anyhow::Result<LeanClient> {
    let uri = Uri::try_from(format!("{ORIGIN}{path}"))?;
    let client = async {
        Ok::<_, anyhow::Error>(match tuning.socket {
            Socket::Tcp => LeanClient::handshake(StagedIo::new(tcp(address).await?), settings, uri).await?,
            Socket::Unix => {
                LeanClient::handshake(StagedIo::new(UnixStream::connect(address).await?), settings, uri).await?
            }
        })
    };
    let client = tokio::time::timeout(CONNECT_TIMEOUT, client).await.context("no answer in time").flatten();
    client.with_context(|| format!("cannot connect to {address}"))
}

/// A request body of [`Parts`].
pub type PartsBody = StagedBody<UnsyncBoxBody<Parts, Status>>;

/// Connects without a channel to `address` (`host:port`), for bodies that tonic's does not take.
///
/// # Errors
/// When nobody answers; the message names the address.
pub async fn hyper(settings: Option<Settings>, address: &str) -> anyhow::Result<SendRequest<PartsBody>> {
    let mut builder = hyper::client::conn::http2::Builder::new(TransportExecutor);
    if let Some(settings) = settings {
        builder
            .max_frame_size(settings.max_frame_size)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window);
    }
    let client = async {
        let io = TokioIo::new(StagedIo::new(tcp(address).await?));
        let (sender, connection) = builder.handshake(io).await?;
        TransportExecutor.execute(connection);
        Ok::<_, anyhow::Error>(sender)
    };
    let client = tokio::time::timeout(CONNECT_TIMEOUT, client).await.context("no answer in time").flatten();
    client.with_context(|| format!("cannot connect to {address}"))
}

/// A gRPC request of a method on such a connection.
///
/// # Panics
/// If `path` is not a valid URI path.
pub fn request<B>(path: &str, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("{ORIGIN}{path}").parse().expect("a method's path is valid in a URI");
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, CONTENT_VALUE);
    request
}

async fn tcp(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket that reads whole frames (of up to so many bytes), or as it is.
type MaybeAligned<IO> = StagedIo<tokio_util::either::Either<AlignedIo<IO>, IO>>;

fn wrap<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, aligned: Option<usize>) -> MaybeAligned<IO> {
    use tokio_util::either::Either;
    StagedIo::new(match aligned {
        Some(frame) => Either::Left(AlignedIo::client(io).frame_bytes_max(frame)),
        None => Either::Right(io),
    })
}
