//! zstd, level 3 as in tonic.

use std::cell::Cell;
use std::io;

use bytes::BytesMut;
use zstd::zstd_safe::{
    CCtx, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name, get_frame_content_size,
};

use super::{CONTEXT_BYTES_MAX, with_context};

/// Room that is looked for first where a message does not say how long it is.
const STEP_BYTES: usize = 4096;
/// The window every decompressor is asked to support, as a power of two: RFC 8878, section 3.1.1.1.2. A message that asks
/// for more than this and more than the receive limit is refused before anything is allocated for it.
const WINDOW_LOG: u32 = 23;
/// The largest window zstd takes unless told otherwise.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn compress(plain: &[u8], out: &mut Vec<u8>, dst: &mut BytesMut) -> io::Result<()> {
    thread_local! {
        static CONTEXT: Cell<Option<Bounded<CCtx<'static>>>> = const { Cell::new(None) };
    }
    with_context(
        &CONTEXT,
        || Bounded(None),
        |context| {
            context.run(CCtx::create, |context| {
                out.reserve(compress_bound(plain.len()));
                context.compress(out, plain, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(failed)?;
                dst.extend_from_slice(out);
                Ok(context.sizeof())
            })
        },
    )
}

pub(super) fn decompress(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    thread_local! {
        static CONTEXT: Cell<Option<Bounded<DCtx<'static>>>> = const { Cell::new(None) };
    }
    let mut within = true;
    with_context(
        &CONTEXT,
        || Bounded(None),
        |context| {
            context.run(DCtx::create, |context| {
                within = read(context, packed, limit, out)?;
                Ok(context.sizeof())
            })
        },
    )?;
    Ok(within)
}

/// A context that is dropped where it has become too large.
struct Bounded<C>(Option<C>);

impl<C> Bounded<C> {
    /// `act` says how large the context is.
    fn run(&mut self, make: impl FnOnce() -> C, act: impl FnOnce(&mut C) -> io::Result<usize>) -> io::Result<()> {
        let size = act(self.0.get_or_insert_with(make))?;
        if size > CONTEXT_BYTES_MAX {
            self.0 = None;
        }
        Ok(())
    }
}

fn read(context: &mut DCtx<'static>, packed: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    // As in tonic: nothing at all is an empty message.
    if packed.is_empty() {
        return Ok(true);
    }
    context.reset(ResetDirective::SessionOnly).map_err(failed)?;
    let window = usize::BITS - limit.leading_zeros();
    context.set_parameter(DParameter::WindowLogMax(window.clamp(WINDOW_LOG, WINDOW_LOG_MAX))).map_err(failed)?;
    // Where the length is known and there is room for all of it, zstd makes no window.
    match get_frame_content_size(packed) {
        Ok(Some(len)) if len > limit as u64 => return Ok(false),
        Ok(Some(len)) => out.reserve(usize::try_from(len).expect("no more than the limit")),
        Ok(None) | Err(_) => out.reserve((2 * packed.len()).clamp(STEP_BYTES, limit.max(STEP_BYTES))),
    }
    let mut input = InBuffer::around(packed);
    loop {
        if out.len() == out.capacity() {
            out.reserve_exact(out.len().max(STEP_BYTES).min(limit + 1 - out.len()).max(1));
        }
        let before = (input.pos(), out.len());
        let room = out.capacity();
        let mut output = OutBuffer::around_pos(out, before.1);
        let wanted = context.decompress_stream(&mut output, &mut input).map_err(failed)?;
        if out.len() > limit {
            return Ok(false);
        }
        if wanted == 0 && input.pos() == packed.len() {
            return Ok(true);
        }
        if before == (input.pos(), out.len()) && out.len() < room {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
        }
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}
