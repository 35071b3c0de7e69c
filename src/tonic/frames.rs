//! HTTP/2 frame headers as they pass: what a connection does after a read.

use crate::Stage;
use crate::wire::http2::{CONTINUATION, FrameHeader, HEADER_BYTES, HEADERS, PREFACE, PUSH_PROMISE, SETTINGS};

/// Where in the sequence of frames a connection's bytes are.
///
/// Knows nothing of a frame but its type and length, holds a header's bytes at most, and believes nothing: a length
/// only says how many bytes to skip.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    state: State,
    header: [u8; HEADER_BYTES],
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first frame: so many bytes of a preface or frame header are in `header`.
    Start(usize),
    /// So many bytes of a frame header are in `header`.
    Header(usize),
    /// So many bytes of a frame of this type are still to come; of the preface for `None`.
    Payload(Option<u8>, usize),
    /// This is no HTTP/2.
    Opaque,
}

impl Default for State {
    fn default() -> State {
        State::Start(0)
    }
}

impl Frames {
    /// Looks at bytes just read, at least one, behind which the read buffer has `room` for more: what the connection
    /// allocates next.
    pub(super) fn pass(&mut self, mut bytes: &[u8], room: usize) -> Stage {
        let mut headers = false;
        while !bytes.is_empty() {
            let step = match self.state {
                State::Opaque => return Stage::ReceiveBuffer,
                State::Payload(_, left) => left.min(bytes.len()),
                State::Start(have) | State::Header(have) => (HEADER_BYTES - have).min(bytes.len()),
            };
            let (passed, rest) = bytes.split_at(step);
            bytes = rest;
            self.state = match self.state {
                State::Payload(kind, left) => payload(kind, left - step),
                State::Start(have) | State::Header(have) => {
                    self.header[have..have + step].copy_from_slice(passed);
                    match (self.state, have + step) {
                        (state, HEADER_BYTES) => self.after_header(matches!(state, State::Start(_))),
                        (State::Start(_), have) => State::Start(have),
                        (_, have) => State::Header(have),
                    }
                }
                State::Opaque => State::Opaque,
            };
            headers |= matches!(self.state, State::Header(0))
                && matches!(self.header[3], HEADERS | PUSH_PROMISE | CONTINUATION);
        }
        let missing = match self.state {
            State::Payload(_, left) => left,
            State::Start(have @ 1..) | State::Header(have @ 1..) => HEADER_BYTES - have,
            State::Start(0) | State::Header(0) | State::Opaque => 0,
        };
        // Making room for the rest of a frame allocates more than the headers before it do.
        if headers && missing < room { Stage::Transport } else { Stage::ReceiveBuffer }
    }

    /// What follows a whole header.
    fn after_header(&self, first: bool) -> State {
        if first && PREFACE.starts_with(&self.header) {
            return State::Payload(None, PREFACE.len() - HEADER_BYTES);
        }
        let FrameHeader { len, kind, .. } = FrameHeader::read(&self.header);
        if first && kind != SETTINGS {
            return State::Opaque;
        }
        payload(Some(kind), len)
    }
}

fn payload(kind: Option<u8>, left: usize) -> State {
    match (left, kind) {
        // The preface is followed by the first frame, whose header is looked at like any other.
        (0, _) => State::Header(0),
        _ => State::Payload(kind, left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::DATA;

    fn frame(kind: u8, len: usize) -> Vec<u8> {
        let header = FrameHeader { len, kind, flags: 0, stream: 1 };
        [header.write().to_vec(), vec![HEADERS; len]].concat()
    }

    fn stages(reads: &[&[u8]]) -> Vec<Stage> {
        let mut frames = Frames::default();
        reads.iter().map(|read| frames.pass(read, 400)).collect()
    }

    #[test]
    fn headers_are_transport_and_what_needs_room_is_receive_buffer() {
        let begin = [PREFACE.to_vec(), frame(SETTINGS, 6)].concat();
        let call = [frame(HEADERS, 40), frame(DATA, 100)].concat();
        let trailers = frame(HEADERS, 10);
        let data = frame(DATA, 1000);
        let large = [frame(HEADERS, 40), data[..500].to_vec()].concat();
        let reads: [&[u8]; 6] = [&begin, &call, &trailers, &large, &data[500..], &call];
        use Stage::{ReceiveBuffer, Transport};
        assert_eq!(stages(&reads), [ReceiveBuffer, Transport, Transport, ReceiveBuffer, ReceiveBuffer, Transport]);
        // Headers that fill the buffer to the brim are followed by making room.
        let mut frames = Frames::default();
        assert_eq!(frames.pass(&[begin, call.clone()].concat(), 0), ReceiveBuffer);
        assert_eq!(frames.pass(&call, 1), Transport);
    }

    #[test]
    fn frames_are_followed_whatever_way_they_are_cut() {
        let stream = [frame(SETTINGS, 0), frame(HEADERS, 3), frame(DATA, 5), frame(CONTINUATION, 0), frame(8, 4)];
        let ends: Vec<usize> = stream
            .iter()
            .scan(0, |at, frame| {
                *at += frame.len();
                Some(*at)
            })
            .collect();
        let stream = stream.concat();
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        for (at, stage) in stages(&bytes).into_iter().enumerate() {
            // A frame of no bytes is complete with its header.
            let completes_headers = [ends[1], ends[3]].contains(&(at + 1));
            assert_eq!(stage == Stage::Transport, completes_headers, "byte {at}");
        }
    }

    #[test]
    fn what_is_not_http2_is_left_alone() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
        assert_eq!(stages(&[&hello, &frame(HEADERS, 10)]), [Stage::ReceiveBuffer; 2]);
        let garbage = [0xFF; 100];
        assert_eq!(stages(&[&garbage[..4], &garbage]), [Stage::ReceiveBuffer; 2]);
    }
}
