//! `cargo xtask ci`: everything a change must pass, in one command; what the README calls the tests.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::program::find;
use crate::repository::codegen;
use crate::repository::readme;
use crate::store::layout::root;
use crate::verbs::check;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the checks with this word in their name
    #[arg(long)]
    only: Option<String>,
}

/// One check: cargo and its arguments.
struct Check {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

const fn check(name: &'static str, args: &'static [&'static str]) -> Check {
    Check { name, args, env: &[] }
}

/// Features beside the default ones that tests, examples and documentation need.
const ALL: &str = "driver,live,otel,sampled";

/// The checks that are a cargo command, quick ones first.
const CHECKS: &[Check] = &[
    check("fmt", &["fmt", "--all", "--check"]),
    check("clippy", &["clippy", "--workspace", "--all-targets", "--features", ALL, "--", "--deny", "warnings"]),
    Check {
        name: "doc",
        args: &["doc", "--workspace", "--no-deps", "--document-private-items", "--features", ALL],
        env: &[("RUSTDOCFLAGS", "--deny warnings")],
    },
    check("test", &["test", "--workspace", "--no-fail-fast", "--features", ALL]),
    // Each needs an allocator that the other tests do not have.
    check("test: retained", &["test", "--features", "retained", "--lib", "--test", "retained"]),
    check(
        "test: inner allocators",
        &["test", "--features", "mimalloc,jemalloc", "--test", "inner_mimalloc", "--test", "inner_jemalloc"],
    ),
    check(
        "foreign services",
        &["test", "--manifest-path", "examples/foreign/Cargo.toml", "--target-dir", "target/foreign"],
    ),
];

/// The library without what it can do without, every instrument, and every inner allocator.
const FEATURES: &[(&str, &[&str])] = &[
    ("features: none", &["--no-default-features"]),
    ("features: tonic", &["--no-default-features", "--features", "tonic"]),
    ("features: record", &["--no-default-features", "--features", "record"]),
    ("features: live", &["--no-default-features", "--features", "live"]),
    ("features: driver", &["--no-default-features", "--features", "driver"]),
    ("features: otel", &["--no-default-features", "--features", "otel"]),
    ("features: sampled", &["--no-default-features", "--features", "sampled"]),
    ("features: default", &["--bins"]),
    ("features: count", &["--bins", "--features", "count"]),
    ("features: stacks", &["--bins", "--features", "stacks"]),
    ("features: retained", &["--bins", "--features", "retained"]),
    ("features: cpu", &["--bins", "--features", "cpu"]),
    ("features: sampled, bins", &["--bins", "--features", "sampled"]),
    ("features: unstaged", &["--bins", "--features", "unstaged"]),
    ("features: mimalloc", &["--bins", "--features", "count,mimalloc"]),
    ("features: jemalloc", &["--bins", "--features", "count,jemalloc"]),
];

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|word| name.contains(word.as_str()));
    let mut failed = Vec::new();
    let mut run = |name: &'static str, check: &mut dyn FnMut() -> anyhow::Result<()>| {
        if !wanted(name) {
            return;
        }
        terminal::progress("Checking", name);
        let began = Instant::now();
        if let Err(error) = check() {
            terminal::labelled(Style::Error, "error", &format!("{name}: {error:#}"));
            failed.push(name);
        } else {
            terminal::progress("Passed", &format!("{name} in {:.1} s", began.elapsed().as_secs_f64()));
        }
    };
    run("generated code", &mut || codegen::run(codegen::Args { check: true }));
    run("readme", &mut || readme::run(readme::Args { check: true }));
    for Check { name, args, env } in CHECKS {
        run(name, &mut || command("cargo", args, env));
    }
    for (name, flags) in FEATURES {
        let args = [&["clippy", "--package", "alloc-ladder"][..], flags, &["--", "--deny", "warnings"]].concat();
        run(name, &mut || command("cargo", &args, &[]));
    }
    run("budgets", &mut || check::run(check::Args::default()));
    // Looks for Chromium, then gets its packages, and skips itself where either is missing, except on a CI machine.
    run("browser", &mut || {
        tool("node", "apt-get install nodejs npm", || command("node", &["tests/browser/run.mjs", "--install"], &[]))
    });
    // Advisories need the network; licences, duplicates and sources do not.
    run("deny", &mut || {
        tool("cargo-deny", "cargo install --locked cargo-deny", || {
            let args = [
                "deny",
                "--workspace",
                "--all-features",
                "check",
                "--hide-inclusion-graph",
                "licenses",
                "bans",
                "sources",
            ];
            command("cargo", &args, &[])
        })
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Verdict, format!("{} failed: {}", failed.len(), failed.join(", ")))
        .help("run one again with `cargo xtask ci --only NAME`")
        .into())
}

/// Runs a check that needs a tool: skipped with a line where it is missing, except on a CI machine.
fn tool(name: &str, install: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let home = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".cargo/bin").join(name));
    if find(name).is_some() || home.is_some_and(|path| path.is_file()) {
        return check();
    }
    let message = format!("{name} is not installed; to run this check: {install}");
    if std::env::var_os("CI").is_some() {
        anyhow::bail!(message);
    }
    terminal::labelled(Style::Warning, "skipped", &message);
    Ok(())
}

fn command(program: &str, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = match program {
        "cargo" => std::env::var_os("CARGO").unwrap_or_else(|| program.into()),
        _ => program.into(),
    };
    let mut command = Command::new(path);
    command.args(args).envs(env.iter().copied()).current_dir(root()).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    anyhow::ensure!(status.success(), "{program} {} gave {status}", args.join(" "));
    Ok(())
}
