//! Run folders that came from elsewhere, and folders that two processes want: nothing outside is read, written or
//! removed, and no run is lost.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use alloc_ladder::record::{CountRow, Counts, Instrument, Measurement, Run, Usage};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};
use support::{TAG, left_over, measured, output, path, profile, profile_args, read, refused, text, xtask};
use tempfile::TempDir;

/// A copy of a reference run's first step, as it may come from elsewhere, beside a file that is nobody's business.
struct Got {
    outer: TempDir,
    run: PathBuf,
}

impl Got {
    fn new() -> Got {
        let outer = tempfile::tempdir().expect("a folder");
        let run = outer.path().join("got");
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/reference/unary");
        let mut record = read(&reference);
        record.steps.truncate(1);
        for stacks in &record.steps[0].stacks {
            let to = run.join(&stacks.dhat);
            fs::create_dir_all(to.parent().expect("a side's folder")).expect("creates");
            fs::copy(reference.join(&stacks.dhat), to).expect("copies");
        }
        fs::write(outer.path().join("bashrc"), "export PRECIOUS=1").expect("writes");
        let got = Got { outer, run };
        got.record(&record);
        got
    }

    fn record(&self, run: &Run) {
        fs::write(self.run.join("run.json"), serde_json::to_string(run).expect("serialises")).expect("writes");
    }

    fn side(&self) -> PathBuf {
        self.run.join("01-baseline/server")
    }

    fn bashrc(&self) -> PathBuf {
        self.outer.path().join("bashrc")
    }

    fn verb(&self, verb: &[&str]) -> Output {
        output(&[verb, &[path(&self.run)]].concat())
    }

    #[track_caller]
    fn untouched(&self) {
        assert_eq!(fs::read_to_string(self.bashrc()).expect("reads"), "export PRECIOUS=1");
        let mut beside: Vec<_> =
            fs::read_dir(self.outer.path()).expect("reads").flatten().map(|e| e.file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["bashrc", "got"], "nothing is made or removed outside");
    }
}

const RENDERS: [&[&str]; 2] = [&["report"], &["view", "--no-open"]];

#[test]
fn rendering_replaces_links_and_writes_through_none() {
    for verb in RENDERS {
        let got = Got::new();
        let dangling = got.outer.path().join("dangling");
        symlink(got.bashrc(), got.side().join("bytes.raw.folded")).expect("links");
        symlink("../../../bashrc", got.side().join("profile.pb.gz")).expect("links");
        symlink(&dangling, got.side().join("bytes.svg")).expect("links");
        symlink(got.bashrc(), got.run.join("report.html")).expect("links");
        fs::hard_link(got.bashrc(), got.side().join("blocks.folded")).expect("links");
        let done = got.verb(verb);
        assert!(done.status.success(), "{}", text(&done.stderr));
        got.untouched();
        for file in ["bytes.raw.folded", "profile.pb.gz", "bytes.svg", "blocks.folded"] {
            assert!(!got.side().join(file).is_symlink() && got.side().join(file).is_file(), "{file}");
        }
        assert!(fs::read_to_string(got.run.join("report.html")).expect("a page").starts_with("<!DOCTYPE html>"));
    }
}

#[test]
fn nothing_behind_a_linked_folder_or_source_is_used() {
    for verb in RENDERS {
        let got = Got::new();
        let elsewhere = tempfile::tempdir().expect("a folder");
        let moved = elsewhere.path().join("server");
        fs::rename(got.side(), &moved).expect("moves");
        symlink(&moved, got.side()).expect("links");
        refused(&got.verb(verb), 3, &["01-baseline/server/dhat.json", "link"]);
        assert_eq!(fs::read_dir(&moved).expect("reads").count(), 1, "only what was there");

        fs::remove_file(got.side()).expect("removes the link");
        fs::create_dir(got.side()).expect("creates");
        symlink(moved.join("dhat.json"), got.side().join("dhat.json")).expect("links");
        refused(&got.verb(verb), 3, &["01-baseline/server/dhat.json", "link"]);

        let got = Got::new();
        let record = elsewhere.path().join("run.json");
        fs::rename(got.run.join("run.json"), &record).expect("moves");
        symlink(&record, got.run.join("run.json")).expect("links");
        refused(&got.verb(verb), 3, &["run.json", "link"]);
        fs::remove_file(&record).expect("removes");
    }
}

