//! `attach` and what a program may be: children, daemons, readers of the terminal, programs that are stopped. Those that
//! `profile` records read the terminal as well.
//!
//! The programs are shell scripts that leave the counters an instrumented program would leave.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use alloc_ladder::record::{CountRow, Counts, Instrument, Measurement};
use alloc_ladder::{Side, Stage, Tally};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

mod support;

use support::{TAG, left_over, tagged, xtask};

/// `script`, with `leave NAME PROCESS` for what an instrumented program writes.
fn script(script: &str) -> String {
    let tally = Tally { blocks: 3, bytes: 300, ..Tally::default() };
    let rows = vec![CountRow { rpc: String::new(), side: Some(Side::Server), stage: Stage::Other, tally }];
    let counts = Counts { rows, total: tally, ..Counts::default() };
    let measurement = Measurement { counts: Some(counts), ..Measurement::new(Side::Server, Instrument::Count) };
    let json = serde_json::to_string(&measurement).expect("serialises");
    format!("leave() {{ echo '{json}' > \"$ALLOC_LADDER_OUT/$2-$1.json\"; }}\nleave prog $$\n{script}")
}

/// An `attach` of a script, whose processes carry `tag`.
fn attach(root: &Path, tag: &str, flags: &[&str], script: &str) -> Command {
    let mut command = xtask(&[&["attach"], flags, &["--", "/bin/sh", "-c", script]].concat());
    command.env(TAG, tag).env("CARGO_MANIFEST_DIR", root.join("xtask"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a running attach says.
struct Heard {
    lines: std::io::Lines<BufReader<Box<dyn Read>>>,
    heard: String,
}

impl Heard {
    fn of(output: impl Read + 'static) -> Heard {
        let output: Box<dyn Read> = Box::new(output);
        Heard { lines: BufReader::new(output).lines(), heard: String::new() }
    }

    /// Reads up to a line that holds `word`, and returns the line.
    #[track_caller]
    fn until(&mut self, word: &str) -> String {
        loop {
            let Some(Ok(line)) = self.lines.next() else { panic!("`{word}` never came: {}", self.heard) };
            self.heard.push_str(&line);
            self.heard.push('\n');
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Reads all of it.
    fn rest(&mut self) -> &str {
        while let Some(Ok(line)) = self.lines.next() {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        &self.heard
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The process that a line names: `… (process 12)`.
fn process(line: &str) -> Pid {
    let number: String =
        line.rsplit_once("process ").expect("a process").1.chars().take_while(char::is_ascii_digit).collect();
    number.parse().ok().and_then(Pid::from_raw).expect("a process's number")
}

#[test]
fn the_children_of_a_script_end_with_it() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let tag = format!("group-{}", std::process::id());
    // One child in the script's group, one that left it.
    let text = script("sleep 600 & setsid sleep 600 & echo ready >&2; sleep 600; echo never");
    let mut running = attach(root.path(), &tag, &[], &text).spawn().expect("starts");
    let mut said = Heard::of(running.stderr.take().expect("piped"));
    said.until("ready");
    kill_process(pid(&running), Signal::INT).expect("it runs");
    let status = running.wait().expect("ends");
    assert!(status.success(), "{}", said.rest());
    assert_eq!(tagged(&tag), Vec::<String>::new(), "nothing is left when attach has ended");
}

#[test]
fn a_child_that_goes_on_is_told_and_ended() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for start in ["sleep 600 &", "setsid sleep 600 &"] {
        let tag = format!("rest-{}-{}", std::process::id(), start.len());
        // The script goes when its child has become what it is to be named as.
        let text = format!("{start} until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done");
        let mut running = attach(root.path(), &tag, &[], &script(&text)).spawn().expect("starts");
        let mut said = Heard::of(running.stderr.take().expect("piped"));
        let line = said.until("goes on");
        assert!(line.contains("the program left (exit status: 0) while a child (process "), "{line}");
        assert!(line.contains(", sleep)"), "{line}");
        kill_process(pid(&running), Signal::TERM).expect("it runs");
        assert!(running.wait().expect("ends").success(), "{}", said.rest());
        assert!(said.rest().contains("left no counters; one that was forked"), "{}", said.heard);
        assert_eq!(left_over(&tag), Vec::<String>::new());
    }
}

#[test]
fn a_program_reads_the_stdin_of_attach() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let mut command = attach(root.path(), "stdin", &[], &script("read line; echo got $line"));
    let mut running = command.stdin(Stdio::piped()).spawn().expect("starts");
    running.stdin.take().expect("piped").write_all(b"hello\n").expect("it reads");
    let done = running.wait_with_output().expect("ends");
    let (said, progress) = (support::text(&done.stdout), support::text(&done.stderr));
    assert!(done.status.success() && said.starts_with("got hello\n"), "{said}{progress}");
}

#[test]
fn a_program_that_was_stopped_is_named_and_ends_when_told() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let text = script("kill -STOP $$; echo on; kill -STOP $$; echo never");
    let mut running = attach(root.path(), "stopped", &[], &text).spawn().expect("starts");
    let mut said = Heard::of(running.stderr.take().expect("piped"));
    let mut out = Heard::of(running.stdout.take().expect("piped"));
    let program = process(&said.until("Attached"));
    let line = said.until("was stopped (SIGSTOP)");
    assert!(line.contains(&format!("kill -CONT {program}")), "{line}");
    kill_process(program, Signal::CONT).expect("it is there");
    out.until("on");
    said.until("was stopped (SIGSTOP)");
    kill_process(pid(&running), Signal::INT).expect("it runs");
    assert!(running.wait().expect("ends").success(), "{}", said.rest());
    assert!(!out.rest().contains("never"), "{}", out.heard);
}

/// A shell on a terminal of its own: the end that a person has, and the shell.
fn on_a_terminal(root: &Path, line: &str) -> (File, Child) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&person).and_then(|()| unlockpt(&person)).expect("a terminal");
    let name = ptsname(&person, Vec::new()).expect("a name").into_string().expect("ASCII");
    let terminal = File::options().read(true).write(true).open(name).expect("opens");
    let clone = || terminal.try_clone().expect("clones");
    let shell = Command::new("setsid")
        .args(["--ctty", "/bin/sh", "-c", line])
        .env("XTASK", env!("CARGO_BIN_EXE_xtask"))
        .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
        .env("NO_COLOR", "1")
        .env("CARGO_MANIFEST_DIR", root.join("xtask"))
        .stdin(clone())
        .stdout(clone())
        .stderr(clone())
        .spawn()
        .expect("util-linux is installed");
    (File::from(person), shell)
}

/// Runs `program` under `attach` on a terminal. The person types `typed` as soon as it says that it is ready, and the
/// shell reads a line and shows the terminal's settings afterwards.
fn typed(program: &str, typed: &[u8]) -> (String, ExitStatus) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let file = root.path().join("program.sh");
    std::fs::write(&file, script(program)).expect("writes");
    let line = format!("\"$XTASK\" attach -- /bin/sh {}; stty -a; read last; echo then $last", file.display());
    let (mut person, mut shell) = on_a_terminal(root.path(), &line);
    let mut said = Heard::of(person.try_clone().expect("clones"));
    said.until("ready");
    person.write_all(typed).expect("types");
    said.until("Recorded");
    person.write_all(b"bye\n").expect("types");
    // The terminal is gone with the shell that has it: reading it fails then.
    let heard = said.rest().to_owned();
    let status = shell.wait().expect("ends");
    (heard, status)
}

#[test]
fn a_program_reads_the_terminal_and_gives_it_back() {
    // It changes the terminal too, and leaves it so.
    let (said, status) = typed("stty -echo; echo ready; read line; echo got $line", b"hello\n");
    assert!(said.contains("got hello"), "{said}");
    assert!(said.contains("then bye"), "the terminal is the shell's again: {said}");
    assert!(said.contains(" echo ") && !said.contains("-echo "), "its settings are as before: {said}");
    assert!(status.success(), "{status}");
}

#[test]
fn a_stop_by_ctrl_z_stops_the_command_as_a_whole_and_nobody_for_good() {
    // This shell does no job control, so the kernel lets nobody be stopped for whom nobody would say `fg`.
    let (said, status) = typed("stty -echo; echo ready; read line; echo got $line", b"\x1ahello\n");
    assert!(said.contains("got hello") && said.contains("then bye"), "{said}");
    assert!(status.success(), "{status}");
}

#[test]
fn ctrl_c_ends_a_program_that_has_the_terminal() {
    let (said, status) = typed("stty -echo; echo ready; read line; echo never", b"\x03");
    assert!(said.contains("then bye") && !said.contains("never"), "{said}");
    assert!(!said.contains("failed"), "{said}");
    assert!(status.success(), "{status}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_recorded_program_reads_the_terminal_too() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let line = "\"$XTASK\" profile -- /bin/cat; read last; echo then $last";
    let (mut person, mut shell) = on_a_terminal(root.path(), line);
    let mut said = Heard::of(person.try_clone().expect("clones"));
    // A line, and the end of what is typed.
    person.write_all(b"hello\n\x04").expect("types");
    said.until("Report");
    person.write_all(b"bye\n").expect("types");
    let heard = said.rest().to_owned();
    assert!(shell.wait().expect("ends").success(), "{heard}");
    assert_eq!(heard.matches("hello").count(), 2, "the terminal and the program show it: {heard}");
    assert!(heard.contains("blocks and") && heard.contains("then bye"), "{heard}");
}

#[test]
fn a_program_ends_when_the_terminal_is_closed_unless_that_is_to_be_ignored() {
    let root = tempfile::tempdir().expect("a temporary folder");
    // As `nohup` does.
    for (before, outlives) in [("", false), ("trap '' HUP; ", true)] {
        let tag = format!("closed-{}-{outlives}", std::process::id());
        let program = "/bin/sh -c 'echo ready >&2; exec sleep 600'";
        let line = format!("{before}{TAG}={tag} exec \"$XTASK\" attach -- {program}");
        let (person, mut shell) = on_a_terminal(root.path(), &line);
        let mut said = Heard::of(person);
        said.until("ready");
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&shell))).expect("it runs");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
        assert_eq!(
            ignored.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']),
            outlives,
            "SIGHUP is the first: {ignored}"
        );
        // The person's end is closed.
        drop(said);
        if outlives {
            kill_process(pid(&shell), Signal::TERM).expect("it runs");
        }
        shell.wait().expect("ends");
        assert_eq!(left_over(&tag), Vec::<String>::new(), "{line}");
    }
}
