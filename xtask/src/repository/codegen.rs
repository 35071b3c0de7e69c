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

/// Has a build of the command do it that has the generators.
#[cfg(not(feature = "codegen"))]
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let check = args.check.then_some("--check");
    let args: Vec<String> = ["codegen"].into_iter().chain(check).map(str::to_owned).collect();
    super::again::with_feature("codegen", &args)
}