#[test]
fn a_record_with_a_name_that_is_not_plain_is_refused() {
    let long = "a".repeat(300);
    for name in ["..", "x/../../victim", "/abs", "a\nb", "", &long, ".hidden", "\u{1b}]0;OWNED\u{7}"] {
        let got = Got::new();
        let mut record = read(&got.run);
        record.steps[0].name = name.to_owned();
        got.record(&record);
        for verb in [&["report"][..], &["view", "--no-open"], &["compare", path(&got.run)], &["advise"], &["check"]] {
            let done = got.verb(verb);
            refused(&done, 3, &["run.json", "is not a plain name"]);
            assert!(!text(&done.stderr).contains('\u{1b}'), "{:?}", text(&done.stderr));
        }
        got.untouched();
    }
    for file in ["../../bashrc", "/etc/passwd", "01-baseline/../../bashrc"] {
        let got = Got::new();
        let mut record = read(&got.run);
        record.steps[0].stacks[0].dhat = file.to_owned();
        got.record(&record);
        refused(&got.verb(&["report"]), 3, &["run.json", file, "is not a plain name"]);
    }
}

const COUNTED: [&str; 6] = ["--messages", "64", "--instruments", "count", "--steps", "baseline"];

#[test]
fn replacing_a_run_removes_nothing_outside_its_folder() {
    let got = Got::new();
    let replace = [&COUNTED[..], &["--replace"]].concat();
    // A step's folder that is a link: the link goes.
    let victim = tempfile::tempdir().expect("a folder");
    fs::write(victim.path().join("file"), "precious").expect("writes");
    fs::remove_dir_all(got.run.join("01-baseline")).expect("removes");
    symlink(victim.path(), got.run.join("01-baseline")).expect("links");
    measured(Scenario::Put, &got.run, &replace);
    assert!(victim.path().join("file").is_file());
    assert!(!got.run.join("01-baseline").is_symlink());
    got.untouched();
    // A step whose name leads out.
    let mut record = read(&got.run);
    record.steps[0].name = "x/../../bashrc".to_owned();
    got.record(&record);
    let done = profile(Scenario::Put, &got.run, &replace);
    refused(&done, 3, &["run.json", "x/../../bashrc"]);
    assert!(!text(&done.stderr).contains("Building"), "before anything is built");
    got.untouched();
}

#[test]
fn a_folder_that_is_being_written_is_refused_with_the_writer_s_process_and_free_after_its_death() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("run");
    let endless = ["--messages", "100000000", "--instruments", "count", "--steps", "baseline"];
    let tag = folder.display().to_string();
    let mut first = xtask(&profile_args(Scenario::Put, &folder, &endless));
    let mut first = first.env(TAG, &tag).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("xtask starts");
    let mut lines = BufReader::new(first.stderr.take().expect("piped")).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("Built"))).expect("it builds").expect("text");
    let holder = format!("process {} is writing", first.id());
    refused(&profile(Scenario::Put, &folder, &COUNTED), 3, &[&holder, path(&folder)]);
    refused(&profile(Scenario::Put, &folder, &[&COUNTED[..], &["--replace"]].concat()), 3, &[&holder]);
    first.kill().and_then(|()| first.wait()).expect("it is killed");
    assert_eq!(left_over(&tag), Vec::<String>::new());
    measured(Scenario::Put, &folder, &COUNTED);
    assert!(!folder.join(".lock").exists());
}

/// What a program with the driver writes.
fn counts() -> String {
    let tally = Tally { blocks: 3, bytes: 300, ..Tally::default() };
    let row = CountRow { rpc: String::new(), side: Some(Side::Server), stage: Stage::Handler, tally };
    let measurement = Measurement {
        side: Side::Server,
        instrument: Instrument::Count,
        round: 0,
        messages: 1,
        payload_bytes: 0,
        wall_ns: 1,
        usage: Usage::default(),
        counts: Some(Counts { rows: vec![row], total: tally, ..Counts::default() }),
        setup: None,
        retained: vec![],
        latency: None,
        instructions: None,
        socket: None,
        open_streams: None,
        calls: Vec::new(),
    };
    serde_json::to_string(&measurement).expect("serialises")
}

