//! The story of `examples/h2-923`, measured: what a kept header value holds at three versions of h2.
//!
//! It builds tonic three times, so that it runs by itself: `cargo test --test story -- --ignored`.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, StepRecord};
use support::{read, text};

/// Bytes that the windows of a step left live per call: the mean of its rounds.
fn live_per_call(step: &StepRecord) -> f64 {
    let windows: Vec<f64> = step
        .of(Side::Server, Instrument::Count)
        .map(|window| {
            let counts = window.counts.as_ref().expect("counted");
            counts.total.live_bytes() as f64 / window.messages as f64
        })
        .collect();
    assert_eq!(windows.len(), 2, "two rounds of {}", step.name);
    windows.iter().sum::<f64>() / windows.len() as f64
}

#[test]
#[ignore = "builds tonic three times"]
fn a_kept_header_value_holds_its_block_of_headers_in_h2_0_4_15_alone() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples/h2-923");
    let before: Vec<PathBuf> = runs(&example);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
    command.args(["alloc-ladder", "profile"]).current_dir(&example).stdin(Stdio::null()).env_remove("CARGO_TARGET_DIR");
    command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let done = command.output().expect("starts");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let folder = runs(&example).into_iter().find(|run| !before.contains(run)).expect("a new run");
    let run = read(&folder);
    let live: Vec<f64> = run.steps.iter().map(live_per_call).collect();
    let [old, pinned, mended] = live[..] else { panic!("three steps: {live:?}") };
    // 36 bytes, what holds them, and the list that keeps them; or a block of headers of 36 and 207 bytes and more.
    assert!(old < 200.0 && mended < 200.0 && pinned > 300.0, "{live:?}");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    for words in ["h2-0.4.15", "h2 =0.4.15", "/grpc.health.v1.Health/Check", "Bytes left live per message"] {
        assert!(page.contains(words), "`{words}` is not on the page");
    }
    assert!(!page.contains("payload byte") && !page.contains("The ladder"), "the page speaks of what it measured");
    std::fs::remove_dir_all(&folder).expect("removes");
}

fn runs(example: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(example.join("target/alloc-ladder")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|run| run.join("run.json").is_file()).collect()
}
