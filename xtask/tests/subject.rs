//! `profile` of what `alloc-ladder.toml` describes: what is kept, and what is said when something fails.
//!
//! The server is a program of a few lines that stands in for a service with the driver: it takes connections for calls,
//! and leaves the window's record where the driver would.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use alloc_ladder::record::{CountRow, Counts, Instrument, Measurement, Run};
use alloc_ladder::recorder::Variable;
use alloc_ladder::{Side, Stage, Tally};
use support::{TAG, left_over, read, text};
use tempfile::TempDir;

const PROGRAM: &str = r#"
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{env, fs, process, thread, time::Duration};

fn leave(name: &str, json: &str) {
    let Ok(folder) = env::var("ALLOC_LADDER_OUT") else { return };
    let part = format!("{folder}/part");
    fs::write(&part, json).unwrap();
    fs::rename(part, format!("{folder}/{}-srv{name}", process::id())).unwrap();
}

fn wanted(key: &str) -> u64 {
    let window = env::var("ALLOC_LADDER_WINDOW").unwrap_or_default();
    let part = window.split(',').find_map(|part| part.strip_prefix(key).map(str::to_owned));
    part.and_then(|value| value.trim_end_matches('s').parse().ok()).unwrap_or(0)
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let word = |at: usize| args.get(at).map_or("", String::as_str);
    let port: u16 = word(2).parse().unwrap_or(0);
    match word(1) {
        "load" => {
            for _ in 0..word(3).parse::<u64>().unwrap() {
                let mut call = TcpStream::connect(("127.0.0.1", port)).unwrap();
                call.write_all(b"x").unwrap();
                let _ = call.read(&mut [0]);
            }
            if word(4) == "fail" {
                eprintln!("no such method");
                process::exit(7);
            }
            if word(4) == "hang" {
                thread::sleep(Duration::from_secs(600));
            }
        }
        "serve" => serve(port, word(3)),
        _ => process::exit(9),
    }
}

fn serve(port: u16, how: &str) {
    if how == "dies-first" {
        eprintln!("no configuration");
        process::exit(3);
    }
    let port = if how == "elsewhere" { 0 } else { port };
    if how == "deaf" {
        thread::sleep(Duration::from_secs(600));
    }
    let socket = TcpListener::bind(("127.0.0.1", port)).unwrap();
    println!("listening");
    let whole = env::var("WHOLE_JSON").unwrap_or_default();
    let (warmup, messages) = (wanted("warmup="), wanted("messages="));
    if how != "plain" {
        leave(".json", &whole);
    }
    // The first connection asks whether it is there, and brings nothing.
    let mut calls = 0;
    for call in socket.incoming() {
        let mut call = call.unwrap();
        if call.read(&mut [0]).unwrap_or(0) == 0 {
            continue;
        }
        calls += 1;
        let _ = call.write_all(b"y");
        if how == "dies" && calls == 5 {
            eprintln!("out of luck");
            process::exit(4);
        }
        if calls == warmup + messages && how != "plain" && how != "silent" {
            let is_off = env::var("MODE_NAME").is_ok_and(|mode| mode == "off");
            let timed = env::var("TIME_JSON").ok().filter(|_| is_off);
            leave(".window-0.json", &timed.unwrap_or_else(|| env::var("WINDOW_JSON").unwrap_or_default()));
        }
    }
}
"#;

fn program() -> &'static Path {
    static PROGRAM_FILE: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM_FILE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("subject");
        std::fs::create_dir_all(&folder).expect("creates");
        // Tests may run in processes of their own, beside each other.
        let own = std::process::id();
        let (source, built) = (folder.join(format!("service-{own}.rs")), folder.join(format!("service-{own}")));
        let text = PROGRAM.replace("MODE_NAME", Variable::Mode.name());
        std::fs::write(&source, text).expect("writes");
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "-C", "debuginfo=1", "-o"]).arg(&built).arg(&source);
        assert!(command.status().expect("rustc starts").success(), "it builds");
        built
    })
}

/// A port that nobody has right now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound").port()
}

