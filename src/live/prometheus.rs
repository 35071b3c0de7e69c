//! The counters in Prometheus's text format, version 0.0.4.

use std::fmt::Write;

use super::memory::Memory;
use super::reading::{Calls, Open, Reading, Row};
use crate::method::{CODE_NAMES, CallCounts, LATENCY_UNITS, Spread};
use crate::{Side, Tally};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One family with a value for each of what it is about.
struct Family<T: 'static> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
}

/// A value a row.
const FAMILIES: &[Family<Tally>] = &[
    Family {
        name: "grpc_alloc_blocks_total",
        kind: "counter",
        help: "Blocks allocated, each reallocation one more.",
        value: |tally| tally.blocks as i64,
    },
    Family {
        name: "grpc_alloc_bytes_total",
        kind: "counter",
        help: "Bytes asked of the allocator, each reallocation with its new size.",
        value: |tally| tally.bytes as i64,
    },
    Family {
        name: "grpc_alloc_freed_blocks_total",
        kind: "counter",
        help: "Blocks freed here, wherever they were allocated.",
        value: |tally| tally.freed_blocks as i64,
    },
    Family {
        name: "grpc_alloc_freed_bytes_total",
        kind: "counter",
        help: "Bytes freed here, wherever they were allocated.",
        value: |tally| tally.freed_bytes as i64,
    },
    Family {
        name: "grpc_alloc_net_bytes",
        kind: "gauge",
        help: "Bytes allocated here less bytes freed here, wherever they were allocated: not what a row holds, and negative where blocks of another row are freed.",
        value: Tally::live_bytes,
    },
];

/// A value a method, also where it is 0.
const OPEN: &[Family<Open>] = &[
    Family {
        name: "grpc_alloc_open_calls",
        kind: "gauge",
        help: "Calls that are open: not yet answered to the end, nor dropped.",
        value: |open| open.calls as i64,
    },
    Family {
        name: "grpc_alloc_largest_received_bytes",
        kind: "gauge",
        help: "The largest message on one stream that is still read, in bytes as they arrived (compressed where it is), rounded up to a power of two less one: the buffer it arrived in keeps that size.",
        value: |open| open.largest_received as i64,
    },
];

