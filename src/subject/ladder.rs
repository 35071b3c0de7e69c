//! The ladders: every optimisation step, in order, as one row of one table.
//!
//! A step says what it is expected to do, what it costs, and which one field of [`Tuning`] it changes. The mechanism
//! behind a field lives in [`steps`](crate::steps), or beside this file where it is the study's own; the command line, the
//! tests, the benches and the report iterate the tables here.

mod rows;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::subject::scenario::{Scenario, Workload};
use crate::{Side, Stage};

/// What the subject service and client do differently from stock tonic and prost. The default is stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Where the decoder gets a message from.
    pub message: MessageSource,
    /// The type of `bytes` fields.
    pub payload: Payload,
    /// HTTP/2 windows and frame size.
    pub http2: Http2,
    /// How a receiver gathers a message from DATA frames.
    pub deframe: Deframe,
    /// How a receiver's connection reads its socket.
    pub reads: Reads,
    /// How a sender turns messages into DATA frames.
    pub encode: Encode,
    /// The server's runtime.
    pub runtime: Runtime,
    /// The size of tonic's codec buffers.
    pub codec_buffers: CodecBuffers,
    /// The protobuf implementation behind tonic's `Codec` on unary calls.
    pub codec: Codec,
    /// The bodies and the compression of unary calls; a stream's are those of `deframe` and `encode`.
    pub bodies: Bodies,
    /// What the client is built on.
    pub client: ClientStack,
    /// What a server is built on.
    pub server: ServerStack,
    /// The code between a unary method and its connections.
    pub glue: Glue,
    /// The socket between client and server.
    pub socket: Socket,
    /// What of a message that goes to many streams is done for each.
    pub fan_out: FanOut,
    /// What both programs are built to ask for memory. Records from before there was a choice are of the system's.
    #[serde(default, skip_serializing_if = "Allocator::is_system")]
    pub allocator: Allocator,
}

impl Tuning {
    /// Every field and its choice by name, as a record holds them.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let fields = serde_json::to_value(self).expect("a tuning is plain data");
        serde_json::from_value(fields).expect("every choice is written as its name")
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }
    )+};
}

choices! {
    /// See [`Tuning::message`].
    MessageSource {
        /// A new message each time.
        #[default] Fresh,
        /// A recycled message, cleared and merged into: its capacity stays.
        Pooled,
    }
    /// See [`Tuning::payload`].
    Payload {
        /// `Vec<u8>`: copied out of the receive buffer.
        #[default] Vec,
        /// `bytes::Bytes`: a slice of the receive buffer.
        Bytes,
    }
    /// See [`Tuning::http2`].
    Http2 {
        /// tonic's defaults: 16 KiB frames, 64 KiB and 1 MiB windows as hyper sets them.
        #[default] Stock,
        /// Frames above the message size, windows of several MiB.
        Tuned,
        /// Frames as they come, windows that hyper widens as it measures the connection.
        Adaptive,
    }
    /// See [`Tuning::deframe`].
    Deframe {
        /// tonic's `Streaming`: copied into one contiguous `BytesMut`.
        #[default] Contiguous,
        /// A rope of the frames themselves; nothing is copied.
        Rope,
    }
    /// See [`Tuning::reads`].
    Reads {
        /// As much as fits into h2's buffer.
        #[default] Stock,
        /// Whole frames, so that h2's buffer is unshared whenever it needs room.
        Aligned,
    }
    /// See [`Tuning::encode`].
    Encode {
        /// tonic's `EncodeBody`: an 8 KiB buffer that grows.
        #[default] Stock,
        /// The exact length reserved before encoding.
        Sized,
        /// Encoded into recycled buffers that come back when h2 drops them.
        Pooled,
        /// Prefix and field header in a small recycled block, the payload sent as it is.
        ZeroCopy,
    }
    /// See [`Tuning::runtime`].
    Runtime {
        /// One current-thread runtime.
        #[default] CurrentThread,
        /// tokio's multi-thread runtime, as `#[tokio::main]` makes it.
        MultiThread,
        /// A current-thread runtime per core, each with its own listener on the one port.
        PerCore,
    }
    /// See [`Tuning::codec_buffers`].
    CodecBuffers {
        /// 8 KiB each way.
        #[default] Stock,
        /// Just above the message size.
        Small,
    }
    /// See [`Tuning::codec`].
    Codec {
        /// prost, as tonic comes.
        #[default] Prost,
        /// The codec that plays vtprotobuf's part.
        Swapped,
    }
    /// See [`Tuning::bodies`].
    Bodies {
        /// tonic's: buffers of their own, and a new compressor for each message.
        #[default] Stock,
        /// The steps': in recycled memory, with compressors that are kept.
        Recycled,
    }
    /// See [`Tuning::client`].
    ClientStack {
        /// tonic's `Channel`: buffer, reconnect, balance.
        #[default] Channel,
        /// One h2 connection: `LeanChannel`.
        Lean,
    }
    /// See [`Tuning::server`].
    ServerStack {
        /// tonic's `Server` with its router.
        #[default] Tonic,
        /// h2 itself: `lean::serve`.
        Lean,
    }
    /// See [`Tuning::glue`].
    Glue {
        /// Generated code, or what stands for it here, on tonic's or the steps' `Grpc`.
        #[default] Generated,
        /// Written by hand on h2, on both sides.
        ByHand,
    }
    /// See [`Tuning::allocator`].
    Allocator {
        /// The system's.
        #[default] System,
        /// mimalloc: a build with the feature of that name.
        Mimalloc,
        /// jemalloc: a build with the feature of that name.
        Jemalloc,
    }
    /// See [`Tuning::socket`].
    Socket {
        /// TCP on loopback.
        #[default] Tcp,
        /// A Unix domain socket.
        Unix,
    }
    /// See [`Tuning::fan_out`].
    FanOut {
        /// A clone of the message, which is encoded for it.
        #[default] Each,
        /// Nothing: the message was encoded once, and each has the bytes.
        Once,
    }
}

