//! Which part of a program's life is measured, as the environment variable [`WINDOW`] says it, and where it is written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The environment variable that asks for windows: a [`Window`] as text.
pub const WINDOW: &str = "ALLOC_LADDER_WINDOW";

/// What is left out at the beginning, and what is measured then, how often.
///
/// ```
/// use alloc_ladder::driver::{Amount, Window};
/// let window: Window = "warmup=256,messages=2000,rounds=3".parse()?;
/// assert_eq!(window, Window { warmup: Amount::Messages(256), length: Amount::Messages(2000), rounds: 3 });
/// assert_eq!(window.to_string(), "warmup=256,messages=2000,rounds=3");
/// let window: Window = "warmup=2s,seconds=5".parse()?;
/// assert_eq!(window.to_string(), "warmup=2s,seconds=5,rounds=1");
/// # Ok::<(), alloc_ladder::driver::BadWindow>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What passes before the first window opens, counted from the driver's [`install`](super::install).
    pub warmup: Amount,
    /// How long each window is.
    pub length: Amount,
    /// How many windows there are, one behind the other; at least 1.
    pub rounds: u32,
}

/// How much of a program's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Messages that this process's side handled, as its seams count them; a unary call is one.
    Messages(u64),
    /// Time on the clock, to the millisecond.
    Time(Duration),
}

/// The most messages of a warm-up or a window: what a figure per message is exact for in JSON.
pub const MESSAGES_MAX: u64 = 1_000_000_000_000;
/// The longest warm-up or window in seconds: a day.
pub const SECONDS_MAX: u64 = 24 * 60 * 60;
/// The most windows of one process.
pub const ROUNDS_MAX: u32 = 1000;

/// Why a text says no [`Window`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// A part that is not `KEY=VALUE`, or whose key is none of those there are.
    #[error("`{0}` is not a part of a window; the parts are warmup=N or warmup=Ns, messages=N or seconds=N, rounds=N")]
    Part(String),
    /// A value that is not a number within its bounds.
    #[error("{key}={value}: not a number from {least} to {most}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// The value.
        value: String,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// A key that stands twice, or `messages` beside `seconds`.
    #[error("a window has one length: {0} stands beside another")]
    Twice(&'static str),
    /// Neither `messages` nor `seconds`.
    #[error("a window needs a length: messages=N or seconds=N")]
    NoLength,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.warmup {
            Amount::Messages(messages) => write!(f, "warmup={messages}")?,
            Amount::Time(time) => write!(f, "warmup={}s", seconds(time))?,
        }
        match self.length {
            Amount::Messages(messages) => write!(f, ",messages={messages}")?,
            Amount::Time(time) => write!(f, ",seconds={}", seconds(time))?,
        }
        write!(f, ",rounds={}", self.rounds)
    }
}

/// Whole milliseconds as seconds: the text that is read back as the same.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1e3
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Window, BadWindow> {
        let (mut warmup, mut length, mut rounds) = (None, None, None);
        let once = |key, twice: bool| if twice { Err(BadWindow::Twice(key)) } else { Ok(()) };
        for part in text.split(',').map(str::trim) {
            let (key, value) = part.split_once('=').ok_or_else(|| BadWindow::Part(part.to_owned()))?;
            match (key, value.strip_suffix('s')) {
                ("warmup", Some(value)) => {
                    once("warmup", warmup.replace(time("warmup", value, 0)?).is_some())?;
                }
                ("warmup", None) => {
                    once("warmup", warmup.replace(messages("warmup", value, 0)?).is_some())?;
                }
                ("messages", _) => once("messages", length.replace(messages("messages", value, 1)?).is_some())?,
                ("seconds", _) => once("seconds", length.replace(time("seconds", value, 0)?).is_some())?,
                ("rounds", _) => {
                    let number = number("rounds", value, 1, u64::from(ROUNDS_MAX))?;
                    once("rounds", rounds.replace(number as u32).is_some())?;
                }
                _ => return Err(BadWindow::Part(part.to_owned())),
            }
        }
        Ok(Window {
            warmup: warmup.unwrap_or(Amount::Messages(0)),
            length: length.ok_or(BadWindow::NoLength)?,
            rounds: rounds.unwrap_or(1),
        })
    }
}

fn number(key: &'static str, value: &str, least: u64, most: u64) -> Result<u64, BadWindow> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| BadWindow::Value { key, value: value.to_owned(), least, most })
}

