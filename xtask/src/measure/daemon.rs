//! What a recorded program leaves running when it ends.
//!
//! A daemon forks, and its first process ends: what goes on is a forked child, of which nothing is recorded. It is found by
//! the environment that the program was started with, and ended.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::measure::process::processes;

/// How long it may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which of the processes that are left are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    /// Those that run this file. What else the program started may be meant to stay.
    Of(&'a Path),
    /// All.
    All,
}

/// Ends what was started to record into `folder` and still runs; says how many there were.
pub(crate) fn end_left(which: Which<'_>, folder: &Path) -> usize {
    let left = left(which, folder);
    let began = Instant::now();
    for signal in [Signal::TERM, Signal::KILL] {
        for process in left.iter().copied().filter(|process| is_of(*process, which, folder)) {
            // Where it has ended by itself meanwhile there is nobody to tell.
            let _ = kill_process(process, signal);
        }
        while began.elapsed() < PATIENCE && left.iter().any(|process| is_of(*process, which, folder)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    left.len()
}

fn left(which: Which<'_>, folder: &Path) -> Vec<Pid> {
    processes().filter(|process| is_of(*process, which, folder)).collect()
}

/// Whether a process runs that was started to record into `folder`. One that has ended and is not waited for has neither
/// an environment nor a file.
fn is_of(process: Pid, which: Which<'_>, folder: &Path) -> bool {
    let of = |file: &str| format!("/proc/{}/{file}", process.as_raw_nonzero());
    let folder = folder.as_os_str().as_bytes();
    let environment = std::fs::read(of("environ")).unwrap_or_default();
    let started = environment
        .split(|byte| *byte == 0)
        .any(|variable| variable.strip_suffix(folder).is_some_and(|name| name.ends_with(b"=")));
    started
        && match which {
            Which::All => true,
            Which::Of(file) => {
                std::fs::read_link(of("exe")).is_ok_and(|exe| file.canonicalize().is_ok_and(|file| file == exe))
            }
        }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_started_for_a_folder_is_found_and_ended_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let sleeps = |folder: &Path| {
            Command::new("/bin/sleep").arg("60").env("RECORDINGS", folder).spawn().expect("sleep starts")
        };
        let (mut own, mut other) = (sleeps(folder.path()), sleeps(&folder.path().join("other")));
        let sleep = Path::new("/bin/sleep");
        // A child has its parent's environment and file until it executes its own.
        let pid = |child: &std::process::Child| Pid::from_raw(child.id() as i32).expect("a number");
        while !is_of(pid(&own), Which::Of(sleep), folder.path()) {
            std::thread::yield_now();
        }
        assert_eq!(end_left(Which::Of(Path::new("/bin/true")), folder.path()), 0);
        assert_eq!(end_left(Which::Of(sleep), folder.path()), 1);
        assert!(!own.wait().expect("ends").success());
        assert_eq!(end_left(Which::All, folder.path()), 0, "it is over");
        assert!(other.try_wait().expect("is there").is_none(), "another's goes on");
        other.kill().expect("ends");
        other.wait().expect("ends");
    }
}
