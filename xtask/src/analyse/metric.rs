//! What can be said of a case in one number: one table, which `compare`, `check`, `advise` and the terminal iterate.
//!
//! A row says what the number is called, which way is better, which instrument it must come from, and how to take it
//! from a [`Measurement`]. Nobody matches on names: adding a metric touches `rows` and nothing else. It knows
//! nothing of statistics or of how a verb lays its table out.

mod rows;

use std::collections::BTreeMap;
use std::fmt;

use alloc_ladder::record::{CountRow, Instrument, Measurement, Run, Shape, StepRecord};
use alloc_ladder::{Side, Stage, Tally};

pub(crate) use self::rows::*;
use crate::cli::numbers;

/// Payload bytes of a message from which on a program's figures per payload byte say something.
const TELLING_BYTES: u64 = 1024;

/// One kind of figure.
pub(crate) struct Metric {
    /// Kebab-case; the same in JSON and in `budgets.toml`.
    pub(crate) name: &'static str,
    /// As tables head it, its unit included.
    pub(crate) label: &'static str,
    /// As the page and the README name it, with `{noun}` for what a message is called.
    title: &'static str,
    /// How a value is written.
    pub(crate) format: Format,
    /// Which way is better.
    pub(crate) better: Better,
    /// The only instrument it is taken from.
    pub(crate) instrument: Instrument,
    /// Whether it is counted or sampled.
    pub(crate) accuracy: Accuracy,
    /// Which processes it is taken from.
    pub(crate) sides: Sides,
    /// The traffic it means something for.
    pub(crate) meant: Meant,
    /// When it was taken.
    pub(crate) part: Part,
    take: Take,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Three digits, no suffix: the label names the unit.
    Number,
    /// Bytes, with a binary prefix.
    Bytes,
    /// Microseconds, in the unit that keeps them readable.
    Microseconds,
    /// Nanoseconds, in the unit that keeps them readable.
    Nanoseconds,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// Whether a figure is counted or sampled: counts are compared as they are, samples by a rank test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accuracy {
    /// Every event counted: two runs of one program give the same figure, up to what its traffic itself varies by.
    Exact,
    /// Counted, but not to the last one: exact to what the function says of a measurement.
    Within(fn(&Measurement) -> f64),
    /// Read from a clock or from the operating system.
    Sampled,
}

/// Which processes a figure is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    /// Each process has its own.
    Each,
    /// One a case, as the side that receives the payload saw it.
    Receiver,
    /// One a case, as the caller saw it.
    Client,
}

/// Whose figure: one side's, or that of client and server together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Side(Side),
    /// Costs add up; a rate or a latency is that of the side it is taken from.
    Pair,
}

impl Whose {
    pub(crate) const ALL: [Whose; 3] = [Whose::Side(Side::Server), Whose::Side(Side::Client), Whose::Pair];

    /// As tables head it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Whose::Side(side) => side.name(),
            Whose::Pair => "pair",
        }
    }
}

/// The traffic a figure means something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    Any,
    /// Where payload bytes are the work.
    Stream,
    /// Where calls are the work.
    Unary,
    /// Of a program, which may keep what it is called with.
    Program,
}

/// The part of a case a figure was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The measured part: steady state.
    Measured,
    /// What came before it: flags, connections, warm-up. Shown, and not compared: a longer step name is a block more.
    SetUp,
}

#[derive(Clone, Copy)]
enum Take {
    /// From what was allocated, on the whole side or in one stage.
    Counted(fn(Tally, &Measurement) -> f64),
    /// From the process as a whole.
    Process(fn(&Measurement) -> Option<f64>),
}

/// The metrics that mean something for traffic of a shape; all of them for a program.
pub(crate) fn of(shape: Shape) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(move |metric| metric.is_meant_for(shape))
}

/// The metrics of the measured part, which are compared.
pub(crate) fn compared(shape: Shape) -> impl Iterator<Item = &'static Metric> {
    of(shape).filter(|metric| metric.part == Part::Measured)
}

impl Metric {
    /// Whether it means something for traffic of a shape. Nobody knows what a program's messages are like.
    pub(crate) fn is_meant_for(&self, shape: Shape) -> bool {
        match self.meant {
            Meant::Any => true,
            Meant::Stream => shape.has_payload() || shape == Shape::Program,
            Meant::Unary => !shape.has_payload(),
            Meant::Program => shape == Shape::Program,
        }
    }

    /// Whether it says something of a run. What a payload byte costs says nothing of a service whose messages are a few
    /// bytes long.
    pub(crate) fn says_something_of(&self, run: &Run) -> bool {
        if self.meant != Meant::Stream || run.subject.shape != Shape::Program {
            return true;
        }
        let is_telling =
            |m: &Measurement| m.messages > 0 && m.payload_bytes >= TELLING_BYTES.saturating_mul(m.messages);
        run.steps.iter().flat_map(|step| &step.measurements).any(is_telling)
    }