impl Allocator {
    /// Every allocator.
    pub const ALL: [Allocator; 3] = [Allocator::System, Allocator::Mimalloc, Allocator::Jemalloc];

    /// The allocator's one name, and the cargo feature of its build.
    pub const fn name(self) -> &'static str {
        match self {
            Allocator::System => "system",
            Allocator::Mimalloc => "mimalloc",
            Allocator::Jemalloc => "jemalloc",
        }
    }

    /// Whether it is the one that every program has.
    pub fn is_system(&self) -> bool {
        *self == Allocator::System
    }
}

/// The figure that a step's cost shows in, taken from a run before and after the step.
///
/// It holds what the step saves as well: no run can tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostFigure {
    /// The most live bytes: the price of whatever is kept or pinned.
    PeakHeap,
    /// Blocks that had to grow, per message.
    Reallocs,
    /// Context switches per message, as the kernel counts them for the process.
    ContextSwitches,
    /// CPU time, of what is computed or sent more often.
    Cpu,
    /// The most resident memory: what an allocator keeps beside live bytes.
    Resident,
}

/// One step of a ladder.
#[derive(Clone, Copy)]
pub struct Step {
    /// Kebab-case; the same in flags, JSON and folders.
    pub name: &'static str,
    /// What the step changes and is expected to do, in one sentence.
    pub hypothesis: &'static str,
    /// What it costs: the trade-off.
    pub cost: &'static str,
    /// The figure the cost shows in; `None` where no figure of a run shows it.
    pub cost_figure: Option<CostFigure>,
    /// The line that a reader's own service would change; `tests/switches.rs` compiles each.
    pub switch: &'static str,
    /// The file that holds the mechanism.
    pub file: &'static str,
    /// The side and stage whose allocated bytes the step is there to reduce; `None` where it is there for CPU.
    pub reduces: Option<(Side, Stage)>,
    /// Changes exactly one field.
    pub apply: fn(&mut Tuning),
}

impl Step {
    /// The name as a heading: `tuned-h2` is "Tuned h2".
    pub fn title(&self) -> String {
        let words = self.name.replace('-', " ");
        let mut letters = words.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The steps of a scenario, in the order they are climbed; the first is the baseline.
pub const fn ladder(scenario: Scenario) -> &'static [Step] {
    match scenario {
        Scenario::Put => rows::PUT,
        Scenario::Get => rows::GET,
        Scenario::Unary => rows::UNARY,
    }
}

/// What a step that is [`apart`] is an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Client and server are far from each other.
    Far,
    /// Messages are exports of many spans.
    Spans,
    /// Streams stay open after a large message.
    LargeFirst,
    /// Another allocator is to stand beside the ladder: what is tried first, and takes a build of its own.
    Allocators,
}

