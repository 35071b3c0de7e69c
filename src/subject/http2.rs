//! HTTP/2 settings of the `tuned-h2` step.

use super::message::chunk_encoded_len;
use crate::steps;
use crate::subject::ladder::{Http2, Tuning};
use crate::subject::scenario::Workload;

/// What both sides announce; `None` leaves tonic's and hyper's defaults.
pub fn settings(tuning: &Tuning, workload: &Workload) -> Option<steps::Http2> {
    let streams = workload.streams.div_ceil(workload.connections) as usize;
    let tuned = || steps::Http2::for_streams_of_messages(streams, chunk_encoded_len(workload.chunk));
    (tuning.http2 == Http2::Tuned).then(tuned)
}
