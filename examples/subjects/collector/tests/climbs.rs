//! The collector climbs its own ladder in a short form: the file of steps as it is, with the program that cargo built for
//! this test in the place of one built for release, and a window of some exports.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command, as the library's workspace builds it into the same folder as this test.
fn command() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_collector")).with_file_name("cargo-alloc-ladder");
    built.is_file().then_some(built)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

#[test]
fn every_step_is_measured_and_the_page_names_the_method() {
    let Some(command) = command() else {
        assert!(std::env::var_os("CI").is_none(), "cargo-alloc-ladder is not built");
        eprintln!("skipped: there is no cargo-alloc-ladder beside this program (--target-dir of the workspace)");
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("climbs");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("creates");
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/alloc-ladder.toml")).expect("reads");
    let program = format!("command = [{:?}]", env!("CARGO_BIN_EXE_collector"));
    let short = file
        .replace("bin = \"collector\"", &program)
        .replace("14317", &free_port().to_string())
        .replace("messages = 500", "messages = 20\nwarmup = 4")
        .replace("budget = 60", "");
    std::fs::write(folder.join("alloc-ladder.toml"), short).expect("writes");
    let profile = ["alloc-ladder", "profile", "--json", "--rounds", "1"];
    let done = Command::new(command).args(profile).current_dir(&folder).stdin(Stdio::null()).output().expect("starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let record = String::from_utf8(done.stdout).expect("JSON is text");
    for step in ["baseline", "one-worker", "lean-server"] {
        assert!(record.contains(&format!("\"name\": \"{step}\"")), "no step {step} in\n{record}");
    }
    let method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(record.contains(method), "no call of {method} in\n{record}");
    assert!(!record.contains("\"failure\""), "a step failed:\n{record}");
}
