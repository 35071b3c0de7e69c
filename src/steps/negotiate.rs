//! Compression as headers name it, and headers that are gRPC's own.

use http::header::{HeaderMap, HeaderValue};
use tonic::Status;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::metadata::{MetadataMap, MetadataValue};

use super::compress;
use crate::wire::grpc::{GRPC_ACCEPT_ENCODING, GRPC_ENCODING, IDENTITY};

/// Those of `enabled` that this build has, in the order in which they were enabled.
pub(super) fn available(mut enabled: EnabledCompressionEncodings) -> EnabledCompressionEncodings {
    let mut kept = [None; 3];
    for slot in &mut kept {
        *slot = enabled.pop().filter(|encoding| compress::is_available(*encoding));
    }
    let mut available = EnabledCompressionEncodings::default();
    kept.into_iter().rev().flatten().for_each(|encoding| available.enable(encoding));
    available
}

pub(super) fn in_order(mut enabled: EnabledCompressionEncodings) -> impl Iterator<Item = CompressionEncoding> {
    let mut kept = [None; 3];
    for slot in &mut kept {
        *slot = enabled.pop();
    }
    kept.into_iter().rev().flatten()
}

fn name(encoding: CompressionEncoding) -> &'static str {
    match encoding {
        #[cfg(feature = "gzip")]
        CompressionEncoding::Gzip => "gzip",
        #[cfg(feature = "deflate")]
        CompressionEncoding::Deflate => "deflate",
        #[cfg(feature = "zstd")]
        CompressionEncoding::Zstd => "zstd",
        _ => unreachable!("only available encodings are enabled"),
    }
}

/// The encoding as the header's value.
pub(super) fn value(encoding: CompressionEncoding) -> HeaderValue {
    HeaderValue::from_static(name(encoding))
}

/// What a peer may send, as the header says it; `None` where that is nothing but `identity`.
pub(super) fn accept_value(accepted: EnabledCompressionEncodings) -> Option<HeaderValue> {
    let mut names: Vec<&str> = in_order(accepted).map(name).collect();
    match names[..] {
        [] => None,
        ["gzip"] => Some(HeaderValue::from_static("gzip,identity")),
        _ => {
            names.push(IDENTITY);
            Some(HeaderValue::try_from(names.join(",")).expect("names and commas are a header's value"))
        }
    }
}

/// The encoding of a peer's messages.
///
/// # Errors
/// `UNIMPLEMENTED` for one that is not accepted, with those that are.
pub(crate) fn received(
    headers: &HeaderMap,
    accepted: EnabledCompressionEncodings,
) -> Result<Option<CompressionEncoding>, Status> {
    let Some(value) = headers.get(GRPC_ENCODING).filter(|value| *value != IDENTITY) else { return Ok(None) };
    if let Some(encoding) = in_order(accepted).find(|encoding| value == name(*encoding)) {
        return Ok(Some(encoding));
    }
    let name = String::from_utf8_lossy(value.as_bytes());
    let mut status = Status::unimplemented(format!("Content is compressed with `{name}` which isn't supported"));
    let accept = accept_value(accepted).unwrap_or_else(|| HeaderValue::from_static(IDENTITY));
    if let Ok(accept) = MetadataValue::try_from(accept.as_bytes()) {
        status.metadata_mut().insert(GRPC_ACCEPT_ENCODING, accept);
    }
    Err(status)
}

/// The encoding to answer in: the first the caller names that is enabled.
pub(super) fn to_answer(headers: &HeaderMap, enabled: EnabledCompressionEncodings) -> Option<CompressionEncoding> {
    if enabled.is_empty() {
        return None;
    }
    let wanted = headers.get(GRPC_ACCEPT_ENCODING)?.to_str().ok()?;
    wanted.split(',').find_map(|wanted| in_order(enabled).find(|encoding| name(*encoding) == wanted.trim()))
}

/// Metadata as headers, with room for those that follow, and without those that are gRPC's own.
pub(super) fn headers(metadata: MetadataMap) -> HeaderMap {
    let mut headers = metadata.into_headers();
    if headers.is_empty() {
        return HeaderMap::with_capacity(3);
    }
    for reserved in ["te", "content-type", "grpc-message", "grpc-message-type", "grpc-status"] {
        headers.remove(reserved);
    }
    headers
}