/// What the program says of its window.
fn measurement(instrument: Instrument, blocks: u64) -> String {
    let tally = Tally { blocks, bytes: 1000, freed_blocks: 1, freed_bytes: 100, ..Tally::default() };
    let row = CountRow { rpc: "/pkg.Service/Call".to_owned(), side: Some(Side::Server), stage: Stage::Handler, tally };
    let counts = Counts { rows: vec![row], total: tally, peak_bytes: 5000, ..Counts::default() };
    let measurement = Measurement {
        messages: 10,
        counts: (instrument == Instrument::Count).then_some(counts),
        ..Measurement::new(Side::Server, instrument)
    };
    serde_json::to_string(&measurement).expect("serialises")
}

struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    /// A folder that is no cargo workspace, with this file: `SERVE` is the server's command, `LOAD` a load's.
    fn new(file: &str) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { folder, port: free_port() };
        place.write(file);
        place
    }

    fn write(&self, file: &str) {
        let program = program().display();
        let file = file
            .replace("SERVE", &format!("command = [\"{program}\", \"serve\", \"{{port}}\"]"))
            .replace("LOAD", &format!("command = [\"{program}\", \"load\", \"{{port}}\"]"))
            .replace("PORT", &format!("port = {}", self.port));
        std::fs::write(self.folder.path().join("alloc-ladder.toml"), file).expect("writes");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
        command.arg("alloc-ladder").args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        command.env("WINDOW_JSON", measurement(Instrument::Count, 40));
        command.env("WHOLE_JSON", measurement(Instrument::Count, 40));
        command
    }

    fn profile(&self) -> Output {
        self.command(&["profile"]).output().expect("starts")
    }

    /// The runs that are there.
    fn runs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("target/alloc-ladder"));
        let folders = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        folders.filter(|folder| folder.join("run.json").is_file()).collect()
    }

    fn run(&self) -> (PathBuf, Run) {
        let runs = self.runs();
        let [run] = &runs[..] else { panic!("one run: {runs:?}") };
        (run.clone(), read(run))
    }
}

/// Two steps of the program, ten messages each after two of warm-up.
const TWO_STEPS: &str = r#"
name = "toy"
[server]
SERVE
PORT
[[load]]
LOAD
args = ["{calls}"]
[window]
warmup = 2
messages = 10
rounds = 2
timeout = 20
[[step]]
name = "baseline"
about = "The service as it is."
[[step]]
name = "one-thread"
env = { THREADS = "1" }
"#;

#[track_caller]
fn says(done: &Output, code: i32, words: &[&str]) -> String {
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in:\n{said}"));
    said
}

#[test]
fn steps_are_measured_in_rounds_and_named_by_the_file() {
    let place = Place::new(TWO_STEPS);
    let done = place.profile();
    says(&done, 0, &["Measured baseline", "Measured one-thread", "times are left out"]);
    let (folder, run) = place.run();
    assert_eq!((run.subject.name.as_str(), run.partial), ("toy", false));
    assert_eq!((run.workload.warmup, run.workload.messages), (2, 10));
    let names: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["baseline", "one-thread"]);
    assert_eq!(run.steps[0].about.as_deref(), Some("The service as it is."));
    assert_eq!(run.steps[1].settings["THREADS"], "1");
    for step in &run.steps {
        let rounds: Vec<u32> = step.of(Side::Server, Instrument::Count).map(|m| m.round).collect();
        assert_eq!(rounds, [0, 1], "{}", step.name);
        assert_eq!(step.stacks.len(), 1, "{}", step.name);
    }
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    for words in ["The service as it is.", "THREADS 1", "/pkg.Service/Call"] {
        assert!(page.contains(words), "`{words}` is not on the page");
    }
    for verb in
        [&["compare", "newest", "--steps", "baseline", "one-thread"][..], &["report", "newest"], &["advise", "newest"]]
    {
        says(&place.command(verb).output().expect("starts"), 0, &[]);
    }
}