impl Occasion {
    /// The flag of `profile` that makes it.
    pub const fn flag(self) -> &'static str {
        match self {
            Occasion::Far => "--round-trip",
            Occasion::Spans => "--spans",
            Occasion::LargeFirst => "--large-first",
            Occasion::Allocators => "--allocators",
        }
    }

    /// Whether the traffic is one.
    pub const fn is_of(self, workload: &Workload) -> bool {
        match self {
            Occasion::Far => workload.round_trip_us > 0,
            Occasion::Spans => workload.spans > 0,
            Occasion::LargeFirst => workload.large_first > 0,
            // Of any traffic, and only where it is asked for.
            Occasion::Allocators => false,
        }
    }
}

/// Steps that are not climbed, because they are an answer to traffic that the ladder is not for: each is measured alone,
/// where it is named or where the traffic is its occasion.
pub const fn apart(scenario: Scenario) -> &'static [(Occasion, Step)] {
    match scenario {
        Scenario::Put => rows::PUT_APART,
        Scenario::Get => rows::GET_APART,
        Scenario::Unary => rows::UNARY_APART,
    }
}

/// Every step of a scenario: the ladder's, and then those that are [`apart`].
pub fn every_step(scenario: Scenario) -> impl Iterator<Item = &'static Step> {
    ladder(scenario).iter().chain(apart(scenario).iter().map(|(_, step)| step))
}

/// The step called `name` and its index, counted from 0; those that are [`apart`] follow the ladder's.
///
/// # Errors
/// [`NoSuchStep`] with the nearest names when there is none.
pub fn step(scenario: Scenario, name: &str) -> Result<(usize, &'static Step), NoSuchStep> {
    every_step(scenario)
        .enumerate()
        .find(|(_, step)| step.name == name)
        .ok_or_else(|| NoSuchStep { scenario, name: name.to_owned() })
}

/// A step was asked for that the scenario's ladder does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{scenario}` has no step `{name}`")]
pub struct NoSuchStep {
    /// The scenario.
    pub scenario: Scenario,
    /// The name that was asked for.
    pub name: String,
}

/// Which steps of a ladder are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum StepSet {
    /// None.
    Baseline,
    /// Every step up to and including the named one: how a ladder is climbed. One that is [`apart`] has none before it.
    UpTo(String),
    /// The named step alone.
    Only(String),
    /// Every step but the named one.
    Without(String),
}

impl StepSet {
    /// The tuning this set stands for.
    ///
    /// # Errors
    /// [`NoSuchStep`] when the ladder lacks the named step.
    pub fn tuning(&self, scenario: Scenario) -> Result<Tuning, NoSuchStep> {
        let steps = ladder(scenario);
        let mut tuning = Tuning::default();
        let mut apply = |on: &dyn Fn(usize) -> bool| {
            let on = every_step(scenario).enumerate().filter(|(index, _)| on(*index));
            on.for_each(|(_, step)| (step.apply)(&mut tuning));
        };
        match self {
            StepSet::Baseline => {}
            StepSet::UpTo(name) => {
                let (last, _) = step(scenario, name)?;
                let first = if last < steps.len() { 0 } else { last };
                apply(&|index| (first..=last).contains(&index));
            }
            StepSet::Only(name) => {
                let (only, _) = step(scenario, name)?;
                apply(&|index| index == only);
            }
            StepSet::Without(name) => {
                let (without, _) = step(scenario, name)?;
                apply(&|index| index != without && index < steps.len());
            }
        }
        Ok(tuning)
    }
}

impl fmt::Display for StepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepSet::Baseline => f.write_str("baseline"),
            StepSet::UpTo(name) => write!(f, "up-to={name}"),
            StepSet::Only(name) => write!(f, "only={name}"),
            StepSet::Without(name) => write!(f, "without={name}"),
        }
    }
}

impl From<StepSet> for String {
    fn from(set: StepSet) -> String {
        set.to_string()
    }
}

impl TryFrom<String> for StepSet {
    type Error = BadStepSet;

    fn try_from(text: String) -> Result<StepSet, BadStepSet> {
        text.parse()
    }
}

/// A step set that is none of `baseline`, `up-to=STEP`, `only=STEP`, `without=STEP`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `baseline`, `up-to=STEP`, `only=STEP`, `without=STEP`")]
pub struct BadStepSet(String);

impl FromStr for StepSet {
    type Err = BadStepSet;

