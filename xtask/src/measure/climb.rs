//! Measuring a ladder: counts first (exact, one short run each), then stacks (dhat, fewer messages), CPU samples (more
//! messages) and instructions (callgrind, few messages) where asked for, then the timed rounds, interleaved over the
//! steps. `run.json` is written after every finished part, so Ctrl-C or a failure loses nothing measured.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::{Environment, Instrument, Measurement, Run, SCHEMA, StepRecord, Usage};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::ladder::{Socket, StepSet};
use alloc_ladder::subject::peer::Direction;
use alloc_ladder::subject::scenario::Scenario;
use anyhow::Context;
use tempfile::TempDir;

use crate::analyse::peers::BothSides;
use crate::analyse::profiles::Profiles;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::build::{Binary, Variant, build_variant};
use crate::measure::case::{self, Host, Local};
use crate::measure::interrupt::Cancel;
use crate::measure::peers::{Link, Peers};
use crate::measure::plan::{COUNT_ROUNDS, Plan};
use crate::measure::remote::{At, Remote};
use crate::measure::rounds::shuffle;
use crate::measure::step_sets::step_sets;
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
    binaries: HashMap<Instrument, Binary>,
    remote: Option<Remote>,
    run: Run,
    /// The step set of each step of the run.
    sets: Vec<StepSet>,
    /// What the profilers wrote, as it was read when it was kept.
    profiles: Profiles,
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
        for (name, set) in &plan.sets {
            let (name, settings) = (name.clone(), set.tuning(plan.scenario)?.settings());
            steps.push(StepRecord {
                name,
                set: set.to_string(),
                settings,
                about: None,
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
            binaries: HashMap::new(),
            remote: None,
            sets: plan.sets.iter().map(|(_, set)| set.clone()).collect(),
            profiles: Profiles::default(),
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
    /// What [`build_variant`] gives.
    pub(crate) fn build(&mut self) -> anyhow::Result<()> {
        terminal::progress("Profiling", &self.plan.words());
        let mut built: HashMap<Variant, Binary> = HashMap::new();
        for instrument in &self.plan.instruments {
            if *instrument == Instrument::Instructions && program::find("valgrind").is_none() {
                terminal::labelled(Style::Warning, "skipped", instructions::MISSING);
                continue;
            }
            let variant = Variant::of(*instrument, self.plan.allocator)?;
            let binary = match built.get(&variant) {
                Some(binary) => binary.clone(),
                None => {
                    if let Some(remote) = &self.remote {
                        remote.build(*instrument, self.plan.allocator, &self.plan.profile)?;
                    }
                    build_variant(&variant, &self.plan.profile, &Cancel::default())?
                }
            };
            built.insert(variant, binary.clone());
            self.binaries.insert(*instrument, binary);
        }
        Ok(())
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
            if set.tuning(self.plan.scenario)?.socket != Socket::Unix {
                elsewhere.push((step, set));
                continue;
            }
            let line = format!("{}: a Unix socket joins processes of one host", step.name);
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

    /// The timed rounds: every step once a round, in an order that is shuffled again each round.
    fn measure_rounds(&mut self) -> anyhow::Result<()> {
        let rounds = self.plan.rounds;
        let mut peers = match Direction::of(self.plan.scenario) {
            Some(direction) if self.plan.peers => Some(Peers::prepare(
                direction,
                self.run.workload,
                self.plan.link.map_or(Link::None, Link::Paced),
                self.plan.allocator,
                &self.plan.profile,
            )?),
            _ => None,
        };
        let steps = self.run.steps.len();
        let contenders = steps + peers.as_ref().map_or(0, Peers::len);
        let bar = terminal::bar("Timing", u64::from(rounds) * contenders as u64);
        let mut random = self.run.seed;
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..contenders).collect();
            shuffle(&mut order, &mut random);
            for index in order {
                if index < steps {
                    bar.about(&self.run.steps[index].name);
                    self.measure_case(index, Instrument::Time, round)?;
                } else if let Some(peers) = &mut peers {
                    peers.measure(index - steps)?;
                }
                bar.step();
            }
            if let Some(peers) = &peers {
                self.run.limits = peers.limits();
            }
            self.save()?;
        }
        bar.finish();
        terminal::progress("Timed", &format!("{steps} steps × {rounds} rounds, seed {}", self.run.seed));
        Ok(())
    }

    fn case(&self, index: usize, instrument: Instrument, round: u32) -> Case {
        Case {
            set: self.sets[index].clone(),
            workload: self.plan.workload(instrument),
            instrument,
            round,
            runtime: self.plan.runtime,
            address: self.plan.bind.to_string(),
            ..Case::new(self.plan.scenario)
        }
    }

    /// Runs one case, its server where servers run.
    fn run_case(&self, case: &Case, folder: Option<&dyn Fn(Side) -> PathBuf>) -> anyhow::Result<BothSides> {
        let binary = &self.binaries[&case.instrument];
        let local = Local(binary);
        let host: &dyn Host = self.remote.as_ref().map_or(&local, |remote| remote);
        case::run(host, binary, case, folder, self.plan.timeout(case.instrument))
    }

    fn measure_case(&mut self, index: usize, instrument: Instrument, round: u32) -> anyhow::Result<()> {
        let pair = self.run_case(&self.case(index, instrument, round), None)?;
        self.run.steps[index].measurements.extend([pair.server, pair.client]);
        Ok(())
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
        let counted = case::instructions(&self.binaries[&Instrument::Instructions], &case)?;
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
                calls: Vec::new(),
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
