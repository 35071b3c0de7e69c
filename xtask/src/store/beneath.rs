//! Files below a folder that is open: nothing that is a link, or that lies behind one, is followed.
//!
//! Every component of a path is opened by itself, relative to the folder before it and with `O_NOFOLLOW`. Names must
//! be plain ([`crate::store::name`]), so no component is `..`, and the whole path stays below the open folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What happens to a folder that is missing on the way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Fails,
    IsMade,
}

/// Whether a file is on the disk before it takes its name, so that it is whole even after a power cut.
///
/// PERF: the 240 files of a run's page take 3.5 s without that and 6 s with it. They can be made again; a record cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    First,
    Later,
}

/// Opens the folder that holds the last component of `path`; returns it with that component.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a str, missing: Missing) -> io::Result<(OwnedFd, &'a str)> {
    let mut folder = root.try_clone_to_owned()?;
    let (folders, name) = path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
    for component in folders.into_iter().flat_map(|folders| folders.split('/')) {
        if missing == Missing::IsMade {
            match mkdirat(&folder, component, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        folder = openat(&folder, component, FOLDER, Mode::empty())
            .map_err(|error| if is_link(folder.as_fd(), component) { followed() } else { error.into() })?;
    }
    Ok((folder, name))
}

fn is_link(folder: BorrowedFd<'_>, name: &str) -> bool {
    let kind = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind == Ok(FileType::Symlink)
}

fn followed() -> io::Error {
    io::Error::other("it is a link, or lies behind one; links in a run's folder are not followed")
}

/// Opens a regular file for reading.
pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let (folder, name) = parent(root, path, Missing::Fails)?;
    // Opening a pipe waits for its other end unless it is told not to.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, name, flags, Mode::empty())
        .map_err(|error| if is_link(folder.as_fd(), name) { followed() } else { error.into() })?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

/// Whether there is a regular file.
pub(super) fn is_file(root: BorrowedFd<'_>, path: &str) -> bool {
    let kind = |(folder, name): (OwnedFd, &str)| {
        let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        io::Result::Ok(FileType::from_raw_mode(stat.st_mode))
    };
    parent(root, path, Missing::Fails).and_then(kind).is_ok_and(|kind| kind == FileType::RegularFile)
}

/// Writes a file beside its place and renames it: a reader finds all of it, or what was there before. A link at
/// its place is replaced, and a file with another name elsewhere (a hard link) keeps its content. Missing folders on
/// the way are made.
pub(super) fn write(
    root: BorrowedFd<'_>,
    path: &str,
    flush: Flush,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (folder, name) = parent(root, path, Missing::IsMade)?;
    replace(folder.as_fd(), name, flush, content)
}

/// As [`write()`], for a name of which the caller is sure.
pub(super) fn replace(
    folder: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    flush: Flush,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let new = format!(".new-{}-{number}", process::id());
    // Left by a process of the same id that was killed, if at all.
    let _ = unlinkat(folder, &new, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, &new, flags, Mode::from_raw_mode(0o666))?);
    let written = content(&mut file)
        .and_then(|()| if flush == Flush::First { file.sync_data() } else { Ok(()) })
        .and_then(|()| Ok(renameat(folder, &new, folder, name)?));
    if written.is_err() {
        let _ = unlinkat(folder, &new, AtFlags::empty());
    }
    written
}

/// Removes a file, a link or a whole folder; no error where there is none. Links in the folder are removed, and what
/// they lead to stays.
pub(super) fn remove(folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<()> {
    let name = name.into_c_str()?;
    match unlinkat(folder, &*name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says the first of a folder, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = openat(folder, &*name, FOLDER, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(inner.as_fd(), entry.file_name())?;
        }
    }
    Ok(unlinkat(folder, &*name, AtFlags::REMOVEDIR)?)
}
