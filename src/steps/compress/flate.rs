//! gzip and zlib ("deflate", as HTTP calls it), level 6 as in tonic.

use std::cell::Cell;
use std::io::{self, Read};
use std::thread::LocalKey;

use bytes::buf::Reader;
use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress, Status};

use super::with_context;

type Input = Reader<Bytes>;

/// tonic's level.
const LEVEL: Compression = Compression::new(6);
/// Room that is looked for first, and again where a message turns out longer.
const STEP_BYTES: usize = 4096;

#[cfg(feature = "gzip")]
pub(super) fn gzip(plain: &[u8], out: &mut Vec<u8>, dst: &mut BytesMut) -> io::Result<()> {
    thread_local! {
        static CONTEXT: Cell<Option<Compress>> = const { Cell::new(None) };
    }
    /// Magic number, method 8, no flags, no time, no extra flags, and no operating system. RFC 1952, section 2.3.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    run(&CONTEXT, false, plain, out)?;
    let mut crc = flate2::Crc::new();
    crc.update(plain);
    dst.reserve(HEADER.len() + out.len() + 8);
    dst.extend_from_slice(&HEADER);
    dst.extend_from_slice(out);
    dst.extend_from_slice(&crc.sum().to_le_bytes());
    dst.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(())
}

#[cfg(feature = "deflate")]
pub(super) fn deflate(plain: &[u8], out: &mut Vec<u8>, dst: &mut BytesMut) -> io::Result<()> {
    thread_local! {
        static CONTEXT: Cell<Option<Compress>> = const { Cell::new(None) };
    }
    run(&CONTEXT, true, plain, out)?;
    dst.extend_from_slice(out);
    Ok(())
}

fn run(
    context: &'static LocalKey<Cell<Option<Compress>>>,
    zlib: bool,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    with_context(
        context,
        || Compress::new(LEVEL, zlib),
        |deflate| {
            deflate.reset();
            loop {
                out.reserve(STEP_BYTES);
                let read = usize::try_from(deflate.total_in()).expect("no more than `plain` has");
                if deflate.compress_vec(&plain[read..], out, FlushCompress::Finish)? == Status::StreamEnd {
                    return Ok(());
                }
            }
        },
    )
}

#[cfg(feature = "gzip")]
pub(super) fn gunzip(packed: Bytes, limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    use flate2::bufread::GzDecoder;
    thread_local! {
        static CONTEXT: Cell<Option<GzDecoder<Input>>> = const { Cell::new(None) };
    }
    with_context(
        &CONTEXT,
        || GzDecoder::new(Bytes::new().reader()),
        |decoder| {
            decoder.reset(packed.reader());
            let within = read(decoder, limit, out)?;
            // What was received is not held until the next message.
            *decoder.get_mut() = Bytes::new().reader();
            Ok(within)
        },
    )
}

#[cfg(feature = "deflate")]
pub(super) fn inflate(packed: Bytes, limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    use flate2::bufread::ZlibDecoder;
    thread_local! {
        static CONTEXT: Cell<Option<ZlibDecoder<Input>>> = const { Cell::new(None) };
    }
    with_context(
        &CONTEXT,
        || ZlibDecoder::new(Bytes::new().reader()),
        |decoder| {
            decoder.reset(packed.reader());
            let within = read(decoder, limit, out)?;
            *decoder.get_mut() = Bytes::new().reader();
            Ok(within)
        },
    )
}

/// Reads all, or one byte more than `limit`; whether that was all.
fn read(reader: &mut impl Read, limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(out)?;
    Ok(out.len() <= limit)
}
