//! `alloc-ladder.toml` as a person wrote it, and the [`Subject`] that it describes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use toml_edit::Document;

use crate::cli::failure::{Failure, Kind};
use crate::measure::subject::keys::{self, Bad, key_at};
use crate::measure::subject::tables::{File, StepTable, WindowTable};
pub(crate) use crate::measure::subject::tables::{Patch, ProgramTable};
use crate::measure::subject::text::{self, CALLS, PORT};
use crate::store::name::is_plain;

/// The most letters of a step's name.
const NAME_MAX: usize = 100;
/// The longest that a window, a round or a server's start may take: a day.
const SECONDS_MAX: u64 = 86_400;
/// The most messages of a window.
const MESSAGES_MAX: u64 = 1_000_000_000_000;
const ROUNDS_MAX: u32 = 1000;

/// A service to measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) server: Server,
    /// Programs that make calls, all at once; none where the server runs alone.
    pub(crate) load: Vec<ProgramTable>,
    pub(crate) window: Window,
    /// Payload bytes of a message, where no seam counts them; 0 for unknown.
    pub(crate) payload_bytes: u64,
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
        let line = bad.at.map(|at| content[..at.min(content.len())].matches('\n').count() + 1);
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
    let File { name, server, load, window, workload, steps } = file;
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
        payload_bytes: workload.payload_bytes,
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

/// What no type says of the file.
struct Checked<'a> {
    document: &'a Document<&'a str>,
    file: &'a File,
}

