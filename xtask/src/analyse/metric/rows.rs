//! The metrics, each one row, in the order tables show them.

use alloc_ladder::Tally;
use alloc_ladder::record::{Instrument, Measurement};

use super::{Accuracy, Better, Format, Meant, Metric, Part, Sides, Take};

/// Every metric, in the order tables show them.
pub(crate) const METRICS: &[Metric] = &[
    THROUGHPUT,
    CALLS_PER_SECOND,
    CPU_PER_GB,
    CPU_PER_MESSAGE,
    LATENCY_P50,
    LATENCY_P99,
    ALLOCS_PER_MESSAGE,
    BYTES_PER_MESSAGE,
    AMPLIFICATION,
    REALLOCS_PER_MESSAGE,
    SETUP_ALLOCS,
    SETUP_BYTES,
    LIVE_PER_MESSAGE,
    LIVE_PER_STREAM,
    PEAK_HEAP,
    PEAK_RSS,
    SWITCHES_PER_MESSAGE,
    SOCKET_CALLS_PER_MESSAGE,
    READS_PER_MESSAGE,
    WRITES_PER_MESSAGE,
    INSTRUCTIONS_PER_MESSAGE,
];

/// Payload that arrived, per second.
pub(crate) const THROUGHPUT: Metric = Metric {
    name: "throughput",
    label: "throughput GB/s",
    title: "Throughput, GB/s",
    sides: Sides::Receiver,
    meant: Meant::Stream,
    better: Better::More,
    ..timed(|m| Some(m.throughput_gb_per_s()))
};

/// Calls that were answered, per second.
pub(crate) const CALLS_PER_SECOND: Metric = Metric {
    name: "calls-per-second",
    label: "calls/s",
    title: "{noun}s per second",
    sides: Sides::Client,
    meant: Meant::Unary,
    better: Better::More,
    ..timed(|m| Some(m.messages_per_s()))
};

/// CPU time, user and system, of 10⁹ payload bytes.
pub(crate) const CPU_PER_GB: Metric = Metric {
    name: "cpu-per-gb",
    label: "CPU-s/GB",
    title: "CPU-seconds per GB",
    meant: Meant::Stream,
    ..timed(|m| Some(m.cpu_seconds_per_gb()))
};

/// CPU time, user and system, of a call.
pub(crate) const CPU_PER_MESSAGE: Metric = Metric {
    name: "cpu-per-message",
    label: "CPU/call",
    title: "CPU per {noun}",
    format: Format::Microseconds,
    meant: Meant::Unary,
    ..timed(|m| Some(m.cpu_us_per_message()))
};

/// The time that half the calls took at most.
pub(crate) const LATENCY_P50: Metric = Metric {
    name: "latency-p50",
    label: "latency p50",
    title: "Latency, median",
    format: Format::Nanoseconds,
    sides: Sides::Client,
    meant: Meant::Unary,
    ..timed(|m| m.latency.map(|latency| latency.p50_ns as f64))
};

/// The time that 99 of 100 calls took at most.
pub(crate) const LATENCY_P99: Metric = Metric {
    name: "latency-p99",
    label: "latency p99",
    title: "Latency, 99th percentile",
    format: Format::Nanoseconds,
    sides: Sides::Client,
    meant: Meant::Unary,
    ..timed(|m| m.latency.map(|latency| latency.p99_ns as f64))
};

/// Blocks allocated per message.
pub(crate) const ALLOCS_PER_MESSAGE: Metric = Metric {
    name: "allocs-per-message",
    label: "allocs/msg",
    title: "Allocations per {noun}",
    ..counted(|tally, m| tally.blocks as f64 / m.messages as f64)
};

/// Bytes allocated per message.
pub(crate) const BYTES_PER_MESSAGE: Metric = Metric {
    name: "bytes-per-message",
    label: "bytes/msg",
    title: "Bytes allocated per {noun}",
    format: Format::Bytes,
    ..counted(|tally, m| tally.bytes as f64 / m.messages as f64)
};

/// Bytes allocated per payload byte.
pub(crate) const AMPLIFICATION: Metric = Metric {
    name: "amplification",
    label: "B/payload B",
    title: "Bytes allocated per payload byte",
    meant: Meant::Stream,
    ..counted(|tally, m| tally.bytes as f64 / m.payload_bytes as f64)
};

/// Blocks that had to grow, per message.
pub(crate) const REALLOCS_PER_MESSAGE: Metric = Metric {
    name: "reallocs-per-message",
    label: "reallocs/msg",
    title: "Reallocations per {noun}",
    ..counted(|tally, m| tally.reallocs as f64 / m.messages as f64)
};

/// Blocks allocated before the measured part.
pub(crate) const SETUP_ALLOCS: Metric = Metric {
    name: "setup-allocs",
    label: "set-up allocs",
    title: "Allocations of set-up and warm-up",
    part: Part::SetUp,
    ..process(Instrument::Count, Accuracy::Exact, |m| m.setup.map(|tally| tally.blocks as f64))
};

/// Bytes allocated before the measured part.
pub(crate) const SETUP_BYTES: Metric = Metric {
    name: "setup-bytes",
    label: "set-up bytes",
    title: "Bytes of set-up and warm-up",
    format: Format::Bytes,
    part: Part::SetUp,
    ..process(Instrument::Count, Accuracy::Exact, |m| m.setup.map(|tally| tally.bytes as f64))
};

