//! Outside the measured process: everything behind `cargo alloc-ladder` and `cargo xtask`.
//!
//! | room | what it does | what it may use |
//! |---|---|---|
//! | `verbs` | one file a verb: flags, calls into the rooms, an exit code | every room but `repository` |
//! | `repository` | the verbs of this repository alone | every room |
//! | `measure` | starts processes, reads clocks, writes raw files and the record | `analyse`, `store`, `cli` |
//! | `render` | values to text, HTML, SVG and pprof | `analyse`, `store`, `cli` |
//! | `analyse` | pure functions of a record and its raw files | `store::layout`, `cli::numbers` |
//! | `store` | names on disk, finding runs, writing files whole | `cli` |
//! | `cli` | the terminal, errors, numbers for people | nothing of ours |

mod analyse;
mod cli;
mod measure;
mod render;
#[cfg(feature = "repository")]
mod repository;
mod store;
mod verbs;

#[cfg(test)]
mod fixture;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Profile, compare and check the allocations of a gRPC service.
#[derive(Debug, Parser)]
#[command(name = "cargo alloc-ladder", bin_name = "cargo alloc-ladder", version, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Anybody,
}

#[derive(Debug, Subcommand)]
enum Anybody {
    /// Run any program and record every stack that allocates; nothing of it has to be changed
    #[command(override_usage = "cargo alloc-ladder profile [OPTIONS] -- PROGRAM [ARGS]...")]
    Profile(verbs::record::Args),
    #[command(flatten)]
    Verb(verbs::Verb),
}

/// What `cargo-alloc-ladder` does. Cargo calls it with `alloc-ladder` as the first argument.
pub fn cargo_alloc_ladder() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "alloc-ladder") {
        args.remove(1);
    }
    anybody(args)
}

fn anybody(args: Vec<OsString>) -> ExitCode {
    // clap prints its own usage errors and exits with 2.
    exit(match Command::parse_from(args).verb {
        Anybody::Profile(args) => verbs::record::run(args),
        Anybody::Verb(verb) => verbs::run(verb),
    })
}

/// Profile the allocations of a gRPC service, one optimisation step at a time.
#[cfg(feature = "repository")]
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Xtask {
    #[command(subcommand)]
    verb: Either,
}

#[cfg(feature = "repository")]
#[derive(Debug, Subcommand)]
enum Either {
    #[command(flatten)]
    Repository(repository::Verb),
    #[command(flatten)]
    Anybody(verbs::Verb),
}

/// What `cargo xtask` does: the same verbs, and those of this repository. `profile` measures a ladder of this repository,
/// or, where it is given a program after `--`, records that.
#[cfg(feature = "repository")]
pub fn xtask() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let is = |index: usize, word: &str| args.get(index).is_some_and(|arg| arg == word);
    if is(1, "profile") && args.iter().any(|arg| arg == "--" || arg == "--bin") {
        return anybody(args);
    }
    exit(match Xtask::parse().verb {
        Either::Repository(verb) => repository::run(verb),
        Either::Anybody(verb) => verbs::run(verb),
    })
}

fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::failure::report(&error),
    }
}
