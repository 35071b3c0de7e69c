//! Builds the measured binary, `ladder`, which is server, client and peer in one.
//!
//! One build carries the instruments `time`, `count`, `stacks` and `retained`, chosen by an environment variable when it
//! starts. A sampler, an inner allocator, TLS, zstd and seams that do nothing are
//! builds of their own. Cargo puts every build of a
//! binary in the same place, so each is copied to a folder of its own.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use alloc_ladder::record::{Compression, Instrument, Workload};
pub(crate) use alloc_ladder::subject::ladder::Allocator;
use anyhow::Context;
use serde::Deserialize;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::measure::interrupt::Cancel;
use crate::measure::lock;
use crate::measure::process::{Process, Streams};
use crate::measure::program::Program;
use crate::store::layout::root;

const BINARY: &str = "ladder";
/// A list, as `PATH` is one, of builds of `ladder` that are taken as they lie there, without asking cargo whether anything
/// changed: whoever made them this minute and has cargo build something else beside it would wait for that.
pub(crate) const AS_BUILT: &str = "ALLOC_LADDER_AS_BUILT";
/// How long one build may take: everything, on a slow machine.
pub(crate) const LONGEST: Duration = Duration::from_secs(1800);

/// One build of `ladder`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary(PathBuf);

impl Binary {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Which file it is; `None` when it is gone.
    pub(crate) fn file(&self) -> Option<u64> {
        Some(std::fs::metadata(&self.0).ok()?.ino())
    }

    /// One of its parts, told its case and its instrument.
    pub(crate) fn program(&self, part: &str, instrument: Instrument, case: &str) -> Program {
        let (variable, value) = from_within(instrument).environment();
        Program::new(&self.0).args([part, "--case", case]).env(variable, value)
    }
}

/// What a process measures itself with: instructions are counted from outside, of one that measures time.
const fn from_within(instrument: Instrument) -> Instrument {
    match instrument {
        Instrument::Instructions => Instrument::Time,
        instrument => instrument,
    }
}

/// Which of the builds there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant(Vec<&'static str>);

impl Variant {
    /// The one that an instrument and an allocator need.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an instrument that cannot take the allocator.
    pub(crate) fn of(instrument: Instrument, allocator: Allocator) -> anyhow::Result<Variant> {
        if instrument == Instrument::Stacks && allocator != Allocator::System {
            let message = format!("dhat counts on the system's allocator only, not on {}", allocator.name());
            return Err(Failure::new(Kind::Usage, message).help("leave `stacks` out: --instruments count,time").into());
        }
        let own = match instrument {
            Instrument::Time
            | Instrument::Count
            | Instrument::Stacks
            | Instrument::Retained
            | Instrument::Instructions => None,
            Instrument::Cpu => Some("cpu"),
            Instrument::Sampled => Some("sampled"),
        };
        let inner = (allocator != Allocator::System).then_some(allocator.name());
        Ok(Variant(own.into_iter().chain(inner).collect()))
    }

    /// With what this traffic needs besides.
    pub(crate) fn for_traffic(mut self, workload: &Workload) -> Variant {
        self.0.extend(workload.tls.then_some("tls"));
        // gzip is in every build.
        self.0.extend(workload.compress.filter(|&compress| compress == Compression::Zstd).map(Compression::name));
        self
    }

    /// `time` without seams: what a service costs that nobody instrumented.
    pub(crate) fn bare() -> Variant {
        Variant(vec!["unstaged"])
    }

    /// The folder it is kept in.
    fn name(&self) -> String {
        if self.0.is_empty() { "all".to_owned() } else { self.0.join("-") }
    }

    /// What is said of it in messages.
    fn words(&self) -> String {
        if self.0.is_empty() {
            "server, client and peer".to_owned()
        } else {
            format!("ladder with {}", self.0.join(", "))
        }
    }
}

/// Builds for `instrument` with a cargo profile, showing cargo's own progress.
///
/// # Errors
/// As [`build_variant`] and [`Variant::of`].
pub(crate) fn build(instrument: Instrument, allocator: Allocator, profile: &str) -> anyhow::Result<Binary> {
    build_variant(&Variant::of(instrument, allocator)?, profile, &Cancel::default())
}