    fn from_str(text: &str) -> Result<StepSet, BadStepSet> {
        match text.split_once('=') {
            None if text == "baseline" => Ok(StepSet::Baseline),
            Some(("up-to", name)) => Ok(StepSet::UpTo(name.to_owned())),
            Some(("only", name)) => Ok(StepSet::Only(name.to_owned())),
            Some(("without", name)) => Ok(StepSet::Without(name.to_owned())),
            _ => Err(BadStepSet(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that differ; the allocator is no field where it is the system's.
    fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> usize {
        after.iter().filter(|(name, choice)| before.get(*name) != Some(choice)).count()
    }

    #[test]
    fn an_allocator_is_written_as_its_name() {
        for allocator in Allocator::ALL {
            assert_eq!(serde_json::to_value(allocator).expect("serialises"), allocator.name());
            let tuning = Tuning { allocator, ..Tuning::default() };
            let json = serde_json::to_string(&tuning).expect("serialises");
            assert_eq!(serde_json::from_str::<Tuning>(&json).expect("reads"), tuning);
        }
    }

    #[test]
    fn every_step_but_the_baseline_changes_exactly_one_field() {
        for scenario in Scenario::ALL {
            let mut tuning = Tuning::default();
            for (index, step) in ladder(scenario).iter().enumerate() {
                let before = tuning.settings();
                (step.apply)(&mut tuning);
                assert_eq!(changed(&before, &tuning.settings()), usize::from(index > 0), "{scenario} {}", step.name);
            }
        }
    }

    #[test]
    fn a_step_that_is_apart_answers_one_kind_of_traffic() {
        let far = Workload { round_trip_us: 1000, ..Workload::default() };
        let exports = Workload { spans: 512, ..Workload::default() };
        let large = Workload { large_first: 1 << 20, ..Workload::default() };
        for scenario in Scenario::ALL {
            let of = |workload: Workload| {
                let answers = apart(scenario).iter().filter(|(occasion, _)| occasion.is_of(&workload));
                answers.map(|(_, step)| step.name).collect::<Vec<_>>()
            };
            assert!(of(Workload::default()).is_empty());
            let of_traffic = apart(scenario).iter().filter(|(occasion, _)| *occasion != Occasion::Allocators);
            let apart: Vec<&str> = of_traffic.map(|(_, step)| step.name).collect();
            let mut all = [of(far), of(exports), of(large)].concat();
            all.sort_by_key(|name| apart.iter().position(|step| step == name));
            assert_eq!(all, apart, "each once");
        }
    }

    #[test]
    fn a_step_that_is_apart_changes_one_field_of_what_is_stock() {
        for scenario in Scenario::ALL {
            for (_, step) in apart(scenario) {
                let mut tuning = Tuning::default();
                (step.apply)(&mut tuning);
                assert_eq!(changed(&Tuning::default().settings(), &tuning.settings()), 1, "{scenario} {}", step.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_kebab_case_and_files_exist() {
        for scenario in Scenario::ALL {
            for (index, step) in every_step(scenario).enumerate() {
                assert!(step.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
                let earlier = every_step(scenario).take(index);
                assert!(earlier.map(|earlier| earlier.name).all(|name| name != step.name), "{} twice", step.name);
                let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(step.file);
                assert!(file.is_file(), "{}: {} is missing", step.name, step.file);
            }
        }
    }

    #[test]
    fn step_sets_round_trip_and_compose() {
        for text in ["baseline", "up-to=tuned-h2", "only=rope", "without=rope"] {
            assert_eq!(text.parse::<StepSet>().expect("parses").to_string(), text);
        }
        assert!("above=rope".parse::<StepSet>().is_err());
        let up_to = StepSet::UpTo("bytes-field".into()).tuning(Scenario::Put).expect("a step of put");
        assert_eq!(up_to.message, MessageSource::Pooled);
        assert_eq!(up_to.payload, Payload::Bytes);
        assert_eq!(up_to.http2, Http2::Stock);
        let only = StepSet::Only("bytes-field".into()).tuning(Scenario::Put).expect("a step of put");
        assert_eq!(only.message, MessageSource::Fresh);
        let without = StepSet::Without("bytes-field".into()).tuning(Scenario::Put).expect("a step of put");
        assert_eq!(without.payload, Payload::Vec);
        assert_eq!(without.reads, Reads::Aligned);
        assert!(StepSet::UpTo("rope".into()).tuning(Scenario::Unary).is_err());
        for set in [StepSet::UpTo("adaptive-window".into()), StepSet::Only("adaptive-window".into())] {
            let apart = set.tuning(Scenario::Put).expect("a step of put");
            assert_eq!(apart, Tuning { http2: Http2::Adaptive, ..Tuning::default() });
        }
    }
}
