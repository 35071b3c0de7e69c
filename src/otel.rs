//! The counters as OpenTelemetry instruments, for services that already export metrics.
//!
//! Feature `otel`.
//!
//! Observable instruments: nothing happens between collections; each collection reads one snapshot per instrument,
//! and what that allocates is charged to [`Stage::Instrument`] and in no figure of the process. What the exporter
//! allocates, from the attributes it is handed on, is its own.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, ObservableCounter, ObservableGauge, ObservableUpDownCounter};

use crate::alloc::Row;
use crate::alloc::aside::Aside;
use crate::method::{CODE_NAMES, CallCounts, MethodName};
use crate::{Method, Side, Snapshot, Stage, Tally};

/// Keeps the instruments; drop it only when nothing is to be collected any more.
#[derive(Debug)]
#[must_use = "a meter may forget instruments that nobody holds"]
pub struct Instruments {
    _blocks: ObservableCounter<u64>,
    _bytes: ObservableCounter<u64>,
    _net: ObservableUpDownCounter<i64>,
    _live: ObservableGauge<u64>,
    _peak: ObservableGauge<u64>,
    _open: ObservableUpDownCounter<i64>,
    _largest: ObservableGauge<u64>,
    _calls: ObservableCounter<u64>,
    _messages: ObservableCounter<u64>,
    _payload: ObservableCounter<u64>,
}

/// Registers the counters on `meter`, with the attributes `side`, `rpc` and `stage`:
///
/// | instrument | unit | what |
/// |---|---|---|
/// | `grpc.alloc.blocks` | `{block}` | blocks allocated |
/// | `grpc.alloc.bytes` | `By` | bytes allocated |
/// | `grpc.alloc.net` | `By` | bytes allocated here less bytes freed here, wherever they were allocated: not what a row holds |
/// | `grpc.alloc.live` | `By` | live bytes of the process, without attributes |
/// | `grpc.alloc.peak` | `By` | the most of them so far, without attributes |
/// | `grpc.alloc.open_calls` | `{call}` | calls that are open, without `stage`; those without a row as `rpc` "" |
/// | `grpc.alloc.calls` | `{call}` | calls that ended, with `code` and without `stage` |
/// | `grpc.alloc.messages` | `{message}` | messages, with `direction` (`received`, `sent`) and without `stage` |
/// | `grpc.alloc.payload` | `By` | bytes of those messages, as they travelled unless their codec said how long they are decompressed |
/// | `grpc.alloc.largest_received` | `By` | the largest message on one stream that is still read, as it arrived (compressed where it is), without `stage` |
pub fn register(meter: &Meter) -> Instruments {
    let _guard = Stage::Instrument.enter();
    Instruments {
        _blocks: meter
            .u64_observable_counter("grpc.alloc.blocks")
            .with_unit("{block}")
            .with_description("Blocks allocated, each reallocation one more")
            .with_callback(|observer| each_row(|tally, attributes| observer.observe(tally.blocks, attributes)))
            .build(),
        _bytes: meter
            .u64_observable_counter("grpc.alloc.bytes")
            .with_unit("By")
            .with_description("Bytes asked of the allocator, each reallocation with its new size")
            .with_callback(|observer| each_row(|tally, attributes| observer.observe(tally.bytes, attributes)))
            .build(),
        _net: meter
            .i64_observable_up_down_counter("grpc.alloc.net")
            .with_unit("By")
            .with_description("Bytes allocated here less bytes freed here, wherever they were allocated")
            .with_callback(|observer| each_row(|tally, attributes| observer.observe(tally.live_bytes(), attributes)))
            .build(),
        _live: meter
            .u64_observable_gauge("grpc.alloc.live")
            .with_unit("By")
            .with_description("Live bytes of the process")
            .with_callback(|observer| observer.observe(Snapshot::live_bytes(), &[]))
            .build(),
        _peak: meter
            .u64_observable_gauge("grpc.alloc.peak")
            .with_unit("By")
            .with_description("The most live bytes of the process")
            .with_callback(|observer| observer.observe(Snapshot::peak_bytes().0, &[]))
            .build(),
        _open: meter
            .i64_observable_up_down_counter("grpc.alloc.open_calls")
            .with_unit("{call}")
            .with_description("Calls that are open: not yet answered to the end, nor dropped")
            .with_callback(|observer| {
                let _guard = Stage::Instrument.enter();
                for method in Method::rows() {
                    observer.observe(method.open_calls() as i64, &method_attributes(method.name()));
                }
            })
            .build(),
        _largest: meter
            .u64_observable_gauge("grpc.alloc.largest_received")
            .with_unit("By")
            .with_description(
                "The largest message on one stream that is still read, in bytes as they arrived (compressed where it is), rounded up to a power of two less one",
            )
            .with_callback(|observer| {
                let _guard = Stage::Instrument.enter();
                for method in Method::rows() {
                    observer.observe(method.largest_received(), &method_attributes(method.name()));
                }
            })
            .build(),
        _calls: meter
            .u64_observable_counter("grpc.alloc.calls")
            .with_unit("{call}")
            .with_description("Calls that ended, by the code of their status")
            .with_callback(|observer| {
                each_method(|method, [side, rpc]| {
                    let codes = CODE_NAMES.iter().zip(method.calls_by_code()).filter(|(_, calls)| *calls > 0);
                    for (code, calls) in codes {
                        observer.observe(calls, &[side.clone(), rpc.clone(), KeyValue::new("code", *code)]);
                    }
                });
            })
            .build(),
        _messages: meter
            .u64_observable_counter("grpc.alloc.messages")
            .with_unit("{message}")
            .with_description("Messages that came from the peer and went to it")
            .with_callback(|observer| {
                each_direction(
                    |counts| [counts.messages_received, counts.messages_sent],
                    |messages, attributes| observer.observe(messages, attributes),
                );
            })
            .build(),
        _payload: meter
            .u64_observable_counter("grpc.alloc.payload")
            .with_unit("By")
            .with_description(
                "Bytes of the messages, as they travelled unless their codec said how long they are decompressed",
            )
            .with_callback(|observer| {
                each_direction(
                    |counts| [counts.payload_bytes_received, counts.payload_bytes_sent],
                    |bytes, attributes| observer.observe(bytes, attributes),
                );
            })
            .build(),
    }
}

