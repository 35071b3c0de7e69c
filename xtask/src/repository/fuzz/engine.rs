//! Makes inputs out of good ones: case `n` of a seed is the same wherever it is made, and needs no case before it.

use std::ops::Range;

use alloc_ladder::wire::grpc::PREFIX_BYTES;
use alloc_ladder::wire::http2::{FrameHeader, HEADER_BYTES, PREFACE};
use fastrand::Rng;

/// No input is longer, in bytes.
const LONGEST: usize = 256 * 1024;
/// The most changes to one input.
const CHANGES_MAX: usize = 8;

/// What an input is made of, for changes that keep most of it well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing that is known here.
    Bytes,
    /// Words, numbers, lines, and pairs of brackets.
    Text,
    /// HTTP/2 frames, behind the preface if it is there.
    Frames,
    /// gRPC messages, each behind its prefix.
    Messages,
}

/// Good inputs, and how to damage them.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    /// Pieces that mean something to the reader.
    pub(super) words: &'static [&'static [u8]],
    /// Not empty.
    pub(super) corpus: Vec<Vec<u8>>,
}

/// Numbers at which something ends.
const EXTREMES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 61,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// The same as text, and numbers that only text can hold.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "255",
    "4294967296",
    "2305843009213693952",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "0.1",
];

impl Engine {
    /// The input of a case. The first cases are the good inputs as they are.
    pub(super) fn case(&self, number: u64) -> Vec<u8> {
        if let Some(good) = usize::try_from(number).ok().and_then(|number| self.corpus.get(number)) {
            return good.clone();
        }
        let mut rng = Rng::with_seed(mixed(self.seed, number));
        let mut input = self.any(&mut rng).to_vec();
        // Half of the cases have one change, a quarter two, and so on.
        let changes = 1 + (rng.u64(..).trailing_zeros() as usize).min(CHANGES_MAX - 1);
        for _ in 0..changes {
            self.change(&mut input, &mut rng);
        }
        input.truncate(LONGEST);
        input
    }

    fn any(&self, rng: &mut Rng) -> &[u8] {
        &self.corpus[rng.usize(..self.corpus.len())]
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        if self.shape == Shape::Bytes || rng.bool() {
            self.change_bytes(input, rng);
        } else {
            self.change_units(input, rng);
        }
    }

    /// A change that knows nothing of the input.
    fn change_bytes(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let at = rng.usize(..=input.len());
        match rng.u8(..10) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => {
                let bytes: Vec<u8> = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect();
                put(input, at..at, &bytes);
            }
            3 => {
                let end = (at + rng.usize(1..33)).min(input.len());
                put(input, at..end, &[]);
            }
            4 => {
                let end = (at + rng.usize(1..65)).min(input.len());
                let again = input[at..end].repeat(rng.usize(1..4));
                put(input, at..at, &again);
            }
            5 | 6 => {
                let width = [1, 2, 4, 8][rng.usize(..4)];
                let value = EXTREMES[rng.usize(..EXTREMES.len())];
                let bytes = if rng.bool() {
                    value.to_be_bytes()[8 - width..].to_vec()
                } else {
                    value.to_le_bytes()[..width].to_vec()
                };
                let end = (at + width).min(input.len());
                put(input, at..end, &bytes);
            }
            7 if !self.words.is_empty() => {
                let word = self.words[rng.usize(..self.words.len())];
                let end = if rng.bool() { at } else { (at + word.len()).min(input.len()) };
                put(input, at..end, word);
            }
            8 => {
                let other = self.any(rng);
                let from = rng.usize(..=other.len());
                put(input, at..input.len(), &other[from..]);
            }
            _ if rng.u8(..4) == 0 => input.truncate(at),
            _ => {
                // The end matters to what reads to it.
                let keep = input.len().saturating_sub(rng.usize(..10));
                input.truncate(keep);
            }
        }
    }

    /// A change of whole words, lines, pairs of brackets, frames or messages.
    fn change_units(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let Some(unit) = self.unit(input, rng) else { return self.change_bytes(input, rng) };
        match rng.u8(..6) {
            0 => put(input, unit, &[]),
            1 => {
                let again = input[unit.clone()].repeat(rng.usize(1..4));
                put(input, unit.end..unit.end, &again);
            }
            2 => {
                let Some(other) = self.unit(input, rng) else { return };
                let bytes = input[other].to_vec();
                put(input, unit, &bytes);
            }
            3 => {
                let other = self.any(rng);
                let Some(from) = self.unit(other, rng) else { return };
                let end = if rng.bool() { unit.start } else { unit.end };
                put(input, unit.start..end, &other[from]);
            }
            _ if self.shape == Shape::Text => {
                let number = NUMBERS[rng.usize(..NUMBERS.len())];
                let at = number_near(input, unit.start).unwrap_or(unit);
                put(input, at, number.as_bytes());
            }
            _ => self.change_head(input, unit.start, rng),
        }
    }

    /// Changes a length, a type, a flag or a stream.
    fn change_head(&self, input: &mut [u8], at: usize, rng: &mut Rng) {
        let head = if self.shape == Shape::Frames { HEADER_BYTES } else { PREFIX_BYTES };
        let byte = at + rng.usize(..head);
        if let Some(byte) = input.get_mut(byte) {
            *byte = if rng.bool() { [0, 1, 4, 5, 0x7f, 0x80, 0xff][rng.usize(..7)] } else { rng.u8(..) };
        }
    }

    /// Some unit of `input`.
    fn unit(&self, input: &[u8], rng: &mut Rng) -> Option<Range<usize>> {
        if input.is_empty() {
            return None;
        }
        match self.shape {
            Shape::Bytes => None,
            Shape::Text => {
                let at = rng.usize(..input.len());
                match rng.u8(..3) {
                    0 => Some(line(input, at)),
                    1 => Some(word(input, at)),
                    _ => brackets(input, at),
                }
            }
            Shape::Frames => {
                let begin = if input.starts_with(PREFACE) { PREFACE.len() } else { 0 };
                let length = |head: &[u8; HEADER_BYTES]| FrameHeader::read(head).len;
                choose(&units(input, begin, length), rng)
            }
            Shape::Messages => {
                let length =
                    |head: &[u8; PREFIX_BYTES]| u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                choose(&units(input, 0, length), rng)
            }
        }
    }
}

