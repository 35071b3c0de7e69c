//! Reading a file that somebody else may have written: a failure names the file, and exits as what the machine holds.

use std::fmt::Display;
use std::path::Path;

use crate::cli::failure::{Failure, Kind};

/// Reads a file and takes it apart. `help` says what to do about a file that `parse` refuses.
///
/// # Errors
/// [`Kind::Environment`], with the file's name: the file cannot be read, or `parse` says what is wrong with it.
pub(crate) fn parsed<T, E: Display, H: Into<String>>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
    help: impl FnOnce(&E) -> H,
) -> Result<T, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot read {}: {error}", path.display()))
            .help("profile again, or name a run folder that still has its files")
    })?;
    taken_apart(&bytes, path, parse, help)
}

/// Takes the bytes of the file at `path` apart, as [`parsed`] does.
///
/// # Errors
/// [`Kind::Environment`], with the file's name: `parse` says what is wrong with it.
pub(crate) fn taken_apart<T, E: Display, H: Into<String>>(
    bytes: &[u8],
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
    help: impl FnOnce(&E) -> H,
) -> Result<T, Failure> {
    parse(bytes).map_err(|error| {
        let help = help(&error);
        Failure::new(Kind::Environment, format!("{}: {error}", path.display())).help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_file_and_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("numbers");
        let read = || parsed(&path, |bytes| String::from_utf8_lossy(bytes).parse::<u8>(), |_| "write a small number");
        let missing = read().expect_err("no file yet");
        std::fs::write(&path, "300").expect("writable");
        let wrong = read().expect_err("too large");
        for failure in [&missing, &wrong] {
            assert_eq!(failure.kind, Kind::Environment);
            assert!(failure.message.contains("numbers"), "{failure}");
            assert!(failure.help.is_some());
        }
        std::fs::write(&path, "30").expect("writable");
        assert_eq!(read().expect("fits"), 30);
    }
}
