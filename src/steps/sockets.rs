//! [`AlignedIo`] as one line: on a server's incoming connections, and as a client's channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};

use super::{AlignedIo, Http2};

/// Connections whose reads end where HTTP/2 frames end, for `Server::serve_with_incoming`. `http2` is what the server
/// announces.
///
/// Give it `TcpIncoming::bind(address)?.with_nodelay(Some(true))`: handed over by itself, a listener loses the TCP_NODELAY
/// that tonic sets, and small answers wait 40 ms. Never around TLS: what passes then is ciphertext.
pub fn aligned<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Unpin,
    http2: Http2,
) -> impl Stream<Item = io::Result<AlignedIo<IO>>> + Unpin
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    incoming.map(move |io| io.map(|io| AlignedIo::server(io).frame_bytes_max(http2.max_frame_size as usize)))
}

/// A channel to the endpoint's address whose reads end where HTTP/2 frames end, and which announces `http2`. For `http://`
/// endpoints of a host and a port.
///
/// # Errors
/// When nobody answers.
pub async fn connect(endpoint: Endpoint, http2: Http2) -> Result<Channel, tonic::transport::Error> {
    http2.endpoint(endpoint).connect_with_connector(Connector(http2)).await
}

/// Connects to whatever address it is asked for.
#[derive(Clone, Copy, Debug)]
struct Connector(Http2);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<AlignedIo<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let frame = self.0.max_frame_size as usize;
        Box::pin(async move {
            let Some(host) = uri.host() else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the endpoint names no host"));
            };
            // The brackets of an IPv6 address belong to the URI.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(AlignedIo::client(stream).frame_bytes_max(frame)))
        })
    }
}
