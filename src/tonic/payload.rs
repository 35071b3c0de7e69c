//! How long messages are before compression and after decompression, told to the body that counts them by who encodes or
//! decodes them: the body sees what travels.
//!
//! Both run in one poll of the same thread, one inside the other, so they are told to each other on the thread. A body
//! that was told once takes its sizes from there for good.

use std::cell::Cell;

use crate::Method;

thread_local! {
    /// Bytes of messages encoded since a body that sends them was polled, [`NONE`] where none was, [`NOBODY`] where nobody
    /// asks. A poll that panics leaves it as it is, which the next body that asks does not see.
    static ENCODED: Cell<u64> = const { Cell::new(NOBODY) };
    /// A decoder polls the body below it.
    static DECODING: Cell<bool> = const { Cell::new(false) };
    /// Whose messages the body below it counts.
    static RECEIVER: Cell<Option<Method>> = const { Cell::new(None) };
}

/// No number of bytes that was ever encoded.
const NONE: u64 = u64::MAX;
const NOBODY: u64 = u64::MAX - 1;

/// A body asks what is encoded while it is polled; gives what [`told`] needs.
#[inline]
pub(super) fn ask() -> u64 {
    ENCODED.replace(NONE)
}

/// The bytes of what was encoded since a body asked, where somebody told them.
#[inline]
pub(super) fn told(before: u64) -> Option<u64> {
    Some(ENCODED.replace(before)).filter(|bytes| *bytes != NONE)
}

/// A message of so many bytes was encoded, and is not compressed yet.
pub(crate) fn encoded(bytes: usize) {
    match ENCODED.get() {
        NOBODY => {}
        NONE => ENCODED.set(bytes as u64),
        told => ENCODED.set(told + bytes as u64),
    }
}

/// Polls what makes the messages of a body: what is encoded there is another body's.
#[cfg(feature = "steps")]
pub(crate) fn source<T>(poll: impl FnOnce() -> T) -> T {
    let before = ENCODED.replace(NOBODY);
    let polled = poll();
    ENCODED.set(before);
    polled
}

/// Polls the body whose messages are decoded by the caller; says whose messages they are, where a seam counts them and
/// leaves their sizes to the caller.
#[cfg(feature = "steps")]
pub(crate) fn decoding<T>(poll: impl FnOnce() -> T) -> (T, Option<Method>) {
    DECODING.set(true);
    let polled = poll();
    DECODING.set(false);
    (polled, RECEIVER.take())
}

/// Whether a decoder polls this body, which is told whose messages it brings.
pub(super) fn is_decoded(method: Method) -> bool {
    let decoding = DECODING.take();
    if decoding {
        RECEIVER.set(Some(method));
    }
    decoding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding<T>(poll: impl FnOnce() -> T) -> (T, Option<u64>) {
        let before = ask();
        let polled = poll();
        (polled, told(before))
    }

    #[test]
    fn what_is_encoded_is_told_to_the_body_around_it_alone() {
        encoded(5);
        let ((), told) = encoding(|| ());
        assert_eq!(told, None, "nobody told");
        let (inner, told) = encoding(|| {
            encoded(0);
            let ((), inner) = encoding(|| encoded(7));
            encoded(3);
            inner
        });
        assert_eq!((inner, told), (Some(7), Some(3)));
        assert_eq!(encoding(|| encoded(0)).1, Some(0));
    }

    #[cfg(feature = "steps")]
    #[test]
    fn a_decoder_and_the_body_below_it_find_each_other() {
        let ((), told) = encoding(|| source(|| encoded(9)));
        assert_eq!(told, None);
        assert!(!is_decoded(Method::OVERFLOW));
        assert_eq!(decoding(|| is_decoded(Method::OVERFLOW)), (true, Some(Method::OVERFLOW)));
        assert_eq!(decoding(|| ()), ((), None), "no seam below");
        assert!(!is_decoded(Method::OVERFLOW));
    }
}
