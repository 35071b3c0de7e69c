//! Custom metadata of unary calls: what interceptors, gateways and tracing put on them.

use anyhow::ensure;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::scenario::METADATA_MAX;
use crate::Stage;

/// Every second one's value is another for each call.
const NAMES: [&str; METADATA_MAX as usize] = [
    "x-tenant-id",
    "x-request-id",
    "x-client-version",
    "x-trace-id",
    "x-region",
    "x-span-id",
    "x-forwarded-proto",
    "x-session-id",
    "x-experiment",
    "x-idempotency-key",
    "x-priority",
    "x-correlation-id",
    "x-user-agent-family",
    "x-deadline-at",
    "x-auth-scope",
    "x-sequence-id",
];
/// What the other ones say, of every call.
const SAME: &str = "as-in-every-other-call";

/// The names of so many entries.
fn keys(entries: u32) -> impl Iterator<Item = AsciiMetadataKey> {
    NAMES.iter().take(entries as usize).map(|name| AsciiMetadataKey::from_static(name))
}

/// The metadata of one client's calls.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    entries: u32,
    calls: u64,
}

impl Metadata {
    /// So many entries a call, at most [`METADATA_MAX`].
    pub fn new(entries: u32) -> Metadata {
        Metadata { entries, calls: 0 }
    }

    /// A request with the metadata of the next call.
    pub fn request<T>(&mut self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if self.entries > 0 {
            self.calls += 1;
            let of_call = |call: u64| {
                let digits = format!("{call:032x}");
                AsciiMetadataValue::try_from(digits).expect("digits are ASCII")
            };
            for (index, key) in keys(self.entries).enumerate() {
                let value = if index % 2 == 0 { AsciiMetadataValue::from_static(SAME) } else { of_call(self.calls) };
                request.metadata_mut().insert(key, value);
            }
        }
        request
    }

    /// The message of an answer, whose metadata is to be the request's.
    ///
    /// # Errors
    /// When an entry is missing.
    pub fn answered<T>(&self, response: tonic::Response<T>) -> anyhow::Result<T> {
        let missing = keys(self.entries).find(|key| !response.metadata().contains_key(key));
        ensure!(missing.is_none(), "the answer lacks `{}`", missing.expect("checked").as_str());
        Ok(response.into_inner())
    }
}

/// Answers a request's entries with the same.
pub fn answer(entries: u32, request: &MetadataMap, response: &mut MetadataMap) {
    let _handler = Stage::Handler.enter();
    for key in keys(entries) {
        if let Some(value) = request.get(&key) {
            response.insert(key, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_the_request_had() {
        for entries in [0, 1, METADATA_MAX] {
            let mut metadata = Metadata::new(entries);
            let (first, second) = (metadata.request(()), metadata.request(()));
            assert_eq!((first.metadata().len(), second.metadata().len()), (entries as usize, entries as usize));
            let differ = |name: &&&str| first.metadata().get(**name) != second.metadata().get(**name);
            assert_eq!(NAMES.iter().filter(differ).count(), entries as usize / 2);
            let mut response = tonic::Response::new(());
            answer(entries, first.metadata(), response.metadata_mut());
            metadata.answered(response).expect("nothing is missing");
        }
        assert!(Metadata::new(1).answered(tonic::Response::new(())).is_err());
    }
}
