//! Runs a program that is recorded: starts it, watches it, ends it, and takes its recordings.
//!
//! Nothing is lost when the program ends, however it does: the recording is a file that is always current. It lies in a
//! folder of `/dev/shm` that only this user can read, and is taken from there into the run's folder.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use alloc_ladder::record::{Moment, Recorded as Seen};
use alloc_ladder::recorder::{Variable, layout};
use anyhow::Context;

use crate::analyse::executable::{Executable, Refusal, examine};
use crate::analyse::recording::{self, BadRecording, Source, Totals, totals};
use crate::cli::failure::{Failure, Kind};
use crate::measure::daemon::{self, Which};
use crate::measure::guest::{Ended, Guest};
use crate::measure::interrupt::{catch_interrupts, interrupted};
use crate::measure::process::State;
use crate::measure::program::Program;
use crate::measure::{preload, program};

/// How often the program is looked at; ten times as often in its first seconds, which may be its last.
const LOOK: Duration = Duration::from_millis(100);
const FIRST: Duration = Duration::from_secs(2);
/// How long it may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to record.
pub(crate) struct Wanted<'a> {
    /// The program, and its arguments.
    pub(crate) command: &'a [String],
    /// Other programs that it starts, by file name.
    pub(crate) children: &'a [String],
    /// When to end it.
    pub(crate) time: Option<Duration>,
    /// Record although the program's allocator would not be seen.
    pub(crate) anyway: bool,
}

/// What came of it.
pub(crate) struct Recorded {
    pub(crate) status: ExitStatus,
    /// Whether it was told to end.
    pub(crate) told: bool,
    /// How many of its processes went on when it had ended, and were ended.
    pub(crate) left: usize,
    /// The recordings, the program's own first.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) wall: Duration,
    /// The most memory that was seen resident, without what is shared, bytes; 0 for unknown.
    pub(crate) rss_bytes_max: u64,
    /// At most [`Seen::MOMENTS_MAX`].
    pub(crate) moments: Vec<Moment>,
    /// Holds the files.
    _folder: tempfile::TempDir,
}

/// A recording in a file.
impl Source for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |file| file.len())
    }

    fn bytes(&self, at: usize, length: usize) -> Result<Cow<'_, [u8]>, BadRecording> {
        if (at as u64).saturating_add(length as u64) > Source::length(self) {
            return Err(BadRecording::Cut);
        }
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, at as u64).map_err(|_| BadRecording::Io)?;
        Ok(Cow::Owned(bytes))
    }
}

/// Runs the program to its end, to the end of its time or to Ctrl-C; `progress` is told what it holds.
///
/// # Errors
/// When the program cannot be recorded, cannot be started, or leaves no recording.
pub(crate) fn record(wanted: &Wanted<'_>, mut progress: impl FnMut(Duration, Totals, u64)) -> anyhow::Result<Recorded> {
    let prepared = prepare(&wanted.command[0], wanted.children, wanted.anyway)?;
    let environment = prepared.environment.iter().cloned();
    let program = environment.fold(Program::new(&prepared.path), |program, (name, value)| program.env(name, value));
    let folder = prepared.folder;
    catch_interrupts()?;
    let began = Instant::now();
    let mut guest = Guest::start("profile", &program.args(&wanted.command[1..]))?;
    let process = guest.number();
    let mut watched = Watched::new(folder.path(), process);
    let over = || interrupted().is_err() || wanted.time.is_some_and(|time| began.elapsed() >= time);
    let (status, told) = loop {
        if let Some(Ended { status, told }) = guest.look()? {
            break (status, told);
        }
        if over() {
            watched.look(began);
            guest.process.end(PATIENCE);
            let State::Ended(status) = guest.process.look()? else {
                return Err(Failure::new(Kind::Run, "the program cannot be ended, not even by SIGKILL").into());
            };
            break (status, true);
        }
        if let Some(totals) = watched.look(began)
            && !guest.has_terminal()
        {
            progress(began.elapsed(), totals, watched.rss_max);
        }
        std::thread::sleep(if began.elapsed() < FIRST { LOOK / 10 } else { LOOK });
    };
    let wall = began.elapsed();
    let which = if told { Which::All } else { Which::Of(&prepared.path) };
    let left = daemon::end_left(which, folder.path());
    let files = recordings(folder.path(), process);
    if files.is_empty() {
        let message = format!("`{}` left no recording ({status})", wanted.command[0]);
        return Err(Failure::new(Kind::Run, message)
            .help(match wanted.children {
                [] => "if it started the program that allocates and ended, name that one with --children",
                _ => "none of the programs that were named was started",
            })
            .into());
    }
    let Watched { rss_max, moments, .. } = watched;
    Ok(Recorded { status, told, left, files, wall, rss_bytes_max: rss_max, moments, _folder: folder })
}

