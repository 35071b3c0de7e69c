//! `cargo alloc-ladder init`: writes an `alloc-ladder.toml` for the current package, and prints the lines that give more.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style, paint};
use crate::measure::subject::{FILE, Found, KEYS, Program, programs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print every key that the file may have, and write nothing
    #[arg(long)]
    keys: bool,
}

/// The lines to add to a service, where they go, and what each gives.
const LINES: [(&str, &[(&str, &str)]); 2] = [
    (
        "Cargo.toml",
        &[(
            "alloc-ladder = { version = \"0.1\", features = [\"driver\", \"recorder\", \"transport\"] }",
            "the library",
        )],
    ),
    (
        "src/main.rs",
        &[
            (
                "#[global_allocator]\nstatic ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();",
                "exact counts and call stacks; off unless the environment asks",
            ),
            (
                "let _driver = alloc_ladder::driver::install();",
                "first in main: measured windows, so that rounds, figures per message and budgets",
            ),
            (
                ".layer(alloc_ladder::tonic::ServerLayer::new())",
                "on Server::builder(): rows by RPC method and stage, and messages that are counted",
            ),
            (
                ".serve_with_incoming(alloc_ladder::tonic::incoming(address)?)",
                "instead of .serve(address): receive buffers as a stage of their own",
            ),
        ],
    ),
];

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.keys {
        return terminal::result(&format!("{}\n", KEYS.trim()));
    }
    let here = std::env::current_dir()?;
    let path = here.join(FILE);
    let Found { programs, has_library } = programs(&here)?;
    write(&path, &text(&programs))?;
    terminal::progress("Written", FILE);
    terminal::result(&advice(has_library))?;
    let next = "see to the lines marked `!`, then run: cargo alloc-ladder profile";
    terminal::labelled(Style::Help, "help", next);
    Ok(())
}

/// Writes the file, and never over one that is there.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = File::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(Kind::Usage, format!("{FILE} is there already"))
            .help("`cargo alloc-ladder init --keys` lists what can be added to it"),
        _ => Failure::new(Kind::Environment, format!("cannot write {}: {error}", path.display())),
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// The file for a package that has these programs.
fn text(programs: &[Program]) -> String {
    let is_load = |program: &&Program| ["load", "client", "bench"].iter().any(|word| program.name.contains(word));
    let load = if programs.len() > 1 { programs.iter().find(is_load) } else { None };
    let server = programs.iter().find(|program| Some(*program) != load);
    let program = |program: &Program| format!("{} = {:?}", program.kind, program.name);
    let server = server.map_or_else(|| "command = \"./server\"       # !".to_owned(), program);
    let load = match load {
        Some(load) => format!(
            "[[load]]\n{}\n# args = [\"{{calls}}\"]         # ! how the program is told to make so many calls; it may make more",
            program(load)
        ),
        None => "# ! What makes the calls, any program; without one the server runs alone.\n# [[load]]\n\
                 # command = \"ghz --insecure --total {calls} --call pkg.Service/Method localhost:{port}\""
            .to_owned(),
    };
    // A command is not built, so that nothing of its code can be changed.
    let patched = match programs.is_empty() {
        true => "",
        false => "\n# [[step]]\n# name = \"older-h2\"\n# from = \"baseline\"\n# patch = { h2 = \"=0.4.13\" }\n",
    };
    format!(
        "# What `cargo alloc-ladder profile` measures. `cargo alloc-ladder init --keys` lists every key.\n\
         \n\
         [server]\n\
         {server}\n\
         # args = [\"--port\", \"{{port}}\"]\n\
         # side = \"client\"            # where it makes the calls; what it calls is a load then, and `line` says when to begin\n\
         port = 50051                 # ! ready when it listens here; or `line = \"listening\"`, or `health = \"\"`\n\
         \n\
         {load}\n\
         \n\
         [window]\n\
         warmup = 256                 # messages before the measured part\n\
         messages = 2000              # of the measured part; or `seconds = 5`\n\
         rounds = 5                   # that count\n\
         budget = 60                  # seconds for those that are timed; they end sooner when CPU time is known to 2 %\n\
         \n\
         # A step changes one thing: features, allocator, env, args, load-args, revision or patch.\n\
         [[step]]\n\
         name = \"baseline\"\n\
         \n\
         # [[step]]\n\
         # name = \"one-worker\"\n\
         # env = {{ TOKIO_WORKER_THREADS = \"1\" }}\n\
         {patched}\
         \n\
         # Other traffic, for `profile --traffic many-streams`: a run of its own.\n\
         # [[traffic]]\n\
         # name = \"many-streams\"\n\
         # load-args = [\"--streams\", \"64\"]\n"
    )
}

/// What to add to the service, and what each line gives.
fn advice(has_library: bool) -> String {
    let mut text = match has_library {
        true => "the package has the library. Which of these lines it has too decides what is measured:\n",
        false => "the service is measured as it is: call stacks of its whole life. These lines give more:\n",
    }
    .to_owned();
    for (file, lines) in LINES {
        let _ = writeln!(text, "\n{}", paint(Style::Bold, file));
        for (line, gives) in lines {
            for line in line.lines() {
                let _ = writeln!(text, "  {line}");
            }
            let _ = writeln!(text, "      {}", paint(Style::Dim, gives));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::subject::read;

    fn program(kind: &'static str, name: &str) -> Program {
        Program { kind, name: name.to_owned() }
    }

    #[test]
    fn what_is_written_can_be_read_with_its_comments_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let greeter = [program("bin", "greeter")];
        let both = [program("bin", "greeter-client"), program("bin", "greeter")];
        for (name, programs) in [("none", &[][..]), ("one", &greeter[..]), ("two", &both[..])] {
            let path = folder.path().join(name);
            write(&path, &text(programs)).expect("writes");
            let subject = read(&path).expect("reads");
            assert_eq!(subject.name, if programs.is_empty() { "server" } else { "greeter" });
            assert_eq!(subject.load.len(), usize::from(programs.len() == 2));
            // Every line that is commented out is one that may be.
            let uncommented: Vec<String> = text(programs)
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest.to_owned(),
                    _ => line.to_owned(),
                })
                .collect();
            std::fs::write(&path, uncommented.join("\n")).expect("writes");
            let whole = read(&path).unwrap_or_else(|error| panic!("{error}\n{}", uncommented.join("\n")));
            assert_eq!((whole.load.len(), whole.steps.len()), (1, if programs.is_empty() { 2 } else { 3 }));
        }
    }

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, "mine").expect("writes");
        let error = write(&path, "other").expect_err("refused").downcast::<Failure>().expect("a failure");
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "mine");
    }

    #[test]
    fn every_line_says_what_it_gives() {
        let text = terminal::plain(&advice(false));
        for (_, lines) in LINES {
            for (line, gives) in lines {
                assert!(line.lines().all(|line| text.contains(line)) && text.contains(gives), "{text}");
            }
        }
    }
}
