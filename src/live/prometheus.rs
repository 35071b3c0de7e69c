//! The counters as Prometheus reads them: which metrics there are. How they are written, as text or in protobuf, is the
//! form's business.

mod protobuf;
mod text;

use super::memory::Memory;
use super::reading::{Calls, Open, Reading, Row};
use crate::method::{CODE_NAMES, CallCounts, LATENCY_UNITS, MethodName, Spread};
use crate::{Side, Tally};

/// In which form the metrics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text, version 0.0.4: what everybody reads.
    Text,
    /// Delimited protobuf messages, in which histograms are native: what a Prometheus asks for that takes those.
    Protobuf,
}

impl Format {
    /// What an `Accept` header prefers; text where it says nothing.
    pub(super) fn of(accept: Option<&str>) -> Format {
        let mut best = (Format::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let value =
                |name: &str| parameters.iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
            let quality: f64 = value("q").map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            let format = match kind {
                "application/vnd.google.protobuf"
                    if value("proto") == Some(protobuf::FAMILY) && value("encoding") == Some("delimited") =>
                {
                    Format::Protobuf
                }
                "text/plain" | "text/*" | "*/*" => Format::Text,
                _ => continue,
            };
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::Text => text::CONTENT_TYPE,
            Format::Protobuf => protobuf::CONTENT_TYPE,
        }
    }
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of a metric's labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// How metrics are written. Points belong to the family that was begun last.
trait Form {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str);
    fn point(&mut self, labels: Labels<'_>, value: f64);
    fn spread(&mut self, labels: Labels<'_>, histogram: &Histogram, spread: &Spread);
}

/// One family with a value for each of what it is about.
struct Family<T: 'static> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> i64,
}

/// A value a row.
const FAMILIES: &[Family<Tally>] = &[
    Family {
        name: "grpc_alloc_blocks_total",
        kind: Kind::Counter,
        help: "Blocks allocated, each reallocation one more.",
        value: |tally| tally.blocks as i64,
    },
    Family {
        name: "grpc_alloc_bytes_total",
        kind: Kind::Counter,
        help: "Bytes asked of the allocator, each reallocation with its new size.",
        value: |tally| tally.bytes as i64,
    },
    Family {
        name: "grpc_alloc_freed_blocks_total",
        kind: Kind::Counter,
        help: "Blocks freed here, wherever they were allocated.",
        value: |tally| tally.freed_blocks as i64,
    },
    Family {
        name: "grpc_alloc_freed_bytes_total",
        kind: Kind::Counter,
        help: "Bytes freed here, wherever they were allocated.",
        value: |tally| tally.freed_bytes as i64,
    },
    Family {
        name: "grpc_alloc_net_bytes",
        kind: Kind::Gauge,
        help: "Bytes allocated here less bytes freed here, wherever they were allocated: not what a row holds, and negative where blocks of another row are freed.",
        value: Tally::live_bytes,
    },
];

/// A value a method, also where it is 0.
const OPEN: &[Family<Open>] = &[
    Family {
        name: "grpc_alloc_open_calls",
        kind: Kind::Gauge,
        help: "Calls that are open: not yet answered to the end, nor dropped.",
        value: |open| open.calls as i64,
    },
    Family {
        name: "grpc_alloc_largest_received_bytes",
        kind: Kind::Gauge,
        help: "The largest message on one stream that is still read, in bytes as they arrived (compressed where it is), rounded up to a power of two less one: the buffer it arrived in keeps that size.",
        value: |open| open.largest_received as i64,
    },
];

/// A value a method of which the seams counted something.
const COUNTED: &[Family<CallCounts>] = &[
    Family {
        name: "grpc_alloc_messages_received_total",
        kind: Kind::Counter,
        help: "Messages that came from the peer.",
        value: |counts| counts.messages_received as i64,
    },
    Family {
        name: "grpc_alloc_messages_sent_total",
        kind: Kind::Counter,
        help: "Messages that went to the peer.",
        value: |counts| counts.messages_sent as i64,
    },
    Family {
        name: "grpc_alloc_payload_received_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of the messages that came, as they travelled unless their decoder said how long they are decompressed.",
        value: |counts| counts.payload_bytes_received as i64,
    },
    Family {
        name: "grpc_alloc_payload_sent_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of the messages that went, as they travelled unless their encoder said how long they were before compression.",
        value: |counts| counts.payload_bytes_sent as i64,
    },
];

/// How calls of a method differ in one figure.
struct Histogram {
    name: &'static str,
    help: &'static str,
    spread: fn(&Calls) -> &Spread,
    /// The buckets' bounds, as powers of two of the spread's unit.
    powers: std::ops::RangeInclusive<usize>,
    /// Units in one of what is shown.
    units: f64,
    /// Only where the program's allocator counts.
    is_of_allocator: bool,
}

impl Histogram {
    /// Bounds and how many calls are at most there, of those that text has.
    fn bounds(&self, spread: &Spread) -> impl Iterator<Item = (f64, u64)> {
        let of = |power: usize| (2f64.powi(power as i32) / self.units, spread.up_to(power));
        self.powers.clone().step_by(2).map(of)
    }
}

/// Bounds are fixed, four times the one before: a scraper adds up what instances and times have in common.
const HISTOGRAMS: &[Histogram] = &[
    Histogram {
        name: "grpc_alloc_call_blocks",
        help: "Blocks allocated for a call while it was polled, by calls that ended.",
        spread: |calls| &calls.blocks,
        powers: 0..=16,
        units: 1.0,
        is_of_allocator: true,
    },
    Histogram {
        name: "grpc_alloc_call_bytes",
        help: "Bytes allocated for a call while it was polled, by calls that ended.",
        spread: |calls| &calls.bytes,
        powers: 8..=28,
        units: 1.0,
        is_of_allocator: true,
    },
    Histogram {
        name: "grpc_alloc_call_duration_seconds",
        help: "From a call's request to the end of its answer, by calls that ended.",
        spread: |calls| &calls.latency,
        // 15 microseconds to 16 seconds.
        powers: 14..=34,
        units: LATENCY_UNITS,
        is_of_allocator: false,
    },
];

/// All metrics of a reading.
pub(super) fn render(reading: &Reading, format: Format) -> Vec<u8> {
    match format {
        Format::Text => {
            let mut form = text::Text::with_capacity(8192 + reading.rows.len() * FAMILIES.len() * 128);
            write(&mut form, reading);
            form.finish()
        }
        Format::Protobuf => {
            let mut form = protobuf::Protobuf::default();
            write(&mut form, reading);
            form.finish()
        }
    }
}

fn write(form: &mut impl Form, reading: &Reading) {
    for Family { name, kind, help, value } in FAMILIES {
        form.family(name, *kind, help);
        for row in &reading.rows {
            form.point(&of_row(row), value(&row.tally) as f64);
        }
    }
    if reading.sampled.is_some() {
        sampled(form, reading);
    }
    for Family { name, kind, help, value } in OPEN {
        form.family(name, *kind, help);
        for open in &reading.methods {
            form.point(&of_method(open.method), value(open) as f64);
        }
    }
    for (name, help, value) in [
        ("grpc_alloc_heap_bytes", "Bytes allocated and not freed in the process.", reading.live_bytes),
        ("grpc_alloc_heap_peak_bytes", "The most of them at any time.", reading.peak_bytes),
        ("grpc_alloc_heap_peak_slack_bytes", "By how much the peak may be off, either way.", reading.peak_slack_bytes),
        ("grpc_alloc_instrument_bytes", "What these endpoints hold themselves, besides heap bytes.", reading.own_bytes),
    ] {
        form.family(name, Kind::Gauge, help);
        form.point(&[], value as f64);
    }
    calls(form, reading);
    memory(form, &reading.memory);
}

fn calls(form: &mut impl Form, reading: &Reading) {
    form.family("grpc_alloc_calls_total", Kind::Counter, "Calls that ended, by the code of their status.");
    for calls in &reading.calls {
        // The first is there before it is counted, so that a rate of errors has what to be divided by.
        let codes = CODE_NAMES.iter().zip(calls.codes).filter(|(code, count)| *count > 0 || **code == CODE_NAMES[0]);
        let [side, rpc] = of_method(calls.method);
        for (code, count) in codes {
            form.point(&[side, rpc, ("code", code)], count as f64);
        }
    }
    for Family { name, kind, help, value } in COUNTED {
        form.family(name, *kind, help);
        for calls in &reading.calls {
            form.point(&of_method(calls.method), value(&calls.counts) as f64);
        }
    }
    for histogram in HISTOGRAMS.iter().filter(|histogram| reading.is_counted() || !histogram.is_of_allocator) {
        form.family(histogram.name, Kind::Histogram, histogram.help);
        for calls in &reading.calls {
            form.spread(&of_method(calls.method), histogram, (histogram.spread)(calls));
        }
    }
}

fn sampled(form: &mut impl Form, reading: &Reading) {
    let live =
        |row: &Row, value: fn(f64, f64) -> f64| row.live.map(|live| value(live.bytes, live.bytes_error().round()));
    for (name, help, value) in [
        (
            "grpc_alloc_sampled_live_bytes",
            "Live bytes by the row that allocated them, estimated from sampled stacks.",
            (|bytes, _| bytes) as fn(f64, f64) -> f64,
        ),
        ("grpc_alloc_sampled_live_bytes_error", "The standard error of that.", |_, error| error),
    ] {
        form.family(name, Kind::Gauge, help);
        for (row, live) in reading.rows.iter().filter_map(|row| Some((row, live(row, value)?))) {
            form.point(&of_row(row), live);
        }
    }
    for (name, help, value) in [
        (
            "grpc_alloc_sampled_overflowed_total",
            "Samples without frames: too many different stacks.",
            reading.overflowed,
        ),
        (
            "grpc_alloc_sampled_untracked_total",
            "Samples missing from live bytes: too many are live.",
            reading.untracked,
        ),
    ] {
        form.family(name, Kind::Counter, help);
        form.point(&[], value as f64);
    }
}

/// What the kernel and the allocators say: the two figures with the names that dashboards know, and what they hold.
fn memory(form: &mut impl Form, memory: &Memory) {
    if let Some(resident) = memory.resident {
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the process.", resident.bytes),
            ("process_resident_memory_peak_bytes", "The most of it at any time.", resident.peak_bytes),
        ] {
            form.family(name, Kind::Gauge, help);
            form.point(&[], value as f64);
        }
        let help = "Resident memory by what it holds: heaps and stacks, code and mapped files, or shared memory.";
        form.family("grpc_alloc_resident_bytes", Kind::Gauge, help);
        for (kind, value) in [("anonymous", resident.anonymous), ("file", resident.file), ("shared", resident.shared)] {
            form.point(&[("kind", kind)], value as f64);
        }
    }
    if !memory.allocators.is_empty() {
        let help = "What an allocator says it handed out, and what is free and kept from the system.";
        form.family("grpc_alloc_allocator_bytes", Kind::Gauge, help);
        for allocator in memory.allocators.iter().filter(|allocator| !allocator.is_old) {
            for (kind, value) in [("in-use", allocator.in_use), ("kept", allocator.kept)] {
                form.point(&[("allocator", allocator.name), ("kind", kind)], value as f64);
            }
        }
    }
}

fn of_method(method: MethodName) -> [(&'static str, &'static str); 2] {
    [("side", method.side.map_or("", Side::name)), ("rpc", method.path)]
}

fn of_row(row: &Row) -> [(&'static str, &'static str); 3] {
    let [side, rpc] = of_method(row.method);
    [side, rpc, ("stage", row.stage.name())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_text_unless_protobuf_is_preferred() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let others = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::of(Some(&format!("{protobuf},{others}"))), Format::Protobuf);
        assert_eq!(Format::of(Some(&format!("{protobuf};q=0.3,{others}"))), Format::Text);
        assert_eq!(Format::of(Some(&protobuf.replace("delimited", "text"))), Format::Text, "another encoding");
        for other in [others, "", "*/*", "text/html", "application/vnd.google.protobuf", "text/plain;q=x"] {
            assert_eq!(Format::of(Some(other)), Format::Text, "{other}");
        }
        assert_eq!(Format::of(None), Format::Text);
    }
}
