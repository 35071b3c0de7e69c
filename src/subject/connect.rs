//! The client's connections.

use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tower_layer::Layer;

use super::http2;
use super::lean::client::LeanClient;
use super::secure::{MaybeTls, Security};
use super::socket::CountedIo;
use crate::steps::{AlignedIo, Http2, LeanChannel};
use crate::subject::ladder::{Reads, Socket, Tuning};
use crate::tonic::{ClientLayer, ClientService, StagedIo, TransportExecutor};

/// A channel with the client's seam on it.
pub type StagedChannel = ClientService<Channel>;
/// A lean channel with the client's seam on it.
pub type StagedLean = ClientService<LeanChannel>;

/// What clients call the server by, whatever its address is.
const ORIGIN: &str = "http://ladder.invalid";
const AUTHORITY: &str = "ladder.invalid";
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
    settings: Option<Http2>,
    (address, security): (&str, Security),
    aligned: bool,
) -> anyhow::Result<StagedChannel> {
    let endpoint = Endpoint::from_static(ORIGIN).executor(TransportExecutor).connect_timeout(CONNECT_TIMEOUT);
    let endpoint = http2::endpoint(endpoint, tuning, settings);
    let aligned = aligned_frame(tuning, settings, aligned);
    let owned = address.to_owned();
    let channel = match tuning.socket {
        Socket::Tcp => {
            let connect = move |_: Uri| {
                let address = owned.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(wrap(tcp(&address, security).await?, aligned))) }
            };
            endpoint.connect_with_connector(service_fn(connect)).await
        }
        Socket::Unix => {
            let connect = move |_: Uri| {
                let path = owned.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(wrap(unix(&path, security).await?, aligned))) }
            };
            endpoint.connect_with_connector(service_fn(connect)).await
        }
    };
    let channel = channel.with_context(|| format!("cannot connect to {address}"))?;
    Ok(ClientLayer.layer(channel))
}

/// The largest frame, where reads are to end where frames end.
fn aligned_frame(tuning: &Tuning, settings: Option<Http2>, aligned: bool) -> Option<usize> {
    let frame = settings.unwrap_or(Http2::CLIENT).max_frame_size as usize;
    (aligned && tuning.reads == Reads::Aligned).then_some(frame)
}

/// Connects to `address` without a channel; `aligned` as for [`channel`].
///
/// # Errors
/// When nobody answers; the message names the address.
pub async fn lean(
    tuning: &Tuning,
    settings: Option<Http2>,
    (address, security): (&str, Security),
    aligned: bool,
) -> anyhow::Result<StagedLean> {
    let aligned = aligned_frame(tuning, settings, aligned);
    let http2 = settings.unwrap_or(Http2::CLIENT);
    let channel = async {
        Ok(match tuning.socket {
            Socket::Tcp => {
                let stream = tcp(address, security).await?;
                LeanChannel::over(maybe_aligned(stream, aligned), AUTHORITY, http2).await?
            }
            Socket::Unix => {
                let stream = unix(address, security).await?;
                LeanChannel::over(maybe_aligned(stream, aligned), AUTHORITY, http2).await?
            }
        })
    };
    Ok(ClientLayer.layer(in_time(channel, address).await?))
}

/// What connecting gives, if it does in time.
async fn in_time<T>(connecting: impl Future<Output = anyhow::Result<T>>, address: &str) -> anyhow::Result<T> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.context("no answer in time").flatten();
    connected.with_context(|| format!("cannot connect to {address}"))
}

/// Connects a client of `path` alone to `address`, written by hand.
///
/// # Errors
/// When nobody answers; the message names the address.
pub async fn by_hand(
    tuning: &Tuning,
    settings: Option<Http2>,
    (address, security): (&str, Security),
    path: &'static str,
) -> anyhow::Result<LeanClient> {
    let uri = Uri::try_from(format!("{ORIGIN}{path}"))?;
    let client = async {
        Ok(match tuning.socket {
            Socket::Tcp => LeanClient::handshake(StagedIo::new(tcp(address, security).await?), settings, uri).await?,
            Socket::Unix => LeanClient::handshake(StagedIo::new(unix(address, security).await?), settings, uri).await?,
        })
    };
    in_time(client, address).await
}

async fn tcp(address: &str, security: Security) -> std::io::Result<MaybeTls<CountedIo<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    security.connect(CountedIo::new(stream)).await
}

async fn unix(path: &str, security: Security) -> std::io::Result<MaybeTls<CountedIo<UnixStream>>> {
    security.connect(CountedIo::new(UnixStream::connect(path).await?)).await
}

/// A socket that reads whole frames (of up to so many bytes), or as it is.
type MaybeAligned<IO> = tokio_util::either::Either<AlignedIo<IO>, IO>;

fn maybe_aligned<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, aligned: Option<usize>) -> MaybeAligned<IO> {
    match aligned {
        Some(frame) => MaybeAligned::Left(AlignedIo::client(io).frame_bytes_max(frame)),
        None => MaybeAligned::Right(io),
    }
}

fn wrap<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, aligned: Option<usize>) -> StagedIo<MaybeAligned<IO>> {
    StagedIo::new(maybe_aligned(io, aligned))
}
