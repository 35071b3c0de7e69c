//! What a person sees: results on stdout, progress on stderr in cargo's manner, colours only where wanted.

use std::io::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style as Ansi};

/// How a word is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Cargo's bold green verb.
    Verb,
    Error,
    Warning,
    Help,
    /// Better than before.
    Better,
    /// Worse than before.
    Worse,
    Bold,
    Dim,
}

impl Style {
    pub(crate) fn ansi(self) -> Ansi {
        let colour = |colour: AnsiColor| Ansi::new().fg_color(Some(colour.into()));
        match self {
            Style::Verb => colour(AnsiColor::Green).bold(),
            Style::Error => colour(AnsiColor::Red).bold(),
            Style::Warning => colour(AnsiColor::Yellow).bold(),
            Style::Help => colour(AnsiColor::Cyan).bold(),
            Style::Better => colour(AnsiColor::Green),
            Style::Worse => colour(AnsiColor::Red),
            Style::Bold => Ansi::new().bold(),
            Style::Dim => Ansi::new().dimmed(),
        }
    }
}

/// `text` with its escape codes; `anstream` takes them out where the output is no terminal or `NO_COLOR` is set.
pub(crate) fn paint(style: Style, text: &str) -> String {
    let ansi = style.ansi();
    format!("{ansi}{text}{ansi:#}")
}

/// A progress line on stderr: a right-aligned verb and what it is about.
pub(crate) fn progress(verb: &str, about: &str) {
    let ansi = Style::Verb.ansi();
    // A closed stderr must not stop a measurement.
    let _ = writeln!(anstream::stderr(), "{ansi}{verb:>12}{ansi:#} {about}");
}

/// A bar on stderr for `steps` steps of one long task; hidden where stderr is no terminal.
pub(crate) fn bar(verb: &'static str, steps: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(steps);
    bar.set_style(
        indicatif::ProgressStyle::with_template("{prefix:>12.green.bold} [{bar:30}] {pos}/{len} {msg} {eta}")
            .expect("the template is valid")
            .progress_chars("=> "),
    );
    bar.set_prefix(verb);
    bar
}

/// A line on stderr that says how a task of unknown length stands; hidden where stderr is no terminal.
pub(crate) fn spinner(verb: &'static str) -> indicatif::ProgressBar {
    let line = indicatif::ProgressBar::new_spinner();
    line.set_style(
        indicatif::ProgressStyle::with_template("{prefix:>12.green.bold} {msg}").expect("the template is valid"),
    );
    line.set_prefix(verb);
    line
}

/// A `label: text` line on stderr.
pub(crate) fn labelled(style: Style, label: &str, text: &str) {
    let ansi = style.ansi();
    let _ = writeln!(anstream::stderr(), "{ansi}{label}{ansi:#}: {text}");
}

/// Writes the result of a command to stdout.
///
/// # Errors
/// Whatever writing to stdout gives: a closed pipe, a full disk.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A path as a reader would type it from here.
pub(crate) fn path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