/// A program that can be started so that it is recorded.
pub(crate) struct Prepared {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What its environment needs.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Holds the recordings.
    folder: tempfile::TempDir,
}

impl Prepared {
    /// The recordings, those of the process first.
    pub(crate) fn recordings(&self, process: u32) -> Vec<PathBuf> {
        recordings(self.folder.path(), process)
    }
}

/// Prepares to record a program, by path or as the shell would find it, and `children` of these names.
///
/// # Errors
/// [`Kind::Usage`] when there is no such program, or it cannot be recorded.
pub(crate) fn prepare(name: &str, children: &[String], anyway: bool) -> anyhow::Result<Prepared> {
    let path = find(name)?;
    let refused = |refusal: &Refusal| {
        let failure = Failure::new(Kind::Usage, format!("`{name}` cannot be recorded: {refusal}"));
        match refusal.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    };
    let executable = match inspect(&path)? {
        Ok(executable) => executable,
        Err(Refusal::Script) if !children.is_empty() => Executable { records_itself: false },
        Err(Refusal::Allocator(_) | Refusal::OwnMalloc) if anyway => Executable { records_itself: false },
        Err(refusal) => return Err(refused(&refusal).into()),
    };
    let folder = folder()?;
    let mut environment = vec![
        (Variable::Mode.name(), "stacks".into()),
        (Variable::Recordings.name(), folder.path().as_os_str().to_owned()),
    ];
    environment.extend(programs(&path, children).map(|programs| (Variable::Programs.name(), programs.into())));
    if !executable.records_itself {
        let library = preload::library()?;
        let before = std::env::var("LD_PRELOAD").unwrap_or_default();
        environment.push(("LD_PRELOAD", format!("{} {before}", library.display()).trim_end().into()));
    }
    Ok(Prepared { path, environment, folder })
}

/// Builds a binary of the workspace with the debug information that names need, and says where it is.
///
/// # Errors
/// When cargo cannot build it.
pub(crate) fn build(bin: &str) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--bin", bin, "--message-format", "json-render-diagnostics"]);
    // Names need both: a profile that says `strip` would take them out again.
    command.envs([("CARGO_PROFILE_RELEASE_DEBUG", "1"), ("CARGO_PROFILE_RELEASE_STRIP", "false")]);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    let failed = || {
        Failure::new(Kind::Environment, format!("`{bin}` cannot be built"))
            .help("build it yourself with `CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release`, and name its file")
    };
    if !output.status.success() {
        return Err(failed().into());
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = artifacts
        .filter(|artifact| artifact["target"]["name"] == bin)
        .filter_map(|artifact| artifact["executable"].as_str().map(str::to_owned));
    executables.next().ok_or_else(|| failed().into())
}

/// The program's file: by path, or on the search path as the shell would find it.
fn find(name: &str) -> anyhow::Result<PathBuf> {
    let path = if name.contains('/') { Some(PathBuf::from(name)) } else { program::find(name) };
    let path = path.filter(|path| path.is_file()).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("there is no program `{name}`"))
            .help("name the program's file, as `-- target/release/service`")
    })?;
    let mode = path.metadata().map_or(0, |file| file.permissions().mode());
    if mode & 0o111 == 0 {
        return Err(Failure::new(Kind::Usage, format!("`{name}` is not executable"))
            .help("`chmod +x` makes it so, if it is a program")
            .into());
    }
    Ok(path)
}

