//! The counters as OpenTelemetry instruments, for services that already export metrics.
//!
//! Observable instruments: nothing happens between collections; each collection reads one snapshot per instrument,
//! and what that allocates is charged to [`Stage::Instrument`]. The exporter's own work is its own.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, ObservableCounter, ObservableGauge, ObservableUpDownCounter};

use crate::alloc::Row;
use crate::{Side, Snapshot, Stage, Tally};

/// Keeps the instruments; drop it only when nothing is to be collected any more.
#[derive(Debug)]
#[must_use = "a meter may forget instruments that nobody holds"]
pub struct Instruments {
    _blocks: ObservableCounter<u64>,
    _bytes: ObservableCounter<u64>,
    _live: ObservableUpDownCounter<i64>,
    _peak: ObservableGauge<u64>,
}

/// Registers the counters on `meter`, with the attributes `side`, `rpc` and `stage`:
///
/// | instrument | unit | what |
/// |---|---|---|
/// | `grpc.alloc.blocks` | `{block}` | blocks allocated |
/// | `grpc.alloc.bytes` | `By` | bytes allocated |
/// | `grpc.alloc.live` | `By` | bytes allocated here less bytes freed here; the sum is the process's live bytes |
/// | `grpc.alloc.peak` | `By` | the most live bytes of the process, without attributes |
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
        _live: meter
            .i64_observable_up_down_counter("grpc.alloc.live")
            .with_unit("By")
            .with_description("Bytes allocated here less bytes freed here")
            .with_callback(|observer| each_row(|tally, attributes| observer.observe(tally.live_bytes(), attributes)))
            .build(),
        _peak: meter
            .u64_observable_gauge("grpc.alloc.peak")
            .with_unit("By")
            .with_description("The most live bytes of the process")
            .with_callback(|observer| observer.observe(Snapshot::peak_bytes().0, &[]))
            .build(),
    }
}

fn each_row(mut observe: impl FnMut(&Tally, &[KeyValue])) {
    let _guard = Stage::Instrument.enter();
    for row in Snapshot::of_process().rows() {
        observe(&row.tally, &attributes(&row));
    }
}

fn attributes(row: &Row) -> [KeyValue; 3] {
    // Names of a bounded registry, which lives as long as the process: nothing is copied.
    [
        KeyValue::new("side", row.method.side.map_or("", Side::name)),
        KeyValue::new("rpc", row.method.path),
        KeyValue::new("stage", row.stage.name()),
    ]
}
