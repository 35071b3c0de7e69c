//! gRPC over HTTP/2: what stands before each message, header names, and deadlines.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use bytes::BufMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

// As names, because a name that is inserted as text is allocated.
/// The code of an answer, in trailers, or in headers where there is nothing else.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The message of a failure, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the caller waits: see [`timeout`].
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How messages are compressed.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How messages may be compressed: text, because tonic's metadata takes no other name of a header.
pub const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The content type, and what every other one of gRPC begins with.
pub const CONTENT: &str = "application/grpc";
/// [`CONTENT`] as a header's value.
pub const CONTENT_VALUE: HeaderValue = HeaderValue::from_static(CONTENT);
/// The encoding of messages that are not compressed.
pub const IDENTITY: &str = "identity";
/// The code of success.
pub const OK: &str = "0";

/// Bytes before each message: a flag and a 32-bit length.
pub const PREFIX_BYTES: usize = 5;

/// What stands before a message that is not compressed, of `len` bytes.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` for a length of more than 32 bits.
pub fn prefix(len: usize) -> Result<[u8; PREFIX_BYTES], Status> {
    let len = u32::try_from(len)
        .map_err(|_| Status::resource_exhausted(format!("a message of {len} bytes exceeds gRPC's 4 GiB")))?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// Writes [`prefix`].
///
/// # Errors
/// As [`prefix`].
pub fn put_prefix(len: usize, buf: &mut impl BufMut) -> Result<(), Status> {
    buf.put_slice(&prefix(len)?);
    Ok(())
}

/// The length of the message behind a prefix, on a stream that is not compressed.
///
/// # Errors
/// As tonic answers: `INTERNAL` for a message that is marked as compressed and for a flag that means nothing,
/// `OUT_OF_RANGE` for more bytes than `limit`.
pub fn message_len(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, Status> {
    let [flag, a, b, c, d] = prefix;
    match flag {
        0 => {}
        1 => return Err(Status::internal("a message is marked as compressed, the stream is not")),
        _ => return Err(Status::internal(format!("compression flag {flag} is neither 0 nor 1"))),
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > limit {
        return Err(Status::out_of_range(format!("a message of {len} bytes exceeds the limit of {limit} bytes")));
    }
    Ok(len)
}

/// What is said of a body that ends before its last message does.
pub fn ended_inside_message() -> Status {
    Status::internal("the body ended inside a message")
}

/// How much of a message has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of it so far, compressed where it is.
    pub bytes: u32,
    /// That is all of it.
    pub whole: bool,
}

/// Follows the framing of a stream as it passes, however it is cut. Keeps none of it and refuses nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framing {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix there are; the message's own follow when it is whole.
    have: usize,
    /// Bytes of the message that are still to come.
    left: u32,
}

impl Framing {
    /// Looks at the next bytes. `passed` is told of a message each time there is more of it, at least once.
    pub fn pass(&mut self, mut bytes: &[u8], mut passed: impl FnMut(Passed)) {
        while !bytes.is_empty() {
            if self.have == 0
                && let Some((prefix, rest)) = bytes.split_first_chunk()
            {
                // PERF: a prefix that lies together, as nearly all do, and the message behind it.
                (self.prefix, self.have) = (*prefix, PREFIX_BYTES);
                let len = self.len();
                if let Some(behind) = rest.get(len as usize..) {
                    self.have = 0;
                    bytes = behind;
                    passed(Passed { bytes: len, whole: true });
                } else {
                    self.left = len;
                    bytes = rest;
                }
            } else if self.have < PREFIX_BYTES {
                let step = (PREFIX_BYTES - self.have).min(bytes.len());
                self.prefix[self.have..self.have + step].copy_from_slice(&bytes[..step]);
                self.have += step;
                self.left = self.len();
                bytes = &bytes[step..];
                if self.have == PREFIX_BYTES && self.left == 0 {
                    passed(Passed { bytes: 0, whole: true });
                }
            } else {
                let step = bytes.len().min(self.left as usize);
                self.left -= step as u32;
                bytes = &bytes[step..];
                passed(Passed { bytes: self.len() - self.left, whole: self.left == 0 });
            }
            if self.have == PREFIX_BYTES && self.left == 0 {
                self.have = 0;
            }
        }
    }

    /// Whether the next byte begins a message.
    pub fn is_between_messages(&self) -> bool {
        self.have == 0
    }

    fn len(&self) -> u32 {
        let [_, a, b, c, d] = self.prefix;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The [`GRPC_TIMEOUT`] of a call: up to eight digits and a unit. One that is not well-formed is ignored, as in tonic.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
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

/// A timeout as [`GRPC_TIMEOUT`] says it, in whole milliseconds: between one and as many as eight digits hold.
pub fn timeout_value(timeout: Duration) -> HeaderValue {
    const MILLIS_MAX: u128 = 99_999_999;
    let millis = timeout.as_millis().clamp(1, MILLIS_MAX);
    HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_as_it_was_written() {
        for len in [0, 1, 255, 256, 70_000] {
            assert_eq!(message_len(prefix(len).expect("short"), 70_000).expect("within the limit"), len);
        }
        assert!(prefix(1 << 32).is_err());
        let code = |prefix| message_len(prefix, 10).expect_err("refused").code();
        assert_eq!(code([0, 0, 0, 0, 11]), tonic::Code::OutOfRange);
        assert_eq!(code([1, 0, 0, 0, 1]), tonic::Code::Internal);
        assert_eq!(code([2, 0, 0, 0, 1]), tonic::Code::Internal);
    }

    #[test]
    fn framing_is_followed_whatever_way_it_is_cut() {
        let lengths = [0u32, 3, 1000, 0, 70_000, 9];
        let mut wire = Vec::new();
        for length in lengths {
            wire.push(1);
            wire.extend(length.to_be_bytes());
            wire.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for frame in [1, 2, 7, 16_384, wire.len()] {
            let (mut framing, mut whole) = (Framing::default(), Vec::new());
            for frame in wire.chunks(frame) {
                framing.pass(frame, |passed| whole.extend(passed.whole.then_some(passed.bytes)));
            }
            assert!(framing.is_between_messages(), "frames of {frame}");
            assert_eq!(whole, lengths, "frames of {frame}");
        }
        // A length that is only claimed is not what arrived.
        let mut arrived = 0;
        Framing::default().pass(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3], |passed| {
            arrived = passed.bytes;
            assert!(!passed.whole);
        });
        assert_eq!(arrived, 3);
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &'static [u8]| {
            let value = HeaderValue::from_bytes(text).expect("a header value");
            timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, value)]))
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
        assert_eq!(timeout_value(Duration::from_secs(2)), "2000m");
        assert_eq!(timeout_value(Duration::ZERO), "1m");
        assert_eq!(timeout_value(Duration::MAX), "99999999m");
    }
}
