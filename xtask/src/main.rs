//! Outside the measured process: spawns the subject, compares runs, renders reports. One verb a file.

mod advise;
mod agent;
mod attach;
mod budget;
mod build;
mod check;
mod ci;
mod classify;
mod cli;
mod codegen;
mod compare;
mod cost;
mod cpu;
mod dhat;
mod environment;
mod failure;
#[cfg(test)]
mod fixture;
mod flame;
mod fold;
mod instructions;
mod join;
mod judge;
mod limits;
mod list;
mod metric;
mod nine_stages;
mod pair;
mod pprof;
mod profile;
mod program;
mod readme;
mod report;
mod run_dir;
mod sites;
mod stats;
mod sweep;
mod table;
mod terminal;
mod view;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    // clap prints its own usage errors and exits with 2.
    let cli = Cli::parse();
    let result = match cli.verb {
        Verb::Advise(args) => advise::run(args),
        Verb::Agent(args) => agent::run(args),
        Verb::Attach(args) => attach::run(args),
        Verb::Check(args) => check::run(args),
        Verb::Ci(args) => ci::run(args),
        Verb::Codegen(args) => codegen::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Cost(args) => cost::run(args),
        Verb::Join(args) => join::run(args),
        Verb::Limits(args) => limits::run(args),
        Verb::List(args) => list::run(args),
        Verb::View(args) => view::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Sweep(args) => sweep::run(args),
        Verb::Readme(args) => readme::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
