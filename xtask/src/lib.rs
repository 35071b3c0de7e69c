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

#![cfg_attr(
    not(feature = "repository"),
    allow(dead_code, reason = "the study's verbs use the rest of the rooms; the compiler takes it out of the command")
)]

mod analyse;
mod cli;
mod measure;
mod render;
#[cfg(feature = "repository")]
mod repository;
mod store;
mod verbs;

#[cfg(test)]
mod any_input;
#[cfg(test)]
mod fixture;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use store::place::{self, Program};

/// Profile, compare and check the allocations of a gRPC service.
#[derive(Debug, Parser)]
#[command(name = "cargo alloc-ladder", bin_name = "cargo alloc-ladder", version, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Anybody,
}

#[derive(Debug, Subcommand)]
enum Anybody {
    /// Measure the steps that alloc-ladder.toml describes, or run any program and record every stack that allocates
    #[command(
        override_usage = "cargo alloc-ladder profile [OPTIONS]\n       cargo alloc-ladder profile [OPTIONS] -- PROGRAM [ARGS]..."
    )]
    Profile(Profile),
    #[command(flatten)]
    Verb(verbs::Verb),
}

/// `profile` of a program, or of what `alloc-ladder.toml` describes.
#[derive(Debug, clap::Args)]
struct Profile {
    #[command(flatten)]
    climb: verbs::climb::Args,
    #[command(flatten)]
    record: verbs::record::Args,
}

/// What `cargo-alloc-ladder` does. Cargo calls it with `alloc-ladder` as the first argument.
pub fn cargo_alloc_ladder() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "alloc-ladder") {
        args.remove(1);
    }
    anybody(args, Program::AllocLadder)
}

fn anybody(args: Vec<OsString>, program: Program) -> ExitCode {
    let Command { verb } = parse(args, program);
    exit(place::settle(program).and_then(|()| match verb {
        Anybody::Profile(Profile { record, .. }) if record.has_program() => verbs::record::run(record),
        Anybody::Profile(Profile { climb, record }) => verbs::climb::run(&climb, record.open, record.json),
        Anybody::Verb(verb) => verbs::run(verb),
    }))
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
    let is_profile = args.get(1).is_some_and(|arg| arg == "profile");
    if is_profile && args.iter().any(|arg| arg == "--" || arg == "--bin") {
        return anybody(args, Program::Xtask);
    }
    let Xtask { verb } = parse(args, Program::Xtask);
    let done = place::settle(Program::Xtask).and_then(|()| match verb {
        Either::Repository(verb) => repository::run(verb),
        Either::Anybody(verb) => verbs::run(verb),
    });
    repository::speed::tell_peak();
    exit(done)
}

/// Reads the command line. clap prints its own usage errors and exits with 2.
fn parse<T: CommandFactory + FromArgMatches>(args: Vec<OsString>, program: Program) -> T {
    let mut command = place::named(T::command(), program);
    let matches = command.try_get_matches_from_mut(args).unwrap_or_else(|error| error.exit());
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::failure::report(&error),
    }
}

#[cfg(all(test, feature = "repository"))]
mod tests {
    use super::*;

    /// Every help text of a command and its verbs.
    fn help(mut command: clap::Command) -> String {
        let own = command.render_long_help().to_string();
        let verbs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
        verbs.into_iter().map(help).fold(own, |text, verb| text + &verb)
    }

    #[test]
    fn help_names_the_command_in_use_and_its_folders() {
        Command::command().debug_assert();
        Xtask::command().debug_assert();
        let anybody = help(place::named(Command::command(), Program::AllocLadder));
        let repository = help(place::named(Xtask::command(), Program::Xtask));
        for (text, own, others) in [
            (anybody, ["cargo alloc-ladder join", "alloc-ladder-budgets.toml"], ["cargo xtask", "profiles/"]),
            (repository, ["cargo xtask agent", "profiles/budgets.toml"], ["cargo alloc-ladder", "target/alloc-ladder"]),
        ] {
            own.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing:\n{text}"));
            others.iter().for_each(|word| assert!(!text.contains(word), "`{word}`:\n{text}"));
            assert!(!text.contains('{'), "a name is not filled in:\n{text}");
        }
    }
}