#[test]
fn runs_begun_in_one_second_are_all_kept_in_the_workspace_of_the_current_directory() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path().canonicalize().expect("exists");
    let script = here.join("program.sh");
    fs::write(&script, format!("echo '{}' > \"$ALLOC_LADDER_OUT/$$-sh.json\"", counts())).expect("writes");
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
        command.arg("alloc-ladder").args(args).current_dir(&here).env_remove("CARGO_TARGET_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let attach = ["attach", "--", "sh", path(&script)];
    let all: Vec<_> = (0..4).map(|_| command(&attach).spawn().expect("starts")).collect();
    for child in all {
        let done = child.wait_with_output().expect("ends");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let runs = here.join("target/alloc-ladder");
    let folders = || {
        let folders = fs::read_dir(&runs).expect("runs lie in the target folder").flatten().map(|entry| entry.path());
        let mut folders: Vec<PathBuf> = folders.collect();
        folders.sort();
        folders
    };
    assert_eq!(folders().len(), 4);
    let ids: Vec<String> = folders().iter().map(|folder| read(folder).id).collect();
    for (folder, id) in folders().iter().zip(&ids) {
        assert!(folder.ends_with(id), "a run is called as its folder is: {id}");
        assert!(folder.join("report.html").is_file());
    }
    let join = [&["join"], &[ids[0].as_str(), ids[1].as_str()][..]].concat();
    let all: Vec<_> = (0..2).map(|_| command(&join).spawn().expect("starts")).collect();
    for child in all {
        let done = child.wait_with_output().expect("ends");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert_eq!(folders().len(), 6);
    let missing = command(&["report", "no-such-run"]).output().expect("starts");
    refused(&missing, 2, &["there is no run `no-such-run`"]);
    let none = command(&["advise", "newest"]).output().expect("starts");
    assert!(!text(&none.stderr).contains("xtask"), "{}", text(&none.stderr));
}

/// Escape sequences, other controls, and marks that turn text round.
const HOSTILE: &str =
    "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{1b}[31mred\u{9b}5m\r\u{202e}\u{2066}\u{200f}\u{61c}\nerror: forged";

/// What acts on a terminal and is not one of the colours of a painted word.
fn acting(text: &str) -> Option<String> {
    let colour = |code: &str| {
        let digits = code.strip_prefix('[').and_then(|code| code.split_once('m'));
        digits.is_some_and(|(digits, _)| digits.chars().all(|digit| digit.is_ascii_digit() || digit == ';'))
    };
    if let Some(code) = text.split('\u{1b}').skip(1).find(|code| !colour(code)) {
        return Some(format!("ESC {code:.20?}"));
    }
    let mark = |letter: char| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let acts = |letter: &char| (letter.is_control() || mark(*letter)) && !matches!(letter, '\n' | '\t' | '\u{1b}');
    text.chars().find(acts).map(|letter| format!("{letter:?}"))
}

#[test]
fn what_a_run_from_elsewhere_says_does_nothing_to_a_terminal() {
    let runs = [Got::new(), Got::new()];
    for (index, got) in runs.iter().enumerate() {
        let mut record = read(&got.run);
        let text = format!("{HOSTILE}{index}");
        let environment = &mut record.environment;
        for field in [&mut environment.revision, &mut environment.rustc, &mut environment.cpu, &mut environment.kernel]
        {
            text.clone_into(field);
        }
        text.clone_into(&mut record.environment.command);
        text.clone_into(&mut record.created);
        for counts in record.steps[0].measurements.iter_mut().filter_map(|measured| measured.counts.as_mut()) {
            counts.rows.iter_mut().for_each(|row| text.clone_into(&mut row.rpc));
        }
        got.record(&record);
        let dhat = got.side().join("dhat.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&dhat).expect("reads")).expect("JSON");
        for frame in json["ftbl"].as_array_mut().expect("frames") {
            *frame = format!("0x1: {HOSTILE}{frame} (x.rs:1:1)").into();
        }
        fs::write(&dhat, json.to_string()).expect("writes");
    }
    let [a, b] = [path(&runs[0].run), path(&runs[1].run)];
    let root = tempfile::tempdir().expect("a folder");
    for args in [
        &["compare", a, b][..],
        &["compare", a, b, "--json"],
        &["compare", a, HOSTILE],
        &["advise", a],
        &["advise", a, "--step", HOSTILE],
        &["check", a, "--budgets", HOSTILE],
        &["report", a],
        &["view", "--no-open", a],
        &["join", a, b],
    ] {
        let mut command = xtask(args);
        command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").env("CARGO_MANIFEST_DIR", root.path().join("xtask"));
        let done = command.output().expect("xtask starts");
        let (said, told) = (text(&done.stdout), text(&done.stderr));
        assert!(!(said.is_empty() && told.is_empty()), "{args:?}");
        assert_eq!(acting(&said), None, "{args:?}: {said:?}");
        assert_eq!(acting(&told), None, "{args:?}: {told:?}");
        assert!(!told.contains("\nerror: forged") && !said.contains("\nerror: forged"), "{args:?}: {told}");
        assert!(!told.contains("\u{1b}[31mred") && !said.contains("\u{1b}[31mred"), "{args:?}: {told:?}");
        if args.contains(&"--json") {
            serde_json::from_str::<serde_json::Value>(&said).expect("still JSON");
        }
    }
}
