//! `compare --base`: the runs of a change and of its base, found by revision, or measured.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use alloc_ladder::record::{Instrument, Measurement, Run, Shape};
use alloc_ladder::subject::scenario::Scenario;
use tempfile::TempDir;

mod support;

use support::{refused, text};

/// A repository whose `main` was left by a branch of one commit.
struct Repository {
    folder: TempDir,
    base: String,
    head: String,
}

fn git(folder: &Path, args: &[&str]) -> String {
    let done = Command::new("git").args(args).current_dir(folder).stdin(Stdio::null()).output().expect("git starts");
    assert!(done.status.success(), "git {args:?}: {}", text(&done.stderr));
    text(&done.stdout).trim().to_owned()
}

fn repository() -> Repository {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let commit = |message: &str| {
        std::fs::write(folder.path().join("file"), message).expect("written");
        git(folder.path(), &["add", "file"]);
        git(folder.path(), &["commit", "--quiet", "--message", message]);
        git(folder.path(), &["rev-parse", "HEAD"])
    };
    git(folder.path(), &["init", "--quiet", "--initial-branch", "main"]);
    for (name, value) in [("user.name", "a"), ("user.email", "a@example.org"), ("commit.gpgsign", "false")] {
        git(folder.path(), &["config", name, value]);
    }
    let base = commit("base");
    git(folder.path(), &["switch", "--quiet", "--create", "topic"]);
    let head = commit("change");
    Repository { folder, base, head }
}

/// A record of two equal rounds, taken from the reference run.
fn record(id: &str, revision: &str, shape: Shape) -> Run {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/reference/unary/run.json");
    let json = std::fs::read_to_string(reference).expect("the reference run");
    let mut run = Run::from_json(&json).expect("a run");
    run.id = id.to_owned();
    run.environment.revision = revision[..12].to_owned();
    run.environment.dirty = false;
    run.steps.truncate(1);
    run.steps[0].stacks.clear();
    run.steps[0].cpu.clear();
    let is_count = |measured: &Measurement| measured.instrument == Instrument::Count;
    run.steps[0].measurements.retain(is_count);
    if shape == Shape::Program {
        run.subject.name = "srv".to_owned();
        run.subject.shape = shape;
    }
    run
}

fn put(runs: &Path, run: &Run) {
    let folder = runs.join(&run.id);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("run.json"), serde_json::to_string(run).expect("serialises")).expect("written");
}

fn compare(program: &str, root: &Path, cargo: Option<&Path>, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["compare", "--base"]).args(args).current_dir(root).stdin(Stdio::null()).env("NO_COLOR", "1");
    // Which checkout `cargo xtask` works in.
    command.env("CARGO_MANIFEST_DIR", root.join("xtask"));
    if let Some(cargo) = cargo {
        command.env("CARGO", cargo);
    }
    command.output().expect("starts")
}

#[test]
fn runs_of_anybody_s_program_are_found_by_revision_and_what_is_missing_is_said() {
    let Repository { folder, base, head } = repository();
    let (root, runs) = (folder.path(), folder.path().join("target/alloc-ladder"));
    let compare = |args: &[&str]| compare(env!("CARGO_BIN_EXE_cargo-alloc-ladder"), root, None, args);
    refused(&compare(&["main"]), 2, &["there is no run of what is checked out", "profile -- PROGRAM"]);
    put(&runs, &record("attach-2", &head, Shape::Program));
    refused(&compare(&["main"]), 2, &["where `main` was left", "`attach-2`", "git checkout --detach", &base[..12]]);
    put(&runs, &record("attach-1", &base, Shape::Program));
    let mut other = record("attach-0", &base, Shape::Program);
    other.workload.messages += 1;
    other.created = "2999-01-01T00:00:00Z".to_owned();
    put(&runs, &other);
    let done = compare(&["main", "--format", "markdown"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).starts_with("### attach-1 → attach-2\n"), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains("main was left at"), "{}", text(&done.stderr));
    assert!(compare(&["main", "attach-2"]).status.success(), "by name");
    refused(&compare(&["nowhere"]), 2, &["git knows no `nowhere`", "fetch-depth: 0"]);
    refused(&compare(&["topic"]), 2, &["nothing changed since `topic`"]);
    refused(&compare(&["main", "attach-1", "attach-2"]), 2, &["cannot be used with"]);
}

/// A `cargo` that says where it was called and how, and leaves a run.
fn pretended_cargo(root: &Path, run: &Run) -> PathBuf {
    let (cargo, record) = (root.join("pretended-cargo"), root.join("record.json"));
    std::fs::write(&record, serde_json::to_string(run).expect("serialises")).expect("written");
    let script = format!(
        "#!/bin/sh\nset -e\n[ \"$1 $2\" = 'xtask profile' ]\ncat file > {0}/seen\necho \" $*\" >> {0}/seen\n\
         while [ \"$1\" != --out ]; do shift; done\nmkdir \"$2\"\ncp {0}/record.json \"$2/run.json\"\n",
        root.display()
    );
    std::fs::write(&cargo, script).expect("written");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("executable");
    cargo
}

#[test]
fn the_study_measures_a_base_that_has_no_run_in_a_worktree() {
    let Repository { folder, base, head } = repository();
    let (root, runs) = (folder.path(), folder.path().join("profiles"));
    put(&runs, &record("unary-2", &head, Scenario::Unary.shape()));
    let cargo = pretended_cargo(root, &record("unary-1", &base, Scenario::Unary.shape()));
    let compare = |args: &[&str]| compare(env!("CARGO_BIN_EXE_xtask"), root, Some(&cargo), args);
    let done = compare(&["main", "--format", "github"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).starts_with("unary-1 → unary-2: 0 of "), "{}", text(&done.stdout));
    let seen = std::fs::read_to_string(root.join("seen")).expect("cargo was called");
    assert!(seen.starts_with("base xtask profile unary --steps baseline "), "the base's files: {seen}");
    assert_eq!(git(root, &["worktree", "list"]).lines().count(), 1, "the worktree is gone");
    assert_eq!(git(root, &["status", "--porcelain", "--untracked-files=no"]), "", "nothing of the tree changed");
    // What was measured once is found.
    std::fs::remove_file(root.join("seen")).expect("removes");
    assert!(compare(&["main", "unary"]).status.success(), "by scenario");
    assert!(!root.join("seen").exists(), "nothing was measured again");
    // A base that cannot be measured.
    std::fs::write(&cargo, "#!/bin/sh\nexit 9\n").expect("written");
    put(&runs, &record("get-2", &head, Shape::Program));
    let mut more = record("unary-3", &head, Scenario::Unary.shape());
    more.workload.messages += 1;
    put(&runs, &more);
    refused(&compare(&["main", "unary-3"]), 4, &["the base", "could not be measured", "compare OLD NEW"]);
    assert_eq!(git(root, &["worktree", "list"]).lines().count(), 1, "the worktree is gone");
}
