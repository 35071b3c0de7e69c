//! The command line: one variant a verb; each verb's flags live in its own file.

use clap::{Parser, Subcommand};

/// Profile the allocations of a gRPC service, one optimisation step at a time.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say which rungs take away the largest stage that is left of a run
    Advise(crate::advise::Args),
    /// Run servers for a `profile --server` on another host
    Agent(crate::agent::Args),
    /// Run any program with alloc-ladder in it and record what it allocates
    Attach(crate::attach::Args),
    /// Check a run against profiles/budgets.toml
    Check(crate::check::Args),
    /// Run every check a change must pass
    Ci(crate::ci::Args),
    /// Generate the code under src/pb from proto/
    Codegen(crate::codegen::Args),
    /// Show what changed between two runs, or between two steps of one
    Compare(crate::compare::Args),
    /// Measure what the instruments themselves cost a service
    Cost(crate::cost::Args),
    /// Make one ladder of several attached runs
    Join(crate::join::Args),
    /// Measure the same payload without gRPC: raw TCP, h2, hyper, file servers
    Limits(crate::limits::Args),
    /// Show the scenarios and the steps of their ladders
    List(crate::list::Args),
    /// Measure every step of a ladder and render the run
    Profile(crate::profile::Args),
    /// Measure one rung over message sizes and numbers of streams
    Sweep(crate::sweep::Args),
    /// Open a run's report in the browser, or serve all runs
    View(crate::view::Args),
    /// Render a run's report again from its stored files
    Report(crate::report::Args),
    /// Write the README's results section from the reference runs
    Readme(crate::readme::Args),
}
