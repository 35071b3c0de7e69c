//! Counters, dhat and the recorder say the same of the study's unary calls.
//!
//! All three see the same blocks of one process: `Alloc` counts and records each, and has dhat allocate it. So nothing may
//! differ, whatever the scheduler does.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(unsafe_code, reason = "an allocator that hands each block to two profilers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use alloc_ladder::subject::ladder::StepSet;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Alloc, Stage};

#[expect(dead_code, reason = "other tests ask for the figures of one call")]
#[path = "../../tests/support/unary.rs"]
mod unary;

#[global_allocator]
static ALLOC: Outer = Outer;

static RECORDED: Alloc<Profiled> = Alloc::wrapping(Profiled);

/// What dhat allocates for itself is its own: neither counted nor recorded.
struct Outer;

/// dhat's allocator.
struct Profiled;

thread_local!(static WITHIN_DHAT: Cell<bool> = const { Cell::new(false) });

impl Outer {
    fn chosen() -> &'static dyn GlobalAlloc {
        if WITHIN_DHAT.get() { &System } else { &RECORDED }
    }
}

// SAFETY: every method hands its arguments to the same method of an allocator that asks `System` with them, so that it
// does not matter which of them frees a block.
unsafe impl GlobalAlloc for Outer {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { Outer::chosen().alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { Outer::chosen().alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { Outer::chosen().dealloc(block, layout) }
    }

    // `realloc` stays as it is by default, a new block that takes over from the old one: dhat books a block that grows on
    // the stack that allocated it first, and the recorder on the stack that makes it grow.
}

// SAFETY: as above.
// No function of its own stands between: a frame that is not an allocator's would decide the stage of every stack.
unsafe impl GlobalAlloc for Profiled {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = WITHIN_DHAT.replace(true);
        // SAFETY: the caller keeps the contract.
        let block = unsafe { dhat::Alloc.alloc(layout) };
        WITHIN_DHAT.set(before);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let before = WITHIN_DHAT.replace(true);
        // SAFETY: the caller keeps the contract.
        let block = unsafe { dhat::Alloc.alloc_zeroed(layout) };
        WITHIN_DHAT.set(before);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let before = WITHIN_DHAT.replace(true);
        // SAFETY: the caller keeps the contract.
        unsafe { dhat::Alloc.dealloc(block, layout) };
        WITHIN_DHAT.set(before);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let before = WITHIN_DHAT.replace(true);
        // SAFETY: the caller keeps the contract.
        let block = unsafe { dhat::Alloc.realloc(block, layout, new_size) };
        WITHIN_DHAT.set(before);
        block
    }
}

const CALLS: u64 = 300;
/// More than any stack has.
const FRAMES: usize = 200;
const CHILD: &str = "AGREEMENT_TEST_CHILD";
/// Files that the child leaves in its folder.
const RECORDING: &str = "recorder.recording";
const DHAT: &str = "dhat.json";
const COUNTED: &str = "counted.json";

/// Blocks and bytes.
type Figures = (u64, u64);

/// Not a test of its own: makes the calls, and leaves what all three say.
#[test]
fn child_of_the_test() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let recording = |entry: &PathBuf| entry.to_string_lossy().contains("alloc-ladder-");
    let mut entries = std::fs::read_dir(&folder).expect("reads").map(|entry| entry.expect("reads").path());
    let recording = entries.find(recording).expect("this process is recorded");
    let tuning = StepSet::Baseline.tuning(Scenario::Unary).expect("the first step");
    let profiler = dhat::Profiler::builder().trim_backtraces(Some(FRAMES)).file_name(folder.join(DHAT)).build();
    let counted = unary::case(tuning, None, CALLS);
    drop(profiler);
    std::fs::copy(&recording, folder.join(RECORDING)).expect("copies");
    let counted = Stage::ALL.map(|stage| (stage.name(), counted.stage(stage)));
    let counted: BTreeMap<&str, Figures> =
        counted.into_iter().map(|(stage, tally)| (stage, (tally.blocks, tally.bytes))).collect();
    std::fs::write(folder.join(COUNTED), serde_json::to_vec(&counted).expect("serialises")).expect("writes");
}

/// The folder with what the child left.
fn calls() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "child_of_the_test", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .env("ALLOC_LADDER", "stacks")
        .env("ALLOC_LADDER_RECORDINGS", folder.path())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    folder
}

/// The run that the command makes of the files.
fn open(folder: &Path, files: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"))
        .args(["alloc-ladder", "open", "--no-open"])
        .args(files)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = String::from_utf8(output.stdout).expect("text");
    folder.join(page.trim()).parent().expect("a folder").to_owned()
}

