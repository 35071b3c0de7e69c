//! A gRPC status out of what a peer sent.

use http::{HeaderMap, StatusCode};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::grpc::{GRPC_MESSAGE, GRPC_STATUS, OK};

/// The status that headers or trailers carry, `Ok` for success; `None` where they carry none.
///
/// `Status::from_header_map` copies all headers, and panics when the details are not base64: a peer's doing. Here the
/// details stay among the metadata, where they are decoded on request. Success makes no `Status`, which
/// would be a box.
pub fn carried(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get(GRPC_STATUS)?;
    if code == OK {
        return Some(Ok(()));
    }
    let mut own = HeaderMap::with_capacity(2);
    own.insert(GRPC_STATUS, code.clone());
    if let Some(message) = headers.get(GRPC_MESSAGE) {
        own.insert(GRPC_MESSAGE, message.clone());
    }
    let mut rest = headers.clone();
    rest.remove(GRPC_STATUS);
    rest.remove(GRPC_MESSAGE);
    let mut status = Status::from_header_map(&own)?;
    *status.metadata_mut() = MetadataMap::from_headers(rest);
    Some(Err(status))
}

/// The code that headers or trailers carry; `None` where they carry none. One that is no number is `UNKNOWN`.
pub fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// What a response without a gRPC status means.
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
pub fn code_of_http(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_details_that_are_not_base64_are_no_panic() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "5".parse().expect("a value"));
        headers.insert("grpc-message", "not%20here".parse().expect("a value"));
        headers.insert("grpc-status-details-bin", "!!!".parse().expect("a value"));
        let status = carried(&headers).expect("a status").expect_err("no success");
        assert_eq!((status.code(), status.message()), (Code::NotFound, "not here"));
        assert!(carried(&HeaderMap::new()).is_none());
        assert_eq!((code(&headers), code(&HeaderMap::new())), (Some(Code::NotFound), None));
        headers.insert("grpc-status", "x".parse().expect("a value"));
        assert_eq!(code(&headers), Some(Code::Unknown));
    }
}
