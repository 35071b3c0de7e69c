//! Measuring a ladder: counts first (exact, one short run each), then stacks (dhat, fewer messages), CPU samples (more
//! messages) and instructions (callgrind, few messages) where asked for, then the timed rounds, interleaved over the
//! steps. `run.json` is written after every finished part, so Ctrl-C or a failure loses nothing measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Environment, Instrument, Measurement, Run, SCHEMA, StepRecord, Timing};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::ladder::{Allocator, Socket, StepSet};
use alloc_ladder::subject::peer::Direction;
use alloc_ladder::subject::scenario::{CONGESTION, Scenario, Workload};
use anyhow::Context;
use tempfile::TempDir;

use crate::analyse::marks;
use crate::analyse::peers::BothSides;
use crate::analyse::profiles::Profiles;
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::terminal::{self, Bar, Style};
use crate::measure::binaries::Binaries;
use crate::measure::case::{self, Caller, Host, Local};
use crate::measure::cores::Cores;
use crate::measure::delay::Far;
use crate::measure::machine::{self, Watch};
use crate::measure::peers::{Link, Peers};
use crate::measure::plan::{COUNT_ROUNDS, Plan, Turns};
use crate::measure::remote::{At, Remote};
use crate::measure::rounds::{Round, Rounds, Until};
use crate::measure::step_sets::{self, step_sets};
use crate::measure::{cpu, environment, instructions, interrupt, pair, program, stacks};
use crate::store::write::RunFolder;

/// What is said of a run while it is measured.
pub(crate) struct Lines {
    /// After each step, counted from 0.
    pub(crate) step: fn(&Run, &Profiles, usize) -> String,
    /// After the last count.
    pub(crate) counted: fn(&Run) -> String,
}

/// A run being measured.
pub(crate) struct Climb<'a> {
    plan: &'a Plan,
    lines: &'a Lines,
    folder: RunFolder,
    binaries: Binaries,
    remote: Option<Remote>,
    run: Run,
    /// The step set of each step of the run.
    sets: Vec<StepSet>,
    /// What the profilers wrote, as it was read when it was kept.
    profiles: Profiles,
    /// The cores of timed cases.
    cores: Cores,
    /// What each step's part of a timed round is, once that is known.
    turns: Vec<Turns>,
}

