//! What goes wrong around a run: nothing measured is lost, nothing of somebody else's is overwritten, nothing stays.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alloc_ladder::Side;
use alloc_ladder::record::Instrument;
use alloc_ladder::subject::scenario::Scenario;
use support::{TAG, left_over, measured, output, profile, profile_args, read, refused, tagged, text, xtask};

/// A run that is being measured, in a process group of its own, as a shell starts one.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    tag: String,
}

impl Running {
    fn start(folder: &Path, more: &[&str]) -> Running {
        let tag = folder.display().to_string();
        let mut command = xtask(&profile_args(Scenario::Put, folder, more));
        command.env(TAG, &tag).process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("xtask starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        Running { child, lines, tag }
    }

    /// Reads what it says until a line has these words.
    fn until(&mut self, words: &str) {
        let found = self.lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(words)));
        found.unwrap_or_else(|| panic!("it never says `{words}`")).expect("text");
    }

    fn signal(&self, signal: &str, whom: &str) {
        let done = Command::new("kill").args([signal, "--", whom]).status().expect("kill runs");
        assert!(done.success());
    }

    /// Its exit code, what else it said, and the processes it left.
    fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let said: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let code = self.child.wait().expect("xtask ends").code();
        (code, said.join("\n"), left_over(&self.tag))
    }
}

#[test]
fn ctrl_c_at_a_terminal_keeps_what_was_finished_and_leaves_no_process() {
    // A terminal signals the whole group; every instrument's finished steps are kept.
    for (instruments, enough) in [("count,time", "Timing"), ("stacks", "Measured")] {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = temporary.path().join("run");
        let steps = "baseline,zero-copy,one-frame";
        let more = ["--messages", "300", "--runs", "1000", "--instruments", instruments, "--steps", steps];
        let mut running = Running::start(&folder, &more);
        running.until(if enough == "Timing" { "Counted" } else { enough });
        running.signal("-INT", &format!("-{}", running.child.id()));
        let (code, said, left) = running.end();
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("interrupted") && said.contains("marked partial"), "{said}");
        let run = read(&folder);
        assert!(run.partial && !run.steps.is_empty());
        assert!(folder.join("report.html").is_file());
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn a_killed_run_leaves_no_process() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let more = ["--messages", "100000000", "--instruments", "count", "--steps", "baseline"];
    let mut running = Running::start(&temporary.path().join("run"), &more);
    running.until("Built");
    // Until both sides are there.
    while tagged(&running.tag).iter().filter(|line| line.contains("--case")).count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.signal("-KILL", &running.child.id().to_string());
    let (_, said, left) = running.end();
    assert_eq!(left, Vec::<String>::new(), "{said}");
}

#[test]
fn a_case_that_hangs_is_ended_with_its_time() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let more = ["--timeout", "1", "--messages", "100000000", "--steps", "baseline", "--instruments", "count"];
    let (code, said, left) = Running::start(&folder, &more).end();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("the client took too long"), "{said}");
    assert_eq!(left, Vec::<String>::new());
    assert!(!folder.exists(), "nothing was measured, nothing is left");
}

#[test]
fn a_run_is_overwritten_only_when_that_is_asked_for() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let counted = ["--messages", "64", "--instruments", "count", "--steps", "baseline"];
    measured(Scenario::Put, &folder, &counted);
    let record = std::fs::read(folder.join("run.json")).expect("the record");
    refused(&profile(Scenario::Put, &folder, &counted), 2, &["holds a run already", "--replace"]);
    // One that cannot be built costs the earlier one nothing.
    let other = ["--replace", "--instruments", "count"];
    let broken = [&["profile", "put", "--profile", "no-such-profile", "--out", path(&folder)][..], &other].concat();
    refused(&output(&broken), 3, &["cargo could not build"]);
    assert_eq!(std::fs::read(folder.join("run.json")).expect("the record"), record);
    std::fs::write(folder.join("notes.txt"), "mine").expect("written");
    let anew = ["--replace", "--messages", "64", "--instruments", "stacks", "--steps", "zero-copy"];
    measured(Scenario::Put, &folder, &anew);
    assert_eq!(read(&folder).steps[0].name, "zero-copy");
    assert!(folder.join("01-zero-copy").is_dir() && folder.join("notes.txt").is_file());
    // And where there was none, none is left behind.
    let never = temporary.path().join("never");
    let broken = ["profile", "put", "--profile", "no-such-profile", "--instruments", "count", "--out", path(&never)];
    refused(&output(&broken), 3, &["cargo could not build"]);
    assert!(!never.exists());
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a temporary folder's path is text")
}