impl Checked<'_> {
    fn check(&self) -> Result<(), Bad> {
        self.program("server", 0, &self.file.server.program())?;
        for (index, load) in self.file.load.iter().enumerate() {
            self.program("load", index, load)?;
        }
        self.server()?;
        self.window()?;
        self.file.steps.iter().enumerate().try_for_each(|(index, step)| self.step(index, step))
    }

    /// What is wrong with a key of a table.
    fn bad(&self, table: &str, index: usize, key: &str, message: impl Into<String>) -> Bad {
        let parts = keys::parts(self.document.as_table(), table);
        let part = parts.get(index);
        let of_key = part.and_then(|part| part.key(key)).and_then(toml_edit::Key::span).map(|span| span.start);
        let of_any = || part.and_then(|part| Some(part.iter().next()?.0)).and_then(|any| part?.key(any)?.span());
        let at = of_key.or_else(|| of_any().map(|span| span.start));
        let head = if matches!(table, "load" | "step") { format!("[[{table}]]") } else { format!("[{table}]") };
        Bad::new(at, keys::shown(&head, key), message)
    }

    fn program(&self, table: &str, index: usize, program: &ProgramTable) -> Result<(), Bad> {
        let given = [program.command.is_some(), program.bin.is_some(), program.example.is_some()];
        match given.into_iter().filter(|given| *given).count() {
            1 => {}
            0 => return Err(self.bad(table, index, "", "it needs one of `command`, `bin` and `example`")),
            _ => {
                return Err(self.bad(
                    table,
                    index,
                    "command",
                    "it has more than one of `command`, `bin` and `example`",
                ));
            }
        }
        if program.package.is_some() && program.target().is_none() {
            return Err(self.bad(table, index, "package", "it is for `bin` and `example`; a `command` is not built"));
        }
        for text in program.texts() {
            self.placeholders(text).map_err(|message| self.bad(table, index, "", message))?;
        }
        self.variables(&program.env).map_err(|message| self.bad(table, index, "env", message))
    }

    fn placeholders(&self, text: &str) -> Result<(), String> {
        if text.contains(PORT) && self.file.server.port.is_none() {
            return Err(format!("`{text}` has {PORT}, and `[server]` has no `port`"));
        }
        if text.contains(CALLS) && self.file.window.seconds.is_some() {
            return Err(format!("`{text}` has {CALLS}, and the window is one of seconds"));
        }
        Ok(())
    }

    fn variables(&self, env: &BTreeMap<String, String>) -> Result<(), String> {
        let bad =
            env.iter().find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'));
        match bad {
            Some((name, _)) => Err(format!("`{name}` cannot be the name of an environment variable")),
            None => Ok(()),
        }
    }

    fn server(&self) -> Result<(), Bad> {
        let server = &self.file.server;
        let bad = |key: &str, message: &str| Err(self.bad("server", 0, key, message));
        if server.health.is_some() && server.port.is_none() {
            return bad("health", "a health check needs `port`");
        }
        if server.port == Some(0) {
            return bad("port", "port 0 is no port to wait for; name the one that the server listens on");
        }
        if server.line.as_deref() == Some("") {
            return bad("line", "an empty text is in every line");
        }
        if !self.file.load.is_empty() && server.port.is_none() && server.line.is_none() {
            return bad("port", "nothing says when the load may begin: it needs `port`, `line` or `health`");
        }
        if !(1..=SECONDS_MAX).contains(&server.ready_within) {
            return bad("ready-within", "it is between 1 and 86400 seconds");
        }
        if server.program().target().is_none() && (!server.features.is_empty() || !server.default_features) {
            return bad("features", "a `command` is not built; name a `bin` or an `example`");
        }
        Ok(())
    }

    fn window(&self) -> Result<(), Bad> {
        let window = &self.file.window;
        let bad = |key: &str, message: &str| Err(self.bad("window", 0, key, message));
        if window.messages.is_some() && window.seconds.is_some() {
            return bad("seconds", "a window has `messages` or `seconds`, and not both");
        }
        let seconds = |value: f64| value.is_finite() && (0.0..=SECONDS_MAX as f64).contains(&value);
        if window.seconds.is_some_and(|value| !seconds(value) || value == 0.0) {
            return bad("seconds", "it is more than 0 and at most 86400");
        }
        if window.messages.is_some_and(|value| !(1..=MESSAGES_MAX).contains(&value)) {
            return bad("messages", "it is at least 1");
        }
        let warmup = window.warmup.unwrap_or(0.0);
        let whole = warmup.fract() == 0.0 && (0.0..=MESSAGES_MAX as f64).contains(&warmup);
        if window.seconds.map_or(!whole, |_| !seconds(warmup)) {
            return bad("warmup", "it is a number of messages, or of seconds where the window has `seconds`");
        }
        if window.rounds.is_some_and(|rounds| !(1..=ROUNDS_MAX).contains(&rounds)) {
            return bad("rounds", "it is between 1 and 1000");
        }
        if window.budget.is_some_and(|budget| !(1..=SECONDS_MAX).contains(&budget)) {
            return bad("budget", "it is between 1 and 86400 seconds");
        }
        if window.timeout.is_some_and(|timeout| !(1..=SECONDS_MAX).contains(&timeout)) {
            return bad("timeout", "it is between 1 and 86400 seconds");
        }
        Ok(())
    }

    fn step(&self, index: usize, step: &StepTable) -> Result<(), Bad> {
        let bad = |key: &str, message: String| Err(self.bad("step", index, key, message));
        let before = &self.file.steps[..index];
        let StepTable { name, .. } = step;
        if !is_plain(name) || name.len() > NAME_MAX || name.contains('=') {
            let message = format!("`{name}` is not a step's name: 1 to {NAME_MAX} letters, digits, `.`, `_` and `-`");
            return bad("name", message);
        }
        if before.iter().any(|other| other.name == *name) {
            return bad("name", format!("there are two steps `{name}`"));
        }
        if let Some(from) = step.from.as_ref().filter(|from| before.iter().all(|other| other.name != **from)) {
            let names: Vec<&str> = before.iter().map(|step| step.name.as_str()).collect();
            let help = if names.is_empty() {
                "it is the first".to_owned()
            } else {
                format!("before it: {}", names.join(", "))
            };
            return Err(self
                .bad("step", index, "from", format!("no step before `{name}` is called `{from}`"))
                .help(help));
        }
        let changes = step.changes();
        match changes[..] {
            [] if index > 0 => return bad("name", format!("step `{name}` changes nothing; only the first may")),
            [] | [_] => {}
            [one, other, ..] => {
                return bad(other, format!("step `{name}` changes `{one}` and `{other}`; a step changes one thing"));
            }
        }
        if self.file.server.program().target().is_none()
            && let Some(key) = changes.iter().find(|key| !matches!(**key, "env" | "args" | "load-args"))
        {
            return bad(
                key,
                "it changes what is built, and a `command` is not built; name a `bin` or an `example`".to_owned(),
            );
        }
        if !step.load_args.is_empty() && self.file.load.is_empty() {
            return bad("load-args", "there is no `[[load]]` whose arguments they could be".to_owned());
        }
        for text in step.args.iter().chain(&step.load_args).chain(step.env.values()) {
            self.placeholders(text).map_err(|message| self.bad("step", index, "", message))?;
        }
        if step.revision.as_ref().is_some_and(|revision| revision.is_empty() || revision.starts_with('-')) {
            return bad("revision", "it is not a git revision".to_owned());
        }
        if let Some(name) = step.patch.keys().find(|name| !text::is_package(name)) {
            return bad("patch", format!("`{name}` is not the name of a package"));
        }
        self.variables(&step.env).map_err(|message| self.bad("step", index, "env", message))
    }
}

/// A file's text, which a test made up.
#[cfg(test)]
pub(crate) fn read_str(text: &str) -> Subject {
    parse(text, Path::new("alloc-ladder.toml")).unwrap_or_else(|bad| panic!("{bad:?}"))
}

#[cfg(test)]
mod tests;
