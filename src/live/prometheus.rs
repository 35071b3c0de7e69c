//! The counters in Prometheus's text format, version 0.0.4.

use std::fmt::Write;

use super::open::{self, Open};
use crate::alloc::Row;
use crate::sampled::Live;
use crate::{Side, Snapshot, Tally};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is read beside the rows.
pub(super) struct Heap {
    live_bytes: u64,
    peak_bytes: u64,
    sampled: Live,
}

impl Heap {
    pub(super) fn now() -> Heap {
        Heap { live_bytes: Snapshot::live_bytes(), peak_bytes: Snapshot::peak_bytes().0, sampled: Live::read() }
    }
}

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
        name: "grpc_alloc_live_bytes",
        kind: "gauge",
        help: "Bytes allocated here less bytes freed here: negative where blocks of another row are freed. The sum is the process's live bytes.",
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
        help: "The largest message on one stream that is still read, rounded up to a power of two less one: its buffer keeps that size.",
        value: |open| open.largest_received as i64,
    },
];

pub(super) fn render(snapshot: &Snapshot, heap: &Heap) -> String {
    let rows: Vec<Row> = snapshot.rows().collect();
    let mut text = String::with_capacity(4096 + rows.len() * FAMILIES.len() * 128);
    for Family { name, kind, help, value } in FAMILIES {
        head(&mut text, name, kind, help);
        for row in &rows {
            let side = row.method.side.map_or("", Side::name);
            labelled(&mut text, name, side, row.method.path, row.stage.name(), value(&row.tally));
        }
    }
    let Live { rows, every_bytes, overflowed, untracked } = &heap.sampled;
    if *every_bytes > 0 {
        let name = "grpc_alloc_sampled_live_bytes";
        head(&mut text, name, "gauge", "Live bytes by the row that allocated them, estimated from sampled stacks.");
        for (scope, live) in rows {
            let method = scope.method().name();
            let side = method.side.map_or("", Side::name);
            labelled(&mut text, name, side, method.path, scope.stage().name(), live.bytes.round());
        }
        for (name, help, value) in [
            ("grpc_alloc_sampled_overflowed_total", "Samples without frames: too many different stacks.", overflowed),
            ("grpc_alloc_sampled_untracked_total", "Samples missing from live bytes: too many are live.", untracked),
        ] {
            head(&mut text, name, "counter", help);
            write(&mut text, format_args!("{name} {value}\n"));
        }
    }
    let open: Vec<Open> = open::methods(&heap.sampled).collect();
    for Family { name, kind, help, value } in OPEN {
        head(&mut text, name, kind, help);
        for open in &open {
            let (side, rpc) = (open.method.side.map_or("", Side::name), Escaped(open.method.path));
            write(&mut text, format_args!("{name}{{side=\"{side}\",rpc=\"{rpc}\"}} {}\n", value(open)));
        }
    }
    for (name, help, value) in [
        ("grpc_alloc_heap_bytes", "Bytes allocated and not freed in the process.", heap.live_bytes),
        ("grpc_alloc_heap_peak_bytes", "The most of them at any time.", heap.peak_bytes),
    ] {
        head(&mut text, name, "gauge", help);
        write(&mut text, format_args!("{name} {value}\n"));
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    write(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn labelled(text: &mut String, name: &str, side: &str, rpc: &str, stage: &str, value: impl std::fmt::Display) {
    let rpc = Escaped(rpc);
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
