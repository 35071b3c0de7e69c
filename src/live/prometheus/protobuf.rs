//! Prometheus's protobuf format: messages `io.prometheus.client.MetricFamily`, each after its length. A histogram has the
//! text's buckets and the native ones besides, of which whoever reads it takes what it knows.
//!
//! The messages hold what is used here of `io/prometheus/client/metrics.proto`.

use prost::Message;

use super::{Form, Histogram, Kind, Labels};
use crate::method::Spread;

pub(super) const FAMILY: &str = "io.prometheus.client.MetricFamily";
pub(super) const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Each power of two is divided into `2^SCHEMA` buckets: as [`Spread`] does.
const SCHEMA: i32 = 2;
/// What a native histogram takes for zero, by Prometheus's own default; it also says that the histogram is a native one
/// before anything was observed.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    /// 0 counter, 1 gauge, 4 histogram; a counter is said too.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Buckets>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Of a gauge or a counter.
#[derive(Clone, Copy, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Buckets {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    /// Each bucket's count less that of the one before.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

/// Buckets one after the other.
#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    /// Of the first: its index. Of others: how many empty buckets are before it.
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

/// Families, one after the other.
#[derive(Debug, Default)]
pub(super) struct Protobuf {
    families: Vec<MetricFamily>,
}

impl Protobuf {
    pub(super) fn finish(self) -> Vec<u8> {
        // A family without a metric is one that Prometheus does not take.
        let families = self.families.into_iter().filter(|family| !family.metric.is_empty());
        families.flat_map(|family| family.encode_length_delimited_to_vec()).collect()
    }

    fn metric(&mut self, labels: Labels<'_>, metric: Metric) {
        let label =
            labels.iter().map(|(name, value)| LabelPair { name: (*name).to_owned(), value: (*value).to_owned() });
        let metric = Metric { label: label.collect(), ..metric };
        self.families.last_mut().expect("a family is begun before its points").metric.push(metric);
    }
}

impl Form for Protobuf {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        };
        let (name, help) = (name.to_owned(), help.to_owned());
        self.families.push(MetricFamily { name, help, kind: Some(kind), metric: Vec::new() });
    }

    fn point(&mut self, labels: Labels<'_>, value: f64) {
        let value = Some(Value { value: Some(value) });
        let is_counter = self.families.last().is_some_and(|family| family.kind == Some(0));
        let metric = match is_counter {
            true => Metric { counter: value, ..Metric::default() },
            false => Metric { gauge: value, ..Metric::default() },
        };
        self.metric(labels, metric);
    }

    fn spread(&mut self, labels: Labels<'_>, histogram: &Histogram, spread: &Spread) {
        let bucket = histogram
            .bounds(spread)
            .map(|(bound, below)| Bucket { cumulative_count: Some(below), upper_bound: Some(bound) });
        // Units are powers of two, so that dividing by them shifts every bucket by so many places.
        let shift = (histogram.units.log2() as i32) << SCHEMA;
        let zero = spread.buckets().filter(|(index, _)| index.is_none()).map(|(_, calls)| calls).sum();
        let filled = spread.buckets().filter_map(|(index, calls)| Some((index? as i32 - shift, calls)));
        let (positive_span, positive_delta) = spans(filled);
        let buckets = Buckets {
            sample_count: Some(spread.calls()),
            sample_sum: Some(spread.sum() as f64 / histogram.units),
            bucket: bucket.collect(),
            schema: Some(SCHEMA),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(zero),
            positive_span,
            positive_delta,
        };
        self.metric(labels, Metric { histogram: Some(buckets), ..Metric::default() });
    }
}

/// Buckets with their indexes, in order, as spans and differences.
fn spans(buckets: impl Iterator<Item = (i32, u64)>) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, calls) in buckets {
        match spans.last_mut() {
            Some(Span { length: Some(length), .. }) if index == next => *length += 1,
            _ => spans.push(Span { offset: Some(index - next), length: Some(1) }),
        }
        deltas.push(calls as i64 - before);
        (next, before) = (index + 1, calls as i64);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_spans_of_neighbours_and_differences() {
        let span = |offset, length| Span { offset: Some(offset), length: Some(length) };
        let (of, deltas) = spans([(-3, 5), (-2, 7), (4, 1), (5, 1)].into_iter());
        assert_eq!(of, [span(-3, 2), span(5, 2)]);
        assert_eq!(deltas, [5, 2, -6, 0]);
        assert_eq!(spans([].into_iter()), (vec![], vec![]));
    }

    #[test]
    fn families_are_delimited_and_those_without_a_metric_are_left_out() {
        let mut form = Protobuf::default();
        form.family("nothing", Kind::Gauge, "Nothing.");
        form.family("calls_total", Kind::Counter, "Calls.");
        form.point(&[("rpc", "/a.B/C")], 3.0);
        form.family("heap_bytes", Kind::Gauge, "Bytes.");
        form.point(&[], 7.0);
        let bytes = form.finish();
        let mut rest = &bytes[..];
        let calls = MetricFamily::decode_length_delimited(&mut rest).expect("a family");
        let heap = MetricFamily::decode_length_delimited(&mut rest).expect("a family");
        assert!(rest.is_empty());
        assert_eq!((calls.name.as_str(), calls.kind, heap.kind), ("calls_total", Some(0), Some(1)));
        assert_eq!(calls.metric[0].counter, Some(Value { value: Some(3.0) }));
        assert_eq!(calls.metric[0].label, [LabelPair { name: "rpc".into(), value: "/a.B/C".into() }]);
        assert_eq!((heap.metric[0].counter, heap.metric[0].gauge), (None, Some(Value { value: Some(7.0) })));
    }
}
