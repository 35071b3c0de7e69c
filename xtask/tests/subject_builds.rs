//! How `profile` builds the steps of an `alloc-ladder.toml`: by feature, by git revision, and what is kept of a step that
//! does not build. The package has no dependencies, and its program ends by itself.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::{read, text};

const MANIFEST: &str = r#"
[package]
name = "toy"
version = "0.1.0"
edition = "2024"

[features]
more = []
broken = []

[workspace]
"#;

/// Allocates a number of blocks of 1,234 bytes, and says what it is and where it runs.
const MAIN: &str = r#"
#[cfg(feature = "broken")]
compile_error!("this feature is not finished");

#[inline(never)]
fn block() -> Vec<u8> {
    std::hint::black_box(Vec::with_capacity(1234))
}

fn main() {
    let blocks = BLOCKS + if cfg!(feature = "more") { 1000 } else { 0 };
    let kept: Vec<Vec<u8>> = (0..blocks).map(|_| block()).collect();
    std::hint::black_box(kept);
}
"#;

const FILE: &str = r#"
[server]
bin = "toy"
profile = "dev"
[[step]]
name = "baseline"
[[step]]
name = "more"
features = ["more"]
[[step]]
name = "broken"
from = "baseline"
features = ["broken"]
[[step]]
name = "before"
from = "baseline"
revision = "HEAD"
[[step]]
name = "nowhere"
from = "baseline"
revision = "no-such-branch"
"#;

struct Package(tempfile::TempDir);

impl Package {
    /// A package under version control with 10 blocks, whose tree has 20.
    fn new() -> Package {
        let package = Package(tempfile::tempdir().expect("a folder"));
        let folder = package.0.path();
        std::fs::create_dir(folder.join("src")).expect("creates");
        std::fs::write(folder.join("Cargo.toml"), MANIFEST).expect("writes");
        std::fs::write(folder.join(".gitignore"), "/target\n").expect("writes");
        package.blocks(10);
        let locked = Command::new("cargo").args(["generate-lockfile", "--offline"]).current_dir(folder).output();
        assert!(locked.expect("cargo starts").status.success());
        for args in [
            &["init", "--quiet"][..],
            &["add", "."],
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "ten"],
        ] {
            assert!(package.git(args).status.success(), "git {args:?}");
        }
        package.blocks(20);
        std::fs::write(folder.join("alloc-ladder.toml"), FILE).expect("writes");
        package
    }

    fn blocks(&self, blocks: u64) {
        let main = MAIN.replace("BLOCKS", &blocks.to_string());
        std::fs::write(self.0.path().join("src/main.rs"), main).expect("writes");
    }

    fn git(&self, args: &[&str]) -> Output {
        Command::new("git").args(args).current_dir(self.0.path()).stdin(Stdio::null()).output().expect("git starts")
    }

    fn profile(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
        command.args(["alloc-ladder", "profile"]).args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").env_remove("CARGO_TARGET_DIR");
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        command.output().expect("starts")
    }

    fn run(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.0.path().join("target/alloc-ladder")).expect("is there").flatten();
        let mut runs = entries.map(|entry| entry.path()).filter(|folder| folder.join("run.json").is_file());
        runs.next().expect("a run")
    }
}

/// Blocks that the call stacks of a step through `block` allocated.
fn blocks(run: &Path, step: &str) -> u64 {
    let file = std::fs::read_to_string(run.join(step).join("server/dhat.json")).expect("reads");
    let dhat: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    let name = |frame: &serde_json::Value| dhat["ftbl"][frame.as_u64().expect("a place") as usize].to_string();
    let points = dhat["pps"].as_array().expect("points").iter();
    let of_block = |point: &&serde_json::Value| {
        point["fs"].as_array().expect("frames").iter().any(|frame| name(frame).contains("toy::block"))
    };
    points.filter(of_block).map(|point| point["tbk"].as_u64().expect("a number")).sum()
}

#[test]
fn steps_are_built_once_each_and_the_tree_stays_as_it_is() {
    let package = Package::new();
    let before = text(&package.git(&["status", "--porcelain"]).stdout);
    let done = package.profile(&[]);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{said}");
    for words in [
        "uncommitted changes: steps with a `revision` are built as they were committed",
        "this feature is not finished",
        "git knows no revision `no-such-branch`",
        "2 of 5 steps failed: broken, nowhere",
    ] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
    let folder = package.run();
    let run = read(&folder);
    assert!(run.partial);
    assert_eq!(blocks(&folder, "01-baseline"), 20);
    assert_eq!(blocks(&folder, "02-more"), 1020);
    assert_eq!(blocks(&folder, "04-before"), 10);
    assert!(run.steps[2].failure.as_deref().is_some_and(|why| why.contains("does not build")));
    let log = std::fs::read_to_string(folder.join("03-broken/build.log")).expect("kept");
    assert!(log.contains("this feature is not finished"), "{log}");
    assert_eq!(text(&package.git(&["status", "--porcelain"]).stdout), before, "nothing in the tree was changed");
    assert_eq!(text(&package.git(&["stash", "list"]).stdout), "");
}

