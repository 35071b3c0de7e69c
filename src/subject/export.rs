//! `CreateUser` with a message of repeated and nested fields in place of a user: spans, as a collector receives them.

use buffa::ViewEncode as _;
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

use super::swap::refused;
use super::user::UnaryRecord;
use crate::steps::Pooled;
use crate::subject::pb::owned::{Attribute, Export, Span};
use crate::subject::pb::swapped::ExportOwnedView;

/// What each span says of itself.
const ATTRIBUTES: [(&str, &str); 4] = [
    ("http.request.method", "GET"),
    ("url.path", "/api/v1/orders"),
    ("server.address", "orders.example.org"),
    ("service.version", "2026.11.3"),
];
/// When the first span began, nanoseconds since 1970.
const BEGAN_NS: u64 = 1_735_689_600_000_000_000;
/// `Export.accepted`'s field number.
const ACCEPTED_FIELD: u32 = 2;

/// The export every call sends.
pub fn sample_export(spans: u32) -> Export {
    let span = |index: u64| Span {
        trace_id: u128::from(index / 8 + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_be_bytes()
            .to_vec(),
        span_id: (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec(),
        name: "GET /api/v1/orders/{order}".to_owned(),
        start_ns: BEGAN_NS + 1_000_000 * index,
        end_ns: BEGAN_NS + 1_000_000 * index + 250_000,
        attributes: ATTRIBUTES.map(|(key, value)| Attribute { key: key.to_owned(), value: value.to_owned() }).into(),
    };
    Export { spans: (0..u64::from(spans)).map(span).collect(), accepted: 0 }
}

impl UnaryRecord for Export {
    fn create(&mut self) {
        self.accepted = self.spans.len() as u64;
        self.spans.clear();
    }

    fn is_created(&self) -> bool {
        self.accepted > 0 && self.spans.is_empty()
    }
}

impl UnaryRecord for Pooled<Export> {
    fn create(&mut self) {
        (**self).create();
    }

    fn is_created(&self) -> bool {
        (**self).is_created()
    }
}

/// An export as buffa's view reads it: [`SwapUser`](super::swap::SwapUser)'s counterpart.
#[derive(Clone, Debug)]
pub struct SwapExport {
    received: ExportOwnedView,
    created: bool,
}

impl SwapExport {
    /// The export in `bytes`.
    ///
    /// # Errors
    /// What buffa says of bytes that are no export.
    pub fn decode(bytes: Bytes) -> Result<SwapExport, buffa::DecodeError> {
        Ok(SwapExport { received: ExportOwnedView::decode(bytes)?, created: false })
    }

    /// How many spans an answer says were taken.
    fn accepted(&self) -> u64 {
        self.received.view().spans.len() as u64
    }
}

impl From<&Export> for SwapExport {
    fn from(export: &Export) -> SwapExport {
        SwapExport::decode(export.encode_to_vec().into()).expect("prost writes what buffa reads")
    }
}

impl Default for SwapExport {
    fn default() -> SwapExport {
        SwapExport::decode(Bytes::new()).expect("no bytes are an export of nothing")
    }
}

impl UnaryRecord for SwapExport {
    fn create(&mut self) {
        self.created = true;
    }

    fn is_created(&self) -> bool {
        let received = self.received.view();
        received.accepted > 0 && received.spans.is_empty()
    }
}

/// As [`SwapUser`](super::swap::SwapUser)'s: read and written as a whole.
impl Message for SwapExport {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.created {
            prost::encoding::uint64::encode(ACCEPTED_FIELD, &self.accepted(), buf);
        } else {
            self.received.view().encode(buf);
        }
    }

    fn encoded_len(&self) -> usize {
        match self.created {
            true => key_len(ACCEPTED_FIELD) + encoded_len_varint(self.accepted()),
            false => self.received.view().encoded_len() as usize,
        }
    }

    fn decode(mut buf: impl Buf) -> Result<SwapExport, DecodeError> {
        SwapExport::decode(buf.copy_to_bytes(buf.remaining())).map_err(|error| refused(error.to_string()))
    }

    /// As protobuf has it, two messages one behind the other are merged.
    fn merge(&mut self, buf: impl Buf) -> Result<(), DecodeError> {
        let mut both = self.encode_to_vec();
        both.put(buf);
        *self = <SwapExport as Message>::decode(Bytes::from(both))?;
        Ok(())
    }

    /// # Errors
    /// Always: what holds another message calls this, and nothing holds an export.
    fn merge_field(&mut self, _: u32, _: WireType, _: &mut impl Buf, _: DecodeContext) -> Result<(), DecodeError> {
        Err(refused("a view is read as a whole".to_owned()))
    }

    fn clear(&mut self) {
        *self = SwapExport::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::scenario::SPAN_BYTES;

    #[test]
    fn both_codecs_read_and_answer_the_same() {
        let sample = sample_export(512);
        assert_eq!(sample.spans.len(), 512);
        assert_eq!(sample.encoded_len(), 512 * SPAN_BYTES);
        let bytes = sample.encode_to_vec();
        let (mut owned, mut swapped) = (sample.clone(), SwapExport::from(&sample));
        assert_eq!((swapped.encoded_len(), swapped.encode_to_vec()), (bytes.len(), bytes));
        assert!(!owned.is_created() && !swapped.is_created());
        owned.create();
        swapped.create();
        let answer = owned.encode_to_vec();
        assert_eq!((swapped.encoded_len(), swapped.encode_to_vec()), (answer.len(), answer.clone()));
        let read = <SwapExport as Message>::decode(Bytes::from(answer.clone())).expect("an answer");
        assert!(read.is_created() && Export::decode(&answer[..]).expect("an answer").is_created());
    }
}