/// Looks at the program's file.
fn inspect(path: &Path) -> anyhow::Result<Result<Executable, Refusal>> {
    const SETUID_OR_SETGID: u32 = 0o6000;
    let cannot = || format!("cannot read {}", path.display());
    let mode = path.metadata().with_context(cannot)?.permissions().mode();
    let file = std::fs::read(path).with_context(cannot)?;
    Ok(examine(&file, mode & SETUID_OR_SETGID != 0))
}

/// A folder for recordings that only this user can read: in memory, where there is such a place.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("alloc-ladder-").permissions(std::fs::Permissions::from_mode(0o700));
        builder
    };
    builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir()).context("there is no folder to record in")
}

/// Which programs are recorded: the one that is named and its named children, and not what else it starts. `cargo` runs
/// a program that nobody can name beforehand: all are recorded that are not tools of cargo's.
fn programs(path: &Path, children: &[String]) -> Option<String> {
    let is_cargo = path.file_name().is_some_and(|name| name == "cargo");
    let own = path.canonicalize().ok().map(|path| path.to_string_lossy().into_owned());
    // A list is separated by colons.
    let own = own.filter(|own| !own.contains(':'));
    if is_cargo && children.is_empty() {
        return None;
    }
    Some(own.iter().chain(children).map(String::as_str).collect::<Vec<_>>().join(":"))
}

/// A program that runs.
struct Watched {
    folder: PathBuf,
    /// The process whose recording it is.
    process: u32,
    file: Option<File>,
    rss_max: u64,
    moments: Vec<Moment>,
    /// One of so many looks is kept as a moment.
    every: u64,
    looks: u64,
}

impl Watched {
    fn new(folder: &Path, process: u32) -> Watched {
        let folder = folder.to_owned();
        Watched { folder, process, file: None, rss_max: 0, moments: Vec::new(), every: 1, looks: 0 }
    }

    /// What it holds now; nothing before it records.
    fn look(&mut self, began: Instant) -> Option<Totals> {
        if self.file.is_none() {
            self.file = recordings(&self.folder, self.process).first().and_then(|path| File::open(path).ok());
            // `cargo run` is started, and records nothing: what it started does.
            let process = self.file.as_ref().and_then(|file| file.bytes(layout::header::PROCESS, 4).ok());
            if let Some(process) = process.and_then(|bytes| bytes.first_chunk().copied()) {
                self.process = u32::from_le_bytes(process);
            }
        }
        let totals = totals(self.file.as_ref()?).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
        // Not what is shared: the recording itself is.
        let rss_bytes = kilobytes(&status, "RssAnon:") + kilobytes(&status, "RssFile:");
        self.rss_max = self.rss_max.max(rss_bytes);
        let moment = Moment { ms: began.elapsed().as_millis() as u64, live_bytes: totals.live_bytes(), rss_bytes };
        self.keep(moment);
        Some(totals)
    }

    /// Keeps the timeline short enough to draw: of a long one every second moment, and then every fourth.
    fn keep(&mut self, moment: Moment) {
        self.looks += 1;
        if !self.looks.is_multiple_of(self.every) {
            return;
        }
        self.moments.push(moment);
        if self.moments.len() > Seen::MOMENTS_MAX {
            let mut index = 0;
            self.moments.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.every *= 2;
        }
    }
}

/// A line of `/proc/PID/status`, in bytes; 0 where it is missing.
fn kilobytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

