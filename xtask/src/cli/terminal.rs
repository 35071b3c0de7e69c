//! What a person sees: results on stdout, progress on stderr in cargo's manner, colours only where wanted.
//!
//! Nothing else prints. Step names, run ids, messages of an agent and what programs say come from elsewhere, and may
//! hold what moves a cursor, renames a window or turns a line round: whatever leaves here is escaped.

use std::borrow::Cow;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

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
    const ALL: [Style; 8] =
        [Style::Verb, Style::Error, Style::Warning, Style::Help, Style::Better, Style::Worse, Style::Bold, Style::Dim];

    /// The mark that begins the style.
    fn begin(self) -> char {
        MARKS.clone().nth(self as usize).expect("there are more marks than styles")
    }

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

/// `text` in a style, on one line; what it must not hold is escaped.
///
/// The style is marked by noncharacters, which Unicode keeps for a program's own use; [`result`] makes escape codes of
/// them. So no byte of a text ever is an escape code by itself.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{}{}{END}", style.begin(), escaped(text))
}

/// Text without its styles.
#[cfg(test)]
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|letter| !MARKS.contains(letter)).collect()
}

/// `text` on one line, with every character escaped that would do something to a terminal, or show what follows in
/// another order. An escape is written as in JSON, so that JSON stays what it is.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// As [`escaped`], with line breaks and tabs kept: for text of several lines.
fn escaped_lines(text: &str) -> Cow<'_, str> {
    escape(text, |letter| matches!(letter, '\n' | '\t'))
}

fn escape(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |letter: char| (letter.is_control() || reorders(letter) || MARKS.contains(&letter)) && !kept(letter);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if !acts(letter) => safe.push(letter),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            letter => safe.push_str(&format!("\\u{:04x}", u32::from(letter))),
        }
    }
    Cow::Owned(safe)
}

/// Whether a character is a mark of bidirectional text.
fn reorders(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Noncharacters that mark styles: one for each style, then [`END`].
const MARKS: RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';
/// Ends a style.
const END: char = '\u{fdef}';

/// Text with what it must not hold escaped, and its styles as escape codes.
fn coloured(text: &str) -> String {
    let mut coloured = String::with_capacity(text.len());
    let mut open: Option<Ansi> = None;
    for part in text.split_inclusive(|letter| MARKS.contains(&letter)) {
        let mark = part.chars().next_back().filter(|letter| MARKS.contains(letter));
        let words = mark.map_or(part, |mark| &part[..part.len() - mark.len_utf8()]);
        coloured.push_str(&escaped_lines(words));
        let Some(mark) = mark else { continue };
        if let Some(ansi) = open.take() {
            coloured.push_str(&format!("{ansi:#}"));
        }
        open = Style::ALL.into_iter().find(|style| style.begin() == mark).map(Style::ansi);
        if let Some(ansi) = open {
            coloured.push_str(&ansi.to_string());
        }
    }
    if let Some(ansi) = open {
        coloured.push_str(&format!("{ansi:#}"));
    }
    coloured
}

/// A progress line on stderr: a right-aligned verb and what it is about.
pub(crate) fn progress(verb: &str, about: &str) {
    let ansi = Style::Verb.ansi();
    // A closed stderr must not stop a measurement.
    let _ = writeln!(anstream::stderr(), "{ansi}{verb:>12}{ansi:#} {}", escaped(about));
}

/// How long a task may take before something is said of it.
const SILENCE: Duration = Duration::from_secs(1);

/// Renders into a folder; says so on stderr once it has taken a second.
pub(crate) fn rendering<T>(folder: &Path, task: impl FnOnce() -> T) -> T {
    unless_done(SILENCE, || progress("Rendering", &path(folder)), task)
}

/// Does a task, and says something meanwhile if it takes longer than `wait`.
fn unless_done<T>(wait: Duration, say: impl FnOnce() + Send, task: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                say();
            }
        });
        let result = task();
        drop(done);
        result
    })
}

/// A bar on stderr for one long task; hidden where stderr is no terminal.
pub(crate) struct Bar(indicatif::ProgressBar);

impl Bar {
    /// Says what the next step is about.
    pub(crate) fn about(&self, what: &str) {
        self.0.set_message(escaped(what).into_owned());
    }