/// Cargo takes what it built of a worktree for the tree's own, whose files are older, and the other way round.
#[test]
fn a_revision_is_never_measured_as_the_tree_nor_the_tree_as_a_revision() {
    let file = FILE.replace("[[step]]\nname = \"broken\"\nfrom = \"baseline\"\nfeatures = [\"broken\"]\n", "");
    let file = file.split("[[step]]\nname = \"nowhere\"").next().expect("a part").to_owned();
    for has_lock_file in [true, false] {
        let package = Package::new();
        std::fs::write(package.0.path().join("alloc-ladder.toml"), &file).expect("writes");
        if !has_lock_file {
            let _ = std::fs::remove_file(package.0.path().join("Cargo.lock"));
        }
        for time in ["first", "second"] {
            let done = package.profile(&[]);
            assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
            let folder = package.run();
            let found = ["01-baseline", "02-more", "03-before"].map(|step| blocks(&folder, step));
            assert_eq!(found, [20, 1020, 10], "lock file: {has_lock_file}, {time} time");
            std::fs::remove_dir_all(folder).expect("removes");
        }
    }
}

#[test]
fn a_program_that_the_workspace_does_not_have_is_a_usage_error() {
    let package = Package::new();
    let file = package.0.path().join("alloc-ladder.toml");
    std::fs::write(&file, "[server]\nbin = \"toi\"\n").expect("writes");
    let done = package.profile(&[]);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("the workspace has no bin `toi`") && said.contains("did you mean `toy`?"), "{said}");
    for (file_text, says) in [
        ("[server]\ncommand = \"./toi\"\n", "alloc-ladder.toml:2: [server] command: there is no program"),
        (
            "[server]\nbin = \"toy\"\nport = 1\n[[load]]\ncommand = \"no-such-load\"\n",
            "alloc-ladder.toml:5: [[load]] command: there is no program no-such-load",
        ),
        ("[server]\nbin = \"toi\"\n", "alloc-ladder.toml:2: [server] bin: the workspace has no bin `toi`"),
        ("[server]\nbin = \"toy\"\npackage = \"toi\"\n", "alloc-ladder.toml:3: [server] package:"),
    ] {
        std::fs::write(&file, file_text).expect("writes");
        let done = package.profile(&[]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && !said.contains("Building"), "wanted: {says}\nsaid: {said}");
    }
    std::fs::write(&file, FILE).expect("writes");
    let done = package.profile(&["--steps", "broken"]);
    assert_eq!(done.status.code(), Some(4), "{}", text(&done.stderr));
    let said = text(&done.stderr);
    assert!(
        said.contains("no step builds") && said.contains("[[step]] features: step broken: it does not build"),
        "{said}"
    );
}

#[test]
fn what_does_not_build_as_it_is_proves_nothing() {
    let package = Package::new();
    let folder = package.0.path();
    let main = folder.join("src/main.rs");
    std::fs::write(folder.join("alloc-ladder.toml"), "[server]\nbin = \"toy\"\nprofile = \"dev\"\n").expect("writes");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("reads");
    std::fs::write(folder.join("Cargo.toml"), manifest.replace("[features]\n", "[features]\nmimalloc = []\n"))
        .expect("writes");
    let source = std::fs::read_to_string(&main).expect("reads");
    std::fs::write(&main, format!("{source}\nfn broken() -> u32 {{ true }}\n")).expect("writes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
    command.args(["alloc-ladder", "advise", "--prove"]).current_dir(folder).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).env_remove("RUST_BACKTRACE").env_remove("CARGO_TARGET_DIR");
    let done = command.output().expect("starts");
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{said}");
    for words in ["mismatched types", "the service does not build as it is", "Building baseline"] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
    assert!(!said.contains("Building mimalloc"), "no candidate is built then: {said}");
    let log =
        said.split("what cargo said is in ").nth(1).and_then(|rest| rest.lines().next()).expect("a file is named");
    let log = std::fs::read_to_string(folder.join(log)).expect("what cargo said is kept");
    assert!(log.contains("mismatched types"), "{log}");
}

#[test]
fn init_writes_what_profile_reads() {
    let package = Package::new();
    let file = package.0.path().join("alloc-ladder.toml");
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
        command.args(["alloc-ladder", "init"]).current_dir(package.0.path()).env("NO_COLOR", "1");
        command.output().expect("starts")
    };
    let refused = init();
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&file).expect("reads"), FILE, "it is not overwritten");
    std::fs::remove_file(&file).expect("removes");
    let done = init();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("alloc_ladder::driver::install()"), "{}", text(&done.stdout));
    assert!(std::fs::read_to_string(&file).expect("written").contains("bin = \"toy\""));
}
