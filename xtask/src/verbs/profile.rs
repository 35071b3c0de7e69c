//! `profile <put|get|unary>`: measures every step of a ladder and renders the run.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloc_ladder::record::{Compression, Instrument, Run};
use alloc_ladder::subject::case::can_be_by_hand;
use alloc_ladder::subject::ladder::{Glue, Occasion, Runtime, StepSet, apart, ladder};
use alloc_ladder::subject::scenario::{METADATA_MAX, SPAN_BYTES, SPANS_MAX, Scenario, Workload};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::analyse::profiles::Profiles;
use crate::cli::browser;
use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::{MESSAGES_MAX, Rate, RoundTrip, SECONDS_MAX};
use crate::cli::terminal::{self, Style, rendering};
use crate::measure::build::Allocator;
use crate::measure::climb::{Climb, Lines};
use crate::measure::plan::{BUDGET, DEFAULT_INSTRUMENTS, Plan, chunk, exports, idle};
use crate::measure::remote::At;
use crate::measure::rounds::Until;
use crate::measure::step_sets::step_sets;
use crate::measure::sweep::warmup;
use crate::measure::token::Token;
use crate::measure::{environment, interrupt};
use crate::render::page;
use crate::render::text::{repeat, summary};
use crate::store::layout;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape
    pub(crate) scenario: Scenario,
    /// Steps to climb to, as in `baseline,rope`; also `only=STEP` and `without=STEP`; a step named twice is measured
    /// twice [default: all, in order]
    #[arg(long, value_delimiter = ',')]
    pub(crate) steps: Vec<String>,
    /// Messages (unary: calls) of a measured part [default: 2000 (unary: 5000), and in timed rounds as many as take 250 ms]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    pub(crate) messages: Option<u64>,
    /// Payload bytes of a message, as in 32760 or 64KiB [default: 64KiB; unary has none]
    #[arg(long, value_parser = chunk)]
    pub(crate) chunk: Option<usize>,
    /// Timed rounds of every step [default: as many as --budget allows]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: Option<u32>,
    /// Seconds that timed rounds may take; they end sooner when the CPU time of every step is known to 2 % against the
    /// step before
    #[arg(long, value_name = "SECONDS", default_value_t = BUDGET.as_secs(), conflicts_with = "runs",
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub(crate) budget: u64,
    /// Let timed processes run on any core instead of holding server and client to a core each
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// What to measure [default: count,time,stacks; of idle streams count, and retained with
    /// --large-first]
    #[arg(long, value_delimiter = ',')]
    pub(crate) instruments: Vec<Shown>,
    /// Concurrent streams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) streams: u32,
    /// Measure what so many streams of put hold that stay open and carry 200 B a minute each, in place of --streams
    #[arg(long, value_name = "STREAMS", conflicts_with_all = ["streams", "messages", "chunk", "runs", "link", "limits", "retain"],
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) idle_streams: Option<u32>,
    /// Let the first message of each idle stream have so many payload bytes, as in 1MiB: what a stream keeps of it while it
    /// waits for short ones
    #[arg(long, value_name = "SIZE", requires = "idle_streams", value_parser = chunk)]
    pub(crate) large_first: Option<usize>,
    /// Connections the streams are spread over [default: 1; of idle streams one for every 200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: Option<u32>,
    /// Messages that the server of put keeps before it drops the oldest
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=RETAIN_MAX))]
    pub(crate) retain: u32,
    /// Compress messages, both ways [default: messages are sent as they are]
    #[arg(long, value_name = "ENCODING", value_parser = PossibleValuesParser::new(Compression::ALL.map(Compression::name))
        .map(|name| Compression::ALL.into_iter().find(|one| one.name() == name).expect("one of the names")))]
    pub(crate) compress: Option<Compression>,
    /// Send so many entries of custom metadata with each unary call, and with its answer
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(METADATA_MAX)))]
    pub(crate) metadata: u32,
    /// Let each unary call carry an export of so many spans, of nested and repeated fields, in place of a user; a message
    /// of get the same, to all streams, in place of a chunk
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(SPANS_MAX)))]
    pub(crate) spans: u32,
    /// Let the server of put send every message back, on the stream it came on; so many are under way at a time [default: none
    /// is sent back; without a number 1]. A message and its echo count as one
    #[arg(long, value_name = "MESSAGES", num_args = 0..=1, default_value_t = 0, default_missing_value = "1", hide_default_value = true,
          conflicts_with_all = ["idle_streams", "limits", "retain", "compress"], value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) echo: u32,
    /// Encrypt connections, by TLS 1.3
    #[arg(long, conflicts_with = "server")]
    pub(crate) tls: bool,
    /// Keep client and server so far apart, as in 10ms, by a relay between the two
    #[arg(long, value_name = "TIME", conflicts_with_all = ["limits", "server"])]
    pub(crate) round_trip: Option<RoundTrip>,
    /// The server's runtime [default: what the steps say]
    #[arg(long)]
    pub(crate) runtime: Option<Runtime>,
    /// The allocator that the instrument asks for memory
    #[arg(long, default_value_t, value_enum)]
    pub(crate) allocator: Allocator,
    /// Measure the baseline on mimalloc and on jemalloc too, in builds of their own: what another allocator gives, beside
    /// what the steps give
    #[arg(long, conflicts_with_all = ["allocator", "server", "steps"])]
    pub(crate) allocators: bool,
    /// Cargo profile to build with; use `release` for times
    #[arg(long, default_value = "release")]
    pub(crate) profile: String,
    /// Limit all streams together to this rate, as in 5gbit, and show how many cores it takes
    #[arg(long, value_name = "RATE")]
    pub(crate) link: Option<Rate>,
    /// Measure peers without gRPC in the same rounds
    #[arg(long)]
    pub(crate) limits: bool,
    /// Seed of the order within rounds [default: from the clock]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Address the server listens on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) bind: std::net::SocketAddr,
    /// Run the server on another host, where `{command} agent` listens on this address
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["limits", "bind"])]
    pub(crate) server: Option<String>,
    /// File with the agent's token [default: the environment variable ALLOC_LADDER_TOKEN]
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) token_file: Option<PathBuf>,
    /// Seconds after which a case counts as hung
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub(crate) timeout: u64,
    /// The run's folder [default: one in {runs}, named by scenario and time]
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Overwrite the run in --out
    #[arg(long, requires = "out")]
    pub(crate) replace: bool,
    /// Open the report in a browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Print the run's record as JSON instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be measured of idle streams: how much they hold, and whose it is.
