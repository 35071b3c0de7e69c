//! How a verb fails: an exit code, what went wrong, and a way out.

use std::fmt;
use std::process::ExitCode;

use crate::cli::terminal::{self, Style};

/// Exit codes, as README lists them. 2, a usage error, is clap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A budget or a comparison failed.
    Verdict = 1,
    /// The command asked for something that does not exist or cannot be.
    Usage = 2,
    /// Port, disk, permission, missing tool.
    Environment = 3,
    /// A measured process failed.
    Run = 4,
    /// Ctrl-C; what was finished is kept.
    Interrupted = 130,
}

/// An error with its exit code and a `help:` line. Any other error exits as [`Kind::Environment`].
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints `error:`, `cause:` and `help:` lines on stderr and says how to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // A reader that went away (`| head`) is not a fault of ours.
    let closed_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    terminal::labelled(Style::Error, "error", &error.to_string());
    for cause in error.chain().skip(1) {
        terminal::labelled(Style::Dim, "cause", &cause.to_string());
    }
    if let Some(help) = failure.and_then(|failure| failure.help.as_deref()) {
        terminal::labelled(Style::Help, "help", help);
    }
    match failure {
        Some(failure) => ExitCode::from(failure.kind as u8),
        None => ExitCode::from(Kind::Environment as u8),
    }
}
