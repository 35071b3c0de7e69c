//! `cargo xtask profile <put|get|unary>`: measures every step of a ladder and renders the run.
//!
//! Counts first (exact, one short run each), then stacks (dhat, fewer messages), CPU samples (more messages) and
//! instructions (callgrind, few messages) where asked for, then the timed rounds, interleaved over the steps.
//! `run.json` is written after every finished part, so Ctrl-C or a failure loses nothing measured.

pub(crate) mod case;
mod cpu;
mod repeat;
mod retained;
mod stacks;
mod summary;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloc_ladder::ladder::{NoSuchStep, Runtime, Socket, StepSet, ladder, step};
use alloc_ladder::record::{Environment, Instrument, Measurement, Run, SCHEMA, StepRecord, Usage};
use alloc_ladder::scenario::{CHUNK_MAX, Scenario, Workload};
use alloc_ladder::{Side, scenario};
use anyhow::Context;

use self::case::Case;
use crate::agent::Remote;
use crate::build::{Allocator, Binaries, build};
use crate::failure::{Failure, Kind};
use crate::limits::{Rate, clock_seed, shuffle};
use crate::terminal::{self, Style};
use crate::{environment, instructions, pair, program, report, run_dir, view};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The RPC shape
    pub(crate) scenario: Scenario,
    /// Steps to climb to, as in `baseline,rope`; also `only=STEP` and `without=STEP` [default: all, in order]
    #[arg(long, value_delimiter = ',')]
    pub(crate) steps: Vec<String>,
    /// Messages (unary: calls) of a measured part [default: 2000 (unary: 5000)]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    pub(crate) messages: Option<u64>,
    /// Payload bytes of a message [default: 65536; unary has none]
    #[arg(long, value_parser = chunk)]
    pub(crate) chunk: Option<usize>,
    /// Timed rounds of every step
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = DEFAULT_INSTRUMENTS.map(Shown))]
    pub(crate) instruments: Vec<Shown>,
    /// Concurrent streams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) streams: u32,
    /// Connections the streams are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Messages the server of put keeps before it lets the oldest go
    #[arg(long, default_value_t = 0)]
    pub(crate) retain: u32,
    /// The server's runtime, whatever the steps say
    #[arg(long)]
    pub(crate) runtime: Option<Runtime>,
    /// The allocator below the instrument
    #[arg(long, default_value_t, value_enum)]
    pub(crate) allocator: Allocator,
    /// Cargo profile to build with; times mean something in `release` only
    #[arg(long, default_value = "release")]
    pub(crate) profile: String,
    /// Hold the streams together to a rate, as in 5gbit, and show how many cores that takes
    #[arg(long, value_name = "RATE")]
    pub(crate) link: Option<Rate>,
    /// Measure peers without gRPC in the same rounds
    #[arg(long)]
    pub(crate) limits: bool,
    /// Seed of the shuffled order [default: from the clock]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Address the server listens on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) bind: std::net::SocketAddr,
    /// Run the server on another host, where `cargo xtask agent` listens on this address
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["limits", "bind"])]
    pub(crate) server: Option<String>,
    /// Seconds a case may take before it counts as hung
    #[arg(long, default_value_t = 60)]
    pub(crate) timeout: u64,
    /// The run's folder [default: one in profiles/, named by scenario and time]
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Measure anew a run that the folder holds already
    #[arg(long, requires = "out")]
    pub(crate) replace: bool,
    /// Open the report in a browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Print the run's record as JSON instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a run measures unless told otherwise.
const DEFAULT_INSTRUMENTS: [Instrument; 3] = [Instrument::Count, Instrument::Time, Instrument::Stacks];
/// More would take hours, and the clients' latencies gigabytes.
const MESSAGES_MAX: u64 = 100_000_000;
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
/// Counts are taken this often, to prove that they repeat.
const COUNT_ROUNDS: u32 = 2;
const UNARY_CALLS: u64 = 5000;

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

