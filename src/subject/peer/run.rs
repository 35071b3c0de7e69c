//! Starting a peer: sockets, the runtime, and what can go wrong.

use std::io;
use std::net::SocketAddr;

use super::pace::Pace;
use super::window::Window;
use super::{Direction, Kind, Traffic, http2, hyper, raw};
use crate::subject::ladder::Reads;
use crate::record::Measurement;
use crate::steps::AlignedIo;

/// Why a peer measured nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody listens at the address.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address could not be told to whoever waits for it.
    #[error("cannot print the address")]
    Announce(#[source] io::Error),
    /// The connection broke.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// h2 gave up.
    #[error("the HTTP/2 connection failed")]
    Http2(#[from] h2::Error),
    /// hyper gave up.
    #[error("the hyper connection failed")]
    Hyper(#[from] ::hyper::Error),
    /// The other side closed without a request.
    #[error("the connection closed before a request came")]
    NoRequest,
    /// The other side answered something else than 200.
    #[error("the server answered {0}")]
    Status(http::StatusCode),
    /// Fewer or more bytes arrived than were to be sent.
    #[error("{received} bytes arrived of {expected}")]
    Short {
        /// Bytes the traffic amounts to.
        expected: u64,
        /// Bytes that arrived.
        received: u64,
    },
    /// One read held the measured part from end to end.
    #[error("{bytes} bytes are too few to measure: one read took them")]
    TooFew {
        /// Bytes the traffic amounts to.
        bytes: u64,
    },
}

/// Serves one connection's traffic and measures it. `announce` is told the address once it is listened on.
///
/// # Errors
/// Any [`PeerError`].
pub fn serve(
    kind: Kind,
    address: SocketAddr,
    direction: Direction,
    traffic: Traffic,
    announce: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<Measurement, PeerError> {
    if kind == Kind::RawStd {
        return raw::serve_std(address, direction, traffic, announce);
    }
    runtime()?.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|source| PeerError::Bind { address, source })?;
        announce(listener.local_addr()?).map_err(PeerError::Announce)?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match kind {
            Kind::RawStd | Kind::RawTokio => raw::serve_tokio(stream, direction, traffic).await,
            Kind::H2 | Kind::H2Tuned => http2::serve(stream, kind.http2(), direction, traffic).await,
            Kind::Hyper | Kind::HyperTuned | Kind::HyperAligned => match kind.reads() {
                Reads::Stock => hyper::serve(stream, kind.http2(), direction, traffic).await,
                Reads::Aligned => hyper::serve(AlignedIo::server(stream), kind.http2(), direction, traffic).await,
            },
        }
    })
}

/// Makes one connection's traffic and measures it, no faster than `pace` where there is one.
///
/// # Errors
/// Any [`PeerError`].
pub fn connect(
    kind: Kind,
    address: SocketAddr,
    direction: Direction,
    traffic: Traffic,
    pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    if kind == Kind::RawStd {
        return raw::connect_std(address, direction, traffic, pace);
    }
    runtime()?.block_on(async {
        let stream =
            tokio::net::TcpStream::connect(address).await.map_err(|source| PeerError::Connect { address, source })?;
        stream.set_nodelay(true)?;
        match kind {
            Kind::RawStd | Kind::RawTokio => raw::connect_tokio(stream, direction, traffic, pace).await,
            Kind::H2 | Kind::H2Tuned | Kind::Hyper | Kind::HyperTuned | Kind::HyperAligned => {
                http2::connect(stream, kind, direction, traffic, pace).await
            }
        }
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}

/// The measurement of a stream that must be complete by now.
pub(super) fn check(window: Window, traffic: Traffic) -> Result<Measurement, PeerError> {
    let (expected, received) = (traffic.bytes_total(), window.position());
    if received != expected {
        return Err(PeerError::Short { expected, received });
    }
    window.finish().ok_or(PeerError::TooFew { bytes: expected })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_kind_moves_every_byte_both_ways() {
        for kind in Kind::ALL {
            for direction in Direction::ALL {
                for traffic in [
                    Traffic { chunk: 1, messages: 3, warmup: 1 },
                    Traffic { chunk: 70_000, messages: 40, warmup: 4 },
                    Traffic { chunk: 3 << 20, messages: 3, warmup: 1 },
                ] {
                    let (tell, told) = mpsc::channel();
                    let server = std::thread::spawn(move || {
                        let any = SocketAddr::from(([127, 0, 0, 1], 0));
                        serve(kind, any, direction, traffic, |address| tell.send(address).map_err(io::Error::other))
                    });
                    let address = told.recv().expect("the server listens");
                    let client = connect(kind, address, direction, traffic, None);
                    let server = server.join().expect("no panic");
                    let exact = traffic.chunk as u64 * traffic.messages;
                    for measured in [client, server] {
                        let measured = match measured {
                            Err(PeerError::TooFew { bytes: 5 }) => continue,
                            measured => measured.expect("all of it arrived"),
                        };
                        // An edge lies at the first read at or past it, so the part may be off by what one read gives.
                        let slack = exact.abs_diff(measured.payload_bytes);
                        assert!(slack <= traffic.chunk.max(256 << 10) as u64, "{} {direction:?} {slack}", kind.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_client_without_a_server_says_where_it_looked() {
        let traffic = Traffic { chunk: 1, messages: 1, warmup: 0 };
        let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|held| held.local_addr()).expect("a port");
        for kind in [Kind::RawStd, Kind::H2] {
            let error = connect(kind, nobody, Direction::Put, traffic, None).expect_err("nobody listens");
            assert_eq!(error.to_string(), format!("cannot connect to {nobody}"));
        }
    }
}
