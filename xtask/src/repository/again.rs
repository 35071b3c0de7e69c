//! A verb that the command runs in a build of itself with one feature more: what few need must not cost everybody a build.

use std::time::Instant;

use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::measure::build::LONGEST;
use crate::measure::interrupt::Cancel;
use crate::measure::process::{Process, Streams};
use crate::measure::program::Program;
use crate::store::layout::root;

/// The flag that has the command built with optimisation, for the verbs that take long enough.
pub(crate) const RELEASE: &str = "--release";

/// Runs `cargo xtask ARGS` in a build with `feature`, optimised where [`RELEASE`] is among them, and ends as that ends.
///
/// # Errors
/// When it cannot be built or fails; it has said why by then.
pub(crate) fn with_feature(feature: &str, args: &[String]) -> anyhow::Result<()> {
    let optimised = args.iter().find(|arg| *arg == RELEASE);
    let cargo = Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .arg("run")
        .args(optimised)
        .args(["--quiet", "--package", "cargo-alloc-ladder", "--bin", "xtask", "--features"])
        .args([&format!("repository,{feature}"), "--"])
        .args(args)
        .in_folder(root());
    let mut process = Process::start("command", &cargo, Streams::Shared, &Cancel::default())?;
    // A day is what the longest of these may take, behind a build.
    let until = Instant::now() + LONGEST + std::time::Duration::from_secs(24 * 3600);
    let code = process.wait(until)?.context("it took too long")?.code();
    let kind = match code {
        Some(0) => return Ok(()),
        Some(1) => Kind::Verdict,
        Some(2) => Kind::Usage,
        Some(130) => Kind::Interrupted,
        _ => Kind::Environment,
    };
    Err(Failure::new(kind, format!("`{} {}` failed; its messages stand above", "cargo xtask", args.join(" "))).into())
}