/// Bytes of a chunk that tonic lets through.
fn chunk(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    match bytes {
        0 => Err("a chunk of 0 bytes carries no payload to measure".to_owned()),
        1..=CHUNK_MAX => Ok(bytes),
        _ => {
            let header = scenario::RECEIVE_LIMIT - CHUNK_MAX;
            Err(format!(
                "the message would exceed tonic's 4 MiB receive limit; at most {CHUNK_MAX} bytes fit ({header} go to \
                 the field header)"
            ))
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let began = Instant::now();
    pair::catch_interrupts()?;
    let sets = step_sets(args.scenario, &args.steps)?;
    args.fit_together()?;
    let (created, stamp) = environment::now();
    let id = format!("{}-{stamp}", args.scenario);
    let folder = args.out.clone().unwrap_or_else(|| run_dir::profiles().join(&id));
    if !args.replace && folder.join(run_dir::RUN_JSON).exists() {
        return Err(Failure::new(Kind::Usage, format!("{} holds a run already", folder.display()))
            .help("name another folder, or measure that run anew with --replace")
            .into());
    }
    let mut profile = Profile::prepare(&args, sets, folder, id, created)?;
    let measured = profile.build().and_then(|()| profile.measure());
    if let Err(error) = measured {
        return Err(profile.give_up(error));
    }
    profile.run.partial = false;
    profile.save()?;
    let page = report::write(&profile.folder, &profile.run)?;
    if args.json {
        terminal::result(&(serde_json::to_string_pretty(&profile.run)? + "\n"))?;
    } else {
        terminal::result(&summary::text(&profile.run, &page, args.link))?;
    }
    terminal::progress("Finished", &format!("in {:.1} s", began.elapsed().as_secs_f64()));
    if args.open && !view::open(&page) {
        terminal::labelled(Style::Help, "help", &format!("there is no browser here; open {}", page.display()));
    }
    Ok(())
}

/// Measures some steps with one instrument, as a run would by default: what `check` needs. `built` is the cargo profile.
/// Files are left in `folder`.
pub(crate) fn measure_alone(
    scenario: Scenario,
    steps: &[String],
    instrument: Instrument,
    built: &str,
    folder: &Path,
) -> anyhow::Result<Run> {
    pair::catch_interrupts()?;
    let flags = [scenario.name(), "--instruments", instrument.name(), "--profile", built];
    let args = <OneProfile as clap::Parser>::parse_from(flags).args;
    let sets = step_sets(scenario, steps)?;
    let (created, _) = environment::now();
    let id = format!("{scenario}-check");
    let mut profile = Profile::prepare(&args, sets, folder.to_path_buf(), id, created)?;
    profile.build()?;
    profile.measure()?;
    profile.run.partial = false;
    Ok(profile.run)
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
        } else if self.limits && (self.streams, self.connections) != (1, 1) {
            "--limits is for one stream: the peers have no more"
        } else {
            return Ok(());
        };
        Err(Failure::new(Kind::Usage, refused).help("leave the flag out").into())
    }
}

/// Gives [`Args`] their defaults.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct OneProfile {
    #[command(flatten)]
    args: Args,
}

/// The step sets to measure, with their names.
pub(crate) fn step_sets(scenario: Scenario, wanted: &[String]) -> anyhow::Result<Vec<(String, StepSet)>> {
    let up_to = |name: &str| match step(scenario, name)? {
        (0, _) => Ok((name.to_owned(), StepSet::Baseline)),
        _ => Ok::<_, NoSuchStep>((name.to_owned(), StepSet::UpTo(name.to_owned()))),
    };
    let sets = if wanted.is_empty() {
        ladder(scenario).iter().map(|step| up_to(step.name)).collect::<Result<Vec<_>, _>>()
    } else {
        let named = |text: &String| match text.parse::<StepSet>() {
            Ok(set) => set.tuning(scenario).map(|_| (text.clone(), set)),
            Err(_) => up_to(text),
        };
        wanted.iter().map(named).collect()
    };
    Ok(sets.map_err(|error| no_such_step(&error))?)
}

