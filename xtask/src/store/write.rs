//! The one way to write: every file is written beside its place and renamed, whole or not at all.
//!
//! A run's files are written and read through [`RunFolder`], which is opened once. A run may come from elsewhere, so
//! nothing below its folder that is a link, or lies behind one, is followed. A file that somebody names on the command
//! line is written by [`whole()`].

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use alloc_ladder::record::Run;
use anyhow::Context;
use rustix::fs::{Mode, OFlags, open};

use crate::cli::failure::{Failure, Kind};
use crate::store::beneath::{self, Flush};
use crate::store::layout::{REPORT, RUN_JSON, step_folder};
use crate::store::lock::Lock;
use crate::store::name;

/// A run's folder, open.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    folder: OwnedFd,
    /// Held while this process measures or renders the run.
    lock: Option<Lock>,
    /// Whether the folder goes where nothing was put into it.
    made: bool,
}

impl RunFolder {
    /// Opens the folder of a run that is there, to read it.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(path: &Path) -> anyhow::Result<RunFolder> {
        let folder = folder(path).with_context(|| format!("cannot open the folder {}", path.display()))?;
        Ok(RunFolder { path: path.to_path_buf(), folder, lock: None, made: false })
    }

    /// Opens the folder of a run that is there, to write into it.
    ///
    /// # Errors
    /// As [`RunFolder::open`], and [`Kind::Environment`] when another process is writing the run.
    pub(crate) fn edit(path: &Path) -> anyhow::Result<RunFolder> {
        RunFolder::open(path)?.locked()
    }

    /// Opens a folder for a run, and makes it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made or written, and [`Kind::Environment`] when another process is writing a run there.
    pub(crate) fn create(path: &Path) -> anyhow::Result<RunFolder> {
        let made = !path.is_dir();
        std::fs::create_dir_all(path).with_context(|| cannot_make(path))?;
        RunFolder::open(path)?.made(made).locked()
    }

    /// Makes a folder that no other run has, among those in `runs`: `name`, or if that is taken `name-2`, `name-3`.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn create_new(runs: &Path, name: &str) -> anyhow::Result<RunFolder> {
        let path = claim(runs, name, "", |path| DirBuilder::new().create(path))?;
        RunFolder::open(&path)?.made(true).locked()
    }

    fn made(mut self, made: bool) -> RunFolder {
        self.made = made;
        self
    }

    fn locked(mut self) -> anyhow::Result<RunFolder> {
        let held = |who: &str| {
            Failure::new(Kind::Environment, format!("{who} is writing a run into {}", self.path.display()))
                .help("wait until it has ended, or name another folder with --out")
        };
        self.lock = Some(Lock::take(self.folder.as_fd(), &self.path, held)?);
        Ok(self)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its own name: the id of a run in a folder of [`RunFolder::create_new`].
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it holds a regular file, without a link on the way there.
    pub(crate) fn has(&self, file: &str) -> bool {
        name::is_plain_path(file) && beneath::is_file(self.folder.as_fd(), file)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it is missing, is not a regular file, or a link is on the way there.
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, Failure> {
        let mut content = Vec::new();
        self.plain(file)
            .and_then(|()| beneath::open(self.folder.as_fd(), file))
            .and_then(|mut open| open.read_to_end(&mut content))
            .map_err(|error| {
                let message = format!("cannot read {}: {error}", self.path.join(file).display());
                Failure::new(Kind::Environment, message)
            })?;
        Ok(content)
    }

    /// Reads a file of text.
    ///
    /// # Errors
    /// As [`RunFolder::read`], and [`Kind::Environment`] when it is not text.
    pub(crate) fn read_to_string(&self, file: &str) -> Result<String, Failure> {
        String::from_utf8(self.read(file)?)
            .map_err(|_| Failure::new(Kind::Environment, format!("{} is not text", self.path.join(file).display())))
    }

    /// Writes a file, whole or not at all. Missing folders on the way are made.
    ///
    /// # Errors
    /// When it cannot be written, or a folder on the way there is a link.
    pub(crate) fn write(&self, file: &str, content: &[u8]) -> anyhow::Result<()> {
        self.put(file, Flush::Later, |into| into.write_all(content))
    }

    /// Writes a file as [`RunFolder::write`] does, bit by bit: what is large is never whole in memory.
    ///
    /// # Errors
    /// As [`RunFolder::write`], and those of `content`.
    pub(crate) fn write_by(
        &self,
        file: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.put(file, Flush::Later, |into| {
            let mut into = BufWriter::new(into);
            content(&mut into)?;
            into.flush()
        })
    }

    /// Writes the run's record.
    ///
    /// # Errors
    /// As [`RunFolder::write`], and when the record has a name that reading it would refuse.
    pub(crate) fn save(&self, run: &Run) -> anyhow::Result<()> {
        name::check(&self.path.join(RUN_JSON), run)?;
        let text = serde_json::to_string_pretty(run)? + "\n";
        self.put(RUN_JSON, Flush::First, |into| into.write_all(text.as_bytes()))
    }

    /// What of the run that the folder holds goes when another takes its place: record, page and the folders of its
    /// steps. What else lies there stays.
    ///
    /// # Errors
    /// When the record has names that [`name::check`] refuses. One that cannot be read says of no step where it lies.
    pub(crate) fn replaceable(&self) -> anyhow::Result<Vec<String>> {
        let mut parts = vec![RUN_JSON.to_owned(), REPORT.to_owned()];
        if let Some(run) = self.read_to_string(RUN_JSON).ok().and_then(|text| Run::from_json(&text).ok()) {
            name::check(&self.path.join(RUN_JSON), &run)?;
            parts.extend(run.steps.iter().enumerate().map(|(index, step)| step_folder(index, &step.name)));
        }
        Ok(parts)
    }

    /// Removes files and folders of [`RunFolder::replaceable`].
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(crate) fn clear(&self, parts: &[String]) -> anyhow::Result<()> {
        // The record last: until it goes, it says what the folder holds.
        for part in parts.iter().rev() {
            beneath::remove(self.folder.as_fd(), part.as_str())
                .with_context(|| format!("cannot remove {}", self.path.join(part).display()))?;
        }
        Ok(())
    }

    fn put(&self, file: &str, flush: Flush, content: impl FnOnce(&mut File) -> io::Result<()>) -> anyhow::Result<()> {
        self.plain(file)
            .and_then(|()| beneath::write(self.folder.as_fd(), file, flush, content))
            .with_context(|| format!("cannot write {}", self.path.join(file).display()))
    }

    fn plain(&self, file: &str) -> io::Result<()> {
        if name::is_plain_path(file) {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::InvalidFilename, "its name is not plain"))
    }
}

