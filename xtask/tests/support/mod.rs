//! What the end-to-end tests share: starting the real binary, and what it must say.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use alloc_ladder::record::Run;
use alloc_ladder::scenario::Scenario;

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

/// Runs `profile` with builds that CI has anyway.
pub(crate) fn profile(scenario: Scenario, folder: &Path, more: &[&str]) -> Output {
    output(&[&["profile", scenario.name(), "--profile", "dev", "--out", path(folder)], more].concat())
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
