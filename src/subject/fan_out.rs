//! One message to many streams: every `Get` of exports gets the same ones.
//!
//! What publishes messages to subscribers gives each its own, as tokio's broadcast channel does: a clone, which each body
//! then encodes. Or it encodes the message once, and gives each the bytes.

pub(super) mod client;
mod server;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use prost::Message;

use super::export::sample_export;
use crate::steps::Encoded;
use crate::subject::pb::owned::Export;
use crate::subject::scenario::Workload;

/// Encoded messages that wait for the slowest stream at most; one that is further behind has its own encoded.
const BEHIND_MAX: usize = 1024;

/// What is published, and the encoded messages that some stream has still to take.
#[derive(Debug)]
pub struct Published {
    sample: Export,
    streams: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The index of the first.
    first: u64,
    /// Each with the number of streams that took it.
    encoded: VecDeque<(Encoded<Export>, u32)>,
}

impl Published {
    /// For the streams of this traffic.
    pub fn new(workload: &Workload) -> Published {
        let Workload { spans, streams, .. } = *workload;
        Published { sample: sample_export(spans), streams, waiting: Mutex::default() }
    }

    /// Bytes of each message.
    pub fn message_bytes(&self) -> usize {
        self.sample.encoded_len()
    }

    /// Message `index`, which each stream takes once, in their order.
    fn encoded(&self, index: u64) -> Encoded<Export> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = index.checked_sub(waiting.first) else { return Encoded::new(&self.sample) };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at >= waiting.encoded.len() {
            waiting.encoded.push_back((Encoded::new(&self.sample), 0));
        }
        let last = waiting.encoded.len() - 1;
        let (encoded, taken) = &mut waiting.encoded[at.min(last)];
        *taken += 1;
        let encoded = encoded.clone();
        while waiting.encoded.front().is_some_and(|(_, taken)| *taken >= self.streams)
            || waiting.encoded.len() > BEHIND_MAX
        {
            waiting.encoded.pop_front();
            waiting.first += 1;
        }
        encoded
    }
}

/// A message as a stream is given it.
pub trait Given: Message + Default + 'static {
    /// Message `index` of what is published.
    fn of(published: &Published, index: u64) -> Self;
}

impl Given for Export {
    fn of(published: &Published, _: u64) -> Export {
        published.sample.clone()
    }
}

impl Given for Encoded<Export> {
    fn of(published: &Published, index: u64) -> Encoded<Export> {
        published.encoded(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_once_for_all_streams_wherever_they_are() {
        let workload = Workload { spans: 3, streams: 3, ..Workload::default() };
        let published = Published::new(&workload);
        let at = |index| published.encoded(index).bytes().as_ptr();
        let waiting = || published.waiting.lock().expect("no panic").encoded.len();
        // The first stream is two messages ahead.
        let ahead = [published.encoded(0), published.encoded(1), published.encoded(2)];
        for (index, first) in (0..).zip(&ahead) {
            assert_eq!(first.message().expect("written here"), sample_export(3));
            assert_eq!([at(index), at(index)], [first.bytes().as_ptr(); 2]);
        }
        assert_eq!(waiting(), 0, "all have it");
        assert_eq!(published.encoded(0).message().expect("written here").spans.len(), 3, "and one who comes late");
        let behind: Vec<_> = (3..2000).map(|index| published.encoded(index)).collect();
        assert_eq!((behind.len(), waiting()), (1997, BEHIND_MAX));
    }
}
