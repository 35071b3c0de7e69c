//! Waiting for a file lock that another process holds, and saying so.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::terminal;
use crate::measure::interrupt::Cancel;
use crate::measure::process::LOOK;

/// How long a wait goes on before it is told.
const SILENT: Duration = Duration::from_secs(1);

/// Opens the file at `path`, which is made where it is missing, and locks it until the returned file is dropped. A wait
/// for another process is told with `waiting` after a second.
///
/// # Errors
/// When the file cannot be opened or locked, and when the wait is ended from outside.
pub(crate) fn lock(path: &Path, cancel: &Cancel, waiting: impl FnMut(Option<u32>)) -> anyhow::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    locked(file, path, cancel, waiting)
}

/// Waits until nobody else holds a lock of the file at `path`, if there is one.
///
/// # Errors
/// As [`lock`].
pub(crate) fn wait(path: &Path, cancel: &Cancel, waiting: impl FnMut(Option<u32>)) -> anyhow::Result<()> {
    // A lock that cannot be looked at is its holder's business.
    if let Ok(file) = File::options().read(true).write(true).open(path) {
        locked(file, path, cancel, waiting)?;
    }
    Ok(())
}

/// Says that a build waits for another one.
pub(crate) fn build_waits(holder: Option<u32>) {
    let who = holder.map_or_else(String::new, |process| format!(" (process {process})"));
    terminal::progress("Waiting", &format!("waiting for another build{who}"));
}

fn locked(file: File, path: &Path, cancel: &Cancel, mut waiting: impl FnMut(Option<u32>)) -> anyhow::Result<File> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => cancel.check()?,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        if !told && began.elapsed() >= SILENT {
            told = true;
            waiting(holder(&file));
        }
        std::thread::sleep(LOOK);
    }
}

/// Which process holds the lock of a file, as far as the kernel says.
fn holder(file: &File) -> Option<u32> {
    let file = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    of_inode(&locks, file.ino())
}

/// From lines such as `1: FLOCK  ADVISORY  WRITE 4242 fe:01:123456 0 EOF`. The device is left out of it: on some file
/// systems it is another one than a file's own.
fn of_inode(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        // One that waits for a lock is shown with an arrow.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, place, ..] = words[..] else { return None };
        (place.rsplit(':').next()?.parse() == Ok(inode)).then(|| process.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_with_the_holder_and_ends_with_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let cancel = Cancel::default();
        let held = lock(&path, &cancel, |_| panic!("nobody else holds it")).expect("locked");
        let mut held = Some(held);
        let mut told = Vec::new();
        // It is let go when the wait was told, and not before.
        lock(&path, &cancel, |holder| {
            told.push(holder);
            held = None;
        })
        .expect("locked");
        assert_eq!(told, [Some(std::process::id())]);
        wait(&path, &cancel, |_| panic!("nobody holds it")).expect("free");
        wait(&folder.path().join("none"), &cancel, |_| panic!("there is none")).expect("free");
    }

    #[test]
    fn a_wait_ends_with_who_wanted_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let cancel = Cancel::new();
        let _held = lock(&path, &cancel, |_| ()).expect("locked");
        lock(&path, &cancel, |_| cancel.cancel()).expect_err("cancelled");
    }

    #[test]
    fn the_holder_stands_beside_the_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:01:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 fe:01:12 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 fe:01:13 0 EOF\n";
        assert_eq!(of_inode(locks, 12), Some(8));
        assert_eq!(of_inode(locks, 13), None);
    }
}
