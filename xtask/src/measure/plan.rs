//! What a run is to measure, as plain data: no flags, no processes.

use std::net::SocketAddr;
use std::time::Duration;

use alloc_ladder::record::Instrument;
use alloc_ladder::subject::ladder::{Runtime, StepSet};
use alloc_ladder::subject::scenario::{CHUNK_MAX, RECEIVE_LIMIT, Scenario, Workload};

use crate::cli::numbers::several;
use crate::cli::quantity::{Rate, Size};
use crate::measure::build::Allocator;
use crate::measure::remote::At;
use crate::measure::rounds::{Until, clock_seed};

/// What a run measures unless told otherwise.
pub(crate) const DEFAULT_INSTRUMENTS: [Instrument; 3] = [Instrument::Count, Instrument::Time, Instrument::Stacks];
/// How long the timed rounds may take unless told otherwise.
pub(crate) const BUDGET: Duration = Duration::from_secs(90);
/// The least that a timed round of a step takes, where its messages are chosen for it.
const ROUND: Duration = Duration::from_millis(250);
/// The least that one process of it takes. How many messages a read takes, how often a side sleeps and how glibc's heap lies
/// settle once for a process and its connection, and are what rounds differ by: of so long a process as of a longer one.
const PROCESS: Duration = Duration::from_millis(50);
/// The most processes of a round.
const PROCESSES_MAX: u64 = 5;
/// What is added to that, because a first look is slower than what comes after it.
const ROOM: f64 = 1.2;
/// The most messages that are chosen for a timed round.
const CHOSEN_MAX: f64 = 1e6;
/// Counts are taken this often, to prove that they repeat.
pub(crate) const COUNT_ROUNDS: u32 = 2;
/// How long a case may take unless told otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Calls of a measured part of unary unless told otherwise.
const UNARY_CALLS: u64 = 5000;
/// Spans of all calls of unary together, unless told otherwise, where it carries exports.
const SPANS: u64 = 200_000;
/// Payload bytes of a message on a stream that is open all the time.
const IDLE_CHUNK: usize = 200;
/// How many streams that are open all the time there are for each message of the measured part, and so how long it takes:
/// three seconds, when each sends one a minute.
const IDLE_STREAMS_EACH: u64 = 20;
/// The fewest of them.
const IDLE_MESSAGES_MIN: u64 = 5;
/// What a stream that begins with a large message carries before it is measured: that one, and short ones.
const LARGE_FIRST_WARMUP: u64 = 4;
/// The streams that a connection to a tonic server has open at most: hyper's default, and so tonic's.
const SERVER_STREAMS_MAX: u32 = 200;
/// Messages that dhat sees of a case: it takes a backtrace of every block.
const STACKS_MESSAGES: u64 = 400;
/// A `cpu` case is this many times as long as a timed one, so that the sampler, which may get no more than a hundred
/// samples a second of CPU time from the kernel, has some hundreds: of streams a few seconds, and of calls too.
const CPU_TIMES: u64 = 20;
const CPU_TIMES_UNARY: u64 = 8;
/// Messages callgrind sees of a stream, and then twice as many; it is some fifty times slower than the processor.
const INSTRUCTION_MESSAGES: u64 = 100;
/// The same of unary calls.
const INSTRUCTION_CALLS: u64 = 200;

/// What a run is to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    /// The steps, by name.
    pub(crate) sets: Vec<(String, StepSet)>,
    /// The traffic of a timed case.
    pub(crate) workload: Workload,
    pub(crate) instruments: Vec<Instrument>,
    /// The messages of a timed case; `None` where they are chosen so that it takes long enough.
    pub(crate) timed_messages: Option<u64>,
    /// Timed rounds of every step.
    pub(crate) until: Until,
    /// Whether server and client of a timed case are held to a core each.
    pub(crate) pin: bool,
    /// The server's runtime, whatever the steps say.
    pub(crate) runtime: Option<Runtime>,
    pub(crate) allocator: Allocator,
    /// Cargo's profile.
    pub(crate) profile: String,
    /// The rate that the streams together are held to where they are timed.
    pub(crate) link: Option<Rate>,
    /// Whether peers without gRPC are measured in the same rounds.
    pub(crate) peers: bool,
    pub(crate) seed: u64,
    /// Where the server listens.
    pub(crate) bind: SocketAddr,
    /// The agent that runs the server, where it is not run here.
    pub(crate) agent: Option<At>,
    /// How long a case may take.
    pub(crate) patience: Duration,
}

impl Plan {
    /// What is measured by default.
    pub(crate) fn new(scenario: Scenario, sets: Vec<(String, StepSet)>) -> Plan {
        let messages = match scenario {
            Scenario::Unary => UNARY_CALLS,
            Scenario::Put | Scenario::Get => Workload::default().messages,
        };
        Plan {
            scenario,
            sets,
            workload: Workload { messages, ..Workload::default() },
            instruments: DEFAULT_INSTRUMENTS.to_vec(),
            timed_messages: None,
            until: Until::Settled(BUDGET),
            pin: true,
            runtime: None,
            allocator: Allocator::System,
            profile: "release".to_owned(),
            link: None,
            peers: false,
            seed: clock_seed(),
            bind: ([127, 0, 0, 1], 0).into(),
            agent: None,
            patience: PATIENCE,
        }
    }

    /// Whether an instrument is asked for.
    pub(crate) fn has(&self, instrument: Instrument) -> bool {
        self.instruments.contains(&instrument)
    }