    /// As the page and the README name it, where one message is called `noun`.
    pub(crate) fn title(&self, noun: &str) -> String {
        self.title.replace("{noun}", noun)
    }

    /// The sides that have this figure.
    pub(crate) fn sides(&self, shape: Shape) -> &'static [Side] {
        match (self.sides, shape.receiver()) {
            (Sides::Each, _) => &Side::ALL,
            (Sides::Receiver, Side::Server) => &[Side::Server],
            (Sides::Receiver, Side::Client) | (Sides::Client, _) => &[Side::Client],
        }
    }

    /// Whether a stage has this figure, or only a whole side.
    pub(crate) fn has_stages(&self) -> bool {
        matches!(self.take, Take::Counted(_))
    }

    /// The figure of one measurement: of a stage, or of the whole side without what the instrument allocates.
    /// `None` where it was taken by another instrument, lacks the figure, or carried no message.
    pub(crate) fn take(&self, measurement: &Measurement, stage: Option<Stage>) -> Option<f64> {
        if measurement.instrument != self.instrument {
            return None;
        }
        let value = match (self.take, stage) {
            (Take::Counted(take), stage) => {
                let counts = measurement.counts.as_ref()?;
                take(stage.map_or_else(|| counts.subject(), |stage| counts.stage(stage)), measurement)
            }
            (Take::Process(take), None) => take(measurement)?,
            (Take::Process(_), Some(_)) => return None,
        };
        value.is_finite().then_some(value)
    }

    /// The figure of one RPC method in one measurement, and of its stage where one is named. Where the process was on both
    /// sides of calls, `side` says on which. `None` also where nothing was counted for the method: whether it was called
    /// is then not known.
    pub(crate) fn take_of(
        &self,
        measurement: &Measurement,
        side: Side,
        method: &str,
        stage: Option<Stage>,
    ) -> Option<f64> {
        let (Take::Counted(take), true) = (self.take, measurement.instrument == self.instrument) else { return None };
        let of_method = |row: &&CountRow| row.rpc == method && row.side.unwrap_or(measurement.side) == side;
        let mut rows = measurement.counts.as_ref()?.rows.iter().filter(of_method).peekable();
        rows.peek()?;
        let wanted = |row: &&CountRow| stage.map_or(row.stage != Stage::Instrument, |stage| row.stage == stage);
        let value = take(rows.filter(wanted).map(|row| row.tally).sum(), measurement);
        value.is_finite().then_some(value)
    }

    /// The figures of a step, one a round.
    pub(crate) fn samples(&self, step: &StepRecord, side: Side, stage: Option<Stage>) -> Vec<f64> {
        step.of(side, self.instrument).filter_map(|measurement| self.take(measurement, stage)).collect()
    }

    /// The figures of a step by the round they are of.
    ///
    /// Of the pair only rounds that both sides have. A program is one side alone, and so is the pair of one.
    pub(crate) fn rounds(&self, step: &StepRecord, shape: Shape, whose: Whose) -> BTreeMap<u32, f64> {
        let of = |side: Side| -> BTreeMap<u32, f64> {
            let measured = step.of(side, self.instrument);
            measured.filter_map(|measurement| Some((measurement.round, self.take(measurement, None)?))).collect()
        };
        match (whose, self.sides(shape)) {
            (Whose::Side(side), _) => of(side),
            (Whose::Pair, [side]) => of(*side),
            (Whose::Pair, _) if shape == Shape::Program => {
                Side::ALL.into_iter().map(of).find(|rounds| !rounds.is_empty()).unwrap_or_default()
            }
            (Whose::Pair, _) => {
                let client = of(Side::Client);
                let both = of(Side::Server).into_iter();
                both.filter_map(|(round, server)| Some((round, server + client.get(&round)?))).collect()
            }
        }
    }

    /// Whether it is counted, and not sampled.
    pub(crate) fn is_exact(&self) -> bool {
        !matches!(self.accuracy, Accuracy::Sampled)
    }

    /// Whether comparisons show a line for each stage that changed. One count and one size are enough: the other
    /// counted metrics are these two divided by something else.
    pub(crate) fn shows_stages(&self) -> bool {
        *self == ALLOCS_PER_MESSAGE || *self == BYTES_PER_MESSAGE
    }

    /// By how much the instrument itself may have a step's figure wrong.
    pub(crate) fn slack(&self, step: &StepRecord, side: Side) -> f64 {
        match self.accuracy {
            Accuracy::Exact | Accuracy::Sampled => 0.0,
            Accuracy::Within(slack) => step.of(side, self.instrument).map(slack).fold(0.0, f64::max),
        }
    }

    /// A value as tables write it.
    pub(crate) fn show(&self, value: f64) -> String {
        match self.format {
            Format::Number => numbers::number(value),
            Format::Bytes => numbers::bytes(value),
            Format::Microseconds => numbers::nanoseconds(value * 1e3),
            Format::Nanoseconds => numbers::nanoseconds(value),
        }
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Metric) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::Counts;

    use super::*;

    fn counted(messages: u64, blocks: u64, bytes: u64) -> Measurement {
        let row = |stage, blocks, bytes| CountRow {
            rpc: String::new(),
            side: None,
            stage,
            tally: Tally { blocks, bytes, ..Tally::default() },
        };
        let rows = vec![row(Stage::Handler, blocks, bytes), row(Stage::Instrument, 7, 700)];
        let total = rows.iter().map(|row| row.tally).sum();
        Measurement {
            side: Side::Server,
            instrument: Instrument::Count,
            round: 0,
            messages,
            payload_bytes: 1000 * messages,
            wall_ns: 1,
            usage: Default::default(),
            counts: Some(Counts { rows, total, ..Counts::default() }),
            setup: None,
            retained: Vec::new(),
            latency: None,
            instructions: None,
            socket: None,
            open_streams: None,
            calls: Vec::new(),
        }
    }

    #[test]
    fn every_metric_has_one_kebab_case_name_and_a_label() {
        for (index, metric) in METRICS.iter().enumerate() {
            assert!(!metric.label.is_empty() && !metric.title.is_empty());
            assert!(
                metric.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{metric:?}"
            );
            assert!(!metric.name.is_empty());
            assert!(METRICS[..index].iter().all(|earlier| earlier != metric), "{metric:?} twice");
            // `budgets.toml` tells stages from metrics by name.
            assert_eq!(Stage::from_name(metric.name), None);
        }
    }

    #[test]
    fn a_side_leaves_the_instrument_out_and_a_stage_is_its_own_row() {
        let measurement = counted(10, 25, 4000);
        assert_eq!(ALLOCS_PER_MESSAGE.take(&measurement, None), Some(2.5));
        assert_eq!(ALLOCS_PER_MESSAGE.take(&measurement, Some(Stage::Instrument)), Some(0.7));
        assert_eq!(BYTES_PER_MESSAGE.take(&measurement, Some(Stage::Handler)), Some(400.0));
        assert_eq!(AMPLIFICATION.take(&measurement, None), Some(0.4));
    }

    #[test]
    fn what_a_payload_byte_costs_says_something_where_messages_are_not_tiny() {
        let of = |shape: Shape, bytes: u64| {
            let mut run = crate::fixture::run("svc", alloc_ladder::subject::scenario::Scenario::Put);
            run.subject = alloc_ladder::record::Subject { name: "svc".to_owned(), shape };
            let window = Measurement { payload_bytes: 10 * bytes, ..counted(10, 25, 4000) };
            run.steps = vec![crate::fixture::step("baseline", vec![window])];
            [&AMPLIFICATION, &BYTES_PER_MESSAGE].map(|metric| metric.says_something_of(&run))
        };
        assert_eq!(of(Shape::Program, 1023), [false, true]);
        assert_eq!(of(Shape::Program, 1024), [true, true]);
        assert_eq!(of(Shape::Upload, 10), [true, true], "whoever asks for a chunk of ten bytes is told");
    }

    #[test]
    fn a_figure_is_never_taken_from_another_instrument_or_from_no_messages() {
        let mut measurement = counted(10, 25, 4000);
        assert_eq!(CPU_PER_GB.take(&measurement, None), None);
        measurement.instrument = Instrument::Stacks;
        assert_eq!(ALLOCS_PER_MESSAGE.take(&measurement, None), None);
        assert_eq!(ALLOCS_PER_MESSAGE.take(&counted(0, 0, 0), None), None);
    }

    #[test]
    fn streams_have_throughput_and_unary_has_latency() {
        let names = |shape| of(shape).map(|metric| metric.name).collect::<Vec<_>>();
        assert!(names(Shape::Upload).contains(&"throughput"));
        assert!(!names(Shape::Upload).contains(&"latency-p50"));
        assert!(names(Shape::Unary).contains(&"latency-p50"));
        assert!(!names(Shape::Unary).contains(&"amplification"));
        assert_eq!(names(Shape::Program).len(), METRICS.len());
        assert_eq!(THROUGHPUT.sides(Shape::Upload), [Side::Server]);
        assert_eq!(THROUGHPUT.sides(Shape::Download), [Side::Client]);
    }

    #[test]
    fn values_are_written_by_their_unit() {
        let show = |metric: &Metric, value| metric.show(value).replace('\u{202f}', " ");
        assert_eq!(show(&BYTES_PER_MESSAGE, 65_536.0), "64 KiB");
        assert_eq!(show(&PEAK_HEAP, 4.01 * 1_048_576.0), "4.01 MiB");
        assert_eq!(show(&CPU_PER_MESSAGE, 36.0), "36.0 µs");
        assert_eq!(show(&LATENCY_P50, 71_250.0), "71.2 µs");
        assert_eq!(show(&ALLOCS_PER_MESSAGE, 0.0148), "0.015");
    }
}