const OF_IDLE: [Instrument; 2] = [Instrument::Count, Instrument::Retained];
/// The most bytes that `--retain` may have the server keep.
const RETAINED_BYTES_MAX: u64 = 1 << 30;
/// What a kept message takes beside its payload: the place it is kept in, and the head of its buffer.
const RETAINED_EACH: u64 = 64;
/// The most messages of any size that `--retain` takes.
const RETAIN_MAX: i64 = (RETAINED_BYTES_MAX / RETAINED_EACH) as i64;

/// What is said of a run while it is measured.
pub(crate) const LINES: Lines = Lines { step: summary::step_line, counted: repeat::line };

/// An instrument as a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown(pub(crate) Instrument);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl clap::ValueEnum for Shown {
    fn value_variants<'a>() -> &'a [Self] {
        // What the sampler has to say is not read here: `cargo xtask cost` measures what it takes.
        const PROFILED: [Shown; 6] = [
            Shown(Instrument::Time),
            Shown(Instrument::Count),
            Shown(Instrument::Stacks),
            Shown(Instrument::Retained),
            Shown(Instrument::Cpu),
            Shown(Instrument::Instructions),
        ];
        &PROFILED
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        self.0.to_possible_value()
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let began = Instant::now();
    interrupt::catch_interrupts()?;
    let mut sets = step_sets(args.scenario, &args.steps())?;
    args.fit_together()?;
    args.fits_in_memory()?;
    if args.steps.is_empty() && !can_be_by_hand(&args.workload(Workload::default())) {
        // All steps that can.
        sets.retain(|(_, set)| set.tuning(args.scenario).is_ok_and(|tuning| tuning.glue != Glue::ByHand));
    }
    let (created, stamp) = environment::now();
    let id = format!("{}-{stamp}", args.scenario);
    // Before anything is built: a folder that cannot be written must not cost minutes.
    let (folder, id) = match &args.out {
        Some(folder) => (RunFolder::create(folder)?, id),
        None => {
            let folder = RunFolder::create_new(&layout::runs(), &id)?;
            let id = folder.name();
            (folder, id)
        }
    };
    if !args.replace && folder.has(layout::RUN_JSON) {
        return Err(Failure::new(Kind::Usage, format!("{} holds a run already", folder.path().display()))
            .help("name another folder, or overwrite that run with --replace")
            .into());
    }
    let replaced = folder.replaceable()?;
    let plan = args.plan(sets)?;
    let mut climb = Climb::prepare(&plan, &LINES, folder, id, created)?;
    let measured = climb.build().and_then(|()| if args.replace { climb.folder().clear(&replaced) } else { Ok(()) });
    if let Err(error) = measured.and_then(|()| climb.measure_all()) {
        give_up(climb);
        return Err(error);
    }
    let (run, folder, mut profiles) = climb.into_parts();
    let run = &run;
    let page = rendering(folder.path(), || page::write_all(&folder, run, &mut profiles))?;
    if args.json {
        terminal::result(&(serde_json::to_string_pretty(run)? + "\n"))?;
    } else {
        terminal::result(&summary::text(run, &profiles, &page, args.link, terminal::width()))?;
    }
    terminal::progress("Finished", &format!("in {:.1} s", began.elapsed().as_secs_f64()));
    if args.open && !browser::open(&page) {
        terminal::labelled(Style::Help, "help", &format!("there is no browser here; open {}", page.display()));
    }
    Ok(())
}

