//! The verbs of this repository: measuring its own subject, and its chores.

pub(crate) mod again;
pub(crate) mod agent;
pub(crate) mod beside;
pub(crate) mod ci;
pub(crate) mod codegen;
pub(crate) mod cost;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod readme;
pub(crate) mod speed;
pub(crate) mod sweep;

use clap::Subcommand;

use crate::verbs::profile;

/// Arguments for a build of the command with another feature.
#[cfg(not(feature = "fuzz"))]
#[derive(Debug, clap::Args)]
pub(crate) struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The verbs of this repository.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run servers for a `profile --server` on another host
    Agent(agent::Args),
    /// Measure what recording every stack costs, beside heaptrack, dhat and Valgrind's DHAT
    Beside(beside::Args),
    /// Run every check a change must pass
    Ci(ci::Args),
    /// Generate code from proto/
    Codegen(codegen::Args),
    /// Measure what the instruments themselves cost a service
    Cost(cost::Args),
    /// Damage good inputs and give them to every reader of files and of the wire
    #[cfg(feature = "fuzz")]
    Fuzz(fuzz::Args),
    /// Damage good inputs and give them to every reader of files and of the wire
    #[cfg(not(feature = "fuzz"))]
    #[command(disable_help_flag = true)]
    Fuzz(Passed),
    /// Measure the same payload without gRPC: raw TCP, h2, hyper, file servers
    Limits(limits::Args),
    /// Show the scenarios and the steps of their ladders
    List(list::Args),
    /// Measure every step of a ladder and render the run
    Profile(profile::Args),
    /// Write the results that README.md and profiles/reference show
    Readme(readme::Args),
    /// Measure how long the command itself takes, and how much memory
    Speed(speed::Args),
    /// Measure one step over message sizes and numbers of streams
    Sweep(sweep::Args),
}

/// Does what a verb says.
///
/// # Errors
/// What the verb gives; [`crate::cli::failure`] says how that ends the process.
pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Agent(args) => agent::run(args),
        Verb::Beside(args) => beside::run(args),
        Verb::Ci(args) => ci::run(args),
        Verb::Codegen(args) => codegen::run(args),
        Verb::Cost(args) => cost::run(args),
        #[cfg(feature = "fuzz")]
        Verb::Fuzz(args) => fuzz::run(args),
        #[cfg(not(feature = "fuzz"))]
        Verb::Fuzz(Passed { args }) => again::with_feature("fuzz", &[vec!["fuzz".to_owned()], args].concat()),
        Verb::Limits(args) => limits::run(args),
        Verb::List(args) => list::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Readme(args) => readme::run(args),
        Verb::Speed(args) => speed::run(args),
        Verb::Sweep(args) => sweep::run(args),
    }
}
