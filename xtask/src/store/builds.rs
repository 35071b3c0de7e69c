//! The folder in which the steps of a workspace are built: one command at a time.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{Mode, OFlags, open};

use crate::cli::failure::{Failure, Kind};
use crate::store::lock::Lock;

/// The folder, until this is dropped.
#[derive(Debug)]
pub(crate) struct Builds {
    path: PathBuf,
    _lock: Lock,
}

impl Builds {
    /// Takes the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// [`Kind::Environment`] when another process has it, which is named, or when it cannot be made.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Builds> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))?;
        let held = |who: &str| {
            Failure::new(Kind::Environment, format!("{who} measures this workspace already"))
                .help("wait until it has ended: two at once would disturb each other's figures")
        };
        let lock = Lock::take(folder.as_fd(), path, held)?;
        Ok(Builds { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_who_was_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("build");
        let first = Builds::take(&path).expect("free");
        let error = Builds::take(&path).expect_err("taken").downcast::<Failure>().expect("a failure");
        assert_eq!(error.kind, Kind::Environment);
        assert_eq!(error.message, format!("process {} measures this workspace already", std::process::id()));
        drop(first);
        Builds::take(&path).expect("free again");
    }
}