/// Blocks by stage and stack.
type Stacks = BTreeMap<(String, String), u64>;

fn stacks(run: &Path, step: &str) -> Stacks {
    let text = std::fs::read_to_string(run.join(step).join("server/blocks.folded")).expect("the command made it");
    let mut stacks = Stacks::new();
    for line in text.lines() {
        let (stack, blocks) = line.rsplit_once(' ').expect("a number ends the line");
        let (stage, stack) = stack.split_once(';').expect("a stage begins the line");
        // dhat leaves out what every stack begins with.
        let stack = stack.find("agreement::").map_or(stack, |own| &stack[own..]);
        *stacks.entry((stage.to_owned(), stack.to_owned())).or_default() += blocks.parse::<u64>().expect("a number");
    }
    stacks
}

fn by_stage(stacks: &Stacks) -> BTreeMap<&str, u64> {
    let mut stages = BTreeMap::new();
    for ((stage, _), blocks) in stacks {
        *stages.entry(stage.as_str()).or_default() += blocks;
    }
    stages
}

fn by_stack(stacks: &Stacks) -> BTreeMap<&str, u64> {
    let mut names = BTreeMap::new();
    for ((_, stack), blocks) in stacks {
        *names.entry(stack.as_str()).or_default() += blocks;
    }
    names
}

/// The stages of a recording's rows, which are made of scopes.
fn scopes(run: &Path, step: usize) -> BTreeMap<String, Figures> {
    let json = std::fs::read(run.join("run.json")).expect("reads");
    let record: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let mut stages: BTreeMap<String, Figures> = BTreeMap::new();
    let rows = record["steps"][step]["measurements"][0]["counts"]["rows"].as_array().expect("rows by scope");
    for row in rows {
        let number = |name: &str| row["tally"][name].as_u64().or_else(|| row[name].as_u64()).expect("a number");
        let stage = stages.entry(row["stage"].as_str().expect("a stage").to_owned()).or_default();
        *stage = (stage.0 + number("blocks"), stage.1 + number("bytes"));
    }
    stages
}

#[test]
fn counters_dhat_and_the_recorder_agree_on_the_unary_calls() {
    let folder = calls();
    let run = open(folder.path(), &[RECORDING, DHAT]);

    // The counters and the recorder's scopes: every block and byte but of what the harness and taking counts need too.
    let counted: BTreeMap<String, Figures> =
        serde_json::from_slice(&std::fs::read(folder.path().join(COUNTED)).expect("reads")).expect("JSON");
    let scopes = scopes(&run, 0);
    let left_out = [Stage::Other, Stage::Instrument].map(Stage::name);
    let mut compared = 0;
    for (stage, figures) in counted.iter().filter(|(stage, _)| !left_out.contains(&stage.as_str())) {
        assert_eq!(scopes.get(stage).copied().unwrap_or_default(), *figures, "{stage}");
        compared += figures.0;
    }
    assert!(compared > 80 * CALLS, "{counted:?}");

    // dhat and the recorder: every stack of the calls. Both saw the harness's own thread, for as long as each was there.
    let of_harness = |stack: &str| stack.contains("test::run_tests");
    let mut recorded = stacks(&run, "01-recorder");
    let profiled = stacks(&run, "02-dhat");
    let (ours, dhats) = (by_stack(&recorded), by_stack(&profiled));
    let mut compared = 0;
    for (stack, blocks) in dhats.iter().filter(|(stack, _)| !of_harness(stack)) {
        assert_eq!(ours.get(stack), Some(blocks), "{stack}");
        compared += blocks;
    }
    assert!(compared > 80 * CALLS, "{compared} blocks");
    let missing = ours.keys().find(|stack| stack.contains("unary::case") && !dhats.contains_key(*stack));
    assert_eq!(missing, None, "a stack that dhat did not see");
    let seen: BTreeSet<String> = dhats.keys().map(|stack| (*stack).to_owned()).collect();
    recorded.retain(|(_, stack), _| seen.contains(stack));

    // Stages by scope and by stack.
    let (ours, dhats) = (by_stage(&recorded), by_stage(&profiled));
    let all: u64 = dhats.values().sum();
    for stage in Stage::ALL {
        let at = |stages: &BTreeMap<&str, u64>| stages.get(stage.name()).copied().unwrap_or_default();
        let apart = at(&ours).abs_diff(at(&dhats));
        assert!(apart * 200 <= all, "{stage}: {ours:?} by scope, {dhats:?} by stack");
    }
}
