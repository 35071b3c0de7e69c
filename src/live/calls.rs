//! What the seams counted of calls, for people and for programs: one line a method.

use serde_json::{Value, json};

use super::reading::{Calls, Reading};
use crate::Side;
use crate::method::{LATENCY_UNITS, Spread};

/// The heads of [`lines`].
const HEADS: [&str; 17] = [
    "side",
    "rpc",
    "calls",
    "errors",
    "received",
    "sent",
    "bytes in",
    "bytes out",
    "blocks p50",
    "p95",
    "max",
    "bytes p50",
    "p95",
    "max",
    "ms p50",
    "p95",
    "max",
];

/// The table, heads first; no line but the heads where nothing was counted. Nothing is said of blocks where the program's
/// allocator does not count.
pub(super) fn lines(reading: &Reading, name: impl Fn(&Calls) -> [String; 2]) -> Vec<[String; HEADS.len()]> {
    let mut lines = vec![HEADS.map(str::to_owned)];
    let is_counted = reading.is_counted();
    let whole = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    for calls in &reading.calls {
        let [side, rpc] = name(calls);
        let counts = calls.counts;
        let [blocks, bytes] = [&calls.blocks, &calls.bytes].map(|spread| figures(spread, is_counted).map(whole));
        let latency = figures(&calls.latency, true).map(|units| match units {
            Some(units) => format!("{:.3}", units as f64 / LATENCY_UNITS * 1e3),
            None => "-".to_owned(),
        });
        let counted = [
            counts.calls,
            counts.errors,
            counts.messages_received,
            counts.messages_sent,
            counts.payload_bytes_received,
            counts.payload_bytes_sent,
        ];
        let mut cells = [side, rpc].into_iter().chain(counted.map(|count| count.to_string()));
        let mut cells = cells.by_ref().chain(blocks).chain(bytes).chain(latency);
        lines.push(std::array::from_fn(|_| cells.next().expect("as many cells as heads")));
    }
    lines
}

/// Median, 95th percentile and largest.
fn figures(spread: &Spread, is_known: bool) -> [Option<u64>; 3] {
    let known = is_known && spread.calls() > 0;
    [spread.quantile(0.5), spread.quantile(0.95), Some(spread.max())].map(|figure| figure.filter(|_| known))
}

/// The same as JSON, latency in nanoseconds.
pub(super) fn json(reading: &Reading) -> Vec<Value> {
    let is_counted = reading.is_counted();
    let spread = |spread: &Spread, is_known: bool, unit: fn(u64) -> f64| {
        let [p50, p95, max] = figures(spread, is_known).map(|figure| figure.map(unit));
        p50.map(|p50| json!({ "p50": p50, "p95": p95, "max": max, "sum": unit(spread.sum()), "calls": spread.calls() }))
    };
    let one = |figure: u64| figure as f64;
    let nanoseconds = |units: u64| (units as f64 / LATENCY_UNITS * 1e9).round();
    let method = |calls: &Calls| {
        json!({
            "side": calls.method.side.map(Side::name),
            "rpc": calls.method.path,
            "calls": calls.counts.calls,
            "errors": calls.counts.errors,
            "messages_received": calls.counts.messages_received,
            "messages_sent": calls.counts.messages_sent,
            "payload_bytes_received": calls.counts.payload_bytes_received,
            "payload_bytes_sent": calls.counts.payload_bytes_sent,
            "blocks_per_call": spread(&calls.blocks, is_counted, one),
            "bytes_per_call": spread(&calls.bytes, is_counted, one),
            "latency_ns": spread(&calls.latency, true, nanoseconds),
        })
    };
    reading.calls.iter().map(method).collect()
}
