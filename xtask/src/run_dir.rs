//! Finding and reading a run: by id, by path, or the newest.
//!
//! A run is a folder with a `run.json`; runs live in `profiles/`. Reading one must say what is wrong with it in words
//! a reader can act on; it never guesses at half a run.

use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{BadRun, Run};
use alloc_ladder::scenario::Scenario;
use anyhow::Context;

use crate::failure::{Failure, Kind};
use crate::terminal::{self, Style};

/// The name a run's record has in its folder.
pub(crate) const RUN_JSON: &str = "run.json";

/// How many runs an error message suggests.
const SUGGESTED: usize = 5;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    // Cargo says at run time where the package is, so a built binary may move along with its checkout.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| ".".into(), Path::to_path_buf)
}

/// The folder of all runs.
pub(crate) fn profiles() -> PathBuf {
    root().join("profiles")
}

/// The folder of the run the README quotes for a scenario.
pub(crate) fn reference(scenario: Scenario) -> PathBuf {
    profiles().join("reference").join(scenario.name())
}

/// Whether a folder is among the reference runs, by whatever path it was reached.
pub(crate) fn is_reference(folder: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole(folder).starts_with(whole(&profiles().join("reference")))
}

/// Makes a run's folder and makes sure that files can be written there.
///
/// # Errors
/// When it cannot be made or written; the message names it.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    tempfile::tempfile_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(())
}

/// Takes a run out of its folder: record, page and the folders of its steps. What else lies there stays.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn clear(folder: &Path) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(folder.join(RUN_JSON)) else { return Ok(()) };
    let remove = |path: PathBuf| {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    };
    // A record that cannot be read says of no step where it lies.
    for (index, step) in Run::from_json(&text).iter().flat_map(|run| run.steps.iter().enumerate()) {
        remove(folder.join(step_folder(index, &step.name)))?;
    }
    for file in [RUN_JSON, crate::report::FILE] {
        remove(folder.join(file))?;
    }
    Ok(())
}

/// A step's folder in its run's: `03-bytes-field`.
pub(crate) fn step_folder(index: usize, name: &str) -> String {
    format!("{:02}-{name}", index + 1)
}

/// The run called `name`: `newest`, a folder or a `run.json` by path, or the name of a folder in `profiles/`.
///
/// # Errors
/// [`Kind::Usage`] when there is no such run, [`Kind::Environment`] when it cannot be read.
pub(crate) fn load(name: &str) -> anyhow::Result<(PathBuf, Run)> {
    load_from(&profiles(), name)
}

/// The run begun last, of one scenario or of any.
///
/// # Errors
/// [`Kind::Usage`] when there is none.
pub(crate) fn newest(scenario: Option<Scenario>) -> anyhow::Result<(PathBuf, Run)> {
    newest_from(&profiles(), scenario)
}

fn load_from(profiles: &Path, name: &str) -> anyhow::Result<(PathBuf, Run)> {
    if name == "newest" {
        return newest_from(profiles, None);
    }
    let path = Path::new(name);
    if path.file_name().is_some_and(|file| file == RUN_JSON) && path.is_file() {
        return read(path.parent().unwrap_or(Path::new(".")));
    }
    for folder in [path, &profiles.join(path)] {
        if folder.join(RUN_JSON).is_file() {
            return read(folder);
        }
        if folder.is_dir() && folder != profiles {
            return Err(Failure::new(Kind::Usage, format!("`{}` holds no {RUN_JSON}", folder.display()))
                .help("a run that was interrupted before its first step leaves none; measure again")
                .into());
        }
    }
    Err(Failure::new(Kind::Usage, format!("there is no run `{name}`")).help(suggestion(profiles, name)).into())
}

fn newest_from(profiles: &Path, scenario: Option<Scenario>) -> anyhow::Result<(PathBuf, Run)> {
    let mut runs = all(profiles);
    runs.retain(|(_, run)| scenario.is_none_or(|scenario| run.scenario == Some(scenario)));
    runs.into_iter().next().ok_or_else(|| {
        let of = scenario.map_or_else(String::new, |scenario| format!(" of `{scenario}`"));
        let example = scenario.unwrap_or(Scenario::Put);
        Failure::new(Kind::Usage, format!("there is no run{of} in `{}`", profiles.display()))
            .help(format!("measure one: cargo xtask profile {example}"))
            .into()
    })
}

/// Every readable run, the one begun last first. Those that cannot be read are named on stderr, for the newest run
/// silently being an older one would mislead.
pub(crate) fn all(profiles: &Path) -> Vec<(PathBuf, Run)> {
    let mut runs = Vec::new();
    for folder in fs::read_dir(profiles).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !folder.join(RUN_JSON).is_file() {
            continue;
        }
        match read(&folder) {
            Ok(run) => runs.push(run),
            Err(error) => terminal::labelled(Style::Warning, "warning", &format!("passed over: {error}")),
        }
    }
    runs.sort_by_key(|(folder, run)| Reverse((run.created.clone(), folder.clone())));
    runs
}

fn read(folder: &Path) -> anyhow::Result<(PathBuf, Run)> {
    let path = folder.join(RUN_JSON);
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => unreadable(&path, "it is not text"),
        _ => anyhow::Error::new(error).context(format!("cannot read `{}`", path.display())),
    })?;
    let run = Run::from_json(&text).map_err(|error| match error {
        BadRun::Newer { .. } => Failure::new(Kind::Environment, format!("`{}`: {error}", path.display()))
            .help("it was written by a newer version of this tool: update, or measure again with this one")
            .into(),
        BadRun::Json(json) if json.is_eof() => unreadable(&path, "it ends in the middle"),
        BadRun::Json(json) => unreadable(&path, &json.to_string()),
    })?;
    Ok((folder.to_path_buf(), run))
}