    /// The traffic that an instrument sees: fewer messages where it is slow, more where it samples.
    pub(crate) fn workload(&self, instrument: Instrument) -> Workload {
        let unary = self.scenario == Scenario::Unary;
        let Workload { messages, .. } = self.workload;
        let messages = match instrument {
            Instrument::Stacks => messages.min(STACKS_MESSAGES),
            Instrument::Cpu => messages.saturating_mul(if unary { CPU_TIMES_UNARY } else { CPU_TIMES }),
            Instrument::Instructions if unary => INSTRUCTION_CALLS,
            Instrument::Instructions => INSTRUCTION_MESSAGES,
            _ => messages,
        };
        // Only times are taken at a rate; nothing else depends on one.
        let rate_bits = self.workload.rate_bits.filter(|_| instrument == Instrument::Time);
        Workload { messages, rate_bits, ..self.workload }
    }

    /// How long a case of an instrument may take: what a rate alone takes comes on top, twice.
    pub(crate) fn timeout(&self, instrument: Instrument) -> Duration {
        let workload = self.workload(instrument);
        let rate = self.link.filter(|_| workload.rate_bits.is_some());
        self.patience + rate.map_or(Duration::ZERO, |rate| 2 * rate.takes(workload.payload_bytes()))
    }

    /// The plan in one line.
    pub(crate) fn words(&self) -> String {
        let Workload { chunk, messages, streams, .. } = self.workload;
        let scenario = self.scenario;
        let noun = scenario.message_noun();
        let size = match scenario {
            Scenario::Unary => String::new(),
            Scenario::Put | Scenario::Get => format!(" × {chunk} B"),
        };
        let streams = if streams == 1 { String::new() } else { format!(" · {streams} streams") };
        let special: String = self.workload.special().into_iter().map(|word| format!(" · {word}")).collect();
        let steps = several(self.sets.len(), "step");
        let instruments: Vec<&str> = self.instruments.iter().map(|instrument| instrument.name()).collect();
        format!("{scenario} · {messages} {noun}s{size}{streams}{special} · {steps} · {}", instruments.join(", "))
    }
}

/// Calls of a measured part of unary whose calls carry so many spans each.
pub(crate) fn exports(spans: u32) -> u64 {
    (SPANS / u64::from(spans)).clamp(100, UNARY_CALLS)
}

/// Calls of a measured part of unary whose calls carry so many spans each, or a user where they carry none.
pub(crate) fn unary_calls(spans: u32) -> u64 {
    if spans == 0 { UNARY_CALLS } else { exports(spans) }
}

/// The traffic of so many streams that stay open, the first message of each of so many bytes; 0 for one like the others.
pub(crate) fn idle(streams: u32, large_first: u32) -> Workload {
    Workload {
        chunk: IDLE_CHUNK,
        messages: u64::from(streams).div_ceil(IDLE_STREAMS_EACH).max(IDLE_MESSAGES_MIN),
        warmup: if large_first > 0 { LARGE_FIRST_WARMUP } else { 1 },
        streams,
        connections: streams.div_ceil(SERVER_STREAMS_MAX),
        idle: true,
        large_first,
        ..Workload::default()
    }
}

/// A step's part of a timed round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Processes, one after the other.
    pub(crate) processes: u32,
    /// Messages that each of them carries.
    pub(crate) messages: u64,
}

impl Turns {
    /// As many messages as take [`PROCESS`], and no fewer than `messages`, which took the step so many nanoseconds; and as
    /// many processes as take [`ROUND`]. Two digits, so that a reader can keep them in mind.
    pub(crate) fn of(messages: u64, wall_ns: u64) -> Turns {
        let each_ns = wall_ns.max(1) as f64 / messages as f64;
        let wanted = (ROOM * PROCESS.as_nanos() as f64 / each_ns).min(CHOSEN_MAX);
        let digits = 10_f64.powf((wanted.log10().floor() - 1.0).max(0.0));
        let messages = messages.max(((wanted / digits).ceil() * digits) as u64);
        let processes = (ROOM * ROUND.as_nanos() as f64 / (each_ns * messages as f64)).ceil() as u64;
        Turns { processes: processes.clamp(1, PROCESSES_MAX) as u32, messages }
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        u64::from(self.processes) * self.messages
    }
}

/// Payload bytes of one message, as a flag gives them, if tonic lets such a message through.
///
/// # Errors
/// In words, for a size that is not valid or too large.
pub(crate) fn chunk(text: &str) -> Result<usize, String> {
    let Size(bytes) = text.parse()?;
    if bytes <= CHUNK_MAX {
        return Ok(bytes);
    }
    let header = RECEIVE_LIMIT - CHUNK_MAX;
    Err(format!(
        "the message would exceed tonic's 4 MiB receive limit; at most {CHUNK_MAX} bytes fit ({header} go to the field \
         header)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timed_round_takes_long_enough_and_carries_a_round_number() {
        let of = |messages, milliseconds: u64| {
            let turns = Turns::of(messages, milliseconds * 1_000_000);
            (turns.processes, turns.messages)
        };
        assert_eq!(of(2000, 30), (5, 4000), "1.2 × 50 ms and 1.2 × 250 ms at 15 µs a message");
        assert_eq!(of(2000, 97), (4, 2000), "three would take 291 ms");
        assert_eq!(of(2000, 900), (1, 2000), "long enough as it is");
        assert_eq!(of(50, 0), (5, 1_000_000));
        assert_eq!(Turns::of(2000, 97_000_000).total(), 8000);
    }

    #[test]
    fn a_chunk_is_a_size_that_tonic_lets_through() {
        assert_eq!(chunk("64KiB"), Ok(65_536));
        assert_eq!(chunk("4194299"), Ok(CHUNK_MAX));
        for bad in ["0", "4MiB", "4194300", "64kb", ""] {
            assert!(chunk(bad).is_err(), "{bad}");
        }
    }
}
