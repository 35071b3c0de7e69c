//! Finding and reading a run: by id, by path, or the newest.
//!
//! A run is a folder with a `run.json`, in the folder of runs that [`crate::store::place`] names. Reading one must say what is wrong with it in words
//! a reader can act on; it never guesses at half a run.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use alloc_ladder::record::{BadRun, Run};
use alloc_ladder::subject::scenario::Scenario;

use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal::{self, Style};
use crate::store::layout::{self, RUN_JSON};
use crate::store::write::RunFolder;
use crate::store::{fits, name, place};

/// How many runs an error message suggests.
const SUGGESTED: usize = 5;

/// The run called `name`: `newest`, a folder or a `run.json` by path, or the name of a folder among the runs.
///
/// # Errors
/// [`Kind::Usage`] when there is no such run, [`Kind::Environment`] when it cannot be read.
pub(crate) fn load(name: &str) -> anyhow::Result<(PathBuf, Run)> {
    load_from(&layout::runs(), name)
}

/// The run begun last, of one scenario or of any.
///
/// # Errors
/// [`Kind::Usage`] when there is none.
pub(crate) fn newest(scenario: Option<Scenario>) -> anyhow::Result<(PathBuf, Run)> {
    newest_from(&layout::runs(), scenario)
}

/// The run begun last that `wanted` wants, if there is one.
pub(crate) fn last(wanted: impl Fn(&Run) -> bool) -> Option<(PathBuf, Run)> {
    all(&layout::runs()).into_iter().find(|(_, run)| wanted(run))
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
    runs.retain(|(_, run)| scenario.is_none_or(|scenario| Scenario::of(&run.subject) == Some(scenario)));
    runs.into_iter().next().ok_or_else(|| {
        let of = scenario.map_or_else(String::new, |scenario| format!(" of `{scenario}`"));
        Failure::new(Kind::Usage, format!("there is no run{of} in `{}`", profiles.display()))
            .help(format!("measure one: {}", place::first_run(scenario)))
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

/// One folder with a run in it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Relative to the folder of runs, with forward slashes.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) run: Run,
}

/// Every readable run under `profiles` and `profiles/reference`, newest first.
pub(crate) fn runs(profiles: &Path) -> Vec<Found> {
    let found = [("", profiles.to_path_buf()), ("reference/", profiles.join("reference"))];
    let mut found: Vec<Found> = found
        .into_iter()
        .flat_map(|(prefix, parent)| all(&parent).into_iter().map(move |(dir, run)| (prefix, dir, run)))
        .filter_map(|(prefix, dir, run)| {
            Some(Found { name: format!("{prefix}{}", dir.file_name()?.to_str()?), dir: dir.clone(), run })
        })
        .collect();
    found.sort_by(|a, b| b.run.created.cmp(&a.run.created).then_with(|| b.name.cmp(&a.name)));
    found
}

fn read(folder: &Path) -> anyhow::Result<(PathBuf, Run)> {
    let path = folder.join(RUN_JSON);
    let text = RunFolder::open(folder)?.read(RUN_JSON)?;
    let text = String::from_utf8(text).map_err(|_| unreadable(&path, "it is not text"))?;
    let run = Run::from_json(&text).map_err(|error| match error {
        BadRun::Newer { .. } => Failure::new(Kind::Environment, format!("`{}`: {error}", path.display()))
            .help("it was written by a newer version of this tool: update, or measure again with this one")
            .into(),
        BadRun::Json(json) if json.is_eof() => unreadable(&path, "it ends in the middle"),
        BadRun::Json(json) => unreadable(&path, &json.to_string()),
    })?;
    fits::check(&text).map_err(|error| unreadable(&path, &error.to_string()))?;
    name::check(&path, &run)?;
    Ok((folder.to_path_buf(), run))
}

fn unreadable(path: &Path, why: &str) -> anyhow::Error {
    Failure::new(Kind::Environment, format!("`{}` is not a valid run: {why}", path.display()))
        .help("its writing was cut short or it was edited; measure again, the dhat files beside it are still good")
        .into()
}

fn suggestion(profiles: &Path, name: &str) -> String {
    let runs: Vec<String> = all(profiles)
        .into_iter()
        .filter_map(|(folder, _)| Some(folder.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let near = nearest(Named::Run, name, runs.iter().map(String::as_str));
    match (near, runs.is_empty()) {
        (_, true) => format!("`{}` has no runs yet; measure one: {}", profiles.display(), place::first_run(None)),
        (Some(near), _) => format!("did you mean `{near}`?"),
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

    fn stored(profiles: &Path, name: &str, created: &str) {
        let dir = profiles.join(name);
        fs::create_dir_all(&dir).expect("a folder");
        let id = name.rsplit('/').next().expect("a name");
        let mut run = empty(id, Scenario::Put);
        run.created = created.to_owned();
        fs::write(dir.join("run.json"), serde_json::to_vec(&run).expect("serialises")).expect("writes");
    }

    #[test]
    fn the_newest_comes_first_and_reference_runs_are_found_too() {
        let profiles = tempfile::tempdir().expect("a folder");
        stored(profiles.path(), "put-1", "2026-08-19T09:11:00Z");
        stored(profiles.path(), "reference/put-0", "2026-08-18T09:11:00Z");
        stored(profiles.path(), "put-2", "2026-08-20T14:02:11Z");
        fs::create_dir(profiles.path().join("no-run")).expect("a folder");
        let names: Vec<String> = runs(profiles.path()).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["put-2", "put-1", "reference/put-0"]);
    }
}
