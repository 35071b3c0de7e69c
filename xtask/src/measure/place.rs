//! Where the runs of somebody's programs go, and what their parts are called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::store::layout;

/// Live bytes and resident memory as time went by, in a run's folder.
pub(crate) const TIMELINE: &str = "timeline.csv";

/// The name of a recording in a run's folder.
pub(crate) fn recording_name(index: usize) -> String {
    format!("{:02}.recording", index + 1)
}

/// Makes a new run's folder; also returns the folder that source files are shown from.
///
/// A run goes to `target/alloc-ladder` of the workspace that this directory belongs to; in this repository to
/// `profiles`.
///
/// # Errors
/// When the folder cannot be made.
pub(crate) fn new_run(id: &str) -> anyhow::Result<(PathBuf, String)> {
    let workspace = workspace();
    let here = std::env::current_dir().context("the current directory is gone")?;
    let root = workspace.unwrap_or(here);
    let runs = if root == layout::root() { layout::profiles() } else { root.join("target/alloc-ladder") };
    let folder = runs.join(id);
    std::fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    // Two runs of one second must not share a folder.
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok((folder, root.to_string_lossy().into_owned()))
}

/// The workspace that this directory belongs to.
fn workspace() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        Command::new(cargo).args(["locate-project", "--workspace", "--message-format", "plain"]).output().ok()?;
    let manifest = String::from_utf8(output.stdout).ok()?;
    let manifest = Path::new(manifest.trim());
    (output.status.success() && manifest.is_file()).then(|| manifest.parent().map(Path::to_path_buf))?
}

/// What a program's step is called: its file's name, in the letters that a step's name may have.
pub(crate) fn step_name(program: &str, index: usize) -> String {
    let name = Path::new(program).file_stem().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    let plain = if plain.is_empty() { "program" } else { plain };
    if index == 0 { plain.to_owned() } else { format!("{plain}-{}", index + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_after_files() {
        assert_eq!(step_name("target/release/my_Server", 0), "my-server");
        assert_eq!(step_name("./service.x86", 1), "service-2");
        assert_eq!(step_name("...", 0), "program");
    }
}
