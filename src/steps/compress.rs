//! Compression whose state is kept: one compressor and one decompressor of a kind a thread, reset for each message.
//!
//! tonic makes a new one for each message: for gzip 369 kB to compress and 110 kB to decompress. A thread keeps at most
//! [`CONTEXT_BYTES_MAX`] per kind and direction, and [`OUTPUT_BYTES_MAX`] of output memory. A context that met an error is
//! dropped, and each is reset before it is used, so that nothing of one message is in another.

#[cfg(any(feature = "deflate", feature = "gzip"))]
mod flate;
#[cfg(feature = "zstd")]
mod zstd;

use std::cell::Cell;
use std::io;

use bytes::{Bytes, BytesMut};
use tonic::codec::CompressionEncoding;

/// Larger contexts are not kept: zstd's grow with the window that a peer's message asks for.
pub const CONTEXT_BYTES_MAX: usize = 4 << 20;
/// How much of the memory that messages are decompressed to is kept.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whether this build of the crate has the encoding. tonic's own features are not enough: this crate's features of the
/// same names are needed.
pub(super) fn is_available(encoding: CompressionEncoding) -> bool {
    match encoding {
        #[cfg(feature = "gzip")]
        CompressionEncoding::Gzip => true,
        #[cfg(feature = "deflate")]
        CompressionEncoding::Deflate => true,
        #[cfg(feature = "zstd")]
        CompressionEncoding::Zstd => true,
        _ => false,
    }
}

/// Appends `plain`, compressed, to `dst`.
#[cfg_attr(not(any(feature = "deflate", feature = "gzip", feature = "zstd")), expect(unused_variables))]
pub(super) fn compress(encoding: CompressionEncoding, plain: &[u8], dst: &mut BytesMut) -> io::Result<()> {
    match encoding {
        #[cfg(feature = "gzip")]
        CompressionEncoding::Gzip => with_output(|out| flate::gzip(plain, out, dst)),
        #[cfg(feature = "deflate")]
        CompressionEncoding::Deflate => with_output(|out| flate::deflate(plain, out, dst)),
        #[cfg(feature = "zstd")]
        CompressionEncoding::Zstd => with_output(|out| zstd::compress(plain, out, dst)),
        _ => Err(unavailable()),
    }
}

/// Calls `then` with what `packed` decompresses to; `Ok(None)` where that is more than `limit` bytes, of which no more
/// than that were made.
#[cfg_attr(not(any(feature = "deflate", feature = "gzip", feature = "zstd")), expect(unused_variables))]
pub(super) fn decompress<R>(
    encoding: CompressionEncoding,
    packed: Bytes,
    limit: usize,
    then: impl FnOnce(&[u8]) -> R,
) -> io::Result<Option<R>> {
    with_output(|out| {
        let within: io::Result<bool> = match encoding {
            #[cfg(feature = "gzip")]
            CompressionEncoding::Gzip => flate::gunzip(packed, limit, out),
            #[cfg(feature = "deflate")]
            CompressionEncoding::Deflate => flate::inflate(packed, limit, out),
            #[cfg(feature = "zstd")]
            CompressionEncoding::Zstd => zstd::decompress(&packed, limit, out),
            _ => Err(unavailable()),
        };
        Ok(within?.then(|| then(out)))
    })
}

fn unavailable() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this build has no such encoding")
}

/// Lends the thread's output memory, empty.
fn with_output<R>(act: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut out = OUTPUT.try_with(Cell::take).unwrap_or_default();
    out.clear();
    let result = act(&mut out);
    if out.capacity() <= OUTPUT_BYTES_MAX {
        let _ = OUTPUT.try_with(|kept| kept.set(out));
    }
    result
}

/// Lends a thread's context, which is made if there is none, and keeps it if all went well.
#[cfg(any(feature = "deflate", feature = "gzip", feature = "zstd"))]
fn with_context<C, R>(
    context: &'static std::thread::LocalKey<Cell<Option<C>>>,
    make: impl FnOnce() -> C,
    act: impl FnOnce(&mut C) -> io::Result<R>,
) -> io::Result<R> {
    let mut own = context.try_with(Cell::take).ok().flatten().unwrap_or_else(make);
    let result = act(&mut own)?;
    let _ = context.try_with(|kept| kept.set(Some(own)));
    Ok(result)
}

#[cfg(all(test, feature = "gzip", feature = "zstd", feature = "deflate"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [CompressionEncoding; 3] =
        [CompressionEncoding::Gzip, CompressionEncoding::Deflate, CompressionEncoding::Zstd];

    fn packed(encoding: CompressionEncoding, plain: &[u8]) -> Bytes {
        let mut dst = BytesMut::new();
        compress(encoding, plain, &mut dst).expect("compresses");
        dst.freeze()
    }

    fn unpacked(encoding: CompressionEncoding, packed: Bytes, limit: usize) -> io::Result<Option<Vec<u8>>> {
        decompress(encoding, packed, limit, <[u8]>::to_vec)
    }

    proptest! {
        #[test]
        fn what_was_compressed_is_read_again(
            messages in prop::collection::vec(prop::collection::vec(0u8..4, 0..5000), 1..8),
        ) {
            for encoding in ALL {
                for message in &messages {
                    let read = unpacked(encoding, packed(encoding, message), message.len());
                    prop_assert_eq!(read.expect("is read"), Some(message.clone()));
                }
            }
        }

        #[test]
        fn a_broken_message_leaves_nothing_in_the_next(
            message in prop::collection::vec(0u8..4, 1..3000),
            cut in 0usize..3000,
            flip in any::<prop::sample::Index>(),
        ) {
            for encoding in ALL {
                let whole = packed(encoding, &message);
                let _ = unpacked(encoding, whole.slice(..cut.min(whole.len())), 1 << 20);
                let mut wrong = whole.to_vec();
                wrong[flip.index(whole.len())] ^= 0x55;
                let _ = unpacked(encoding, wrong.into(), 1 << 20);
                let read = unpacked(encoding, whole, 1 << 20);
                prop_assert_eq!(read.expect("is read"), Some(message.clone()));
            }
        }
    }

    #[test]
    fn a_message_that_was_cut_is_an_error() {
        for encoding in ALL {
            let whole = packed(encoding, &[7; 10_000]);
            for cut in 1..whole.len() {
                assert!(unpacked(encoding, whole.slice(..cut), 1 << 20).is_err(), "{encoding} {cut}");
            }
        }
    }

    #[test]
    fn a_bomb_meets_the_limit_before_memory_does() {
        for encoding in ALL {
            let bomb = packed(encoding, &vec![0; 64 << 20]);
            assert!(bomb.len() < 1 << 20, "{encoding}: {} bytes", bomb.len());
            std::thread::spawn(move || {
                assert!(unpacked(encoding, bomb, 100_000).expect("no error").is_none());
                let output = OUTPUT.take().capacity();
                assert!(output <= 300_000, "{encoding}: {output} bytes of output");
            })
            .join()
            .expect("the thread's assertions hold");
        }
    }

    #[test]
    fn a_large_message_leaves_no_large_memory() {
        for encoding in ALL {
            let plain = vec![1; OUTPUT_BYTES_MAX + 1];
            let read = unpacked(encoding, packed(encoding, &plain), plain.len()).expect("is read");
            assert!(read.is_some_and(|read| read == plain));
            assert!(OUTPUT.take().capacity() <= OUTPUT_BYTES_MAX);
        }
    }
}