/// Keeps what was finished and says where it lies.
fn give_up(mut climb: Climb<'_>) {
    let kept = climb.keep_finished().and_then(|any| {
        let run: &Run = climb.run();
        let page = || page::write_all(climb.folder(), run, &mut Profiles::default());
        any.then(|| page().map(|page| (run.steps.len(), page))).transpose()
    });
    match kept {
        Ok(None) => {}
        Ok(Some((steps, page))) => {
            let line = format!("{steps} steps, marked partial: {}", terminal::path(&page));
            terminal::labelled(Style::Warning, "kept", &line);
        }
        Err(lost) => terminal::labelled(Style::Error, "lost", &format!("{lost:#}")),
    }
}

impl Args {
    /// Whether the flags mean something together: none is ignored without a word.
    fn fit_together(&self) -> anyhow::Result<()> {
        let unary = self.scenario == Scenario::Unary;
        let refused = if unary && self.chunk.is_some() {
            "--chunk is for the streams; a unary call carries one user"
        } else if unary && (self.link.is_some() || self.limits) {
            "--link and --limits are for the streams; a unary call is not held to a rate and has no peers"
        } else if self.retain > 0 && self.scenario != Scenario::Put {
            "--retain is for put, whose server may keep what it received"
        } else if self.limits && (self.streams, self.connections.unwrap_or(1)) != (1, 1) {
            "--limits is for one stream: the peers have no more"
        } else if self.limits && self.tls {
            "--limits is for connections as they are: the peers do not encrypt theirs"
        } else if !unary && self.metadata > 0 {
            "--metadata is for unary calls; a stream has its metadata once"
        } else if self.spans > 0 && self.scenario == Scenario::Put {
            "--spans is for unary calls, and for get, whose streams all get the same message"
        } else if self.spans > 0 && !unary && (self.chunk.is_some() || self.limits || self.link.is_some()) {
            "--chunk, --link and --limits are for payload; spans have none"
        } else if self.echo > 0 && self.scenario != Scenario::Put {
            "--echo is for put, whose messages can be sent back"
        } else if unary && self.round_trip.is_some() {
            "--round-trip is for the streams; a unary call takes one round trip whatever is done"
        } else if self.idle_streams.is_some() && self.scenario != Scenario::Put {
            "--idle-streams is for put, whose server receives and whose client sends"
        } else if self.idle_streams.is_some() && self.instruments.iter().any(|shown| !OF_IDLE.contains(&shown.0)) {
            "what idle streams hold is counted (count, retained); there is nothing to time"
        } else {
            return Ok(());
        };
        Err(Failure::new(Kind::Usage, refused).help("leave the flag out").into())
    }

    /// Whether the server can hold what `--retain` has it keep, in every stream.
    fn fits_in_memory(&self) -> anyhow::Result<()> {
        let each = self.chunk.unwrap_or(Workload::default().chunk) as u64 + RETAINED_EACH;
        let streams = u64::from(self.streams);
        let most = RETAINED_BYTES_MAX / each / streams;
        if u64::from(self.retain) <= most {
            return Ok(());
        }
        let message = format!(
            "--retain {} has the server keep {} messages of {each} bytes, more than 1 GiB",
            self.retain,
            u64::from(self.retain) * streams
        );
        Err(Failure::new(Kind::Usage, message).help(format!("--retain {most} is the most for these streams")).into())
    }