/// The seed of one case: neighbours have nothing in common (SplitMix64's finish).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut value = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn put(input: &mut Vec<u8>, range: Range<usize>, bytes: &[u8]) {
    input.splice(range, bytes.iter().copied());
}

fn choose(units: &[Range<usize>], rng: &mut Rng) -> Option<Range<usize>> {
    (!units.is_empty()).then(|| units[rng.usize(..units.len())].clone())
}

/// Everything that has a head of `N` bytes which says its length; the last may be cut.
fn units<const N: usize>(input: &[u8], mut at: usize, length: impl Fn(&[u8; N]) -> usize) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    while let Some(head) = input.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        let end = (at + N).saturating_add(length(head)).min(input.len());
        units.push(at..end);
        at = end;
    }
    units
}

/// The line around a place, with its end.
fn line(input: &[u8], at: usize) -> Range<usize> {
    let begin = input[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = input[at..].iter().position(|byte| *byte == b'\n').map_or(input.len(), |end| at + end + 1);
    begin..end
}

/// The letters and digits around a place, or the one byte there.
fn word(input: &[u8], at: usize) -> Range<usize> {
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') || !byte.is_ascii();
    let begin = input[..at].iter().rposition(|byte| !within(byte)).map_or(0, |end| end + 1);
    let end = input[at..].iter().position(|byte| !within(byte)).map_or(input.len(), |end| at + end);
    if end > at { begin..end } else { at..at + 1 }
}

/// The next number behind a place.
fn number_near(input: &[u8], at: usize) -> Option<Range<usize>> {
    let begin = at + input[at..].iter().position(u8::is_ascii_digit)?;
    let end = input[begin..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |end| begin + end);
    Some(begin..end)
}

/// The next pair of brackets behind a place, with what is in it.
fn brackets(input: &[u8], at: usize) -> Option<Range<usize>> {
    let begin = at + input[at..].iter().position(|byte| matches!(byte, b'{' | b'[' | b'(' | b'<'))?;
    let open = input[begin];
    let close = match open {
        b'(' => b')',
        other => other + 2,
    };
    let mut depth = 0_usize;
    for (index, byte) in input[begin..].iter().enumerate() {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth -= 1;
            if depth == 0 {
                return Some(begin..begin + index + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(shape: Shape, seed: u64) -> Engine {
        let text = b"{\"a\": [1, 22, {\"b\": \"c\"}]}\nmain;app::put(x) 17\n".to_vec();
        Engine { seed, shape, words: &[b"while"], corpus: vec![text, b"other <a as b>::c 9".to_vec()] }
    }

    #[test]
    fn a_case_depends_on_its_seed_and_number_alone() {
        for shape in [Shape::Bytes, Shape::Text, Shape::Frames, Shape::Messages] {
            let cases = |seed| (0..200).map(|number| engine(shape, seed).case(number)).collect::<Vec<_>>();
            let forward = cases(7);
            let backward: Vec<_> = (0..200).rev().map(|number| engine(shape, 7).case(number)).collect();
            assert!(forward.iter().eq(backward.iter().rev()), "{shape:?}");
            assert_ne!(forward, cases(8), "{shape:?}");
            assert_eq!(forward[..2], engine(shape, 7).corpus, "good inputs come first");
            let distinct: std::collections::BTreeSet<_> = forward.iter().collect();
            assert!(distinct.len() > 120, "{shape:?}: {} of 200 differ", distinct.len());
        }
    }

    #[test]
    fn units_are_what_they_are_called() {
        let text = b"a [1, (2)] bc\nnext 33";
        assert_eq!(&text[line(text, 4)], b"a [1, (2)] bc\n");
        assert_eq!(&text[word(text, 12)], b"bc");
        assert_eq!(&text[word(text, 1)], b" ");
        assert_eq!(brackets(text, 0).map(|at| &text[at]), Some(&b"[1, (2)]"[..]));
        assert_eq!(brackets(b"((", 0), None);
        assert_eq!(number_near(text, 14).map(|at| &text[at]), Some(&b"33"[..]));
        let length = |head: &[u8; 5]| head[4] as usize;
        assert_eq!(units(&[0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 200, 1], 0, length), [0..6, 6..12]);
    }
}