#[test]
fn a_step_may_be_of_other_traffic() {
    // The load has no arguments but the step's.
    let file = TWO_STEPS.replace("args = [\"{calls}\"]\n", "");
    let file = file.replace("name = \"baseline\"\n", "name = \"baseline\"\nload-args = [\"{calls}\"]\n");
    let place = Place::new(&file);
    says(&place.profile(), 0, &["Measured baseline", "Measured one-thread"]);
    assert_eq!(place.run().1.steps[0].settings["load-args"], "{calls}");
}

#[test]
fn other_traffic_is_a_run_of_its_own() {
    let load =
        "command = [\"sh\", \"-c\", \"echo $* >> traffic; exec $0 load {port} {calls}\", \"PROGRAM\", \"{streams}\"]";
    let file = TWO_STEPS.replace("LOAD\nargs = [\"{calls}\"]\n", &format!("{load}\n"));
    let file = file.replace("PROGRAM", support::path(program()));
    let traffic = "[workload]\nstreams = 1\n[[traffic]]\nname = \"many\"\nstreams = 7\nload-args = [\"slowly\"]\n";
    let place = Place::new(&format!("{file}{traffic}"));
    let profile = |args: &[&str]| place.command(&[&["profile"], args].concat()).output().expect("starts");
    says(&profile(&["--traffic", "mani"]), 2, &["has no traffic `mani`", "did you mean `many`?"]);
    says(&profile(&["--traffic", "many", "--steps", "baseline", "--rounds", "1"]), 0, &["Profiling toy-many"]);
    let (folder, run) = place.run();
    assert_eq!((run.subject.name.as_str(), run.workload.streams), ("toy-many", 7));
    let told = std::fs::read_to_string(place.folder.path().join("traffic")).expect("the load ran");
    assert!(told.lines().all(|line| line == "7 slowly"), "{told}");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(page.contains("Traffic, as the file says: 7 streams."), "the page says so");
    says(&profile(&["--rounds", "1"]), 0, &["Profiling toy "]);
    let told = std::fs::read_to_string(place.folder.path().join("traffic")).expect("the load ran");
    assert_eq!(told.lines().last(), Some("1"));
    let usual = place.runs().into_iter().find(|run| *run != folder).expect("another run");
    let [old, new] = [&usual, &folder].map(|folder| folder.to_string_lossy().into_owned());
    let done = place.command(&["compare", &old, &new]).output().expect("starts");
    says(&done, 2, &["streams"]);
}

#[test]
fn timed_rounds_hold_the_load_to_a_core_unless_told_not_to() {
    let load = "command = [\"sh\", \"-c\", \"grep Cpus_allowed_list /proc/self/status >> cores; exec $0 load {port} {calls}\", \"PROGRAM\"]";
    let file = TWO_STEPS.replace("LOAD\nargs = [\"{calls}\"]\n", &format!("{load}\n"));
    let place = Place::new(&file.replace("PROGRAM", support::path(program())));
    let cores = |args: &[&str]| {
        let _ = std::fs::remove_file(place.folder.path().join("cores"));
        let args = [&["profile", "--steps", "baseline", "--rounds", "1"], args].concat();
        let timed = measurement(Instrument::Time, 0);
        let done = place.command(&args).env("TIME_JSON", timed).output().expect("starts");
        says(&done, 0, &[]);
        let folder =
            place.runs().into_iter().max_by_key(|run| run.metadata().expect("is there").modified().expect("known"));
        let folder = folder.expect("a run");
        let (run, page) = (read(&folder), std::fs::read_to_string(folder.join("report.html")).expect("a page"));
        let timing = run.environment.timing.expect("timed rounds");
        let seen = std::fs::read_to_string(place.folder.path().join("cores")).expect("the load ran");
        let seen: Vec<String> =
            seen.lines().map(|line| line.split_whitespace().last().unwrap_or_default().to_owned()).collect();
        // Counted, recorded, timed.
        assert_eq!(seen.len(), 3, "{seen:?}");
        (seen, timing, page)
    };
    let (seen, timing, page) = cores(&["--no-pin"]);
    assert_eq!(seen, [&seen[0][..]; 3]);
    assert!(timing.client_cores.is_empty() && page.contains("on any core"));
    let all = seen[0].clone();
    let (seen, timing, page) = cores(&[]);
    assert_eq!(seen[..2], [&all[..]; 2], "only timed rounds are held");
    // With one core there is nothing to be held to.
    if all.contains(['-', ',']) {
        let [core] = timing.client_cores[..] else { panic!("one core: {timing:?}") };
        assert_eq!(seen[2], core.to_string());
        assert!(page.contains(&format!("its load on core {core}")), "the page says so");
    }
}

