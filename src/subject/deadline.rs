//! A call's deadline where tonic's `Server`, which keeps it, is not used.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

/// What `answer` gives, or the status tonic's `Server` answers with when the call's `grpc-timeout` is over first.
///
/// As there, the deadline is for the response's beginning: a stream that has begun is the client's to reset.
///
/// # Errors
/// `CANCELLED` when the time is over.
pub async fn within<T>(timeout: Option<Duration>, answer: impl Future<Output = T>) -> Result<T, Status> {
    match timeout {
        None => Ok(answer.await),
        Some(timeout) => tokio::time::timeout(timeout, answer).await.map_err(|_| Status::cancelled("Timeout expired")),
    }
}

/// The `grpc-timeout` of a call: up to eight digits and a unit. One that is not well-formed is none, as in tonic.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (value, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = (value.len() <= 8).then(|| value.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &'static [u8]| {
            let value = http::HeaderValue::from_bytes(text).expect("a header value");
            timeout(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]))
        };
        assert_eq!(read(b"2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read(b"3M"), Some(Duration::from_secs(180)));
        assert_eq!(read(b"99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read(b"50m"), Some(Duration::from_millis(50)));
        assert_eq!(read(b"7u"), Some(Duration::from_micros(7)));
        assert_eq!(read(b"8n"), Some(Duration::from_nanos(8)));
        for bad in [&b""[..], b"S", b"5", b"100000000S", b"-1S", b"1s", b"\xff\xffS", b"1\xc3\xa4"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