#[test]
fn output_that_cannot_be_written_is_named() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    // Builds what the limited run then finds built.
    let counted = ["--messages", "64", "--instruments", "count", "--steps", "baseline"];
    measured(Scenario::Put, &temporary.path().join("first"), &counted);
    // No file may grow beyond a block: what a full disk is to a program.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_xtask")])
        .args(profile_args(Scenario::Put, &folder, &counted))
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .output()
        .expect("a shell");
    refused(&limited, 3, &["cannot write", "run.json", "File too large"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
    let list = xtask(&["list"]).stdout(full).output().expect("xtask starts");
    refused(&list, 3, &["No space left"]);
}

#[test]
fn flags_that_mean_nothing_together_are_refused() {
    let refuse = |args: &[&str], words: &[&str]| refused(&output(&[&["profile"], args].concat()), 2, words);
    refuse(&["unary", "--chunk", "1000"], &["--chunk is for the streams"]);
    refuse(&["unary", "--limits"], &["--limits are for the streams"]);
    refuse(&["unary", "--link", "5gbit"], &["--link and"]);
    refuse(&["get", "--retain", "3"], &["--retain is for put"]);
    refuse(&["put", "--limits", "--streams", "2"], &["--limits is for one stream"]);
    refuse(&["put", "--messages", "100000001"], &["--messages"]);
}

#[test]
fn a_number_out_of_range_is_refused_before_anything_is_built() {
    let most = u64::MAX.to_string();
    for (verb, flags) in [
        (&["profile", "put"][..], &["messages", "chunk", "runs", "streams", "connections", "retain", "timeout"][..]),
        (&["sweep", "put"], &["sizes", "streams", "runs", "payload", "timeout"]),
        (&["cost", "put"], &["runs", "messages", "timeout"]),
        (&["limits", "put"], &["chunk", "messages", "rounds"]),
        (&["attach"], &["messages", "payload-bytes", "for"]),
    ] {
        for flag in flags {
            let flag = format!("--{flag}");
            let done =
                output(&[verb, &[&flag, &most], &["--", "true"][..if verb[0] == "attach" { 2 } else { 0 }]].concat());
            refused(&done, 2, &[&flag, &most]);
            assert!(!text(&done.stderr).contains("Building"), "{verb:?} {flag}");
        }
    }
    let retain = |args: &[&str], words: &[&str]| {
        refused(&output(&[&["profile", "put", "--retain"], args].concat()), 2, words);
    };
    retain(&["4294967295"], &["--retain"]);
    // 64 KiB each, and each in every stream.
    retain(&["16385"], &["more than 1 GiB", "--retain 16368 is the most"]);
    retain(&["1000", "--streams", "64"], &["64000 messages", "--retain 255 is the most"]);
    retain(&["16777216", "--chunk", "1"], &["more than 1 GiB"]);
    refused(&output(&["profile", "put", "--timeout", "0"]), 2, &["--timeout"]);
}

#[test]
fn a_profile_that_cargo_builds_into_another_folder_is_found() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    // As `bench` goes into `release`, `test` goes into `debug`.
    let args = ["--profile", "test", "--messages", "64", "--instruments", "count", "--steps", "baseline"];
    let done = output(&[&["profile", "put", "--out", path(&folder)][..], &args].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(read(&folder).environment.profile, "test");
}

#[test]
fn what_stays_live_is_told_by_stage() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let more = ["--steps", "baseline", "--instruments", "retained", "--messages", "300"];
    let done = measured(Scenario::Put, &folder, &more);
    let run = read(&folder);
    for side in Side::ALL {
        let measured = run.steps[0].of(side, Instrument::Retained).next().expect("both sides were measured");
        assert!(measured.retained.iter().any(|row| row.curr_bytes > 0), "{side}");
    }
    let server = run.steps[0].of(Side::Server, Instrument::Retained).next().expect("measured");
    let freed: u64 = server.retained.iter().flat_map(|row| &row.freed_by).map(|freed| freed.bytes).sum();
    // Each message is received into one buffer and copied into another; both are let go.
    assert!(freed > 300 * run.workload.chunk as u64, "{freed}");
    let table = text(&done.stdout);
    assert!(table.contains("what stays live") && table.contains("receive-buffer"), "{table}");
}