impl Drop for RunFolder {
    /// A folder that was made for a run and holds nothing goes with it.
    fn drop(&mut self) {
        self.lock = None;
        if self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// Writes a file that somebody named, whole or not at all.
///
/// # Errors
/// When its folder is missing or cannot be written.
pub(crate) fn whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::IsADirectory));
    name.and_then(|name| beneath::replace(folder(parent)?.as_fd(), name, Flush::First, |into| into.write_all(content)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes an empty file that no other process has, in `folder`: `name` and `extension`, with a number between them if
/// that is taken.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn new_file(folder: &Path, name: &str, extension: &str) -> anyhow::Result<PathBuf> {
    claim(folder, name, extension, |path| File::create_new(path).map(drop))
}

/// The first path that `make` makes: `make` fails for what is there already, so each path is one process's.
fn claim(
    folder: &Path,
    name: &str,
    extension: &str,
    make: impl Fn(&Path) -> io::Result<()>,
) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| cannot_make(folder))?;
    let mut path = folder.join(format!("{name}{extension}"));
    for number in 2_u64.. {
        match make(&path) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
        path = folder.join(format!("{name}-{number}{extension}"));
    }
    Ok(path)
}

/// Opens a folder by a path that a person gave: links on the way are that person's.
fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn cannot_make(folder: &Path) -> String {
    format!("cannot make the folder {}", folder.display())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use alloc_ladder::subject::scenario::Scenario;

    use crate::fixture;

    use super::*;

    /// A run's folder beside a folder and a file that are nobody's business.
    fn beside() -> (tempfile::TempDir, RunFolder, PathBuf) {
        let outer = tempfile::tempdir().expect("a folder");
        let victim = outer.path().join("victim");
        fs::create_dir(&victim).expect("creates");
        fs::write(victim.join("file"), "precious").expect("writes");
        let run = RunFolder::create(&outer.path().join("run")).expect("creates");
        (outer, run, victim)
    }

    fn precious(victim: &Path) {
        assert_eq!(fs::read_to_string(victim.join("file")).expect("reads"), "precious");
        assert_eq!(fs::read_dir(victim).expect("reads").count(), 1);
    }

    #[test]
    fn a_file_is_written_whole_and_nothing_stays_beside_it() {
        let (_outer, run, _) = beside();
        run.write("01-a/server/bytes.svg", b"one").expect("writes");
        run.write("01-a/server/bytes.svg", b"two").expect("replaces");
        assert_eq!(run.read("01-a/server/bytes.svg").expect("reads"), b"two");
        let side = run.path().join("01-a/server");
        assert_eq!(fs::read_dir(&side).expect("reads").count(), 1);
        // A folder at the file's place is in the way, and what was written beside it goes.
        fs::create_dir(side.join("taken")).expect("creates");
        assert!(run.write("01-a/server/taken", b"x").is_err());
        assert_eq!(fs::read_dir(&side).expect("reads").count(), 2);
    }

    #[test]
    fn content_that_ends_half_way_replaces_nothing() {
        let (_outer, run, _) = beside();
        run.write_by("01-a/server/bytes.folded", |into| into.write_all(b"whole")).expect("writes");
        let half = run.write_by("01-a/server/bytes.folded", |into| {
            into.write_all(&[b'x'; 100_000])?;
            Err(io::Error::other("no more"))
        });
        assert!(half.is_err());
        assert_eq!(run.read("01-a/server/bytes.folded").expect("reads"), b"whole");
        assert_eq!(fs::read_dir(run.path().join("01-a/server")).expect("reads").count(), 1, "nothing stays");
    }

    #[test]
    fn a_link_at_a_file_s_place_is_replaced_and_not_followed() {
        let (outer, run, victim) = beside();
        let target = victim.join("file");
        symlink(&target, run.path().join("linked")).expect("links");
        symlink(outer.path().join("nowhere"), run.path().join("dangling")).expect("links");
        symlink("linked", run.path().join("inner")).expect("links");
        fs::hard_link(&target, run.path().join("hard")).expect("links");
        for name in ["linked", "dangling", "inner"] {
            assert!(!run.has(name), "{name}");
            let error = run.read(name).expect_err(name).message;
            assert!(error.contains(name) && error.contains("link"), "{error}");
        }
        for name in ["linked", "dangling", "inner", "hard"] {
            run.write(name, b"ours").expect("writes");
            assert!(run.has(name), "{name}");
            assert_eq!(run.read(name).expect("reads"), b"ours", "{name}");
        }
        precious(&victim);
        assert!(!outer.path().join("nowhere").exists());
    }

    #[test]
    fn nothing_behind_a_linked_folder_is_read_written_or_removed() {
        let (outer, run, victim) = beside();
        fs::create_dir_all(run.path().join("01-a")).expect("creates");
        fs::create_dir_all(run.path().join("inside/server")).expect("creates");
        fs::write(run.path().join("inside/server/file"), "mine").expect("writes");
        symlink(&victim, run.path().join("01-a/server")).expect("links");
        symlink(outer.path(), run.path().join("02-b")).expect("links");
        symlink("inside", run.path().join("03-c")).expect("links");
        symlink(outer.path().join("nowhere"), run.path().join("04-d")).expect("links");
        for file in ["01-a/server/file", "02-b/victim/file", "03-c/server/file", "04-d/server/file"] {
            assert!(!run.has(file), "{file}");
            assert!(run.read(file).expect_err(file).message.contains("link"), "{file}");
            let error = format!("{:#}", run.write(file, b"ours").expect_err(file));
            assert!(error.contains(file) && error.contains("link"), "{error}");
        }
        run.clear(&["01-a".to_owned(), "02-b".to_owned(), "04-d".to_owned()]).expect("removes the links");
        assert!(!run.path().join("01-a").exists() && !run.path().join("02-b").is_symlink());
        precious(&victim);
        assert!(!outer.path().join("nowhere").exists());
        assert!(run.has("inside/server/file"));
    }

    #[test]
    fn names_that_lead_out_are_no_files() {
        let (_outer, run, victim) = beside();
        let long = "a".repeat(300);
        for name in ["../victim/file", "/etc/passwd", "01/../../victim/file", "a\nb", "", ".", ".lock", &long] {
            assert!(!run.has(name), "{name:?}");
            assert!(run.read(name).is_err(), "{name:?}");
            assert!(run.write(name, b"ours").is_err(), "{name:?}");
        }
        precious(&victim);
    }

    #[test]
    fn what_is_not_a_file_is_not_waited_for() {
        let (_outer, run, _) = beside();
        let pipe = run.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("makes a pipe");
        assert!(!run.has("pipe"));
        assert!(run.read("pipe").expect_err("a pipe").message.contains("not a regular file"));
    }

    #[test]
    fn a_run_is_taken_out_and_the_rest_of_its_folder_stays() {
        let (_outer, run, victim) = beside();
        let record = Run { steps: vec![fixture::step("rope", Vec::new())], ..fixture::run("put-a", Scenario::Put) };
        run.save(&record).expect("writes");
        run.write("01-rope/server/dhat.json", b"{}").expect("writes");
        symlink(&victim, run.path().join("01-rope/elsewhere")).expect("links");
        run.write("notes.txt", b"mine").expect("writes");
        run.clear(&run.replaceable().expect("plain names")).expect("removes");
        assert!(!run.path().join("01-rope").exists() && !run.has(RUN_JSON));
        assert!(run.has("notes.txt"));
        precious(&victim);

        let steps = vec![fixture::step("x/../../victim", Vec::new())];
        let crafted = Run { steps, ..record };
        assert!(run.save(&crafted).is_err());
        run.write(RUN_JSON, &serde_json::to_vec(&crafted).expect("serialises")).expect("writes");
        let error = run.replaceable().expect_err("the step's name leads out");
        assert!(error.to_string().contains("run.json") && error.to_string().contains("x/../../victim"), "{error}");
    }

    #[test]
    fn runs_of_one_second_get_folders_of_their_own() {
        let runs = tempfile::tempdir().expect("a folder");
        let runs = runs.path().join("runs");
        let made: Vec<RunFolder> = (0..3).map(|_| RunFolder::create_new(&runs, "attach-1").expect("makes")).collect();
        assert_eq!(made.iter().map(RunFolder::name).collect::<Vec<_>>(), ["attach-1", "attach-1-2", "attach-1-3"]);
        made[1].write("file", b"x").expect("writes");
        drop(made);
        let files = [(); 2].map(|()| new_file(&runs, "sweep", ".json").expect("makes"));
        assert_eq!(files, [runs.join("sweep.json"), runs.join("sweep-2.json")]);
        files.iter().for_each(|file| fs::remove_file(file).expect("removes"));
        // Only what holds something stays.
        let left: Vec<_> = fs::read_dir(&runs).expect("reads").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["attach-1-2"]);
    }

    #[test]
    fn a_folder_has_one_writer_and_who_comes_second_is_told_of_it() {
        let (_outer, run, _) = beside();
        for second in [RunFolder::create(run.path()), RunFolder::edit(run.path())] {
            let failure = second.expect_err("held").downcast::<Failure>().expect("a failure");
            assert_eq!(failure.kind, Kind::Environment);
            assert!(failure.message.contains(&format!("process {}", std::process::id())), "{failure}");
        }
        let path = run.path().to_path_buf();
        run.write("file", b"x").expect("writes");
        assert!(RunFolder::open(&path).expect("may be read").has("file"));
        drop(run);
        drop(RunFolder::edit(&path).expect("free"));
        assert_eq!(fs::read_dir(&path).expect("reads").count(), 1, "no lock stays");
    }

    #[test]
    fn a_lock_that_came_with_the_folder_is_not_written_through() {
        let (outer, run, victim) = beside();
        drop(run);
        let path = outer.path().join("got");
        fs::create_dir(&path).expect("creates");
        symlink(victim.join("file"), path.join(".lock")).expect("links");
        assert!(RunFolder::edit(&path).is_err());
        fs::remove_file(path.join(".lock")).expect("removes");
        fs::hard_link(victim.join("file"), path.join(".lock")).expect("links");
        assert!(RunFolder::edit(&path).is_err());
        precious(&victim);
        // What a killed process left.
        fs::remove_file(path.join(".lock")).expect("removes");
        fs::write(path.join(".lock"), "4194304\n").expect("writes");
        RunFolder::edit(&path).expect("nobody holds it");
    }

    #[test]
    fn a_named_file_is_written_whole() {
        let (outer, _run, victim) = beside();
        let file = outer.path().join("budgets.toml");
        symlink(victim.join("file"), &file).expect("links");
        whole(&file, b"ours").expect("writes");
        assert_eq!(fs::read(&file).expect("reads"), b"ours");
        precious(&victim);
        let error = whole(&outer.path().join("none/file"), b"x").expect_err("no folder");
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }
}
