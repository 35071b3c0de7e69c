//! Starting a peer: sockets, the runtime, and what can go wrong.

use std::io;
use std::net::SocketAddr;

use super::outcome::PeerError;
use super::pace::Pace;
use super::{Direction, Kind, Traffic, http2, hyper, raw};
use crate::record::Measurement;
use crate::steps::AlignedIo;
use crate::subject::ladder::Reads;
use crate::subject::socket::{MaybeAligned, settle};

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
        settle(&stream)?;
        match kind {
            Kind::RawStd | Kind::RawTokio => raw::serve_tokio(stream, direction, traffic).await,
            Kind::H2 | Kind::H2Tuned => http2::serve(stream, kind.http2(), direction, traffic).await,
            Kind::Hyper | Kind::HyperTuned | Kind::HyperAligned => {
                let stream = match kind.reads() {
                    Reads::Stock => MaybeAligned::Stock(stream),
                    Reads::Aligned => MaybeAligned::Aligned(AlignedIo::server(stream)),
                };
                hyper::serve(stream, kind.http2(), direction, traffic).await
            }
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
        settle(&stream)?;
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
