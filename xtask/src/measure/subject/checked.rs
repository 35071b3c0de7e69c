//! What is wrong in `alloc-ladder.toml` that no type says: keys that need each other, numbers out of range, steps that
//! change nothing or two things.

use std::collections::BTreeMap;

use toml_edit::Document;

use crate::measure::subject::keys::{self, Bad};
use crate::measure::subject::tables::{File, ProgramTable, StepTable, TrafficTable, WorkloadTable};
use crate::measure::subject::text::{self, CALLS, PORT};
use crate::store::name::is_plain;

/// The most letters of a step's name.
const NAME_MAX: usize = 100;
/// The longest that a window, a round or a server's start may take: a day.
const SECONDS_MAX: u64 = 86_400;
/// The most messages of a window.
const MESSAGES_MAX: u64 = 1_000_000_000_000;
const ROUNDS_MAX: u32 = 1000;
/// The most bytes of a message: gRPC's prefix has four bytes for them.
const PAYLOAD_MAX: u64 = u32::MAX as u64;

/// What no type says of the file.
pub(super) struct Checked<'a> {
    pub(super) document: &'a Document<&'a str>,
    pub(super) file: &'a File,
}

impl Checked<'_> {
    pub(super) fn check(&self) -> Result<(), Bad> {
        self.name()?;
        self.program("server", 0, &self.file.server.program())?;
        for (index, load) in self.file.load.iter().enumerate() {
            self.program("load", index, load)?;
        }
        self.server()?;
        self.window()?;
        self.workload("workload", 0, &self.file.workload)?;
        for (index, traffic) in self.file.traffic.iter().enumerate() {
            self.traffic(index, traffic)?;
        }
        self.file.steps.iter().enumerate().try_for_each(|(index, step)| self.step(index, step))
    }

    fn name(&self) -> Result<(), Bad> {
        let is_bad = |name: &str| name.trim().is_empty() || name.len() > NAME_MAX || name.contains(char::is_control);
        if !self.file.name.as_deref().is_some_and(is_bad) {
            return Ok(());
        }
        let at = self.document.as_table().key("name").and_then(toml_edit::Key::span).map(|span| span.start);
        Err(Bad::new(at, "name", format!("it is 1 to {NAME_MAX} letters, in one line")))
    }

    /// What is wrong with a key of a table.
    fn bad(&self, table: &str, index: usize, key: &str, message: impl Into<String>) -> Bad {
        let parts = keys::parts(self.document.as_table(), table);
        let part = parts.get(index);
        let of_key = part.and_then(|part| part.key(key)).and_then(toml_edit::Key::span).map(|span| span.start);
        let of_any = || part.and_then(|part| Some(part.iter().next()?.0)).and_then(|any| part?.key(any)?.span());
        let at = of_key.or_else(|| of_any().map(|span| span.start));
        Bad::new(at, keys::shown(&keys::head(table), key), message)
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
        if text.contains('\0') {
            return Err(format!("`{}` has a zero byte, which no program can be given", text.escape_default()));
        }
        if text.contains(PORT) && self.file.server.port.is_none() {
            return Err(format!("`{text}` has {PORT}, and `[server]` has no `port`"));
        }
        if text.contains(CALLS) && self.file.window.seconds.is_some() {
            return Err(format!("`{text}` has {CALLS}, and the window is one of seconds"));
        }
        for (key, value) in self.file.workload.values() {
            if value.is_none() && text.contains(&text::placeholder(key)) {
                return Err(format!("`{text}` has {}, and `[workload]` has no `{key}`", text::placeholder(key)));
            }
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

    fn workload(&self, table: &str, index: usize, workload: &WorkloadTable) -> Result<(), Bad> {
        for (key, number) in [("streams", workload.streams), ("connections", workload.connections)] {
            if number == Some(0) {
                return Err(self.bad(table, index, key, "it is at least 1; leave it out where it is not known"));
            }
        }
        if workload.payload_bytes.is_some_and(|bytes| bytes > PAYLOAD_MAX) {
            return Err(self.bad(table, index, "payload-bytes", "it is at most 4 GiB, the most of a gRPC message"));
        }
        Ok(())
    }

    fn traffic(&self, index: usize, traffic: &TrafficTable) -> Result<(), Bad> {
        let bad = |key: &str, message: String| Err(self.bad("traffic", index, key, message));
        let name = &traffic.name;
        if !is_plain(name) || name.len() > NAME_MAX {
            let message = format!("`{name}` is not a name: 1 to {NAME_MAX} letters, digits, `.`, `_` and `-`");
            return bad("name", message);
        }
        if self.file.traffic[..index].iter().any(|other| other.name == *name) {
            return bad("name", format!("there are two tables [[traffic]] called `{name}`"));
        }
        if traffic.load_args.is_empty() && traffic.workload() == WorkloadTable::default() {
            return bad("name", format!("traffic `{name}` is that of `[workload]`: it changes nothing"));
        }
        if !traffic.load_args.is_empty() && self.file.load.is_empty() {
            return bad("load-args", "there is no `[[load]]` whose arguments they could be".to_owned());
        }
        for text in &traffic.load_args {
            self.placeholders(text).map_err(|message| self.bad("traffic", index, "load-args", message))?;
        }
        self.workload("traffic", index, &traffic.workload())
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
