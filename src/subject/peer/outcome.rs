//! How a peer's stream ended: measured whole, or why not.

use std::io;
use std::net::SocketAddr;

use super::Traffic;
use super::window::Window;
use crate::record::Measurement;

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

/// The measurement of a stream that must be complete by now.
pub(super) fn check(window: Window, traffic: Traffic) -> Result<Measurement, PeerError> {
    let (expected, received) = (traffic.bytes_total(), window.position());
    if received != expected {
        return Err(PeerError::Short { expected, received });
    }
    window.finish().ok_or(PeerError::TooFew { bytes: expected })
}
