//! Measuring a subject: every step is built, then looked at once under every instrument, and then measured in rounds
//! that are interleaved over the steps. `run.json` is written after every finished part, so that Ctrl-C or a failure
//! loses nothing that was measured.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Measurement, Run, SCHEMA, Shape, StepRecord, Timing, Workload};
use alloc_ladder::recorder::Variable;

use crate::analyse::marks;
use crate::analyse::profiles::Profiles;
use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers::several;
use crate::cli::terminal::{self, Style};
use crate::measure::build::Allocator;
use crate::measure::cores::Cores;
use crate::measure::import::{self, About};
use crate::measure::machine::{self, Watch};
use crate::measure::rounds::{self, Rounds, Until, clock_seed};
use crate::measure::subject::build::{Builder, is_full, shortened};
use crate::measure::subject::file::{Patch, Step, Subject, Window, WorkloadTable};
use crate::measure::subject::serving::{End, Round, Seen};
use crate::measure::{environment, record};
use crate::store::layout::{self, BUILD_LOG, OUTPUT_LOG, step_folder};
use crate::store::write::RunFolder;

/// A run of a subject being measured.
pub(crate) struct Climb<'a> {
    subject: &'a Subject,
    folder: RunFolder,
    run: Run,
    /// The server of each step; `None` where it was not built, or failed.
    servers: Vec<Option<PathBuf>>,
    loads: Vec<PathBuf>,
    /// The cores of timed rounds. How many threads a server has is not known, so that it keeps all but the loads'.
    cores: Cores,
    /// Whether all others are measured only to be compared with the first.
    needs_first: bool,
    /// Whether the server measures windows itself.
    has_windows: bool,
    /// The call stacks, as they were read when they were kept.
    profiles: Profiles,
}

/// The subject as its run names it.
fn of_run(subject: &Subject) -> alloc_ladder::record::Subject {
    alloc_ladder::record::Subject { name: subject.name.clone(), shape: Shape::Program }
}

impl<'a> Climb<'a> {
    /// A run of which nothing was measured yet.
    pub(crate) fn new(subject: &'a Subject, folder: RunFolder, created: String) -> Climb<'a> {
        let (warmup, messages) = subject.window.messages();
        let run = Run {
            schema: SCHEMA,
            id: folder.name(),
            created,
            subject: of_run(subject),
            workload: Workload { messages, warmup, ..traffic(&subject.workload) },
            stacks_workload: None,
            environment: environment::environment(Allocator::System, &subject.server.profile),
            server_environment: None,
            partial: true,
            seed: clock_seed(),
            steps: subject.steps.iter().map(|step| recorded(step, subject)).collect(),
            limits: Vec::new(),
        };
        let servers = vec![None; subject.steps.len()];
        let pins = subject.window.pin && !subject.load.is_empty();
        let cores = if pins { Cores::apart() } else { Cores::default() };
        let profiles = Profiles::default();
        Climb {
            subject,
            folder,
            run,
            servers,
            loads: Vec::new(),
            cores,
            needs_first: false,
            has_windows: false,
            profiles,
        }
    }

    /// The same, which ends where the first step cannot be measured.
    pub(crate) fn against_first(self) -> Climb<'a> {
        Climb { needs_first: true, ..self }
    }

    /// The run as far as it was measured, its folder and its call stacks.
    pub(crate) fn into_parts(self) -> (Run, RunFolder, Profiles) {
        (self.run, self.folder, self.profiles)
    }