#[test]
fn a_server_that_is_not_ready_is_a_failed_run_in_words() {
    for (how, words) in [
        ("dies-first", &["the server ended before it was ready (exit status: 3)", "no configuration"][..]),
        ("deaf", &["was not ready within 1 s: nothing listens on port", "it listens on no port at all"]),
        ("elsewhere", &["was not ready within 1 s: nothing listens on port", "; it listens on "]),
    ] {
        let place = Place::new(&format!(
            "[server]\nSERVE\nPORT\nready-within = 1\nargs = [\"{how}\"]\n[[load]]\nLOAD\nargs = [\"5\"]\n"
        ));
        says(&place.profile(), 4, words);
        assert_eq!(place.runs().len(), 0, "nothing was measured");
    }
}

#[test]
fn a_step_that_fails_leaves_the_others_and_a_partial_run() {
    let step = "[[step]]\nname = \"dies\"\nargs = [\"dies\"]\n[[step]]\nname = \"again\"\nfrom = \"baseline\"\nenv = { A = \"1\" }\n";
    let place = Place::new(&format!("{TWO_STEPS}{step}"));
    says(
        &place.profile(),
        4,
        &["the server ended in the middle of a round (exit status: 4)", "out of luck", "1 of 4 steps failed: dies"],
    );
    let (folder, run) = place.run();
    assert!(run.partial);
    assert!(run.steps[2].failure.as_deref().is_some_and(|why| why.contains("in the middle of a round")));
    let log = std::fs::read_to_string(folder.join("03-dies/output.log")).expect("kept");
    assert!(log.contains("out of luck"), "{log}");
    assert_eq!(run.steps[3].of(Side::Server, Instrument::Count).count(), 2);
    assert!(std::fs::read_to_string(folder.join("report.html")).expect("a page").contains("in the middle of a round"));
}

#[test]
fn a_load_that_fails_hangs_or_is_too_short_is_told_as_such() {
    let file = |load: &str, more: &str| {
        format!(
            "[server]\nSERVE\nPORT\n{more}\n[[load]]\nLOAD\nargs = [{load}]\n[window]\nwarmup = 2\nmessages = 10\nrounds = 1\ntimeout = 2\n"
        )
    };
    let whole = |calls: u64| {
        let mut whole: Measurement = serde_json::from_str(&measurement(Instrument::Count, 1)).expect("a record");
        whole.messages = calls;
        if calls == 0 {
            whole.counts = Some(Counts::default());
        }
        serde_json::to_string(&whole).expect("serialises")
    };
    for (load, calls, words) in [
        ("\"3\", \"fail\"", 3, &["the load failed (exit status: 7)", "no such method"][..]),
        ("\"3\", \"hang\"", 3, &["the load did not end and the window did not close within 2 s; the server counted 3"]),
        ("\"3\"", 3, &["the traffic ended before the window closed: it needs 2 + 10 messages; the server counted 3"]),
        ("\"3\"", 20, &["opened too late to close within the 20 that the server counted"]),
        ("\"0\"", 0, &["the load made no calls that the server counted"]),
    ] {
        let place = Place::new(&file(load, ""));
        let done = place.command(&["profile"]).env("WHOLE_JSON", whole(calls)).output().expect("starts");
        says(&done, 4, words);
    }
}

