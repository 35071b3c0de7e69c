//! Every name on disk: a run's folder, its record, its page, the folders of its steps and sides.

use std::path::{Path, PathBuf};

use alloc_ladder::subject::scenario::Scenario;

use crate::store::place;

/// The name a run's record has in its folder.
pub(crate) const RUN_JSON: &str = "run.json";
/// The page's name in a run's folder.
pub(crate) const REPORT: &str = "report.html";
/// The file dhat writes in a side's folder.
pub(crate) const DHAT_FILE: &str = "dhat.json";
/// What the sampler of CPU time writes in a side's folder: whole names, every frame.
pub(crate) const CPU_RAW: &str = "cpu.raw.folded";
/// The same as people look at it.
pub(crate) const CPU_FOLDED: &str = "cpu.folded";

/// A recording in a run's folder.
pub(crate) fn recording(index: usize) -> String {
    format!("{:02}.recording", index + 1)
}

/// The folder that everything is relative to: the workspace's.
pub(crate) fn root() -> PathBuf {
    place::root().to_path_buf()
}

/// The folder of all runs.
pub(crate) fn runs() -> PathBuf {
    place::runs().to_path_buf()
}

/// The folder that somebody's steps are built in.
pub(crate) fn builds() -> PathBuf {
    runs().join("build")
}

/// What cargo said of a step that was not built, in the step's folder.
pub(crate) const BUILD_LOG: &str = "build.log";
/// What a server or a load printed before its step failed, in the step's folder.
pub(crate) const OUTPUT_LOG: &str = "output.log";

/// The folder of the run the README quotes for a scenario.
pub(crate) fn reference(scenario: Scenario) -> PathBuf {
    runs().join("reference").join(scenario.name())
}

/// Whether a folder is among the reference runs, by whatever path it was reached.
pub(crate) fn is_reference(folder: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole(folder).starts_with(whole(&runs().join("reference")))
}

/// A step's folder in its run's: `03-bytes-field`.
pub(crate) fn step_folder(index: usize, name: &str) -> String {
    format!("{:02}-{name}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_run_is_one_by_any_path() {
        assert!(is_reference(&reference(Scenario::Put)));
        assert!(is_reference(&root().join("xtask/../profiles/reference/get")));
        assert!(!is_reference(&runs().join("put-20260820-1402")));
    }
}
