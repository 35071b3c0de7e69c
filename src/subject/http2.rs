//! HTTP/2 settings of the `tuned-h2` step, and windows that hyper chooses.

use tonic::transport::{Endpoint, Server};

use super::message::chunk_encoded_len;
use crate::steps;
use crate::subject::ladder::{Http2, Tuning};
use crate::subject::scenario::Workload;

/// What both sides announce; `None` leaves tonic's and hyper's defaults.
pub fn settings(tuning: &Tuning, workload: &Workload) -> Option<steps::Http2> {
    let streams = workload.streams.div_ceil(workload.connections) as usize;
    let largest = workload.chunk.max(workload.large_first as usize);
    let tuned = || steps::Http2::for_streams_of_messages(streams, chunk_encoded_len(largest));
    (tuning.http2 == Http2::Tuned).then(tuned)
}

/// A server that announces them, or whose windows are hyper's to choose.
pub fn server(server: Server, tuning: &Tuning, settings: Option<steps::Http2>) -> Server {
    match settings {
        Some(http2) => http2.server(server),
        None if tuning.http2 == Http2::Adaptive => server.http2_adaptive_window(Some(true)),
        None => server,
    }
}

/// The same of a client.
pub fn endpoint(endpoint: Endpoint, tuning: &Tuning, settings: Option<steps::Http2>) -> Endpoint {
    match settings {
        Some(http2) => http2.endpoint(endpoint),
        None if tuning.http2 == Http2::Adaptive => endpoint.http2_adaptive_window(true),
        None => endpoint,
    }
}