/// Builds a variant with a cargo profile, showing cargo's own progress, for somebody who may go away meanwhile: cargo is
/// ended then.
///
/// # Errors
/// [`Kind::Environment`] when cargo fails, [`Kind::Interrupted`].
pub(crate) fn build_variant(variant: &Variant, profile: &str, cancel: &Cancel) -> anyhow::Result<Binary> {
    let began = Instant::now();
    let target = target()?;
    let builds = target.join("instruments");
    let kept = builds.join(profile).join(variant.name());
    let path = kept.join(BINARY);
    if std::env::var_os(AS_BUILT).is_some_and(|paths| std::env::split_paths(&paths).any(|built| built == path)) {
        terminal::progress("Built", &format!("{} before, as {AS_BUILT} says", variant.words()));
        return Ok(Binary(path));
    }
    // Cargo calls its profiles' folders after `debug` and `release`, where it does not make one of their own.
    let output = target.join(match profile {
        "dev" | "test" => "debug",
        "bench" => "release",
        own => own,
    });
    // Cargo's own lock ends with the build; until the copies are made, no other build may take its place.
    std::fs::create_dir_all(&builds).with_context(|| format!("cannot write to {}", builds.display()))?;
    let _lock = lock::lock(&builds.join("lock"), cancel, lock::build_waits)?;
    // Cargo waits for its own too, and says so on a terminal only.
    lock::wait(&output.join(".cargo-lock"), cancel, lock::build_waits)?;
    terminal::progress("Building", &variant.words());
    let (status, built) = cargo(variant, profile, &target, cancel)?;
    if !status.success() {
        let message = format!("cargo could not build {} ({status})", variant.words());
        return Err(Failure::new(Kind::Environment, message).help("cargo's own messages stand above").into());
    }
    let built = built.get(BINARY).with_context(|| format!("cargo built no program called {BINARY}"))?;
    std::fs::create_dir_all(&kept)
        .and_then(|()| replace_if_new(built, &path))
        .with_context(|| format!("cannot copy {} to {}", built.display(), kept.display()))?;
    terminal::progress("Built", &format!("{} in {:.1} s", variant.words(), began.elapsed().as_secs_f64()));
    Ok(Binary(path))
}

/// A program of a package outside of the workspace, which shares what it can of the workspace's target folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    /// The package's folder, below the root of this repository.
    pub(crate) folder: &'static str,
    /// The program, and the package's feature that it needs.
    pub(crate) name: &'static str,
    /// Flags of rustc.
    pub(crate) flags: &'static str,
}

/// Builds such a program with a cargo profile, whatever version of Rust its dependencies ask for.
///
/// # Errors
/// [`Kind::Environment`] when cargo fails, [`Kind::Interrupted`].
pub(crate) fn build_outside(outside: Outside, profile: &str) -> anyhow::Result<Binary> {
    let began = Instant::now();
    terminal::progress("Building", outside.name);
    let manifest = root().join(outside.folder).join("Cargo.toml");
    let mut program = cargo_build(profile, &target()?)
        .args(["--ignore-rust-version", "--bin", outside.name, "--features", outside.name, "--manifest-path"])
        .arg(manifest);
    if !outside.flags.is_empty() {
        program = program.env("RUSTFLAGS", outside.flags);
    }
    let (status, built) = run_cargo(program, &Cancel::default())?;
    if !status.success() {
        let message = format!("cargo could not build {} of {} ({status})", outside.name, outside.folder);
        return Err(Failure::new(Kind::Environment, message).help("cargo's own messages stand above").into());
    }
    let built = built.get(outside.name).with_context(|| format!("cargo built no program called {}", outside.name))?;
    terminal::progress("Built", &format!("{} in {:.1} s", outside.name, began.elapsed().as_secs_f64()));
    Ok(Binary(built.clone()))
}

/// `cargo build`, which says in JSON what it built.
fn cargo_build(profile: &str, target: &Path) -> Program {
    Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--profile", profile, "--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(target)
}

/// Builds `ladder`.
fn cargo(
    variant: &Variant,
    profile: &str,
    target: &Path,
    cancel: &Cancel,
) -> anyhow::Result<(ExitStatus, HashMap<String, PathBuf>)> {
    let program = cargo_build(profile, target)
        .args(["--package", "alloc-ladder", "--bin", BINARY])
        .args(["--features", &[&["subject"], &variant.0[..]].concat().join(",")])
        .in_folder(root());
    run_cargo(program, cancel)
}

