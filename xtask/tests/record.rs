//! `profile -- PROGRAM` on real programs: what is built how, what is refused, and what is kept when it ends.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Allocates 100 blocks of 1,234 bytes in `make_block` and keeps half of them; then does what its argument says.
const PROGRAM: &str = r#"
use std::hint::black_box;
use std::io::{Read, Write};

mod service {
    #[inline(never)]
    pub fn make_block() -> Vec<u8> {
        std::hint::black_box(Vec::with_capacity(1234))
    }
}

#[inline(never)]
fn middle() -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(100);
    for _ in 0..100 {
        kept.push(service::make_block());
    }
    kept.truncate(50);
    kept
}

fn main() {
    let kept = black_box(middle());
    match std::env::args().nth(1).as_deref() {
        Some("wait") => {
            println!("ready");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        Some("fail") => std::process::exit(3),
        Some("daemon") => {
            unsafe extern "C" {
                fn daemon(stays_in_folder: i32, keeps_output: i32) -> i32;
            }
            assert_eq!(unsafe { daemon(1, 0) }, 0);
            std::thread::sleep(std::time::Duration::from_secs(300));
        }
        Some("abort") => std::process::abort(),
        Some("child") => {
            std::process::Command::new(std::env::args().nth(2).unwrap()).status().unwrap();
        }
        _ => {}
    }
    std::mem::forget(kept);
    let _ = std::io::stdin().read(&mut [0]);
}
"#;

/// A folder with the program, built with these flags.
fn program(name: &str, flags: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record");
    std::fs::create_dir_all(&folder).expect("creates");
    let source = folder.join(format!("{name}.rs"));
    std::fs::write(&source, PROGRAM).expect("writes");
    let built = folder.join(name);
    let status = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-o"])
        .arg(&built)
        .args(flags)
        .arg(&source)
        .status()
        .expect("rustc starts");
    assert!(status.success(), "{name} builds");
    built
}

fn full() -> &'static Path {
    static FULL: OnceLock<PathBuf> = OnceLock::new();
    FULL.get_or_init(|| program("full", &["-C", "debuginfo=1"]))
}

/// The command, in a folder of its own that is no cargo workspace; the preload library is built once for all tests.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-alloc-ladder"));
    command.arg("alloc-ladder").current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command
}

fn profile(folder: &Path, program: &Path, arguments: &[&str]) -> Output {
    command(folder).args(["profile", "--"]).arg(program).args(arguments).output().expect("starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\u{202f}', " ")
}

/// The one run in a folder.
fn run(folder: &Path) -> PathBuf {
    let runs: Vec<PathBuf> = std::fs::read_dir(folder.join("target/alloc-ladder"))
        .expect("a run was written")
        .map(|entry| entry.expect("reads").path())
        .collect();
    let [run] = &runs[..] else { panic!("one run: {runs:?}") };
    assert!(run.join("report.html").is_file() && run.join("run.json").is_file());
    run.clone()
}

/// Blocks and bytes allocated, and bytes live at the end, by stacks through `service::make_block`.
fn leaf(run: &Path, step: &str) -> (u64, u64, u64) {
    let text = std::fs::read_to_string(run.join(step).join("server/dhat.json")).expect("reads");
    let dhat: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let names = dhat["ftbl"].as_array().expect("names");
    let mut sum = (0, 0, 0);
    for point in dhat["pps"].as_array().expect("points") {
        let mut frames = point["fs"].as_array().expect("frames").iter();
        let through = |frame: &serde_json::Value| {
            names[frame.as_u64().expect("a place") as usize].as_str().is_some_and(|name| name.contains("make_block"))
        };
        if frames.any(through) {
            let number = |field: &str| point[field].as_u64().expect("a number");
            sum = (sum.0 + number("tbk"), sum.1 + number("tb"), sum.2 + number("eb"));
        }
    }
    sum
}

const LEAF: (u64, u64, u64) = (100, 123_400, 50 * 1234);

#[test]
fn an_unchanged_program_is_recorded_to_the_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = profile(folder.path(), full(), &[]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let run = run(folder.path());
    assert_eq!(leaf(&run, "01-full"), LEAF);
    assert!(out.contains("full::service::make_block ← full::middle ← full::main"), "{out}");
    assert!(out.contains("live at the end") && out.contains("temporary"), "{out}");
    let json = std::fs::read_to_string(run.join("01-full/server/dhat.json")).expect("reads");
    assert!(json.contains("full.rs:"), "frames have their file and line");
    for line in ["#[global_allocator]", ".layer(alloc_ladder::tonic::ServerLayer::new())"] {
        assert!(err.contains(line), "rows by RPC method need both: {err}");
    }

    // The recording is kept and can be opened again.
    let recording = run.join("01.recording");
    let again = tempfile::tempdir().expect("a folder");
    let output = command(again.path()).args(["open", "--no-open"]).arg(&recording).output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(Path::new(text(&output.stdout).trim()).is_file());
}

#[test]
fn poorer_builds_are_recognised_and_stages_that_would_mislead_are_not_shown() {
    let tables = program("tables", &["-C", "debuginfo=line-tables-only"]);
    let symbols = program("symbols", &["-C", "strip=debuginfo"]);
    let stripped = program("stripped", &["-C", "strip=symbols"]);
    for (program, note, stages, strip) in [
        (&tables, "line tables alone", true, false),
        (&symbols, "no debug information", false, false),
        (&stripped, "stripped", false, true),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let output = profile(folder.path(), program, &[]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{err}");
        assert!(err.contains(note) && err.contains("CARGO_PROFILE_RELEASE_DEBUG=1"), "{note}: {err}");
        assert_eq!(err.contains("CARGO_PROFILE_RELEASE_STRIP=false"), strip, "{note}: {err}");
        assert_eq!(out.contains("stage, by stack"), stages, "{note}: {out}");
        if !note.contains("stripped") {
            let step = format!("01-{}", program.file_name().expect("a name").to_string_lossy());
            assert_eq!(leaf(&run(folder.path()), &step), LEAF, "{note}");
        }
    }
}

#[test]
fn a_binary_that_the_command_builds_has_names_though_its_profile_strips_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = "[package]\nname = \"bare\"\nedition = \"2024\"\n[profile.release]\nstrip = true\n[workspace]\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).expect("writes");
    std::fs::create_dir(folder.path().join("src")).expect("creates");
    std::fs::write(folder.path().join("src/main.rs"), PROGRAM).expect("writes");
    let output = command(folder.path()).args(["profile", "--bin", "bare"]).output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-bare"), LEAF);
}

#[test]
fn a_program_with_a_gap_between_its_segments_is_recorded_to_the_block() {
    // The C library then tells of the segment of an instruction alone. Linkers leave such gaps by chance, here by order.
    let gaps = program("gaps", &["-C", "debuginfo=1", "-C", "link-arg=-Wl,-z,max-page-size=65536"]);
    let folder = tempfile::tempdir().expect("a folder");
    let output = profile(folder.path(), &gaps, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-gaps"), LEAF);
}

#[test]
fn a_stripped_recording_is_named_by_an_unstripped_file_of_the_same_build() {
    let whole = program("whole", &["-C", "debuginfo=1", "-C", "link-arg=-Wl,--build-id"]);
    let bare = whole.with_file_name("bare");
    let stripped = Command::new("strip").arg("-o").arg(&bare).arg(&whole).status();
    assert!(stripped.expect("binutils has strip").success());
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["profile", "--symbols"];
    let output = command(folder.path()).args(arguments).arg(&whole).arg("--").arg(&bare).output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-bare"), LEAF);
}

#[test]
fn what_cannot_be_recorded_is_refused_beforehand_with_a_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixed = program("fixed", &["-C", "target-feature=+crt-static", "-C", "relocation-model=static"]);
    let script = folder.path().join("run.sh");
    std::fs::copy("/bin/sh", &script).expect("copies its mode");
    std::fs::write(&script, "#!/bin/sh\n").expect("writes");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "text").expect("writes");
    for (program, says, help) in [
        (fixed.as_path(), "linked statically", "#[global_allocator]"),
        (&script, "is a script", ""),
        (&plain, "is not executable", "chmod"),
        (Path::new("/no/such/program"), "there is no program", "target/release"),
    ] {
        let output = profile(folder.path(), program, &[]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(says) && err.contains(help), "{err}");
    }
    assert!(!folder.path().join("target").exists(), "nothing was written");
}