    /// Builds every step and every load. A step that does not build is left out of the rest.
    ///
    /// # Errors
    /// [`Kind::Run`] when a load or no step at all builds, [`Kind::Interrupted`].
    pub(crate) fn build(&mut self, builds: &Path) -> anyhow::Result<()> {
        let mut builder = Builder::new(self.subject, builds)?;
        if self.subject.steps.iter().any(|step| step.revision.is_some()) && self.run.environment.dirty {
            let line = "the tree has uncommitted changes: steps with a `revision` are built as they were committed, all \
                        others as the tree is";
            terminal::labelled(Style::Warning, "note", line);
        }
        let mut told: Vec<(String, &str)> = Vec::new();
        for (index, step) in self.subject.steps.iter().enumerate() {
            match builder.server(step)? {
                Ok(server) => self.servers[index] = Some(server),
                Err(said) => {
                    self.not_built(index, &said, &mut told)?;
                    if index == 0 && self.needs_first {
                        return Err(without_first("does not build as it is"));
                    }
                }
            }
        }
        if self.servers.iter().all(Option::is_none) {
            return Err(Failure::new(Kind::Run, "no step builds").help("cargo's own words stand above").into());
        }
        self.loads = self.subject.load.iter().map(|load| builder.load(load)).collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    /// Keeps and says why a step was not built; `told` is what was said of others.
    fn not_built(&mut self, index: usize, said: &str, told: &mut Vec<(String, &'a str)>) -> anyhow::Result<()> {
        let step = &self.subject.steps[index];
        let log = format!("{}/{BUILD_LOG}", step_folder(index, &step.name));
        if is_full(said) {
            let message = format!("no room on the disk to build step {}:\n{}", step.name, shortened(said));
            return Err(Failure::new(Kind::Environment, message).help("free some, or set CARGO_TARGET_DIR").into());
        }
        self.folder.write(&log, said.as_bytes())?;
        // Steps that differ in how they are started fail to build alike, and cargo names the folder of each.
        let alike = said.replace(&format!("linked/{}", step.name), "linked");
        let line = match told.iter().find(|(other, _)| *other == alike) {
            Some((_, other)) => format!("step {}: it does not build either, as {other} does not", step.name),
            None => {
                let place = self.subject.place_of(step).map_or_else(String::new, |place| format!("{place}: "));
                let whole = terminal::path(&self.folder.path().join(&log));
                let words = format!("it does not build; what cargo said is in {whole}");
                format!("{place}step {}: {words}\n{}", step.name, shortened(said))
            }
        };
        terminal::labelled(Style::Error, "error", &line);
        told.push((alike, &step.name));
        self.run.steps[index].failure = Some(format!("it does not build; what cargo said is in {log}"));
        Ok(())
    }

    /// Measures every step that was built.
    ///
    /// # Errors
    /// [`Kind::Run`] when a step failed, after the others were measured; [`Kind::Environment`], [`Kind::Interrupted`]
    /// at once.
    pub(crate) fn measure(&mut self) -> anyhow::Result<()> {
        self.first_look()?;
        if self.has_windows {
            self.rounds()?;
        }
        let failed: Vec<&str> =
            self.run.steps.iter().filter(|step| step.failure.is_some()).map(|step| step.name.as_str()).collect();
        if failed.is_empty() {
            self.run.partial = false;
            return self.save();
        }
        self.save()?;
        let of = several(self.run.steps.len(), "step");
        let others = match failed.len() == self.run.steps.len() {
            true => "",
            false => "; the other steps were measured, and the run is marked partial",
        };
        Err(Failure::new(Kind::Run, format!("{} of {of} failed: {}", failed.len(), failed.join(", ")))
            .help(format!("why stands above and in the run's folder{others}"))
            .into())
    }

    /// Every step once: exact counts, then call stacks.
    fn first_look(&mut self) -> anyhow::Result<()> {
        let mut recordable = true;
        let mut told = false;
        for index in self.standing() {
            let name = self.subject.steps[index].name.clone();
            if let Some(seen) = self.round(index, Instrument::Count, 0)? {
                self.has_windows |= seen.window.is_some();
                self.keep(index, seen.window);
                if !self.has_windows && !std::mem::replace(&mut told, true) {
                    let line = "the server has no driver: its call stacks are recorded, for its whole life. Windows, rounds \
                                and figures per call need the lines that `cargo alloc-ladder init` prints";
                    terminal::labelled(Style::Help, "help", line);
                }
                if recordable {
                    recordable = self.stacks(index)?;
                }
                terminal::progress("Measured", &name);
            }
            self.save()?;
            if index == 0 && self.needs_first && self.servers[0].is_none() {
                return Err(without_first("cannot be measured as it is"));
            }
        }
        Ok(())
    }

    /// The other rounds, every step once a round: as many as the file says, counted and timed; or, where it gives them a
    /// budget, timed ones until every step's times are settled against its neighbours'.
    fn rounds(&mut self) -> anyhow::Result<()> {
        let Window { rounds: counted, budget, .. } = self.subject.window;
        let until = budget.map_or(Until::Rounds(counted), |seconds| Until::Settled(Duration::from_secs(seconds)));
        let (began, steps) = (Instant::now(), self.servers.len());
        let judged = marks::judged_together(Shape::Program) * steps.saturating_sub(1);
        let mut rounds = Rounds::new(steps, 0, judged, until, self.run.seed);
        (0..steps).filter(|index| self.servers[*index].is_none()).for_each(|index| rounds.leave_out(index));
        let [server_cores, client_cores] = self.cores_by_side();
        let messages = self.run.workload.messages;
        let mut timing = Timing { messages, budget_seconds: budget, server_cores, client_cores, ..Timing::default() };
        let watch = Watch::begin(&mut timing);
        timing.congestion = machine::congestion(None);
        self.run.environment.timing = Some(timing);
        let (mut timed, mut done) = (true, 0);
        let bar = match budget {
            None => terminal::bar("Measuring", u64::from(counted) * self.standing().len() as u64),
            Some(seconds) => terminal::bar("Measuring", seconds),
        };
        while let Some(rounds::Round { number, order }) = rounds.next(began.elapsed()) {
            for index in order {
                bar.about(&self.subject.steps[index].name);
                // The first counts are there.
                if number > 0 && number < counted && self.servers[index].is_some() {
                    let counted = self.round(index, Instrument::Count, number)?;
                    self.keep(index, counted.and_then(|seen| seen.window));
                }
                if timed && self.servers[index].is_some() {
                    let seen = self.round(index, Instrument::Time, number)?.and_then(|seen| seen.window);
                    // An allocator that always counts says so in its record.
                    timed = seen.as_ref().is_none_or(|window| window.instrument == Instrument::Time);
                    let window = seen.filter(|_| timed);
                    if let Some(window) = &window {
                        rounds.measured(index, number, vec![cpu_per_message(window)]);
                    }
                    self.keep(index, window);
                }
                if self.servers[index].is_none() {
                    rounds.leave_out(index);
                }
                match budget {
                    None => bar.step(),
                    Some(_) => bar.at(began.elapsed().as_secs()),
                }
            }
            if let Some(timing) = &mut self.run.environment.timing {
                watch.note(timing);
            }
            self.save()?;
            done = number + 1;
            if !timed && done >= counted {
                break;
            }
        }
        // A budget is for times; whoever asked for counts has them.
        for number in done..counted {
            for index in self.standing() {
                bar.about(&self.subject.steps[index].name);
                let seen = self.round(index, Instrument::Count, number)?;
                self.keep(index, seen.and_then(|seen| seen.window));
            }
            self.save()?;
        }
        bar.finish();
        if !timed {
            self.run.environment.timing = None;
            let line = "times are left out: the server's allocator always counts. `alloc_ladder::Alloc` can be off";
            terminal::labelled(Style::Help, "help", line);
        } else if let Some(warning) = self.run.environment.timing.as_ref().and_then(machine::warning) {
            terminal::labelled(Style::Warning, "warning", &warning);
        }
        Ok(())
    }

    /// The cores of server and client: what is measured may be either, and the loads are the other.
    fn cores_by_side(&self) -> [Vec<usize>; 2] {
        let (own, loads) = (self.cores.server_of_many.clone(), self.cores.client.clone());
        match self.subject.server.side {
            Side::Server => [own, loads],
            Side::Client => [loads, own],
        }
    }

    /// The steps that can be measured.
    fn standing(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|index| self.servers[*index].is_some()).collect()
    }

    /// One round of a step. A round that fails takes the step out of the rest; `None` then.
    fn round(&mut self, index: usize, instrument: Instrument, number: u32) -> anyhow::Result<Option<Seen>> {
        let mode = if instrument == Instrument::Time { "off" } else { "count" };
        let cores = if instrument == Instrument::Time { self.cores.clone() } else { Cores::default() };
        self.run_round(index, &[(Variable::Mode.name(), mode.into())], cores, number, false)
    }

    fn run_round(
        &mut self,
        index: usize,
        environment: &[(&'static str, OsString)],
        cores: Cores,
        number: u32,
        lingers: bool,
    ) -> anyhow::Result<Option<Seen>> {
        let step = &self.subject.steps[index];
        let Some(server) = &self.servers[index] else { return Ok(None) };
        let (subject, loads, calls) = (self.subject, &self.loads[..], self.subject.window.calls());
        let mut round = Round { subject, step, server, loads, environment, cores, calls, number, lingers };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match round.run() {
                Ok(End::Seen(seen)) => return Ok(Some(*seen)),
                // With more traffic a window that opens late has more to close within.
                Ok(End::TooLate(_)) if tries > 0 => round.calls = round.calls.saturating_mul(4),
                Ok(End::TooLate(error)) | Err(error) => return self.failed(index, error).map(|()| None),
            }
        }
    }

    /// Keeps why a step failed, and goes on without it; what is nobody's fault ends the run.
    fn failed(&mut self, index: usize, error: anyhow::Error) -> anyhow::Result<()> {
        let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
        if failure.is_none_or(|failure| failure.kind != Kind::Run) {
            return Err(error);
        }
        let name = &self.subject.steps[index].name;
        let whole = error.to_string();
        terminal::labelled(Style::Error, "error", &format!("step {name}: {whole}"));
        if let Some(help) = failure.and_then(|failure| failure.help.as_deref()) {
            terminal::labelled(Style::Help, "help", help);
        }
        self.folder.write(&format!("{}/{OUTPUT_LOG}", step_folder(index, name)), whole.as_bytes())?;
        self.run.steps[index].failure = whole.lines().next().map(str::to_owned);
        self.servers[index] = None;
        self.save()
    }

    /// Adds what a window measured.
    fn keep(&mut self, index: usize, window: Option<Measurement>) {
        let Some(mut window) = window else { return };
        if window.payload_bytes == 0 {
            window.payload_bytes = self.subject.payload_bytes().saturating_mul(window.messages);
        }
        self.run.steps[index].measurements.push(window);
    }

    /// Records the call stacks of a step. Whether the other steps' can be recorded too.
    fn stacks(&mut self, index: usize) -> anyhow::Result<bool> {
        let Some(server) = self.servers[index].clone() else { return Ok(true) };
        let prepared = match record::prepare(&server.to_string_lossy(), &[], false) {
            Ok(prepared) => prepared,
            Err(error) if self.has_windows => {
                terminal::labelled(Style::Warning, "warning", &format!("call stacks are left out: {error}"));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Some(seen) = self.run_round(index, &prepared.environment, Cores::default(), 0, true)? else {
            return Ok(true);
        };
        let Some(recording) = prepared.recordings(seen.process).into_iter().next() else {
            terminal::labelled(Style::Warning, "warning", "call stacks are left out: the server left no recording");
            return Ok(self.has_windows);
        };
        let kept = self.folder.path().join(layout::recording(index));
        record::copy(&recording, &kept)?;
        let root = self.subject.base().to_string_lossy().into_owned();
        let about = About {
            name: self.subject.steps[index].name.clone(),
            side: self.subject.server.side,
            command: &server.to_string_lossy(),
            root: &root,
            symbols: &[],
            blocks: false,
        };
        let imported = import::import(&kept, &self.folder, index, &about, &mut self.profiles)?;
        imported.notes.iter().for_each(|note| terminal::labelled(Style::Warning, "warning", note));
        let step = &mut self.run.steps[index];
        step.stacks = imported.step.stacks;
        let messages = seen.messages().unwrap_or(1);
        for stacks in &mut step.stacks {
            stacks.messages = messages;
            stacks.payload_bytes = self.subject.payload_bytes().saturating_mul(messages);
        }
        if !self.has_windows {
            self.run.workload = Workload { messages: 1, warmup: 0, ..self.run.workload };
            step.measurements = imported.step.measurements;
            for measurement in &mut step.measurements {
                measurement.wall_ns = seen.wall.as_nanos() as u64;
                measurement.usage.rss_bytes_max = seen.rss_bytes_max;
            }
        }
        Ok(true)
    }

    /// Writes `run.json`, whole or not at all.
    fn save(&self) -> anyhow::Result<()> {
        self.folder.save(&self.run)
    }

    /// Whether anything was measured.
    pub(crate) fn has_figures(&self) -> bool {
        self.run.steps.iter().any(|step| !step.measurements.is_empty() || !step.stacks.is_empty())
    }
}

/// How often a round is tried whose window opens too late.
const TRIES: u32 = 3;

/// The end of a run that compares all steps with the first.
fn without_first(why: &str) -> anyhow::Error {
    Failure::new(Kind::Run, format!("the service {why}: there is nothing to compare a change with"))
        .help("why stands above; mend that first")
        .into()
}

/// The traffic as the file describes it.
fn traffic(workload: &WorkloadTable) -> Workload {
    Workload {
        chunk: usize::try_from(workload.payload_bytes.unwrap_or(0)).unwrap_or(usize::MAX),
        streams: workload.streams.unwrap_or(1),
        connections: workload.connections.unwrap_or(1),
        metadata: workload.metadata.unwrap_or(0),
        compress: workload.compress,
        ..Workload::default()
    }
}

/// What a round of a step cost. Windows are not of equal length to the message.
fn cpu_per_message(window: &Measurement) -> f64 {
    window.usage.cpu_ns() as f64 / window.messages.max(1) as f64
}

/// A step of which nothing was measured yet.
fn recorded(step: &Step, subject: &Subject) -> StepRecord {
    let is_baseline = step.from.is_none() && settings(step).is_empty();
    StepRecord {
        name: step.name.clone(),
        set: if is_baseline { "baseline".to_owned() } else { format!("up-to={}", step.name) },
        settings: settings(step),
        about: Some(words(step, subject)).filter(|words| !words.is_empty()),
        from: step.from.clone(),
        failure: None,
        measurements: Vec::new(),
        stacks: Vec::new(),
        cpu: Vec::new(),
    }
}

/// What is different from the server as it is.
fn settings(step: &Step) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            settings.insert(name.to_owned(), value);
        }
    };
    set("features", step.features.join(", "));
    set("allocator", step.allocator.clone().unwrap_or_default());
    set("args", step.args.join(" "));
    set("load-args", step.load_args.join(" "));
    set("tonic", step.tonic.unwrap_or_default().to_owned());
    set("revision", step.revision.clone().unwrap_or_default());
    step.env.iter().for_each(|(name, value)| set(name, value.clone()));
    for (name, patch) in &step.patch {
        set(
            name,
            match patch {
                Patch::Version(version) => format!("={version}"),
                Patch::Path(path) => path.display().to_string(),
                Patch::Git(url, of) => of.as_ref().map_or(url.clone(), |(key, value)| format!("{url} {key} {value}")),
            },
        );
    }
    settings
}

/// The step in its author's words, or else what it changes.
fn words(step: &Step, subject: &Subject) -> String {
    if !step.about.is_empty() {
        return step.about.clone();
    }
    let before = step.from.as_ref().and_then(|from| subject.steps.iter().find(|step| step.name == *from));
    let before = before.map(settings).unwrap_or_default();
    let changed = settings(step).into_iter().filter(|(name, value)| before.get(name) != Some(value));
    changed.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::subject::file::read_str;

    #[test]
    fn a_record_has_the_steps_in_the_subject_s_words() {
        let subject = read_str(
            "[server]\nbin = \"a\"\n[[step]]\nname = \"baseline\"\n[[step]]\nname = \"old\"\npatch = { h2 = \"=0.4.13\" }\n\
             [[step]]\nname = \"new\"\nabout = \"The fix.\"\npatch = { h2 = \"=0.4.16\" }\n[[step]]\nname = \"one\"\n\
             env = { THREADS = \"1\" }\n",
        );
        let steps: Vec<StepRecord> = subject.steps.iter().map(|step| recorded(step, &subject)).collect();
        let about: Vec<Option<&str>> = steps.iter().map(|step| step.about.as_deref()).collect();
        assert_eq!(about, [None, Some("h2 =0.4.13"), Some("The fix."), Some("THREADS 1")]);
        assert_eq!(
            steps.iter().map(|step| step.set.as_str()).collect::<Vec<_>>(),
            ["baseline", "up-to=old", "up-to=new", "up-to=one"]
        );
        assert_eq!(
            steps[3].settings,
            [("THREADS", "1"), ("h2", "=0.4.16")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
        );
    }
}
