//! The verbs of this repository: measuring its own subject, and its chores.

pub(crate) mod agent;
pub(crate) mod ci;
pub(crate) mod codegen;
pub(crate) mod cost;
pub(crate) mod fuzz;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod readme;
pub(crate) mod sweep;

use clap::Subcommand;

use crate::verbs::profile;

/// The verbs of this repository.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run servers for a `profile --server` on another host
    Agent(agent::Args),
    /// Run every check a change must pass
    Ci(ci::Args),
    /// Generate code from proto/
    Codegen(codegen::Args),
    /// Measure what the instruments themselves cost a service
    Cost(cost::Args),
    /// Damage good inputs and give them to every reader of files and of the wire
    Fuzz(fuzz::Args),
    /// Measure the same payload without gRPC: raw TCP, h2, hyper, file servers
    Limits(limits::Args),
    /// Show the scenarios and the steps of their ladders
    List(list::Args),
    /// Measure every step of a ladder and render the run
    Profile(profile::Args),
    /// Write the results that README.md and profiles/reference show
    Readme(readme::Args),
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
        Verb::Ci(args) => ci::run(args),
        Verb::Codegen(args) => codegen::run(args),
        Verb::Cost(args) => cost::run(args),
        Verb::Fuzz(args) => fuzz::run(args),
        Verb::Limits(args) => limits::run(args),
        Verb::List(args) => list::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Readme(args) => readme::run(args),
        Verb::Sweep(args) => sweep::run(args),
    }
}