#[test]
fn a_program_that_fails_is_reported_and_kept() {
    for (how, says) in [("fail", "exit status: 3"), ("abort", "signal: 6")] {
        let folder = tempfile::tempdir().expect("a folder");
        let output = profile(folder.path(), full(), &[how]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{err}");
        assert!(err.contains(says), "{err}");
        assert_eq!(leaf(&run(folder.path()), "01-full"), LEAF);
    }
}

#[test]
fn a_daemon_is_told_from_a_program_and_not_left_running() {
    let folder = tempfile::tempdir().expect("a folder");
    // A file of its own, so that its processes are known by it.
    let service = folder.path().join("service");
    std::fs::copy(full(), &service).expect("copies");
    let output = profile(folder.path(), &service, &["daemon"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains("went on in the background") && err.contains("foreground"), "{err}");
    assert_eq!(leaf(&run(folder.path()), "01-service"), LEAF, "what came before is kept");
    let processes = std::fs::read_dir("/proc").expect("reads").flatten();
    let running =
        processes.filter(|process| std::fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == service));
    assert_eq!(running.count(), 0);
}

#[test]
fn a_program_that_runs_on_is_ended_by_time_or_ctrl_c_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["profile", "--for", "300ms", "--"];
    let output = command(folder.path()).args(arguments).arg(full()).arg("wait").output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-full"), LEAF);

    let folder = tempfile::tempdir().expect("a folder");
    let mut recorded = command(folder.path());
    recorded.args(["profile", "--"]).arg(full()).arg("wait").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = recorded.spawn().expect("starts");
    // The program says when it is there; the command's own results come after.
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut ready).expect("the program writes");
    assert_eq!(&ready, b"ready\n");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-full"), LEAF);
}

#[test]
fn children_are_recorded_by_name_on_request_alone() {
    let inner = program("inner", &["-C", "debuginfo=1"]);
    let inner = inner.to_string_lossy();
    let folder = tempfile::tempdir().expect("a folder");
    let output = profile(folder.path(), full(), &["child", &inner]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!run(folder.path()).join("02.recording").exists());

    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["profile", "--children", "inner", "--"];
    let output = command(folder.path()).args(arguments).arg(full()).args(["child", &inner]).output().expect("starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(leaf(&run(folder.path()), "01-full"), LEAF);
    assert_eq!(leaf(&run(folder.path()), "02-full-2"), LEAF);
}
