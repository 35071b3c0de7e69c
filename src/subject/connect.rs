//! The client's connections.

use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tower_layer::Layer;

use super::http2;
use super::lean::client::LeanClient;
use super::secure::{MaybeTls, Security};
use super::socket::{CountedIo, MaybeAligned, Socket};
use crate::steps::{Http2, LeanChannel};
use crate::subject::ladder::{Reads, Socket as SocketKind, Tuning};
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
    let aligned = aligned_to(tuning, settings, aligned);
    let (kind, owned) = (tuning.socket, address.to_owned());
    let connect = move |_: Uri| {
        let address = owned.clone();
        async move {
            let io = MaybeAligned::client(connection(kind, &address, security).await?, aligned);
            Ok::<_, std::io::Error>(TokioIo::new(StagedIo::new(io)))
        }
    };
    let channel = endpoint.connect_with_connector(service_fn(connect)).await;
    let channel = channel.with_context(|| format!("cannot connect to {address}"))?;
    Ok(ClientLayer.layer(channel))
}

/// What is announced, where reads are to end where frames end.
fn aligned_to(tuning: &Tuning, settings: Option<Http2>, aligned: bool) -> Option<Http2> {
    (aligned && tuning.reads == Reads::Aligned).then(|| settings.unwrap_or(Http2::CLIENT))
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
    let aligned = aligned_to(tuning, settings, aligned);
    let http2 = settings.unwrap_or(Http2::CLIENT);
    let channel = async {
        let io = connection(tuning.socket, address, security).await?;
        Ok(LeanChannel::over(MaybeAligned::client(io, aligned), AUTHORITY, http2).await?)
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
        let io = connection(tuning.socket, address, security).await?;
        // A user is smaller than any read.
        let io = StagedIo::new(MaybeAligned::client(io, None));
        Ok(LeanClient::handshake(io, settings, uri).await?)
    };
    in_time(client, address).await
}

async fn connection(
    kind: SocketKind,
    address: &str,
    security: Security,
) -> std::io::Result<MaybeTls<CountedIo<Socket>>> {
    let socket = match kind {
        SocketKind::Tcp => Socket::tcp(address).await?,
        SocketKind::Unix => Socket::unix(address).await?,
    };
    security.connect(CountedIo::new(socket)).await
}