/// Bytes that the measured part left live, per message: what a service keeps of its calls. Nothing where it freed more
/// than it allocated. The instrument's blocks are in it, because they are freed under the stages of whoever drops them.
pub(crate) const LIVE_PER_MESSAGE: Metric = Metric {
    name: "live-per-message",
    label: "live B/msg",
    title: "Bytes left live per {noun}",
    format: Format::Bytes,
    meant: Meant::Program,
    ..process(Instrument::Count, Accuracy::Exact, |m| {
        m.counts.as_ref().map(|counts| counts.total.live_bytes().max(0) as f64 / m.messages as f64)
    })
};

/// Bytes that are live for each stream that is open all the time, its share of the connections included, and of what the
/// process held before there were any.
pub(crate) const LIVE_PER_STREAM: Metric = Metric {
    name: "live-per-stream",
    label: "live B/stream",
    title: "Bytes live per open stream",
    format: Format::Bytes,
    ..process(Instrument::Count, Accuracy::Exact, |m| {
        let live = m.setup?.live_bytes() + m.counts.as_ref()?.total.live_bytes();
        Some(live.max(0) as f64 / f64::from(m.open_streams?))
    })
};

/// The most bytes that were live at a time.
pub(crate) const PEAK_HEAP: Metric = Metric {
    name: "peak-heap",
    label: "peak heap",
    title: "Peak heap",
    format: Format::Bytes,
    accuracy: Accuracy::Within(|m| m.counts.as_ref().map_or(0.0, |counts| counts.peak_slack_bytes as f64)),
    ..process(Instrument::Count, Accuracy::Exact, peak_heap)
};

/// A file of another tool may know no peak, which is then 0: what was counted has one.
fn peak_heap(measurement: &Measurement) -> Option<f64> {
    let peak = measurement.counts.as_ref()?.peak_bytes;
    (peak > 0).then_some(peak as f64)
}

/// The most memory that the process held.
pub(crate) const PEAK_RSS: Metric = Metric {
    name: "peak-rss",
    label: "peak RSS",
    title: "Peak resident set",
    format: Format::Bytes,
    ..timed(|m| Some(m.usage.rss_bytes_max as f64))
};

/// Context switches of the process, per message.
pub(crate) const SWITCHES_PER_MESSAGE: Metric = Metric {
    name: "switches-per-message",
    label: "switches/msg",
    title: "Context switches per {noun}",
    ..timed(|m| Some((m.usage.voluntary_switches + m.usage.involuntary_switches) as f64 / m.messages as f64))
};

/// Reads and writes of sockets that moved bytes, per message: a system call each. Those that found nothing and no room, and
/// waiting, are not counted.
pub(crate) const SOCKET_CALLS_PER_MESSAGE: Metric = Metric {
    name: "socket-calls-per-message",
    label: "socket calls/msg",
    title: "Socket calls per {noun}",
    ..timed(|m| m.socket.map(|socket| (socket.reads + socket.writes) as f64 / m.messages as f64))
};

/// Reads of sockets that brought bytes, per message.
pub(crate) const READS_PER_MESSAGE: Metric = Metric {
    name: "reads-per-message",
    label: "reads/msg",
    title: "Socket reads per {noun}",
    ..timed(|m| Some(m.socket?.reads as f64 / m.messages as f64))
};

/// Writes to sockets that took bytes, per message.
pub(crate) const WRITES_PER_MESSAGE: Metric = Metric {
    name: "writes-per-message",
    label: "writes/msg",
    title: "Socket writes per {noun}",
    ..timed(|m| Some(m.socket?.writes as f64 / m.messages as f64))
};

/// Instructions executed, per message. Counted once, and not quite exact: the kernel decides how much each read returns,
/// and code paths follow.
pub(crate) const INSTRUCTIONS_PER_MESSAGE: Metric = Metric {
    name: "instructions-per-message",
    label: "instructions/msg",
    title: "Instructions per {noun}",
    accuracy: Accuracy::Within(|m| INSTRUCTIONS_WITHIN * instructions_per_message(m).unwrap_or(0.0)),
    ..process(Instrument::Instructions, Accuracy::Exact, instructions_per_message)
};

/// The share by which two counts of one program's instructions differ.
const INSTRUCTIONS_WITHIN: f64 = 0.005;

fn instructions_per_message(measurement: &Measurement) -> Option<f64> {
    measurement.instructions.map(|instructions| instructions as f64 / measurement.messages as f64)
}

const fn counted(take: fn(Tally, &Measurement) -> f64) -> Metric {
    Metric { take: Take::Counted(take), ..process(Instrument::Count, Accuracy::Exact, |_| None) }
}

const fn timed(take: fn(&Measurement) -> Option<f64>) -> Metric {
    process(Instrument::Time, Accuracy::Sampled, take)
}

const fn process(instrument: Instrument, accuracy: Accuracy, take: fn(&Measurement) -> Option<f64>) -> Metric {
    Metric {
        name: "",
        label: "",
        title: "",
        format: Format::Number,
        better: Better::Less,
        instrument,
        accuracy,
        sides: Sides::Each,
        meant: Meant::Any,
        part: Part::Measured,
        take: Take::Process(take),
    }
}