/// The recordings of a folder, those of the process first, then the largest.
fn recordings(folder: &Path, process: u32) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(bool, u64, PathBuf)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "recording"))
        .filter_map(|path| {
            let file = File::open(&path).ok()?;
            let head = file.bytes(0, layout::header::SIZE).ok()?;
            // A process that ended while it made its file began no recording.
            let begun = recording::is_recording(&head);
            let own = head[layout::header::PROCESS..].starts_with(&process.to_le_bytes());
            begun.then(|| (own, totals(&file).map_or(0, |totals| totals.blocks), path))
        })
        .collect();
    found.sort_by(|a, b| (b.0, b.1, &a.2).cmp(&(a.0, a.1, &b.2)));
    found.into_iter().map(|(.., path)| path).collect()
}

/// Copies what is in use of a recording; the copy is as long, and as empty, as the original.
///
/// # Errors
/// When one of the files cannot be read or written.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot copy {} to {}", from.display(), to.display());
    let source = File::open(from).with_context(cannot)?;
    let mut target = File::create(to).with_context(cannot)?;
    target.set_len(layout::SIZE as u64).with_context(cannot)?;
    let head = source.bytes(0, layout::header::SIZE).with_context(cannot)?;
    for part in recording::used(&head) {
        let bytes = source.bytes(part.start, part.len()).with_context(cannot)?;
        target.seek(SeekFrom::Start(part.start as u64)).with_context(cannot)?;
        target.write_all(&bytes).with_context(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_cannot_be_started_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "text").expect("writes");
        let message = |name: &str| find(name).expect_err("refused").to_string();
        assert!(message("/no/such/program").starts_with("there is no program"));
        assert!(message("no-such-program-anywhere").starts_with("there is no program"));
        assert!(message(&plain.to_string_lossy()).ends_with("is not executable"));
        assert!(message(&folder.path().to_string_lossy()).starts_with("there is no program"), "a folder");
        assert!(find("sh").is_ok());

        std::fs::write(&plain, "#!/bin/sh\n").expect("writes");
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).expect("may");
        assert_eq!(inspect(&find(&plain.to_string_lossy()).expect("executable")).expect("reads"), Err(Refusal::Script));
        std::fs::copy("/bin/sh", &plain).expect("copies");
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o4755)).expect("may");
        assert_eq!(inspect(&plain).expect("reads"), Err(Refusal::Setuid));
    }

    #[test]
    fn only_the_program_and_named_children_are_recorded() {
        let sh = find("sh").expect("a shell");
        let own = sh.canonicalize().expect("a path").to_string_lossy().into_owned();
        assert_eq!(programs(&sh, &[]).as_deref(), Some(own.as_str()));
        assert_eq!(programs(&sh, &["service".to_owned()]), Some(format!("{own}:service")));
        assert_eq!(programs(Path::new("/usr/bin/cargo"), &[]), None, "tools are left out by the library");
    }

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let status = "Name:\tx\nRssAnon:\t   1234 kB\nRssFile:\t 12 kB\n";
        assert_eq!((kilobytes(status, "RssAnon:"), kilobytes(status, "RssFile:")), (1234 * 1024, 12 * 1024));
        assert_eq!(kilobytes("", "RssAnon:"), 0);
    }

    #[test]
    fn a_long_timeline_is_thinned_out_evenly() {
        let mut watched = Watched::new(Path::new("/"), 1);
        for ms in 0..10_000 {
            watched.keep(Moment { ms, ..Moment::default() });
            assert!(watched.moments.len() <= Seen::MOMENTS_MAX);
        }
        let gaps: Vec<u64> = watched.moments.windows(2).map(|two| two[1].ms - two[0].ms).collect();
        assert!(gaps.len() > Seen::MOMENTS_MAX / 3 && gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    }

    #[test]
    fn a_copy_reads_as_the_original() {
        use crate::analyse::recording::{Recording, tests::sample};

        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let file = File::create(&from).expect("creates");
        file.set_len(layout::SIZE as u64).expect("sparse");
        for (at, bytes) in sample().0 {
            file.write_all_at(&bytes, at as u64).expect("writes");
        }
        copy(&from, &to).expect("copies");
        let read = |path: &Path| Recording::read(&File::open(path).expect("opens")).expect("whole");
        assert_eq!(read(&to), read(&from));
    }
}
