//! Builds the measured binaries: one build an instrument and inner allocator.
//!
//! Cargo puts every build of a binary in the same place, so each is copied to a folder of its own. Builds share
//! everything but this package: a second instrument takes seconds.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use alloc_ladder::record::Instrument;
use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::measure::interrupt::Cancel;
use crate::measure::lock;
use crate::measure::process::{Process, Streams};
use crate::measure::program::Program;
use crate::store::layout::root;

/// How long one build may take: everything, on a slow machine.
pub(crate) const LONGEST: Duration = Duration::from_secs(1800);

/// The allocator below the instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Allocator {
    /// The system's
    #[default]
    System,
    Mimalloc,
    Jemalloc,
}

impl Allocator {
    /// The allocator's one name, and its cargo feature.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Allocator::System => "system",
            Allocator::Mimalloc => "mimalloc",
            Allocator::Jemalloc => "jemalloc",
        }
    }
}

/// The binaries of one build.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) server: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) peer: PathBuf,
}

impl Binaries {
    /// Which files the two sides are; `None` for one that is gone.
    pub(crate) fn files(&self) -> [Option<u64>; 2] {
        [&self.server, &self.client].map(|path| Some(std::fs::metadata(path).ok()?.ino()))
    }
}

/// The cargo feature an instrument is built with; several instruments look at a `time` build from outside.
const fn feature(instrument: Instrument) -> Option<&'static str> {
    match instrument {
        Instrument::Time | Instrument::Instructions => None,
        Instrument::Count => Some("count"),
        Instrument::Stacks => Some("stacks"),
        Instrument::Retained => Some("retained"),
        Instrument::Cpu => Some("cpu"),
        Instrument::Sampled => Some("sampled"),
    }
}

/// Builds for `instrument` with a cargo profile, showing cargo's own progress.
///
/// # Errors
/// [`Kind::Environment`] when cargo fails, [`Kind::Usage`] for an instrument that cannot take the allocator.
pub(crate) fn build(instrument: Instrument, allocator: Allocator, profile: &str) -> anyhow::Result<Binaries> {
    build_for(instrument, allocator, profile, &Cancel::default())
}

/// As [`build()`], for somebody who may go away meanwhile: cargo is ended then.
///
/// # Errors
/// As [`build()`], and [`Kind::Interrupted`].
pub(crate) fn build_for(
    instrument: Instrument,
    allocator: Allocator,
    profile: &str,
    cancel: &Cancel,
) -> anyhow::Result<Binaries> {
    if instrument == Instrument::Stacks && allocator != Allocator::System {
        let message = format!("dhat counts on the system's allocator only, not on {}", allocator.name());
        return Err(Failure::new(Kind::Usage, message).help("leave `stacks` out: --instruments count,time").into());
    }
    let features: Vec<&str> =
        feature(instrument).into_iter().chain((allocator != Allocator::System).then_some(allocator.name())).collect();
    build_with(&features, profile, cancel)
}

/// Builds for `time` without seams: what a service costs that nobody instrumented.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_bare(profile: &str) -> anyhow::Result<Binaries> {
    build_with(&["unstaged"], profile, &Cancel::default())
}

fn build_with(features: &[&str], profile: &str, cancel: &Cancel) -> anyhow::Result<Binaries> {
    let began = Instant::now();
    let variant = match features {
        [] => "time".to_owned(),
        features => features.join("-"),
    };
    let target = target()?;
    // Cargo calls the folder of its `dev` profile after what it once was.
    let output = target.join(if profile == "dev" { "debug" } else { profile });
    // Cargo's own lock ends with the build; until the copies are made, no other build may take its place.
    let builds = target.join("instruments");
    std::fs::create_dir_all(&builds).with_context(|| format!("cannot write to {}", builds.display()))?;
    let _lock = lock::lock(&builds.join("lock"), cancel, lock::build_waits)?;
    // Cargo waits for its own too, and says so on a terminal only.
    lock::wait(&output.join(".cargo-lock"), cancel, lock::build_waits)?;
    terminal::progress("Building", &format!("server and client ({variant})"));
    let status = cargo(features, profile, &target, cancel)?;
    if !status.success() {
        let message = format!("cargo could not build the {variant} variant ({status})");
        return Err(Failure::new(Kind::Environment, message).help("cargo's own messages stand above").into());
    }
    let kept = builds.join(profile).join(&variant);
    let keep = |name: &str| -> anyhow::Result<PathBuf> {
        let (built, path) = (output.join(name), kept.join(name));
        std::fs::create_dir_all(&kept)
            .and_then(|()| replace_if_new(&built, &path))
            .with_context(|| format!("cannot copy {name} to {}", kept.display()))?;
        Ok(path)
    };
    let binaries = Binaries { server: keep("server")?, client: keep("client")?, peer: keep("peer")? };
    terminal::progress("Built", &format!("{variant} in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(binaries)
}

/// Runs cargo, which shows its own progress, in a group of its own: what it starts ends with it.
fn cargo(features: &[&str], profile: &str, target: &Path, cancel: &Cancel) -> anyhow::Result<ExitStatus> {
    let mut program = Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--profile", profile, "--package", "alloc-ladder", "--bins", "--target-dir"])
        .arg(target)
        .args(["--features", &features.join(",")])
        .in_folder(root());
    // A terminal shows cargo's own progress bar; a log gets one line a build.
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        program = program.arg("--quiet");
    }
    let mut cargo = Process::start("build", &program, Streams::Shown, cancel)?;
    let far = Instant::now() + LONGEST;
    cargo.wait(far)?.ok_or_else(|| cargo.failure("took too long"))
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
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    own.ancestors().nth(2).map(Path::to_owned).context("this program lies outside a target folder")
}

#[cfg(test)]
mod tests {
    use super::*;

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
