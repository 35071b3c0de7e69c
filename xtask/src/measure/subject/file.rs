//! `alloc-ladder.toml` as a person wrote it, and the [`Subject`] that it describes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use toml_edit::{Document, TableLike};

use crate::cli::failure::{Failure, Kind};
use crate::measure::subject::checked::Checked;
use crate::measure::subject::keys::{self, Bad, key_at};
use crate::measure::subject::tables::{File, StepTable, WindowTable};
pub(crate) use crate::measure::subject::tables::{Patch, ProgramTable, WorkloadTable};
use crate::measure::subject::text;

/// The keys of a step that change something.
const CHANGES: [&str; 7] = ["features", "allocator", "env", "args", "load-args", "revision", "patch"];

/// A service to measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) server: Server,
    /// Programs that make calls, all at once; none where the server runs alone.
    pub(crate) load: Vec<ProgramTable>,
    pub(crate) window: Window,
    /// What is known of the traffic.
    pub(crate) workload: WorkloadTable,
    /// Arguments more of every load, of the traffic that was chosen.
    pub(crate) traffic_args: Vec<String>,
    /// Other traffic that may be chosen.
    pub(crate) traffic: Vec<Traffic>,
    /// At least one; each as it is climbed.
    pub(crate) steps: Vec<Step>,
    /// The file that says so.
    pub(crate) file: PathBuf,
}

impl Subject {
    /// The folder that paths and commands are relative to: the file's.
    pub(crate) fn base(&self) -> PathBuf {
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    }

    /// Where the file says what a step changes; `None` of one that changes nothing, or that the file does not have.
    pub(crate) fn place_of(&self, step: &Step) -> Option<String> {
        let is_it =
            |part: &dyn TableLike| part.get("name").and_then(toml_edit::Item::as_str) == Some(step.name.as_str());
        let content = std::fs::read_to_string(&self.file).ok()?;
        let document = Document::parse(content.as_str()).ok()?;
        let part = keys::parts(document.as_table(), "step").into_iter().find(|part| is_it(*part))?;
        let key = CHANGES.into_iter().find(|key| part.contains_key(key))?;
        Some(place(&self.file, "step", |_, part| is_it(part), key))
    }

    /// Payload bytes of a message, where no seam counts them; 0 for unknown.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.workload.payload_bytes.unwrap_or(0)
    }

    /// What it is called with traffic of this name.
    pub(crate) fn called(&self, traffic: &str) -> String {
        format!("{}-{traffic}", self.name)
    }

    /// What it starts, a line each, for a person who is asked whether it may.
    pub(crate) fn commands(&self) -> Vec<String> {
        let program = |program: &ProgramTable| {
            let mut words = match (&program.command, program.target()) {
                (Some(command), _) => command.0.clone(),
                (None, Some((kind, name))) => ["cargo", "build", kind, name].map(str::to_owned).to_vec(),
                (None, None) => Vec::new(),
            };
            words.extend(program.args.iter().cloned());
            let env = program.env.iter().map(|(name, value)| format!("{name}={value}"));
            env.chain(words).collect::<Vec<_>>().join(" ")
        };
        std::iter::once(program(&self.server.program)).chain(self.load.iter().map(program)).collect()
    }
}

/// Traffic beside that of `[workload]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) name: String,
    /// The whole of it: what it leaves out is as `[workload]` says.
    pub(crate) workload: WorkloadTable,
    pub(crate) load_args: Vec<String>,
}

/// How the server is built and started, and when it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) program: ProgramTable,
    pub(crate) features: Vec<String>,
    pub(crate) default_features: bool,
    /// Cargo's profile.
    pub(crate) profile: String,
    /// Whether it answers calls, or makes them.
    pub(crate) side: Side,
    pub(crate) port: Option<u16>,
    pub(crate) line: Option<String>,
    pub(crate) health: Option<String>,
    /// Seconds.
    pub(crate) ready_within: u64,
}

/// A step, with all that is different from the server as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) about: String,
    /// The step that this one changes; `None` for the server as it is.
    pub(crate) from: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) allocator: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) args: Vec<String>,
    /// Arguments more of every load: other traffic.
    pub(crate) load_args: Vec<String>,
    pub(crate) revision: Option<String>,
    pub(crate) patch: BTreeMap<String, Patch>,
    /// The package that stands in for `tonic`; no file says so, `advise --prove` does.
    pub(crate) tonic: Option<&'static str>,
}

/// When a window opens and closes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    /// Messages, or where the length is one of time, seconds.
    pub(crate) warmup: f64,
    pub(crate) length: Length,
    pub(crate) rounds: u32,
    /// Seconds that timed rounds may take; `None` for as many rounds as are counted.
    pub(crate) budget: Option<u64>,
    /// Seconds.
    pub(crate) timeout: u64,
    /// Whether timed rounds hold server and loads to cores.
    pub(crate) pin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    Messages(u64),
    Seconds(f64),
}

impl Window {
    /// As the server's driver reads it; one window a process.
    pub(crate) fn variable(&self) -> String {
        match self.length {
            Length::Messages(messages) => format!("warmup={},messages={messages},rounds=1", self.warmup),
            Length::Seconds(seconds) => format!("warmup={}s,seconds={seconds},rounds=1", self.warmup),
        }
    }

    /// Messages before the measured part, and in it; 0 of a window of time.
    pub(crate) fn messages(&self) -> (u64, u64) {
        match self.length {
            Length::Messages(messages) => (self.warmup as u64, messages),
            Length::Seconds(_) => (0, 0),
        }
    }