    /// One step more is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    /// So many steps are done.
    pub(crate) fn at(&self, steps: u64) {
        self.0.set_position(steps);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A bar for a task of `steps` steps.
pub(crate) fn bar(verb: &'static str, steps: u64) -> Bar {
    let bar = indicatif::ProgressBar::new(steps);
    bar.set_style(
        indicatif::ProgressStyle::with_template("{prefix:>12.green.bold} [{bar:30}] {pos}/{len} {msg} {eta}")
            .expect("the template is valid")
            .progress_chars("=> "),
    );
    bar.set_prefix(verb);
    Bar(bar)
}

/// A line that says how a task of unknown length stands.
pub(crate) fn spinner(verb: &'static str) -> Bar {
    let line = indicatif::ProgressBar::new_spinner();
    line.set_style(
        indicatif::ProgressStyle::with_template("{prefix:>12.green.bold} {msg}").expect("the template is valid"),
    );
    line.set_prefix(verb);
    Bar(line)
}

/// A `label: text` line on stderr. Further lines of the text are indented, so that none looks like a label.
pub(crate) fn labelled(style: Style, label: &str, text: &str) {
    let ansi = style.ansi();
    let text = escaped_lines(text).replace('\n', "\n  ");
    let _ = writeln!(anstream::stderr(), "{ansi}{}{ansi:#}: {text}", escaped(label));
}

/// Writes the result of a command to stdout. Its text may be of several lines, and painted.
///
/// # Errors
/// Whatever writing to stdout gives: a closed pipe, a full disk.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(coloured(text).as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Asks a person who sits at the terminal; only `y` and `yes` agree.
///
/// # Errors
/// When stdin cannot be read.
pub(crate) fn agrees(question: &str) -> anyhow::Result<bool> {
    let _ = write!(anstream::stderr(), "{} [y/N] ", escaped(question));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}

/// Whether a person sees stderr as it comes, and not a log later.
pub(crate) fn is_watched() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

/// How many columns the terminal has that results go to; `None` where they go to a file or another program.
pub(crate) fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !std::io::IsTerminal::is_terminal(&stdout) {
        return None;
    }
    // A terminal that does not know its size says 0.
    rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A path as a reader would type it from here.
pub(crate) fn path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A control of each kind, every mark of bidirectional text, and our own marks of styles.
    const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;OWNED\u{7}\u{9b}31m\r\u{8}\u{7f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\
                           \u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\u{fdd0}\u{fdef}\n\terror: forged";

    #[track_caller]
    fn harmless(text: &str) {
        let acts = |letter: &char| (letter.is_control() && !matches!(letter, '\n' | '\t')) || reorders(*letter);
        assert_eq!(text.chars().find(acts), None, "{text:?}");
    }

    #[test]
    fn nothing_foreign_does_anything_to_a_terminal() {
        harmless(&escaped(HOSTILE));
        assert!(!escaped(HOSTILE).contains(['\n', '\t']), "one line");
        harmless(&escaped_lines(HOSTILE));
        assert_eq!(escaped("\u{1b}[2J"), r"\u001b[2J");
        assert_eq!(escaped("größer → 3 µs"), "größer → 3 µs");
        // Without a style there is no escape code, and with one only ours.
        harmless(&coloured(&HOSTILE.replace(MARKS.collect::<Vec<_>>().as_slice(), "")));
        let painted = coloured(&paint(Style::Worse, HOSTILE));
        let ansi = Style::Worse.ansi();
        let inner = painted.strip_prefix(&ansi.to_string()).and_then(|rest| rest.strip_suffix(&format!("{ansi:#}")));
        harmless(inner.expect("our own codes, around the whole text"));
        // JSON stays JSON: what serde leaves as it is, is escaped as JSON escapes it.
        let json =
            serde_json::to_string(&HOSTILE.replace(MARKS.collect::<Vec<_>>().as_slice(), "")).expect("serialises");
        let shown: String = serde_json::from_str(&coloured(&json)).expect("still JSON");
        assert!(shown.contains('\u{9b}') && shown.contains('\u{202e}'));
    }

    #[test]
    fn styles_end_with_their_text() {
        let text = format!("a {} b {}\n", paint(Style::Better, "good"), paint(Style::Dim, "dim"));
        assert_eq!(plain(&text), "a good b dim\n");
        assert_eq!(anstream::adapter::strip_str(&coloured(&text)).to_string(), "a good b dim\n");
        let unended = format!("{}left open", Style::Bold.begin());
        assert!(coloured(&unended).ends_with(&format!("{:#}", Style::Bold.ansi())));
    }

    fn sources(folder: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("reads").flatten().map(|entry| entry.path()) {
            match entry.is_dir() {
                true => sources(entry, found),
                false if entry.extension().is_some_and(|extension| extension == "rs") => found.push(entry),
                false => {}
            }
        }
    }

    #[test]
    fn nothing_else_prints() {
        let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(src.clone(), &mut files);
        assert!(files.len() > 50, "the sources are there: {}", files.len());
        let prints = ["print!(", "println!(", "dbg!(", "stdout()", "stderr()", "anstream::", "indicatif::"];
        for file in files.iter().filter(|file| !file.ends_with("cli/terminal.rs") && !file.ends_with("tests.rs")) {
            let text = std::fs::read_to_string(file).expect("reads");
            let production = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for line in production.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let printing = prints.iter().find(|print| line.contains(**print));
                assert_eq!(printing, None, "{}: {line}", file.display());
            }
        }
    }

    #[test]
    fn a_task_is_spoken_of_only_while_it_goes_on() {
        let (said, heard) = mpsc::channel();
        let say = said.clone();
        // The task waits for what is said of it.
        let result = unless_done(Duration::ZERO, move || say.send(1).expect("heard"), || heard.recv());
        assert_eq!(result, Ok(1));
        let result = unless_done(Duration::MAX, move || said.send(2).expect("heard"), || 3);
        assert_eq!((result, heard.try_recv()), (3, Err(mpsc::TryRecvError::Disconnected)));
    }
}
