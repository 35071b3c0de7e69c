//! Recorded with every stack, the services' rows say the same by scope and by stack: nowhere do the two differ by more than
//! 2 % of the bytes, because what no seam saw is named by its stack, and almost nothing stays without a name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The most of a process's bytes that may stay without a stage, in percent.
const OTHER_MAX: f64 = 5.0;

/// The command, as the library's workspace builds it into the same folder as this test.
fn command() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_foreign")).with_file_name("cargo-alloc-ladder");
    built.is_file().then_some(built)
}

/// A process's rows: of each stage its share of the bytes, and how much of that is named by stack, both in percent.
#[derive(Debug, Default)]
struct Process {
    rows: Vec<(String, f64, f64)>,
    disagrees: bool,
}

impl Process {
    fn share(&self, stage: &str) -> f64 {
        self.rows.iter().find(|(name, ..)| name == stage).map_or(0.0, |(_, share, _)| *share)
    }

    fn named_by_stack(&self, stage: &str) -> f64 {
        self.rows.iter().find(|(name, ..)| name == stage).map_or(0.0, |(.., named)| *named)
    }
}

/// The tables that the command prints: of the server, and of its client, which has its program's name too.
fn tables(text: &str) -> Vec<Process> {
    let mut processes: Vec<Process> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"stage") && line.contains("% by stack") {
            let rows = lines.by_ref().take_while(|line| !line.trim().is_empty()).map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let percent = |word: &&str| word.parse().expect("a share");
                let [share, named] = words.last_chunk().expect("two shares");
                (words[0].to_owned(), percent(share), percent(named))
            });
            processes.push(Process { rows: rows.collect(), disagrees: false });
        } else if line.starts_with("the scope says") {
            processes.last_mut().expect("rows come first").disagrees = true;
        }
    }
    processes
}

/// Records a service and returns the rows of its processes, the server's first, checked for what holds of every service.
fn recorded(service: &str) -> Option<Vec<Process>> {
    let Some(command) = command() else {
        assert!(std::env::var_os("CI").is_none(), "cargo-alloc-ladder is not built");
        eprintln!("skipped: there is no cargo-alloc-ladder beside this program (--target-dir of the workspace)");
        return None;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stacks").join(service);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("creates");
    let mut profile = Command::new(command);
    profile.args(["alloc-ladder", "profile", "--", env!("CARGO_BIN_EXE_foreign"), service]).current_dir(&folder);
    let done = profile.env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{said}");
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let processes = tables(&said);
    assert!(!processes.is_empty(), "no rows: {said}");
    for process in &processes {
        assert!(!process.disagrees, "{service}: {said}");
        assert!(process.share("other") <= OTHER_MAX, "{service}: {said}");
        let all: f64 = process.rows.iter().map(|(_, share, _)| share).sum();
        assert!((all - 100.0).abs() < 1.0, "{service}: {all} % in all\n{said}");
    }
    Some(processes)
}

#[test]
fn health() {
    recorded("health");
}

#[test]
fn flight() {
    recorded("flight");
}

#[test]
fn otlp() {
    let Some(processes) = recorded("otlp") else { return };
    let server = &processes[0];
    assert_eq!(processes.len(), 2, "a server and its client");
    // By the layer alone 84 %: generated code that names its own codec decodes in the handler's scope.
    assert!(server.share("handler") <= 2.0, "{server:?}");
    assert!(server.share("message-construction") >= 50.0 && server.named_by_stack("message-construction") >= 99.0);
}

#[test]
fn tls_gzip_interceptors_and_tower_layers() {
    recorded("wrapped");
}

#[test]
fn axum_and_tonic_on_one_port() {
    recorded("shared");
}

#[test]
fn a_service_behind_tonic_web() {
    recorded("web");
}

/// Its codec is its own: three quarters of its bytes have no stage by the layer alone.
#[cfg(feature = "etcd")]
#[test]
fn etcd_s_client() {
    if Command::new("etcd").arg("--version").output().is_err() {
        println!("skipped: there is no `etcd` here (Debian: etcd-server)");
        return;
    }
    recorded("etcd");
}