    /// Messages that a round needs in all, and as many again: a window opens and closes a little late, when the server
    /// looks at its counters next, and on a busy machine it may be kept from that while hundreds of messages pass. What
    /// comes after the window is not waited for.
    pub(crate) fn calls(&self) -> u64 {
        let (before, measured) = self.messages();
        let needed = before + measured;
        needed + needed.max(100)
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// [`Kind::Environment`] when it cannot be read, [`Kind::Usage`] for what is wrong in it: file, line and key.
pub(crate) fn read(path: &Path) -> anyhow::Result<Subject> {
    let content = std::fs::read(path)
        .map_err(|error| Failure::new(Kind::Environment, format!("cannot read {}: {error}", path.display())))?;
    let content =
        String::from_utf8(content).map_err(|_| Failure::new(Kind::Usage, format!("{} is not text", path.display())))?;
    parse(&content, path).map_err(|bad| {
        let line = bad.at.map(|at| line_of(&content, at));
        let place = line.map_or_else(String::new, |line| format!(":{line}"));
        let key = if bad.key.is_empty() { String::new() } else { format!(" {}:", bad.key) };
        let failure = Failure::new(Kind::Usage, format!("{}{place}:{key} {}", path.display(), bad.message));
        match bad.help {
            Some(help) => failure.help(help),
            None => failure.help("`cargo alloc-ladder init --keys` lists every key"),
        }
        .into()
    })
}

/// Where a key stands, as `FILE:LINE: [server] bin`; the line is left out where it cannot be told any more. Of several
/// tables of one kind `which` says the one that is meant.
pub(super) fn place(path: &Path, table: &str, which: impl Fn(usize, &dyn TableLike) -> bool, key: &str) -> String {
    let content = std::fs::read_to_string(path).unwrap_or_default();
    let document = Document::parse(content.as_str()).ok();
    let parts = document.as_ref().map_or_else(Vec::new, |document| keys::parts(document.as_table(), table));
    let part = parts.into_iter().enumerate().find(|(index, part)| which(*index, *part)).map(|(_, part)| part);
    let at = part.and_then(|part| part.key(key)).and_then(toml_edit::Key::span).map(|span| span.start);
    let line = at.map_or_else(String::new, |at| format!(":{}", line_of(&content, at)));
    format!("{}{line}: {}", path.display(), keys::shown(&keys::head(table), key))
}

/// The line, from 1, of a byte.
fn line_of(content: &str, at: usize) -> usize {
    content[..at.min(content.len())].matches('\n').count() + 1
}

/// Reads the file's text.
pub(super) fn parse(content: &str, path: &Path) -> Result<Subject, Bad> {
    let document = Document::parse(content)
        .map_err(|error| Bad::new(error.span().map(|span| span.start), "", format!("not TOML: {}", error.message())))?;
    keys::known(&document)?;
    let file: File = toml::from_str(content).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        // What lacks a key is told by its head.
        let key = key_at(&document, span.clone());
        Bad::new(Some(span.start), key, text::said(error.message().trim()))
    })?;
    Checked { document: &document, file: &file }.check()?;
    let File { name, server, load, window, workload, traffic, steps } = file;
    let traffic = traffic.into_iter().map(|table| Traffic {
        workload: table.workload().or(workload.clone()),
        name: table.name,
        load_args: table.load_args,
    });
    let traffic: Vec<Traffic> = traffic.collect();
    Ok(Subject {
        name: name.unwrap_or_else(|| server.program().name().to_owned()),
        window: window_of(&window),
        steps: climbed(steps),
        server: Server {
            program: server.program(),
            features: server.features,
            default_features: server.default_features,
            profile: server.profile,
            side: server.side.unwrap_or(Side::Server),
            port: server.port,
            line: server.line,
            health: server.health,
            ready_within: server.ready_within,
        },
        load,
        workload,
        traffic_args: Vec::new(),
        traffic,
        file: path.to_owned(),
    })
}

fn window_of(table: &WindowTable) -> Window {
    let length = match table.seconds {
        Some(seconds) => Length::Seconds(seconds),
        None => Length::Messages(table.messages.unwrap_or(2000)),
    };
    let warmup = table.warmup.unwrap_or(if table.seconds.is_some() { 1.0 } else { 256.0 });
    Window {
        warmup,
        length,
        rounds: table.rounds.unwrap_or(5),
        budget: table.budget,
        timeout: table.timeout.unwrap_or(60),
        pin: table.pin.unwrap_or(true),
    }
}

/// Every step with what it has from the one that it changes.
fn climbed(tables: Vec<StepTable>) -> Vec<Step> {
    if tables.is_empty() {
        return vec![Step { name: "baseline".to_owned(), ..Step::default() }];
    }
    let mut steps: Vec<Step> = Vec::new();
    for table in tables {
        let below = match &table.from {
            Some(from) => steps.iter().find(|step| step.name == *from),
            None => steps.last(),
        };
        let mut step = below.cloned().unwrap_or_default();
        step.from = below.map(|below| below.name.clone());
        step.name = table.name;
        step.about = table.about;
        step.features.extend(table.features);
        step.allocator = table.allocator.or(step.allocator);
        step.env.extend(table.env);
        step.args.extend(table.args);
        step.load_args.extend(table.load_args);
        step.revision = table.revision.or(step.revision);
        step.patch.extend(table.patch);
        steps.push(step);
    }
    steps
}

/// A file's text, which a test made up.
#[cfg(test)]
pub(crate) fn read_str(text: &str) -> Subject {
    parse(text, Path::new("alloc-ladder.toml")).unwrap_or_else(|bad| panic!("{bad:?}"))
}

#[cfg(test)]
mod tests;
