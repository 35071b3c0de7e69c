//! Runs xtask as a user would, and looks at what it left.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use alloc_ladder::record::Run;
use alloc_ladder::subject::scenario::Scenario;

pub(crate) fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command
}

pub(crate) fn output(args: &[&str]) -> Output {
    xtask(args).output().expect("xtask starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's path is text")
}

/// The arguments of a `profile` with builds that CI has anyway.
pub(crate) fn profile_args<'a>(scenario: Scenario, folder: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["profile", scenario.name(), "--profile", "dev", "--out", path(folder)], more].concat()
}

pub(crate) fn profile(scenario: Scenario, folder: &Path, more: &[&str]) -> Output {
    output(&profile_args(scenario, folder, more))
}

/// As [`profile`], which must succeed.
#[track_caller]
pub(crate) fn measured(scenario: Scenario, folder: &Path, more: &[&str]) -> Output {
    let done = profile(scenario, folder, more);
    assert!(done.status.success(), "{}", text(&done.stderr));
    done
}

pub(crate) fn read(folder: &Path) -> Run {
    let json = std::fs::read_to_string(folder.join("run.json")).expect("the run has a record");
    Run::from_json(&json).expect("the record is a run")
}

/// Exit code, and words that must stand in what is said.
#[track_caller]
pub(crate) fn refused(done: &Output, code: i32, words: &[&str]) {
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

/// A variable in the environment of one xtask, which all that it starts inherit.
pub(crate) const TAG: &str = "ALLOC_LADDER_TEST_TAG";

/// The command lines of the processes with this tag.
pub(crate) fn tagged(tag: &str) -> Vec<String> {
    let wanted = format!("{TAG}={tag}");
    let read = |process: &Path, file: &str| text(&std::fs::read(process.join(file)).unwrap_or_default());
    let processes = std::fs::read_dir("/proc").expect("Linux has /proc").flatten().map(|entry| entry.path());
    processes
        .filter(|process| read(process, "environ").split('\0').any(|entry| entry == wanted))
        .map(|process| read(&process, "cmdline").replace('\0', " "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// Processes with this tag, a moment after they should be gone.
pub(crate) fn left_over(tag: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found = tagged(tag);
        if found.is_empty() || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