fn unreadable(path: &Path, why: &str) -> anyhow::Error {
    Failure::new(Kind::Environment, format!("`{}` is no run: {why}", path.display()))
        .help("its writing was cut short or it was edited; measure again, the dhat files beside it are still good")
        .into()
}

fn suggestion(profiles: &Path, name: &str) -> String {
    let runs: Vec<String> = all(profiles)
        .into_iter()
        .filter_map(|(folder, _)| Some(folder.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let near = runs.iter().map(|run| (strsim::jaro_winkler(run, name), run)).max_by(|a, b| a.0.total_cmp(&b.0));
    match (near, runs.is_empty()) {
        (_, true) => format!("`{}` has no runs yet; measure one: cargo xtask profile put", profiles.display()),
        // A timestamp's digits make every id resemble every other; only a typing slip is worth a guess.
        (Some((likeness, near)), _) if likeness > 0.97 => format!("did you mean `{near}`?"),
        _ => format!("the newest runs are: {}", runs[..runs.len().min(SUGGESTED)].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{run as empty, write};

    use super::*;

    fn failure(error: anyhow::Error) -> (Kind, String, String) {
        let failure = error.downcast::<Failure>().expect("a failure with an exit code");
        (failure.kind, failure.message, failure.help.unwrap_or_default())
    }

    #[test]
    fn a_run_is_found_by_id_by_path_by_file_and_as_the_newest() {
        let profiles = tempfile::tempdir().expect("creates");
        let profiles = profiles.path();
        write(profiles, &Run { created: "2026-08-19T09:11:00Z".into(), ..empty("put-a", Scenario::Put) });
        write(profiles, &Run { created: "2026-08-20T09:11:00Z".into(), ..empty("get-b", Scenario::Get) });
        write(profiles, &Run { created: "2026-08-18T09:11:00Z".into(), ..empty("put-c", Scenario::Put) });
        let id = |name: &str| load_from(profiles, name).expect("loads").1.id;
        assert_eq!(id("put-a"), "put-a");
        assert_eq!(id(&profiles.join("put-c").to_string_lossy()), "put-c");
        assert_eq!(id(&profiles.join("put-c/run.json").to_string_lossy()), "put-c");
        assert_eq!(id("newest"), "get-b");
        assert_eq!(newest_from(profiles, Some(Scenario::Put)).expect("loads").1.id, "put-a");
        let (kind, message, help) = failure(newest_from(profiles, Some(Scenario::Unary)).expect_err("none"));
        assert_eq!(kind, Kind::Usage);
        assert!(message.starts_with("there is no run of `unary` in"), "{message}");
        assert_eq!(help, "measure one: cargo xtask profile unary");
    }

    #[test]
    fn a_reference_run_is_one_by_any_path() {
        assert!(is_reference(&reference(Scenario::Put)));
        assert!(is_reference(&root().join("xtask/../profiles/reference/get")));
        assert!(!is_reference(&profiles().join("put-20260820-1402")));
    }

    #[test]
    fn a_missing_run_names_the_newest_or_the_one_that_was_meant() {
        let profiles = tempfile::tempdir().expect("creates");
        let profiles = profiles.path();
        let (kind, message, help) = failure(load_from(profiles, "put-1").expect_err("none"));
        assert_eq!((kind, message.as_str()), (Kind::Usage, "there is no run `put-1`"));
        assert!(help.contains("has no runs yet"), "{help}");
        for day in 10..17 {
            let created = format!("2026-08-{day}T00:00:00Z");
            write(profiles, &Run { created, ..empty(&format!("put-202608{day}-0911"), Scenario::Put) });
        }
        let (_, _, help) = failure(load_from(profiles, "put-20260815-091").expect_err("none"));
        assert_eq!(help, "did you mean `put-20260815-0911`?");
        let (_, _, help) = failure(load_from(profiles, "yesterday").expect_err("none"));
        assert_eq!(
            help,
            "the newest runs are: put-20260816-0911, put-20260815-0911, put-20260814-0911, put-20260813-0911, \
             put-20260812-0911"
        );
    }

    #[test]
    fn newer_truncated_and_foreign_files_are_told_apart() {
        let profiles = tempfile::tempdir().expect("creates");
        let profiles = profiles.path();
        let whole = serde_json::to_string(&empty("put-a", Scenario::Put)).expect("serialises");
        for (name, text) in [
            ("newer", r#"{"schema": 99}"#),
            ("cut", &whole[..whole.len() / 2]),
            ("foreign", r#"{"schema": 1, "colour": "blue"}"#),
        ] {
            fs::create_dir_all(profiles.join(name)).expect("creates");
            fs::write(profiles.join(name).join(RUN_JSON), text).expect("writes");
        }
        fs::create_dir_all(profiles.join("hollow")).expect("creates");
        let message = |name: &str| failure(load_from(profiles, name).expect_err("bad")).1;
        assert!(message("newer").contains("schema 99"), "{}", message("newer"));
        assert!(message("cut").ends_with("it ends in the middle"), "{}", message("cut"));
        assert!(message("foreign").contains("missing field"), "{}", message("foreign"));
        assert!(message("hollow").ends_with("holds no run.json"), "{}", message("hollow"));
    }
}