fn messages(key: &'static str, value: &str, least: u64) -> Result<Amount, BadWindow> {
    number(key, value, least, MESSAGES_MAX).map(Amount::Messages)
}

/// Seconds, to the millisecond.
fn time(key: &'static str, value: &str, least: u64) -> Result<Amount, BadWindow> {
    let seconds = value.parse::<f64>().ok().filter(|seconds| (least as f64..=SECONDS_MAX as f64).contains(seconds));
    let seconds = seconds.ok_or_else(|| BadWindow::Value { key, value: value.to_owned(), least, most: SECONDS_MAX })?;
    Ok(Amount::Time(Duration::from_millis((seconds * 1e3).round() as u64)))
}

/// The file that the process with this id, which runs the program of this name, writes when its window `n` has closed;
/// windows are numbered from 0.
pub fn window_file(folder: &Path, process: u32, name: &str, n: u32) -> PathBuf {
    folder.join(format!("{process}-{name}{MARK}{n}.json"))
}

/// The file in which such a process says, in words, why there are fewer windows than were asked for.
pub fn window_error_file(folder: &Path, process: u32, name: &str) -> PathBuf {
    folder.join(format!("{process}-{name}.window-error"))
}

/// Which process wrote a window's file, what its program is called, and which window it is; `None` for a file of another
/// name.
pub fn window_of(file: &Path) -> Option<(u32, &str, u32)> {
    let (process, rest) = file.file_name()?.to_str()?.strip_suffix(".json")?.split_once('-')?;
    let (name, n) = rest.rsplit_once(MARK)?;
    Some((process.parse().ok()?, name, n.parse().ok()?))
}

/// What stands between a program's name and a window's number. No program's name ends in it and a number: see
/// [`own_name`](super::own_name).
const MARK: &str = ".window-";

/// Whether a program's name would be taken for a window's.
pub(super) fn is_like_a_window(name: &str) -> bool {
    name.rsplit_once(MARK).is_some_and(|(_, n)| n.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_it_is_written() {
        for text in [
            "warmup=0,messages=1,rounds=1",
            "warmup=256,messages=2000,rounds=3",
            "warmup=2s,seconds=5,rounds=3",
            "warmup=0.25s,seconds=0.5,rounds=1000",
            "warmup=0s,messages=1000000000000,rounds=2",
        ] {
            let window: Window = text.parse().expect(text);
            assert_eq!(window.to_string(), text);
        }
        let window: Window = "rounds=2, messages=7".parse().expect("in any order");
        assert_eq!(window, Window { warmup: Amount::Messages(0), length: Amount::Messages(7), rounds: 2 });
    }

    #[test]
    fn what_is_wrong_with_a_window_is_said_in_words() {
        let said = |text: &str| text.parse::<Window>().expect_err(text).to_string();
        for (text, word) in [
            ("", "`` is not a part"),
            ("messages", "`messages` is not a part"),
            ("message=5", "`message=5` is not a part"),
            ("warmup=5", "messages=N or seconds=N"),
            ("messages=0", "messages=0: not a number from 1 to 1000000000000"),
            ("messages=2s", "messages=2s: not a number"),
            ("messages=-1", "messages=-1: not a number"),
            ("seconds=NaN", "seconds=NaN: not a number from 0 to 86400"),
            ("seconds=inf", "seconds=inf"),
            ("seconds=86401", "seconds=86401"),
            ("warmup=xs,messages=1", "warmup=x: not a number"),
            ("messages=5,rounds=1001", "rounds=1001"),
            ("messages=5,seconds=2", "one length"),
            ("messages=5,messages=5", "one length"),
        ] {
            assert!(said(text).contains(word), "{text}: {}", said(text));
        }
    }

    #[test]
    fn a_windows_file_is_known_by_its_name() {
        let folder = Path::new("folder");
        let file = window_file(folder, 12, "svc-1.2", 3);
        assert_eq!(file, folder.join("12-svc-1.2.window-3.json"));
        assert_eq!(window_of(&file), Some((12, "svc-1.2", 3)));
        assert_eq!(super::super::process_of(&file), None, "it is not the process's own file");
        let whole = super::super::file(folder, 12, "svc");
        assert_eq!((window_of(&whole), super::super::process_of(&whole)), (None, Some((12, "svc"))));
        let error = window_error_file(folder, 12, "svc");
        assert_eq!((window_of(&error), super::super::process_of(&error)), (None, None));
        assert!(is_like_a_window("svc.window-3") && !is_like_a_window("svc.window-x"));
    }
}