#[test]
fn a_budget_that_is_over_takes_no_counts_away() {
    let place = Place::new(TWO_STEPS);
    let args = ["profile", "--steps", "baseline", "--rounds", "12", "--budget", "1"];
    let done = place.command(&args).env("TIME_JSON", measurement(Instrument::Time, 0)).output().expect("starts");
    says(&done, 0, &["rounds for 1 s"]);
    let rounds: Vec<u32> = place.run().1.steps[0].of(Side::Server, Instrument::Count).map(|m| m.round).collect();
    assert_eq!(rounds, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_window_that_opens_too_late_is_tried_again_with_more_calls() {
    // Few calls until it is asked for many.
    let load = "command = [\"sh\", \"-c\", \"[ {calls} -gt 200 ] && calls={calls} || calls=3; echo {calls} >> asked; \
                exec $0 load {port} $calls\", \"PROGRAM\"]";
    let file = TWO_STEPS.replace("LOAD\nargs = [\"{calls}\"]\n", &format!("{load}\n"));
    let place = Place::new(&file.replace("PROGRAM", support::path(program())));
    // The server says that it counted what a window needs.
    let mut whole: Measurement = serde_json::from_str(&measurement(Instrument::Count, 1)).expect("a record");
    whole.messages = 20;
    let whole = serde_json::to_string(&whole).expect("serialises");
    let mut command = place.command(&["profile", "--steps", "baseline", "--rounds", "1"]);
    let done = command.env("WHOLE_JSON", whole).output().expect("starts");
    says(&done, 0, &["Measured baseline"]);
    let asked = std::fs::read_to_string(place.folder.path().join("asked")).expect("the load ran");
    let asked: Vec<&str> = asked.lines().take(2).collect();
    assert_eq!(asked, ["112", "448"], "twelve messages and a hundred more, then four times as many");
    assert!(place.run().1.steps[0].counts(Side::Server).is_some());
}

#[test]
fn a_server_without_the_driver_has_its_stacks_recorded() {
    let place = Place::new(&TWO_STEPS.replace("PORT", "PORT\nargs = [\"plain\"]"));
    says(&place.profile(), 0, &["the server has no driver"]);
    let (_, run) = place.run();
    for step in &run.steps {
        assert_eq!((step.stacks.len(), step.measurements.len()), (1, 0), "{}", step.name);
    }
    assert_eq!(run.workload.messages, 1);
}

#[test]
fn a_port_that_is_taken_is_the_machine_s_fault() {
    let place = Place::new(TWO_STEPS);
    let _socket = std::net::TcpListener::bind(("127.0.0.1", place.port)).expect("binds");
    says(&place.profile(), 3, &[&format!("process {} listens on it", std::process::id())]);
}

#[test]
fn a_second_run_in_one_workspace_is_told_who_was_first_and_ctrl_c_leaves_nothing() {
    let place =
        Place::new(&TWO_STEPS.replace("\"{calls}\"", "\"3\", \"hang\"").replace("timeout = 20", "timeout = 300"));
    let tag = format!("subject-{}", std::process::id());
    let mut first = place.command(&["profile"]).env(TAG, &tag).stderr(Stdio::null()).spawn().expect("starts");
    let until = Instant::now() + Duration::from_secs(60);
    while support::tagged(&tag).iter().filter(|line| line.contains("load")).count() == 0 {
        assert!(Instant::now() < until, "the load starts");
        std::thread::sleep(Duration::from_millis(20));
    }
    says(&place.profile(), 3, &[&format!("process {} measures this workspace already", first.id())]);
    let own = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(own, rustix::process::Signal::INT).expect("is there");
    assert_eq!(first.wait().expect("ends").code(), Some(130));
    assert_eq!(left_over(&tag), [""; 0]);
}

#[test]
fn ctrl_c_keeps_the_steps_that_were_measured() {
    let hangs = "[[step]]\nname = \"hangs\"\nargs = [\"silent\"]\n";
    let file = TWO_STEPS
        .replace("args = [\"{calls}\"]", "args = [\"{calls}\", \"hang\"]")
        .replace("timeout = 20", "timeout = 300");
    let place = Place::new(&format!("{file}{hangs}"));
    let tag = format!("kept-{}", std::process::id());
    let mut command = place.command(&["profile"]);
    let mut first = command.env(TAG, &tag).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
    let until = Instant::now() + Duration::from_secs(120);
    while !support::tagged(&tag).iter().any(|line| line.contains("silent")) {
        assert!(Instant::now() < until, "the last step starts");
        std::thread::sleep(Duration::from_millis(20));
    }
    let own = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(own, rustix::process::Signal::INT).expect("is there");
    assert_eq!(first.wait().expect("ends").code(), Some(130));
    assert_eq!(left_over(&tag), [""; 0]);
    let (folder, run) = place.run();
    assert!(run.partial && folder.join("report.html").is_file());
    assert!(run.steps[0].counts(Side::Server).is_some() && run.steps[2].counts(Side::Server).is_none());
}

#[test]
fn mistakes_are_usage_errors_with_file_line_and_key() {
    let place = Place::new("[server]\nSERVE\nprt = 1\n");
    says(
        &place.profile(),
        2,
        &["alloc-ladder.toml:3: [server] prt: `[server]` has no key `prt`", "did you mean `port`?"],
    );
    place.write(TWO_STEPS);
    let done = place.command(&["profile", "--steps", "baselin"]).output().expect("starts");
    says(&done, 2, &["has no step `baselin`", "did you mean `baseline`?"]);
    std::fs::remove_file(place.folder.path().join("alloc-ladder.toml")).expect("removes");
    says(&place.profile(), 2, &["there is no alloc-ladder.toml", "alloc-ladder init"]);
    let for_a_program = place.command(&["profile", "--anyway"]).output().expect("starts");
    assert_eq!(for_a_program.status.code(), Some(2));
}

#[test]
fn a_file_from_elsewhere_is_not_run_without_a_word() {
    let (place, other) = (Place::new(TWO_STEPS), tempfile::tempdir().expect("a folder"));
    let file = other.path().join("alloc-ladder.toml");
    std::fs::rename(place.folder.path().join("alloc-ladder.toml"), &file).expect("moves");
    let done = place.command(&["profile", "--file", support::path(&file)]).output().expect("starts");
    says(&done, 2, &["is not of this workspace, and runs commands:", "serve {port}", "--yes"]);
    let done = place.command(&["profile", "--yes", "--file", support::path(&file)]).output().expect("starts");
    says(&done, 0, &[]);
}

#[test]
fn a_change_is_compared_with_its_base_in_one_command() {
    let place = Place::new(TWO_STEPS);
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).current_dir(place.folder.path()).output().expect("git starts");
        assert!(done.status.success(), "git {args:?}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    for (name, value) in [("user.name", "a"), ("user.email", "a@example.org"), ("commit.gpgsign", "false")] {
        git(&["config", name, value]);
    }
    std::fs::write(place.folder.path().join(".gitignore"), "/target\n").expect("writes");
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "base"]);
    git(&["switch", "--quiet", "--create", "topic"]);
    // A step that the base does not have.
    let more = "[[step]]\nname = \"new\"\nenv = { A = \"1\" }\n";
    place.write(&format!("{TWO_STEPS}{more}"));
    git(&["commit", "--quiet", "--all", "--message", "change"]);
    let compare = || place.command(&["compare", "--base", "main", "--format", "markdown"]).output().expect("starts");
    let done = compare();
    let said =
        says(&done, 0, &["Measuring the change: profile --json --yes", "Measuring the base, ", "main was left at"]);
    assert!(said.contains("--steps baseline,one-thread --rounds 2"), "{said}");
    let shown = text(&done.stdout);
    assert!(shown.starts_with("### toy-") && shown.contains("#### one-thread"), "{shown}");
    assert_eq!(place.runs().len(), 2, "both runs are kept");
    assert_eq!(git(&["worktree", "list"]).lines().count(), 1, "the worktree is gone");
    assert_eq!(git(&["status", "--porcelain"]), "", "nothing of the tree changed");
    let again = says(&compare(), 0, &["main was left at"]);
    assert!(!again.contains("Measuring"), "what was measured is found: {again}");
}