/// A value a method of which the seams counted something.
const COUNTED: &[Family<CallCounts>] = &[
    Family {
        name: "grpc_alloc_messages_received_total",
        kind: "counter",
        help: "Messages that came from the peer.",
        value: |counts| counts.messages_received as i64,
    },
    Family {
        name: "grpc_alloc_messages_sent_total",
        kind: "counter",
        help: "Messages that went to the peer.",
        value: |counts| counts.messages_sent as i64,
    },
    Family {
        name: "grpc_alloc_payload_received_bytes_total",
        kind: "counter",
        help: "Bytes of the messages that came, as they travelled unless their decoder said how long they are decompressed.",
        value: |counts| counts.payload_bytes_received as i64,
    },
    Family {
        name: "grpc_alloc_payload_sent_bytes_total",
        kind: "counter",
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

pub(super) fn render(reading: &Reading) -> String {
    let mut text = String::with_capacity(8192 + reading.rows.len() * FAMILIES.len() * 128);
    for Family { name, kind, help, value } in FAMILIES {
        head(&mut text, name, kind, help);
        for row in &reading.rows {
            labelled(&mut text, name, row, value(&row.tally));
        }
    }
    if reading.sampled.is_some() {
        sampled(&mut text, reading);
    }
    for Family { name, kind, help, value } in OPEN {
        head(&mut text, name, kind, help);
        for open in &reading.methods {
            let (side, rpc) = (open.method.side.map_or("", Side::name), Escaped(open.method.path));
            write(&mut text, format_args!("{name}{{side=\"{side}\",rpc=\"{rpc}\"}} {}\n", value(open)));
        }
    }
    for (name, help, value) in [
        ("grpc_alloc_heap_bytes", "Bytes allocated and not freed in the process.", reading.live_bytes),
        ("grpc_alloc_heap_peak_bytes", "The most of them at any time.", reading.peak_bytes),
        ("grpc_alloc_heap_peak_slack_bytes", "By how much the peak may be off, either way.", reading.peak_slack_bytes),
        ("grpc_alloc_instrument_bytes", "What these endpoints hold themselves, besides heap bytes.", reading.own_bytes),
    ] {
        head(&mut text, name, "gauge", help);
        write(&mut text, format_args!("{name} {value}\n"));
    }
    calls(&mut text, reading);
    memory(&mut text, &reading.memory);
    text
}

fn calls(text: &mut String, reading: &Reading) {
    let labels = |calls: &Calls| {
        format!("side=\"{}\",rpc=\"{}\"", calls.method.side.map_or("", Side::name), Escaped(calls.method.path))
    };
    let name = "grpc_alloc_calls_total";
    head(text, name, "counter", "Calls that ended, by the code of their status.");
    for calls in &reading.calls {
        // The first is there before it is counted, so that a rate of errors has what to be divided by.
        let codes = CODE_NAMES.iter().zip(calls.codes).filter(|(code, count)| *count > 0 || **code == CODE_NAMES[0]);
        for (code, count) in codes {
            write(text, format_args!("{name}{{{},code=\"{code}\"}} {count}\n", labels(calls)));
        }
    }
    for Family { name, kind, help, value } in COUNTED {
        head(text, name, kind, help);
        for calls in &reading.calls {
            write(text, format_args!("{name}{{{}}} {}\n", labels(calls), value(&calls.counts)));
        }
    }
    for histogram in HISTOGRAMS.iter().filter(|histogram| reading.is_counted() || !histogram.is_of_allocator) {
        let Histogram { name, help, spread, powers, units, .. } = histogram;
        head(text, name, "histogram", help);
        for calls in &reading.calls {
            let (labels, spread) = (labels(calls), spread(calls));
            let total = spread.calls();
            for power in powers.clone().step_by(2) {
                let (bound, below) = (2f64.powi(power as i32) / units, spread.up_to(power));
                write(text, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}\n"));
            }
            write(text, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {total}\n"));
            write(text, format_args!("{name}_sum{{{labels}}} {}\n", spread.sum() as f64 / units));
            write(text, format_args!("{name}_count{{{labels}}} {total}\n"));
        }
    }
}

fn sampled(text: &mut String, reading: &Reading) {
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
        head(text, name, "gauge", help);
        for (row, live) in reading.rows.iter().filter_map(|row| Some((row, live(row, value)?))) {
            labelled(text, name, row, live);
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
        head(text, name, "counter", help);
        write(text, format_args!("{name} {value}\n"));
    }
}

/// What the kernel and the allocators say: the two figures with the names that dashboards know, and what they hold.
fn memory(text: &mut String, memory: &Memory) {
    if let Some(resident) = memory.resident {
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory of the process.", resident.bytes),
            ("process_resident_memory_peak_bytes", "The most of it at any time.", resident.peak_bytes),
        ] {
            head(text, name, "gauge", help);
            write(text, format_args!("{name} {value}\n"));
        }
        let name = "grpc_alloc_resident_bytes";
        head(
            text,
            name,
            "gauge",
            "Resident memory by what it holds: heaps and stacks, code and mapped files, or shared memory.",
        );
        for (kind, value) in [("anonymous", resident.anonymous), ("file", resident.file), ("shared", resident.shared)] {
            write(text, format_args!("{name}{{kind=\"{kind}\"}} {value}\n"));
        }
    }
    if !memory.allocators.is_empty() {
        let name = "grpc_alloc_allocator_bytes";
        head(text, name, "gauge", "What an allocator says it handed out, and what is free and kept from the system.");
        for allocator in &memory.allocators {
            for (kind, value) in [("in-use", allocator.in_use), ("kept", allocator.kept)] {
                let allocator = allocator.name;
                write(text, format_args!("{name}{{allocator=\"{allocator}\",kind=\"{kind}\"}} {value}\n"));
            }
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    write(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn labelled(text: &mut String, name: &str, row: &Row, value: impl std::fmt::Display) {
    let (side, rpc, stage) = (row.method.side.map_or("", Side::name), Escaped(row.method.path), row.stage.name());
    write(text, format_args!("{name}{{side=\"{side}\",rpc=\"{rpc}\",stage=\"{stage}\"}} {value}\n"));
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

/// A label's value: backslash, quote and line feed are what the format escapes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            letter => f.write_char(letter),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_quotes_or_its_line() {
        assert_eq!(Escaped("/a.B/C").to_string(), "/a.B/C");
        assert_eq!(Escaped("x\"} 1\ny{a=\"\\").to_string(), r#"x\"} 1\ny{a=\"\\"#);
    }
}
