//! A program that is none of the ladders', measured twice and joined: records, and reports that show both steps.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alloc_ladder::record::Run;
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Stage, Tally, driver};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const RPC: &str = "/attached.Test/Put";

/// The program: this test binary started again with this one test.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn program() {
    let _driver = driver::install();
    let scope = Scope::new(Method::register(Side::Server, RPC), Stage::Handler);
    let _guard = scope.enter();
    black_box(Vec::<u8>::with_capacity(10_000));
}

/// A verb with `root` for its workspace.
fn xtask(root: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1")
        .env("CARGO_MANIFEST_DIR", root.join("xtask"))
        .spawn()
        .expect("xtask starts")
}

fn attach(root: &Path, name: &str) -> Child {
    let program = std::env::current_exe().expect("this test has a file");
    let program = program.to_str().expect("a path that is text");
    xtask(root, &["attach", "--name", name, "--", program, "--exact", "program", "--ignored", "--quiet"])
}

/// What a verb that succeeded said on stdout and on stderr.
#[track_caller]
fn said(verb: Child) -> (String, String) {
    let done = verb.wait_with_output().expect("xtask ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, progress) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{progress}");
    (said, progress)
}

/// The runs whose id begins so, and their folders.
fn runs(root: &Path, id: &str) -> Vec<(PathBuf, Run)> {
    let folders = std::fs::read_dir(root.join("profiles")).expect("there are runs").flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(id));
    let record = |folder: PathBuf| {
        let json = std::fs::read_to_string(folder.join("run.json")).expect("the run has a record");
        (folder, Run::from_json(&json).expect("the record is a run"))
    };
    folders.filter(named).map(record).collect()
}

fn steps(run: &Run) -> Vec<&str> {
    run.steps.iter().map(|step| step.name.as_str()).collect()
}

fn page(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("report.html")).expect("the run has a report")
}

#[test]
fn attached_runs_have_reports_and_make_a_ladder_with_one() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path();
    for name in ["before", "after"] {
        let (table, progress) = said(attach(root, name));
        assert!(table.contains(RPC), "{table}");
        let runs = runs(root, "attach-");
        let (folder, _) = runs.iter().find(|(_, run)| steps(run) == [name]).expect("the run is kept");
        assert!(progress.contains(&folder.join("report.html").display().to_string()), "{progress}");
        assert!(page(folder).contains(name));
    }
    // However soon they follow one another.
    let attached = runs(root, "attach-");
    assert_eq!(attached.len(), 2, "each attached run has a folder of its own");

    let folder = |name: &str| {
        let (folder, _) = attached.iter().find(|(_, run)| steps(run) == [name]).expect("the run is kept");
        folder.to_str().expect("a path that is text").to_owned()
    };
    let join = ["join", &folder("before"), &folder("after")];
    let reports = [said(xtask(root, &join)).0, said(xtask(root, &join)).0];
    assert_ne!(reports[0], reports[1], "each joined run has a folder of its own");
    let joined = runs(root, "join-");
    assert_eq!(joined.len(), 2);
    for (folder, run) in joined {
        let report = folder.join("report.html").display().to_string();
        assert!(reports.iter().any(|said| said.trim_end() == report), "{reports:?}");
        let page = page(&folder);
        assert!(page.contains("before") && page.contains("after"), "the report shows both steps");
        assert_eq!(steps(&run), ["before", "after"]);
        for step in &run.steps {
            let counts = step.counts(Side::Server).and_then(|counted| counted.counts.as_ref()).expect("counts");
            assert_eq!(counts.rows.iter().map(|row| row.tally).sum::<Tally>(), counts.total);
            let put: u64 = counts.rows.iter().filter(|row| row.rpc == RPC).map(|row| row.tally.bytes).sum();
            assert_eq!(put, 10_000);
        }
    }
}

#[test]
fn runs_attached_at_once_are_all_kept() {
    const AT_ONCE: usize = 4;
    let root = tempfile::tempdir().expect("a temporary folder");
    let names: Vec<String> = (0..AT_ONCE).map(|index| format!("program-{index}")).collect();
    let attached: Vec<Child> = names.iter().map(|name| attach(root.path(), name)).collect();
    attached.into_iter().for_each(|verb| drop(said(verb)));
    let runs = runs(root.path(), "attach-");
    let mut kept: Vec<&str> = runs.iter().flat_map(|(_, run)| steps(run)).collect();
    kept.sort_unstable();
    assert_eq!(kept, names);
}
