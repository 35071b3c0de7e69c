//! The verbs of the command, one a file: flags, calls into the rooms, an exit.

pub(crate) mod advise;
pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod climb;
pub(crate) mod compare;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod open;
pub(crate) mod patch;
pub(crate) mod profile;
pub(crate) mod prove;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod view;

use clap::Subcommand;

/// The verbs that serve anybody, in any directory.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Suggest which steps would remove the largest remaining source of allocations
    Advise(advise::Args),
    /// Run a program with alloc-ladder in it and record what it allocates
    Attach(attach::Args),
    /// Check a run against budgets
    Check(check::Args),
    /// Show what changed between two runs, or between two steps of one
    Compare(compare::Args),
    /// Write an alloc-ladder.toml for the current package, and show the lines that give more
    Init(init::Args),
    /// Make one ladder of several attached runs
    Join(join::Args),
    /// Show recordings, and what dhat, valgrind, pprof and flame graph tools wrote
    Open(open::Args),
    /// Copy crates that somebody else generated, so that their streams allocate nothing per message
    Patch(patch::Args),
    /// Render a run's report again from its stored files
    Report(report::Args),
    /// Open a run's report in the browser, or serve all runs
    View(view::Args),
}

/// Does what a verb says.
///
/// # Errors
/// What the verb gives; [`crate::cli::failure`] says how that ends the process.
pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Advise(args) if args.prove => prove::run(args.step.as_deref()),
        Verb::Advise(args) => advise::run(args),
        Verb::Attach(args) => attach::run(args),
        Verb::Check(args) => check::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Init(args) => init::run(args),
        Verb::Join(args) => join::run(args),
        Verb::Open(args) => open::run(args),
        Verb::Patch(args) => patch::run(args),
        Verb::Report(args) => report::run(args),
        Verb::View(args) => view::run(args),
    }
}
