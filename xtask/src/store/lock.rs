//! One writer a run's folder.
//!
//! The lock is the kernel's (`flock`), so it is free as soon as its holder has ended, however that came. The file it is
//! on holds the process id for those who are refused, and goes with the lock.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::cli::failure::{Failure, Kind};

/// The file's name. It starts with a dot, so no name of a record is equal to it.
const LOCK: &str = ".lock";
/// The most digits of a process id, and a line's end.
const PID_MAX: u64 = 21;

/// A folder's lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: OwnedFd,
    /// Locked as long as it is open.
    _file: File,
}

impl Lock {
    /// Takes the lock of the folder that is open as `folder` and called `path`. `held` says what it is that another
    /// process does there, given who that is.
    ///
    /// # Errors
    /// What `held` says when another process holds it; any other when the file cannot be made.
    pub(crate) fn take(folder: BorrowedFd<'_>, path: &Path, held: impl Fn(&str) -> Failure) -> anyhow::Result<Lock> {
        let cannot = || format!("cannot write to {}", path.display());
        loop {
            // The file may come from elsewhere with the folder: a link is not followed, a pipe not waited for.
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(folder, LOCK, flags, Mode::from_raw_mode(0o644)).with_context(cannot)?;
            let mut file = File::from(file);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(held(&holder(&file)).into()),
                Err(error) => return Err(error).with_context(cannot),
            }
            let stat = fstat(&file).with_context(cannot)?;
            match stat.st_nlink {
                // Its holder removed it between our opening and our locking it.
                0 => continue,
                1 if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
                // It has another name, and what it is there for is not known.
                _ => {
                    let message = format!("{} is not a lock of this program", path.join(LOCK).display());
                    return Err(Failure::new(Kind::Environment, message).help("remove it").into());
                }
            }
            file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(cannot)?;
            return Ok(Lock { folder: folder.try_clone_to_owned().with_context(cannot)?, _file: file });
        }
    }
}

impl Drop for Lock {
    /// Removes the file while it is locked, so that nobody else's is removed.
    fn drop(&mut self) {
        let _ = unlinkat(self.folder.as_fd(), LOCK, AtFlags::empty());
    }
}

/// Who holds the lock of a file.
fn holder(mut file: &File) -> String {
    let mut holder = String::new();
    let read = file.rewind().and_then(|()| file.take(PID_MAX).read_to_string(&mut holder));
    match holder.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
