//! `cargo xtask codegen`: the protobuf code of the subject, the live endpoint, the agent and the examples, from
//! `proto/`, without protoc.
//!
//! Generated code is checked in, so building needs neither this nor a protobuf compiler; `--check` proves it fresh. The
//! generators are a third of what the command would have to build, so they are a feature of their own, `codegen`: without
//! it the verb builds the command once more, with it.

#[cfg(feature = "codegen")]
mod generate;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail if a file is not what `proto/` generates
    #[arg(long)]
    pub(crate) check: bool,
}

/// Generates here, where the generators are built in.
#[cfg(feature = "codegen")]
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    generate::run(args)
}

/// Has the command that has the generators built in do it.
#[cfg(not(feature = "codegen"))]
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    use anyhow::Context;

    use crate::cli::failure::{Failure, Kind};
    use crate::measure::interrupt::Cancel;
    use crate::measure::process::{Process, Streams};
    use crate::measure::program::Program;
    use crate::store::layout::root;

    let mut cargo = Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--package", "cargo-alloc-ladder", "--bin", "xtask"])
        .args(["--features", "repository,codegen", "--", "codegen"])
        .in_folder(root());
    if args.check {
        cargo = cargo.arg("--check");
    }
    let mut process = Process::start("code generation", &cargo, Streams::Told, &Cancel::default())?;
    let far = std::time::Instant::now() + crate::measure::build::LONGEST;
    process.lines(far)?;
    match process.wait(far)?.context("code generation took too long")?.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Failure::new(Kind::Verdict, "generated code is stale").help("cargo xtask codegen").into()),
        _ => Err(Failure::new(Kind::Environment, "code generation failed").help("its messages stand above").into()),
    }
}