/// Runs cargo, which shows its own progress, in a group of its own: what it starts ends with it. Also says where each
/// program is: `bench` builds into `release`, and a target triple into a folder of its own.
fn run_cargo(mut program: Program, cancel: &Cancel) -> anyhow::Result<(ExitStatus, HashMap<String, PathBuf>)> {
    // A terminal shows cargo's own progress bar; a log gets one line a build.
    if !terminal::is_watched() {
        program = program.arg("--quiet");
    }
    let mut cargo = Process::start("build", &program, Streams::Told, cancel)?.watched();
    let far = Instant::now() + LONGEST;
    let built = programs(&cargo.lines(far)?);
    let status = cargo.wait(far)?.ok_or_else(|| cargo.failure("took too long"))?;
    Ok((status, built))
}

/// What cargo says of one thing that it built.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Every program that cargo built, or found built, by its name.
fn programs(messages: &[String]) -> HashMap<String, PathBuf> {
    // Other messages are of other shapes.
    let artifacts = messages.iter().filter_map(|line| serde_json::from_str(line).ok());
    artifacts.filter_map(|Artifact { target, executable }| Some((target.name, executable?))).collect()
}

/// Copies `built` over `path` unless it is there already.
///
/// A process of another run may be executing `path`, and reads its own symbols from there when it ends: it must not
/// find a file that was replaced for nothing.
fn replace_if_new(built: &Path, path: &Path) -> std::io::Result<()> {
    let stamp = |path: &Path| std::fs::metadata(path).and_then(|file| Ok((file.len(), file.modified()?)));
    if stamp(path).is_ok_and(|kept| stamp(built).is_ok_and(|built| built == kept)) {
        return Ok(());
    }
    // A file that is being executed cannot be written, but it can be replaced.
    let new = path.with_extension("new");
    std::fs::copy(built, &new)?;
    File::options().write(true).open(&new)?.set_modified(std::fs::metadata(built)?.modified()?)?;
    std::fs::rename(new, path)
}

/// Cargo's target folder: this program lies in `<target>/<profile>/`.
///
/// # Errors
/// When this program's own place is not known.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    own.ancestors().nth(2).map(Path::to_owned).context("this program lies outside a target folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_its_programs_are() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"alloc_ladder"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"ladder"},"executable":"/t/x86_64/release/ladder"}
{"reason":"build-script-executed","package_id":"x"}
warning: not JSON
{"reason":"build-finished","success":true}"#;
        let lines: Vec<String> = messages.lines().map(str::to_owned).collect();
        let expected = HashMap::from([("ladder".to_owned(), PathBuf::from("/t/x86_64/release/ladder"))]);
        assert_eq!(programs(&lines), expected);
    }

    #[test]
    fn one_build_carries_what_needs_no_build_of_its_own() {
        let of = |instrument| Variant::of(instrument, Allocator::System).expect("any instrument");
        for instrument in Instrument::ALL {
            let own = matches!(instrument, Instrument::Cpu | Instrument::Sampled);
            assert_eq!(of(instrument) == of(Instrument::Time), !own, "{}", instrument.name());
        }
        let inner = Variant::of(Instrument::Cpu, Allocator::Mimalloc).expect("any instrument but dhat");
        assert_eq!(inner.name(), "cpu-mimalloc");
        assert!(Variant::of(Instrument::Stacks, Allocator::Jemalloc).is_err());
    }

    #[test]
    fn a_binary_is_replaced_only_by_another_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (built, kept) = (folder.path().join("built"), folder.path().join("kept"));
        let file = || std::fs::metadata(&kept).expect("a copy").ino();
        std::fs::write(&built, "one").expect("written");
        replace_if_new(&built, &kept).expect("copied");
        let held = File::open(&kept).expect("a copy");
        let first = file();
        replace_if_new(&built, &kept).expect("left alone");
        assert_eq!(file(), first);
        std::fs::write(&built, "another").expect("written");
        replace_if_new(&built, &kept).expect("replaced");
        assert_ne!(file(), first);
        assert_eq!(std::fs::read_to_string(&kept).expect("a copy"), "another");
        drop(held);
    }
}
