//! The names that a record brings, and that become names on disk.
//!
//! A record may come from anywhere. Each of its names is one plain component, so that no name leads out of the run's
//! folder, hides, breaks a line or cannot be made.

use std::path::Path;

use alloc_ladder::record::Run;

use crate::cli::failure::{Failure, Kind};
use crate::store::layout::step_folder;

/// The most bytes that a file's name may have on any file system of Linux.
const NAME_MAX: usize = 255;

/// Whether `name` is one plain component: letters, digits, `.`, `_`, `=` and `-`, and no dot at its start.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._=-".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Whether every component of a path with forward slashes is plain.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain)
}

/// A name that a record must not bring.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} `{name}` is not a plain name: it may have letters, digits and `._=-`, at most {NAME_MAX} of them, and does not start with a dot"
)]
struct BadName {
    what: &'static str,
    name: String,
}

/// Refuses the record that was read from `file` unless each of its names is plain.
///
/// # Errors
/// [`Kind::Environment`]; the message has the file and the name.
pub(crate) fn check(file: &Path, run: &Run) -> Result<(), Failure> {
    first_bad(run).map_err(|bad| {
        Failure::new(Kind::Environment, format!("`{}` is refused: {bad}", file.display()))
            .help("the record was edited, or comes from something else; remove it, or correct the name")
    })
}

fn first_bad(run: &Run) -> Result<(), BadName> {
    let good = |what, name: &str, good: bool| {
        if good { Ok(()) } else { Err(BadName { what, name: name.to_owned() }) }
    };
    good("the id", &run.id, is_plain(&run.id))?;
    for (index, step) in run.steps.iter().enumerate() {
        good("the step", &step.name, is_plain(&step.name) && is_plain(&step_folder(index, &step.name)))?;
        let files = step.stacks.iter().map(|stacks| &stacks.dhat).chain(step.cpu.iter().map(|cpu| &cpu.raw));
        for file in files {
            good("the file", file, is_plain_path(file))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::scenario::Scenario;

    use crate::fixture;

    use super::*;

    #[test]
    fn a_name_is_one_plain_component() {
        let longest = "a".repeat(NAME_MAX);
        for good in ["baseline", "only=rope", "put-20260820-140211", "a.b_c-2", &longest] {
            assert!(is_plain(good), "{good}");
        }
        let long = "a".repeat(300);
        let bad =
            ["", ".", "..", ".hidden", "/abs", "a/b", "x/../../victim", "a\nb", "a\0b", "\u{1b}[2J", "ä", "a b", &long];
        for name in bad {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain_path("01-baseline/server/dhat.json"));
        for path in ["", "/etc/passwd", "../outside", "01/../../outside", "01//dhat.json", "01/./dhat.json", "01/"] {
            assert!(!is_plain_path(path), "{path}");
        }
    }

    #[test]
    fn every_name_of_a_record_is_checked() {
        let plain = || {
            let mut run = fixture::run("put-a", Scenario::Put);
            let folder = tempfile::tempdir().expect("a folder");
            run.steps.push(fixture::step("baseline", Vec::new()));
            run.steps[0].stacks.push(fixture::stacks(folder.path(), "baseline", 1, &[]));
            run
        };
        assert_eq!(first_bad(&plain()), Ok(()));
        let refused = |change: &dyn Fn(&mut Run)| {
            let mut run = plain();
            change(&mut run);
            first_bad(&run).expect_err("a bad name").to_string()
        };
        assert!(refused(&|run| run.id = "../x".into()).starts_with("the id `../x` is not"));
        assert!(refused(&|run| run.steps[0].name = "a/b".into()).starts_with("the step `a/b` is not"));
        assert!(refused(&|run| run.steps[0].stacks[0].dhat = "/x".into()).starts_with("the file `/x` is not"));
        // A step's folder is longer than its name.
        let longest = "a".repeat(NAME_MAX);
        assert!(refused(&|run| run.steps[0].name = longest.clone()).starts_with("the step"));
    }
}