fn no_such_step(error: &NoSuchStep) -> Failure {
    let names: Vec<&str> = ladder(error.scenario).iter().map(|step| step.name).collect();
    let nearest = names
        .iter()
        .map(|name| (strsim::jaro_winkler(name, &error.name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.7);
    let suggestion = nearest.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`? "));
    Failure::new(Kind::Usage, error.to_string()).help(format!("{suggestion}steps: {}", names.join(", ")))
}

/// A run being measured.
struct Profile<'a> {
    args: &'a Args,
    folder: PathBuf,
    binaries: HashMap<Instrument, Binaries>,
    remote: Option<RefCell<Remote>>,
    run: Run,
}

impl<'a> Profile<'a> {
    /// Makes the folder.
    fn prepare(
        args: &'a Args,
        sets: Vec<(String, StepSet)>,
        folder: PathBuf,
        id: String,
        created: String,
    ) -> anyhow::Result<Profile<'a>> {
        let workload = Workload {
            chunk: args.chunk.unwrap_or(Workload::default().chunk),
            messages: args.messages.unwrap_or(match args.scenario {
                Scenario::Unary => UNARY_CALLS,
                Scenario::Put | Scenario::Get => Workload::default().messages,
            }),
            streams: args.streams,
            connections: args.connections,
            retain: args.retain,
            rate_bits: args.link.map(|rate| rate.shared_by(args.streams).0),
            ..Workload::default()
        };
        let stacks = Workload { messages: workload.messages.min(STACKS_MESSAGES), rate_bits: None, ..workload };
        let mut steps = Vec::new();
        for (name, set) in sets {
            let tuning = set.tuning(args.scenario)?;
            steps.push(StepRecord { name, set, tuning, measurements: vec![], stacks: vec![], cpu: vec![] });
        }
        let has = |instrument| args.instruments.contains(&Shown(instrument));
        let mut profile = Profile {
            args,
            folder,
            binaries: HashMap::new(),
            remote: None,
            run: Run {
                schema: SCHEMA,
                id,
                created,
                scenario: Some(args.scenario),
                workload,
                stacks_workload: has(Instrument::Stacks).then_some(stacks),
                environment: environment::environment(args.allocator, &args.profile),
                server_environment: None,
                partial: true,
                seed: args.seed.unwrap_or_else(clock_seed),
                steps,
                limits: vec![],
            },
        };
        if program::find("valgrind").is_none()
            && args.instruments.iter().all(|shown| shown.0 == Instrument::Instructions)
        {
            return Err(Failure::new(Kind::Environment, instructions::MISSING).into());
        }
        // Before anything is built: a folder that cannot be written and a port that is taken must not cost minutes.
        pair::port_is_free(args.bind)?;
        if let Some(address) = &args.server {
            profile.connect(address)?;
        }
        run_dir::create(&profile.folder)?;
        Ok(profile)
    }

    /// Builds what the instruments need.
    fn build(&mut self) -> anyhow::Result<()> {
        terminal::progress("Profiling", &self.describe());
        for Shown(instrument) in &self.args.instruments {
            if *instrument == Instrument::Instructions && program::find("valgrind").is_none() {
                terminal::labelled(Style::Warning, "skipped", instructions::MISSING);
                continue;
            }
            if let Some(remote) = &self.remote {
                remote.borrow_mut().build(*instrument, self.args.allocator, &self.args.profile)?;
            }
            self.binaries.insert(*instrument, build(*instrument, self.args.allocator, &self.args.profile)?);
        }
        if self.args.replace {
            run_dir::clear(&self.folder)?;
        }
        Ok(())
    }

    /// Hands the servers to the agent at `address`, and leaves out what two hosts cannot do.
    fn connect(&mut self, address: &str) -> anyhow::Result<()> {
        if self.args.instruments.contains(&Shown(Instrument::Instructions)) {
            return Err(Failure::new(Kind::Usage, "instructions are counted on one host only")
                .help("leave them out (--instruments count,time,stacks), or leave --server out")
                .into());
        }
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.run.steps).into_iter().partition(|step| step.tuning.socket == Socket::Unix);
        for step in &here {
            let line = format!("{}: a Unix socket joins processes of one host", step.name);
            terminal::labelled(Style::Dim, "skipped", &line);
        }
        if elsewhere.is_empty() {
            return Err(Failure::new(Kind::Usage, "none of these steps can be measured between two hosts").into());
        }
        self.run.steps = elsewhere;
        let remote = Remote::connect(address)?;
        let (own, other) = (&self.run.environment, remote.environment());
        if (&own.revision, own.dirty) != (&other.revision, other.dirty) || own.dirty {
            let revision = |environment: &Environment| match environment.dirty {
                true => format!("{} with uncommitted changes", environment.revision),
                false => environment.revision.clone(),
            };
            let line = format!(
                "the client is of revision {}, the server of {}: check that they are the same code",
                revision(own),
                revision(other),
            );
            terminal::labelled(Style::Warning, "warning", &line);
        }
        self.run.server_environment = Some(other.clone());
        self.remote = Some(RefCell::new(remote));
        Ok(())
    }

    fn describe(&self) -> String {
        let Workload { chunk, messages, streams, .. } = self.run.workload;
        let scenario = self.args.scenario;
        let noun = scenario.message_noun();
        let size = match scenario {
            Scenario::Unary => String::new(),
            Scenario::Put | Scenario::Get => format!(" × {chunk} B"),
        };
        let streams = if streams == 1 { String::new() } else { format!(" · {streams} streams") };
        let steps = self.run.steps.len();
        let instruments: Vec<&str> = self.args.instruments.iter().map(|shown| shown.0.name()).collect();
        format!("{scenario} · {messages} {noun}s{size}{streams} · {steps} steps · {}", instruments.join(", "))
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let wants = |instrument| self.binaries.contains_key(&instrument);
        let [count, stacks, retained, cpu, instructions, time] = [
            Instrument::Count,
            Instrument::Stacks,
            Instrument::Retained,
            Instrument::Cpu,
            Instrument::Instructions,
            Instrument::Time,
        ]
        .map(wants);
        for index in 0..self.run.steps.len() {
            if count {
                for round in 0..COUNT_ROUNDS {
                    self.measure_case(index, Instrument::Count, round)?;
                }
            }
            if retained {
                self.measure_case(index, Instrument::Retained, 0)?;
            }
            if stacks {
                self.measure_stacks(index)?;
            }
            if cpu {
                self.measure_cpu(index)?;
            }
            if instructions {
                self.count_instructions(index)?;
            }
            terminal::progress("Measured", &summary::step_line(&self.run, index));
            self.save()?;
        }
        if count {
            terminal::progress("Counted", &repeat::line(&self.run));
        }
        if time {
            self.measure_rounds()?;
        }
        Ok(())
    }

    /// The timed rounds: every step once a round, in an order shuffled anew.
    fn measure_rounds(&mut self) -> anyhow::Result<()> {
        let rounds = self.args.runs;
        let mut peers = match alloc_ladder::peer::Direction::of(self.args.scenario) {
            Some(direction) if self.args.limits => Some(crate::limits::Peers::prepare(
                direction,
                self.run.workload,
                self.args.link.map_or(crate::limits::Link::None, crate::limits::Link::Paced),
                self.args.allocator,
                &self.args.profile,
            )?),
            _ => None,
        };
        let steps = self.run.steps.len();
        let contenders = steps + peers.as_ref().map_or(0, crate::limits::Peers::len);
        let bar = terminal::bar("Timing", u64::from(rounds) * contenders as u64);
        let mut random = self.run.seed;
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..contenders).collect();
            shuffle(&mut order, &mut random);
            for index in order {
                if index < steps {
                    bar.set_message(self.run.steps[index].name.clone());
                    self.measure_case(index, Instrument::Time, round)?;
                } else if let Some(peers) = &mut peers {
                    peers.measure(index - steps)?;
                }
                bar.inc(1);
            }
            if let Some(peers) = &peers {
                self.run.limits = peers.limits();
            }
            self.save()?;
        }
        bar.finish_and_clear();
        terminal::progress("Timed", &format!("{steps} steps × {rounds} rounds, seed {}", self.run.seed));
        Ok(())
    }

    fn case(&self, index: usize, instrument: Instrument, round: u32) -> Case<'_> {
        let unary = self.args.scenario == Scenario::Unary;
        let workload = match instrument {
            Instrument::Stacks => self.run.stacks_workload.unwrap_or(self.run.workload),
            Instrument::Cpu => {
                let times = if unary { CPU_TIMES_UNARY } else { CPU_TIMES };
                Workload { messages: self.run.workload.messages.saturating_mul(times), ..self.run.workload }
            }
            Instrument::Instructions => {
                let messages = if unary { INSTRUCTION_CALLS } else { INSTRUCTION_MESSAGES };
                Workload { messages, ..self.run.workload }
            }
            _ => self.run.workload,
        };
        // Only times are taken at a rate; nothing else depends on one.
        let rate = self.args.link.filter(|_| instrument == Instrument::Time);
        let workload = Workload { rate_bits: workload.rate_bits.filter(|_| rate.is_some()), ..workload };
        // What the rate alone takes, and as much again.
        let held = rate.map_or(Duration::ZERO, |rate| 2 * rate.takes(workload.payload_bytes()));
        Case {
            binaries: &self.binaries[&instrument],
            scenario: self.args.scenario,
            set: &self.run.steps[index].set,
            workload,
            instrument,
            round,
            runtime: self.args.runtime,
            bind: self.args.bind,
            remote: self.remote.as_ref(),
            timeout: Duration::from_secs(self.args.timeout) + held,
        }
    }

    fn measure_case(&mut self, index: usize, instrument: Instrument, round: u32) -> anyhow::Result<()> {
        let pair = self.case(index, instrument, round).run(None)?;
        self.run.steps[index].measurements.extend([pair.server, pair.client]);
        Ok(())
    }

    fn measure_stacks(&mut self, index: usize) -> anyhow::Result<()> {
        let full = self.side_folders(index)?;
        let pair = self.case(index, Instrument::Stacks, 0).run(Some(&full))?;
        for measurement in [&pair.server, &pair.client] {
            let stacks = stacks::render(&self.folder, &self.run, index, measurement)?;
            self.run.steps[index].stacks.push(stacks);
        }
        Ok(())
    }

    fn measure_cpu(&mut self, index: usize) -> anyhow::Result<()> {
        let full = self.side_folders(index)?;
        let pair = self.case(index, Instrument::Cpu, 0).run(Some(&full))?;
        for measurement in [pair.server, pair.client] {
            let profile = cpu::render(&self.folder, &self.run, index, &measurement)?;
            self.run.steps[index].cpu.push(profile);
            self.run.steps[index].measurements.push(measurement);
        }
        Ok(())
    }

    fn count_instructions(&mut self, index: usize) -> anyhow::Result<()> {
        let case = self.case(index, Instrument::Instructions, 0);
        let messages = case.workload.messages;
        let counted = case.instructions()?;
        for side in Side::ALL {
            let per_message = match side {
                Side::Server => counted.server,
                Side::Client => counted.client,
            };
            // Time and payload of a run under callgrind say nothing.
            self.run.steps[index].measurements.push(Measurement {
                side,
                instrument: Instrument::Instructions,
                round: 0,
                messages,
                payload_bytes: 0,
                wall_ns: 0,
                usage: Usage::default(),
                counts: None,
                setup: None,
                retained: vec![],
                latency: None,
                instructions: Some((per_message * messages as f64).round() as u64),
            });
        }
        Ok(())
    }

    /// Makes the folders of a step's sides, and says where each is.
    fn side_folders(&self, index: usize) -> anyhow::Result<impl Fn(Side) -> PathBuf + use<>> {
        let folder = self.folder.join(stacks::folder(&self.run, index));
        let full = move |side: Side| folder.join(side.name());
        for side in Side::ALL {
            let path = full(side);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
        Ok(full)
    }

    /// Writes `run.json`, whole or not at all.
    fn save(&self) -> anyhow::Result<()> {
        let path = self.folder.join(run_dir::RUN_JSON);
        let new = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(&self.run)?;
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Keeps what was finished and says where it lies.
    fn give_up(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.run.steps.retain(|step| !(step.measurements.is_empty() && step.stacks.is_empty() && step.cpu.is_empty()));
        if self.run.steps.is_empty() {
            // Nothing was measured and nothing was written: leave no empty folder behind.
            let _ = std::fs::remove_dir(&self.folder);
            return error;
        }
        let kept = self.save().and_then(|()| report::write(&self.folder, &self.run));
        match kept {
            Ok(page) => {
                let steps = self.run.steps.len();
                let line = format!("{steps} steps, marked partial: {}", display(&page));
                terminal::labelled(Style::Warning, "kept", &line);
            }
            Err(lost) => terminal::labelled(Style::Error, "lost", &format!("{lost:#}")),
        }
        error
    }
}

/// A path as a reader would type it from here.
fn display(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