    /// The steps that are asked for. What only helps with this traffic is among all of them.
    fn steps(&self) -> Vec<String> {
        let traffic = self.workload(Workload::default());
        let beside = apart(self.scenario).iter().filter(|(occasion, _)| match occasion {
            Occasion::Allocators => self.allocators,
            of_traffic => of_traffic.is_of(&traffic),
        });
        if !self.steps.is_empty() || beside.clone().next().is_none() {
            return self.steps.clone();
        }
        let climbed = ladder(self.scenario).iter();
        let steps = climbed.clone().take(1).chain(beside.map(|(_, step)| step)).chain(climbed.skip(1));
        steps.map(|step| step.name.to_owned()).collect()
    }

    /// The traffic: `stock` is the scenario's own.
    fn workload(&self, stock: Workload) -> Workload {
        // `chunk` read it: it fits.
        let large_first = self.large_first.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        let stock = match (self.idle_streams, self.spans) {
            (Some(streams), _) => idle(streams, large_first),
            (None, 0) => Workload { warmup: warmup(self.streams), ..stock },
            (None, spans) => Workload { messages: exports(spans), warmup: warmup(self.streams), ..stock },
        };
        Workload {
            chunk: match (self.chunk, self.scenario, self.spans) {
                (Some(chunk), _, _) => chunk,
                (None, Scenario::Get, spans) if spans > 0 => spans as usize * SPAN_BYTES,
                (None, _, _) => stock.chunk,
            },
            messages: self.messages.unwrap_or(stock.messages),
            streams: self.idle_streams.unwrap_or(self.streams),
            connections: self.connections.unwrap_or(stock.connections),
            retain: self.retain,
            compress: self.compress,
            metadata: self.metadata,
            spans: self.spans,
            echo: self.echo,
            tls: self.tls,
            round_trip_us: self.round_trip.map_or(0, |round_trip| round_trip.micros),
            rate_bits: self.link.map(|rate| rate.shared_by(self.streams).0),
            ..stock
        }
    }

    /// The flags as a plan.
    fn plan(&self, sets: Vec<(String, StepSet)>) -> anyhow::Result<Plan> {
        let plan = Plan::new(self.scenario, sets);
        let agent = match &self.server {
            Some(address) => Some(At { address: address.clone(), token: Token::find(self.token_file.as_deref())? }),
            None => None,
        };
        let instruments = match (self.instruments.is_empty(), self.idle_streams) {
            (true, Some(_)) if self.large_first.is_some() => OF_IDLE.to_vec(),
            (true, Some(_)) => vec![Instrument::Count],
            (true, None) => DEFAULT_INSTRUMENTS.to_vec(),
            (false, _) => self.instruments.iter().map(|shown| shown.0).collect(),
        };
        Ok(Plan {
            workload: self.workload(plan.workload),
            instruments,
            timed_messages: self.messages,
            until: self.runs.map_or(Until::Settled(Duration::from_secs(self.budget)), Until::Rounds),
            pin: !self.no_pin,
            runtime: self.runtime,
            allocator: self.allocator,
            profile: self.profile.clone(),
            link: self.link,
            peers: self.limits,
            seed: self.seed.unwrap_or(plan.seed),
            bind: self.bind,
            agent,
            patience: Duration::from_secs(self.timeout),
            ..plan
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &str) -> Args {
        Line::try_parse_from(format!("profile {flags}").split(' ')).expect("flags that fit together").args
    }

    #[test]
    fn what_only_some_traffic_is_for_follows_the_baseline() {
        assert!(args("put").steps().is_empty(), "the ladder alone");
        for (flags, apart) in [
            ("put --round-trip 10ms", &["adaptive-window"][..]),
            ("put --idle-streams 8 --large-first 1MiB", &["release-read-buffer"]),
            ("unary --allocators", &["mimalloc", "jemalloc"]),
        ] {
            let args = args(flags);
            let steps = args.steps();
            assert_eq!(steps[0], "baseline", "{flags}");
            assert_eq!(steps[1..=apart.len()], *apart, "{flags}");
            assert_eq!(steps.len(), ladder(args.scenario).len() + apart.len(), "{flags}");
        }
        assert_eq!(args("put --large-first 1MiB --idle-streams 8 --steps rope").steps(), ["rope"]);
    }

    #[test]
    fn a_large_first_message_is_idle_streams_alone() {
        let large = args("put --idle-streams 8 --large-first 1MiB").workload(Workload::default());
        assert_eq!((large.large_first, large.streams, large.warmup), (1 << 20, 8, 4));
        let usual = args("put --idle-streams 8").workload(Workload::default());
        assert_eq!((usual.large_first, usual.warmup), (0, 1));
        assert!(Line::try_parse_from("profile put --large-first 1MiB".split(' ')).is_err());
    }
}