/// Every method of which the seams counted something.
fn each_method(mut observe: impl FnMut(Method, [KeyValue; 2])) {
    let _guard = Stage::Instrument.enter();
    for method in Method::rows().filter(|method| !method.call_counts().is_zero()) {
        observe(method, method_attributes(method.name()));
    }
}

/// What came and what went, of each of those.
fn each_direction(of: fn(&CallCounts) -> [u64; 2], mut observe: impl FnMut(u64, &[KeyValue])) {
    each_method(|method, [side, rpc]| {
        for (direction, value) in ["received", "sent"].into_iter().zip(of(&method.call_counts())) {
            observe(value, &[side.clone(), rpc.clone(), KeyValue::new("direction", direction)]);
        }
    });
}

fn each_row(mut observe: impl FnMut(&Tally, &[KeyValue])) {
    let _guard = Stage::Instrument.enter();
    let rows: Aside<Vec<Row>> = Aside::new(|| Snapshot::of_process().rows().collect());
    for row in rows.iter() {
        observe(&row.tally, &attributes(row));
    }
}

fn attributes(row: &Row) -> [KeyValue; 3] {
    let [side, rpc] = method_attributes(row.method);
    [side, rpc, KeyValue::new("stage", row.stage.name())]
}

/// Names of a bounded registry, which lives as long as the process: nothing is copied.
fn method_attributes(method: MethodName) -> [KeyValue; 2] {
    [KeyValue::new("side", method.side.map_or("", Side::name)), KeyValue::new("rpc", method.path)]
}
