//! A program that is none of the ladders', measured twice and joined: records, and reports that show both steps.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloc_ladder::record::Run;
use alloc_ladder::{Side, Tally};

/// The folder cargo builds into, where this program's binary lies too.
fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_xtask"));
    binary.ancestors().nth(2).expect("a binary lies in `<target>/<profile>`").to_owned()
}

/// An instrumented service that serves itself for a second.
fn program() -> PathBuf {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "alloc-ladder", "--example", "live"])
        // Those of `cargo xtask ci`, which has built it then.
        .args(["--features", "driver,live,otel,sampled", "--target-dir"])
        .arg(target())
        .stdin(Stdio::null())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the example builds");
    target().join("debug/examples/live")
}

/// Runs a verb with `root` for its workspace; returns what it said on stdout and on stderr.
fn xtask(root: &Path, args: &[&str]) -> (String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .env("CARGO_MANIFEST_DIR", root.join("xtask"))
        .output()
        .expect("xtask starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, progress) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{args:?}: {progress}");
    (said, progress)
}

/// The folder of the one run whose id begins so.
fn folder(root: &Path, id: &str, except: Option<&Path>) -> PathBuf {
    let folders = std::fs::read_dir(root.join("profiles")).expect("there are runs").flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(id));
    let mut found: Vec<PathBuf> = folders.filter(named).filter(|path| Some(path.as_path()) != except).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn page(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("report.html")).expect("the run has a report")
}

#[test]
fn attached_runs_have_reports_and_make_a_ladder_with_one() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path();
    let program = program();
    let program = program.to_str().expect("a path that is text");
    let attach = |name: &str| xtask(root, &["attach", "--name", name, "--", program, "1"]);

    let (table, progress) = attach("before");
    let first = folder(root, "attach-", None);
    assert!(progress.contains(&first.join("report.html").display().to_string()), "{progress}");
    assert!(table.contains("/greeter.v1.Greeter/SayHello"), "{table}");
    assert!(page(&first).contains("before"));
    attach("after");
    let second = folder(root, "attach-", Some(&first));
    assert!(page(&second).contains("after"));

    let runs = [&first, &second].map(|folder| folder.to_str().expect("a path that is text"));
    let (said, _) = xtask(root, &["join", runs[0], runs[1]]);
    let joined = folder(root, "join-", None);
    assert_eq!(said.trim_end(), joined.join("report.html").display().to_string());
    let page = page(&joined);
    assert!(page.contains("before") && page.contains("after"), "the report shows both steps");
    let run = std::fs::read_to_string(joined.join("run.json")).expect("the run has a record");
    let run = Run::from_json(&run).expect("the record is a run");
    assert_eq!(run.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["before", "after"]);
    for step in &run.steps {
        let counts = step.counts(Side::Server).and_then(|counted| counted.counts.as_ref()).expect("counts");
        assert_eq!(counts.rows.iter().map(|row| row.tally).sum::<Tally>(), counts.total);
    }
}