impl<'a> Climb<'a> {
    /// Sees to it that the plan can be measured before anything is built.
    ///
    /// # Errors
    /// [`Kind::Environment`] for a port that is taken, a missing tool or agent.
    pub(crate) fn prepare(
        plan: &'a Plan,
        lines: &'a Lines,
        folder: RunFolder,
        id: String,
        created: String,
    ) -> anyhow::Result<Climb<'a>> {
        let mut steps = Vec::new();
        for ((name, set), from) in plan.sets.iter().zip(step_sets::changed(plan.scenario, &plan.sets)) {
            let (name, settings) = (name.clone(), set.tuning(plan.scenario)?.settings());
            steps.push(StepRecord {
                name,
                set: set.to_string(),
                settings,
                about: None,
                from,
                failure: None,
                measurements: vec![],
                stacks: vec![],
                cpu: vec![],
            });
        }
        let mut climb = Climb {
            plan,
            lines,
            folder,
            binaries: Binaries::none(plan),
            remote: None,
            sets: plan.sets.iter().map(|(_, set)| set.clone()).collect(),
            profiles: Profiles::default(),
            // On two hosts nothing keeps the two apart from each other.
            turns: Vec::new(),
            cores: if plan.pin && plan.agent.is_none() { Cores::apart() } else { Cores::default() },
            run: Run {
                schema: SCHEMA,
                id,
                created,
                subject: plan.scenario.subject(),
                workload: plan.workload,
                stacks_workload: plan.has(Instrument::Stacks).then(|| plan.workload(Instrument::Stacks)),
                environment: environment::environment(plan.allocator, &plan.profile),
                server_environment: None,
                partial: true,
                seed: plan.seed,
                steps,
                limits: vec![],
            },
        };
        if program::find("valgrind").is_none()
            && plan.instruments.iter().all(|instrument| *instrument == Instrument::Instructions)
        {
            return Err(Failure::new(Kind::Environment, instructions::MISSING).into());
        }
        // Before anything is built: a port that is taken must not cost minutes.
        pair::port_is_free(plan.bind)?;
        if let Some(at) = &plan.agent {
            climb.connect(at)?;
        }
        Ok(climb)
    }

    /// The run as far as it was measured.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// The run's folder, which this process writes.
    pub(crate) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The run, its folder, and what the profilers wrote.
    pub(crate) fn into_parts(self) -> (Run, RunFolder, Profiles) {
        (self.run, self.folder, self.profiles)
    }

    /// Builds what the instruments need.
    ///
    /// # Errors
    /// What [`Binaries::build`] gives.
    pub(crate) fn build(&mut self) -> anyhow::Result<()> {
        terminal::progress("Profiling", &self.plan.words());
        self.binaries.build(self.plan, &self.sets, self.remote.as_ref())
    }

    /// Measures everything that was built for, and marks the run whole.
    ///
    /// # Errors
    /// Whatever the first case that fails gives.
    pub(crate) fn measure_all(&mut self) -> anyhow::Result<()> {
        self.measure()?;
        self.run.partial = false;
        self.save()
    }

    /// Leaves only the steps that something was measured of; false where there are none.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub(crate) fn keep_finished(&mut self) -> anyhow::Result<bool> {
        self.run.steps.retain(|step| !(step.measurements.is_empty() && step.stacks.is_empty() && step.cpu.is_empty()));
        if self.run.steps.is_empty() {
            return Ok(false);
        }
        self.save()?;
        Ok(true)
    }

    /// Hands the servers to an agent, and leaves out what two hosts cannot do.
    fn connect(&mut self, at: &At) -> anyhow::Result<()> {
        if self.plan.has(Instrument::Instructions) {
            return Err(Failure::new(Kind::Usage, "instructions are counted on one host only")
                .help("leave them out (--instruments count,time,stacks), or leave --server out")
                .into());
        }
        let mut elsewhere = Vec::new();
        for (step, set) in std::mem::take(&mut self.run.steps).into_iter().zip(std::mem::take(&mut self.sets)) {
            let tuning = set.tuning(self.plan.scenario)?;
            let why = match (tuning.socket, tuning.allocator) {
                (Socket::Unix, _) => "a Unix socket joins processes of one host",
                (_, Allocator::Mimalloc | Allocator::Jemalloc) => "an agent builds a run's own allocator alone",
                (Socket::Tcp, Allocator::System) => {
                    elsewhere.push((step, set));
                    continue;
                }
            };
            let line = format!("{}: {why}", step.name);
            terminal::labelled(Style::Dim, "skipped", &line);
        }
        if elsewhere.is_empty() {
            return Err(Failure::new(Kind::Usage, "none of these steps can be measured between two hosts").into());
        }
        (self.run.steps, self.sets) = elsewhere.into_iter().unzip();
        let remote = Remote::connect(at)?;
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
        self.remote = Some(remote);
        Ok(())
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let wants = |instrument| self.binaries.has(instrument);
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
            if stacks && self.binaries.of(&self.sets[index], Instrument::Stacks)?.is_some() {
                self.measure_stacks(index)?;
            }
            if cpu {
                self.measure_cpu(index)?;
            }
            if instructions {
                self.count_instructions(index)?;
            }
            terminal::progress("Measured", &(self.lines.step)(&self.run, &self.profiles, index));
            self.save()?;
        }
        if count {
            terminal::progress("Counted", &(self.lines.counted)(&self.run));
        }
        if time {
            self.measure_rounds()?;
        }
        Ok(())
    }

    /// The timed rounds, interleaved over the steps and the peers. What the first of all gives is thrown away but for
    /// how long it took: it says how many messages a round carries.
    fn measure_rounds(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let steps = self.run.steps.len();
        let watch = self.begin_timing()?;
        let longest = self.longest_turns();
        let mut peers = self.peers(longest)?;
        let along = peers.as_ref().map_or(0, Peers::len);
        let judged = marks::judged_together(self.run.subject.shape) * steps.saturating_sub(1);
        let mut rounds = Rounds::new(steps, along, judged, self.plan.until, self.run.seed);
        let bar = match self.plan.until {
            Until::Rounds(rounds) => terminal::bar("Timing", u64::from(rounds) * (steps + along) as u64),
            Until::Settled(budget) => terminal::bar("Timing", budget.as_secs()),
        };
        while let Some(round) = rounds.next(began.elapsed()) {
            let measured = self.run_round(&round, peers.as_mut(), &bar, |last| match self.plan.until {
                Until::Rounds(_) if last => bar.step(),
                Until::Rounds(_) => {}
                Until::Settled(_) => bar.at(began.elapsed().as_secs()),
            })?;
            for (index, BothSides { server, client }) in measured {
                let cpu = [&server, &client].map(|of| of.usage.cpu_ns() as f64);
                let each = |cpu: f64| cpu / server.messages as f64;
                rounds.measured(index, round.number, [cpu[0], cpu[1], cpu[0] + cpu[1]].map(each).to_vec());
                self.run.steps[index].measurements.extend([server, client]);
            }
            if let Some(peers) = &peers {
                self.run.limits = peers.limits();
            }
            if let Some(timing) = &mut self.run.environment.timing {
                watch.note(timing);
            }
            self.save()?;
        }
        bar.finish();
        let timed = format!(
            "{steps} steps × {} rounds of {}{} {}s in {:.0} s, seed {}",
            rounds.begun(),
            if longest.processes > 1 { "at most " } else { "" },
            numbers::count(longest.total()),
            self.plan.scenario.message_noun(),
            began.elapsed().as_secs_f64(),
            self.run.seed
        );
        terminal::progress("Timed", &timed);
        if let Some(warning) = self.run.environment.timing.as_ref().and_then(machine::warning) {
            terminal::labelled(Style::Warning, "warning", &warning);
        }
        Ok(())
    }

    /// One round: a process of each step, then the next of those that have more. `ended` is told after each whether it was
    /// its step's last.
    fn run_round(
        &self,
        round: &Round,
        mut peers: Option<&mut Peers>,
        bar: &Bar,
        ended: impl Fn(bool),
    ) -> anyhow::Result<BTreeMap<usize, BothSides>> {
        let longest = self.longest_turns();
        let mut measured: BTreeMap<usize, BothSides> = BTreeMap::new();
        for turn in 1..=longest.processes {
            for &index in &round.order {
                let last = self.turns.get(index).unwrap_or(&longest).processes;
                if turn > last {
                    continue;
                }
                if let Some(step) = self.run.steps.get(index) {
                    bar.about(&step.name);
                    let pair = self.run_case(&self.case(index, Instrument::Time, round.number), None)?;
                    let all = match measured.remove(&index) {
                        Some(so_far) => so_far.and(&pair),
                        None => pair,
                    };
                    measured.insert(index, all);
                } else if let Some(peers) = peers.as_mut().filter(|_| turn == last) {
                    peers.measure(index - self.run.steps.len())?;
                }
                ended(turn == last);
            }
        }
        Ok(measured)
    }

    /// Notes how times are taken, and runs every step once to see how long it takes and so what its rounds are. Returns what
    /// watches the machine from here on.
    fn begin_timing(&mut self) -> anyhow::Result<Watch> {
        let Cores { server, client, server_of_many } = self.cores.clone();
        let mut timing = Timing {
            messages: self.plan.timed_messages.unwrap_or(self.run.workload.messages),
            discarded: 1,
            budget_seconds: match self.plan.until {
                Until::Rounds(_) => None,
                Until::Settled(budget) => Some(budget.as_secs()),
            },
            server_cores: server,
            server_cores_of_many: server_of_many,
            client_cores: client,
            ..Timing::default()
        };
        let watch = Watch::begin(&mut timing);
        timing.congestion = machine::congestion(Some(CONGESTION));
        self.run.environment.timing = Some(timing);
        let bar = terminal::bar("Warming up", self.run.steps.len() as u64);
        for index in 0..self.run.steps.len() {
            bar.about(&self.run.steps[index].name);
            let pair = self.run_case(&self.case(index, Instrument::Time, 0), None)?;
            self.turns.push(match self.plan.timed_messages {
                Some(messages) => Turns { processes: 1, messages },
                None => Turns::of(pair.server.messages, pair.server.wall_ns.max(pair.client.wall_ns)),
            });
            bar.step();
        }
        bar.finish();
        let longest = self.longest_turns();
        let timing = self.run.environment.timing.as_mut().expect("it was put there just now");
        timing.messages = longest.total();
        timing.processes = if longest.processes == 1 { 0 } else { longest.processes };
        Ok(watch)
    }

    /// Those of the step that carries most, which is the fastest.
    fn longest_turns(&self) -> Turns {
        let longest = self.turns.iter().copied().max_by_key(|turns| (turns.processes, turns.messages));
        longest.unwrap_or(Turns { processes: 1, messages: self.run.workload.messages })
    }

    /// The peers that run in the same rounds, with as many messages, where they were asked for.
    fn peers(&self, Turns { processes, messages }: Turns) -> anyhow::Result<Option<Peers>> {
        let Some(direction) = Direction::of(self.plan.scenario).filter(|_| self.plan.peers) else { return Ok(None) };
        let workload = Workload { messages, ..self.run.workload };
        let link = self.plan.link.map_or(Link::None, Link::Paced);
        let mut peers = Peers::prepare(direction, workload, link, self.plan.allocator, &self.plan.profile)?;
        peers.cores = self.cores.clone();
        peers.processes = processes;
        Ok(Some(peers))
    }

    fn case(&self, index: usize, instrument: Instrument, round: u32) -> Case {
        let mut workload = self.plan.workload(instrument);
        if instrument == Instrument::Time {
            let chosen = self.turns.get(index).map(|turns| turns.messages);
            workload.messages = chosen.or(self.plan.timed_messages).unwrap_or(workload.messages);
        }
        Case {
            set: self.sets[index].clone(),
            workload,
            instrument,
            round,
            runtime: self.plan.runtime,
            address: self.plan.bind.to_string(),
            ..Case::new(self.plan.scenario)
        }
    }

    /// Runs one case, its server where servers run.
    fn run_case(&self, case: &Case, folder: Option<&dyn Fn(Side) -> PathBuf>) -> anyhow::Result<BothSides> {
        let binary = self.binaries.of(&case.set, case.instrument)?.expect("built for every step and instrument");
        let (server, client) = self.cores_of(case)?;
        let local = Local(binary, server);
        let near: &dyn Host = self.remote.as_ref().map_or(&local, |remote| remote);
        let round_trip = Duration::from_micros(case.workload.round_trip_us.into());
        let far = Far { host: near, round_trip };
        let host = if round_trip.is_zero() { near } else { &far };
        case::run(host, Caller(binary, client), case, folder, self.plan.timeout(case.instrument))
    }

    /// The cores of a case's server and client: only what is timed is held to any.
    fn cores_of(&self, case: &Case) -> anyhow::Result<(&[usize], &[usize])> {
        Ok(match case.instrument {
            Instrument::Time => self.cores.of(case.tuning()?.runtime, case.workload.connections),
            _ => (&[], &[]),
        })
    }

    fn measure_case(&mut self, index: usize, instrument: Instrument, round: u32) -> anyhow::Result<BothSides> {
        let pair = self.run_case(&self.case(index, instrument, round), None)?;
        self.run.steps[index].measurements.extend([pair.server.clone(), pair.client.clone()]);
        Ok(pair)
    }

    fn measure_stacks(&mut self, index: usize) -> anyhow::Result<()> {
        let scratch = Scratch::new()?;
        let pair = self.run_case(&self.case(index, Instrument::Stacks, 0), Some(&|side| scratch.side(side)))?;
        for measurement in [&pair.server, &pair.client] {
            let from = scratch.side(measurement.side);
            let stacks = stacks::keep(&self.folder, &from, &self.run, index, measurement, &mut self.profiles)?;
            self.run.steps[index].stacks.push(stacks);
        }
        Ok(())
    }

    fn measure_cpu(&mut self, index: usize) -> anyhow::Result<()> {
        let scratch = Scratch::new()?;
        let pair = self.run_case(&self.case(index, Instrument::Cpu, 0), Some(&|side| scratch.side(side)))?;
        for measurement in [pair.server, pair.client] {
            let from = scratch.side(measurement.side);
            let profile = cpu::keep(&self.folder, &from, &self.run, index, &measurement, &mut self.profiles)?;
            self.run.steps[index].cpu.push(profile);
            self.run.steps[index].measurements.push(measurement);
        }
        Ok(())
    }

    fn count_instructions(&mut self, index: usize) -> anyhow::Result<()> {
        let case = self.case(index, Instrument::Instructions, 0);
        let messages = case.workload.messages;
        let binary = self.binaries.of(&case.set, Instrument::Instructions)?.expect("built for every step");
        let counted = case::instructions(binary, &case)?;
        for side in Side::ALL {
            let per_message = match side {
                Side::Server => counted.server,
                Side::Client => counted.client,
            };
            // Time and payload of a run under callgrind say nothing.
            self.run.steps[index].measurements.push(Measurement {
                messages,
                instructions: Some((per_message * messages as f64).round() as u64),
                ..Measurement::new(side, Instrument::Instructions)
            });
        }
        Ok(())
    }

    /// Writes `run.json`, whole or not at all.
    fn save(&self) -> anyhow::Result<()> {
        self.folder.save(&self.run)
    }
}

/// Where the sides of a case write. What they write there is then read, and taken into the run's folder: a measured
/// process opens no file in it.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        for side in Side::ALL {
            std::fs::create_dir(folder.path().join(side.name())).context("no temporary folder")?;
        }
        Ok(Scratch(folder))
    }

    fn side(&self, side: Side) -> PathBuf {
        self.0.path().join(side.name())
    }
}

/// Measures some steps with one instrument, as a run would by default: what a check needs. `built` is cargo's profile.
/// Files are left in `folder`.
///
/// # Errors
/// As [`Climb::measure_all`].
pub(crate) fn alone(
    scenario: Scenario,
    steps: &[String],
    instrument: Instrument,
    built: &str,
    folder: &Path,
    lines: &Lines,
) -> anyhow::Result<Run> {
    interrupt::catch_interrupts()?;
    let plan = Plan {
        instruments: vec![instrument],
        profile: built.to_owned(),
        ..Plan::new(scenario, step_sets(scenario, steps)?)
    };
    let (created, _) = environment::now();
    let folder = RunFolder::create(folder)?;
    let mut climb = Climb::prepare(&plan, lines, folder, format!("{scenario}-check"), created)?;
    climb.build()?;
    climb.measure_all()?;
    Ok(climb.run)
}
