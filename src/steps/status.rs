//! A peer's status.

use http::{HeaderMap, HeaderName, StatusCode};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::wire::grpc::{GRPC_STATUS, OK};
use crate::wire::status;

const DETAILS: &str = "grpc-status-details-bin";

/// The status that headers or trailers carry, `Ok` for success; `None` where they carry none. As tonic reads it, but that
/// details which are not base64 are left among the metadata, where tonic panics.
pub(super) fn carried(headers: &HeaderMap) -> Option<Result<(), Status>> {
    if headers.get(GRPC_STATUS)? == OK && !headers.contains_key(DETAILS) {
        return Some(Ok(()));
    }
    if !is_sound(headers) {
        return status::carried(headers);
    }
    let status = Status::from_header_map(headers)?;
    Some(if status.code() == tonic::Code::Ok { Ok(()) } else { Err(status) })
}

/// Whether tonic can read the status of these headers.
pub(super) fn is_sound(headers: &HeaderMap) -> bool {
    let Some(details) = headers.get(DETAILS) else { return true };
    let details = HeaderMap::from_iter([(HeaderName::from_static(DETAILS), details.clone())]);
    MetadataMap::from_headers(details).get_bin(DETAILS).is_some_and(|details| details.to_bytes().is_ok())
}

/// What a response that ended without a status means.
pub(super) fn of_http(http: StatusCode) -> Status {
    let message = match http {
        StatusCode::OK => "protocol error: missing grpc-status trailer, stream was terminated without a final status \
                           (possible truncation by a proxy or load balancer)"
            .to_owned(),
        other => format!("grpc-status header missing, mapped from HTTP status code {}", other.as_u16()),
    };
    Status::new(status::code_of_http(http), message)
}
