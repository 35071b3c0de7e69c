//! Finding the file, and whether what it says may be run.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal::{self, Style};
use crate::measure::subject::file::Subject;
use crate::measure::subject::text::FILE;
use crate::store::place;

/// The file in this folder, or in one above it within the workspace, if there is one.
pub(crate) fn nearby() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let folders = here.ancestors().take_while(|folder| folder.starts_with(place::root()));
    folders.map(|folder| folder.join(FILE)).find(|file| file.is_file())
}

/// As [`nearby`], where there must be one.
///
/// # Errors
/// [`Kind::Usage`] when there is none.
pub(crate) fn find() -> anyhow::Result<PathBuf> {
    nearby().ok_or_else(|| {
        Failure::new(Kind::Usage, format!("there is no {FILE} here, nor in a folder above within the workspace"))
            .help("`cargo alloc-ladder init` writes one; `cargo alloc-ladder profile -- PROGRAM` records any program")
            .into()
    })
}

/// Leaves the steps that were asked for; all where none was.
///
/// # Errors
/// [`Kind::Usage`] for a step that the file does not have.
pub(crate) fn choose(subject: &mut Subject, wanted: &[String]) -> anyhow::Result<()> {
    let names: Vec<String> = subject.steps.iter().map(|step| step.name.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|step| !names.contains(step)) {
        let meant = nearest(Named::Step, unknown, names.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
        return Err(Failure::new(Kind::Usage, format!("{} has no step `{unknown}`", subject.file.display()))
            .help(format!("{meant}its steps: {}", names.join(", ")))
            .into());
    }
    if !wanted.is_empty() {
        subject.steps.retain(|step| wanted.contains(&step.name));
    }
    Ok(())
}

/// Takes the traffic of this name in place of that of `[workload]`; the run is called by both.
///
/// # Errors
/// [`Kind::Usage`] for traffic that the file does not have.
pub(crate) fn take_traffic(subject: &mut Subject, wanted: Option<&str>) -> anyhow::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let Some(index) = subject.traffic.iter().position(|traffic| traffic.name == wanted) else {
        let names: Vec<&str> = subject.traffic.iter().map(|traffic| traffic.name.as_str()).collect();
        let help = match names.is_empty() {
            true => "it has no table [[traffic]]; see `cargo alloc-ladder init --keys`".to_owned(),
            false => {
                let meant = nearest(Named::Traffic, wanted, names.iter().copied());
                let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
                format!("{meant}its traffic: {}", names.join(", "))
            }
        };
        let message = format!("{} has no traffic `{wanted}`", subject.file.display());
        return Err(Failure::new(Kind::Usage, message).help(help).into());
    };
    let traffic = subject.traffic[index].clone();
    subject.name = subject.called(&traffic.name);
    subject.workload = traffic.workload;
    subject.traffic_args = traffic.load_args;
    Ok(())
}

/// Asks before it runs what a file from elsewhere says: one outside of the workspace, or of another user. What is in the
/// workspace may be run by `cargo build` as well.
///
/// # Errors
/// [`Kind::Usage`] when nobody agrees.
pub(crate) fn may_run(subject: &Subject) -> anyhow::Result<()> {
    if is_own(&subject.file, place::root()) {
        return Ok(());
    }
    let commands = subject.commands().join("\n  ");
    let message = format!("{} is not of this workspace, and runs commands:\n  {commands}", subject.file.display());
    if !std::io::stdin().is_terminal() || !terminal::is_watched() {
        return Err(Failure::new(Kind::Usage, message).help("read it, and say --yes if it may").into());
    }
    terminal::labelled(Style::Warning, "warning", &message);
    if terminal::agrees("Run them?")? {
        return Ok(());
    }
    Err(Failure::new(Kind::Usage, "nothing was run").into())
}

fn is_own(file: &Path, root: &Path) -> bool {
    let (Ok(file), Ok(root)) = (file.canonicalize(), root.canonicalize()) else { return false };
    let own = rustix::process::getuid().as_raw();
    file.starts_with(root) && file.metadata().is_ok_and(|file| file.uid() == own)
}

/// The name in the letters that a run's folder may have.
pub(crate) fn plain(name: &str) -> String {
    const LETTERS: usize = 100;
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    let plain: String = name.chars().map(plain).take(LETTERS).collect();
    let plain = plain.trim_start_matches(['.', '-']);
    if plain.is_empty() { "subject".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_workspace_is_trusted_and_one_beside_it_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("creates");
        let (inside, outside) = (root.join(FILE), folder.path().join(FILE));
        std::fs::write(&inside, "").expect("writes");
        std::fs::write(&outside, "").expect("writes");
        assert!(is_own(&inside, &root));
        assert!(!is_own(&outside, &root) && !is_own(&root.join("../alloc-ladder.toml"), &root));
        std::os::unix::fs::symlink(&outside, root.join("link")).expect("links");
        assert!(!is_own(&root.join("link"), &root), "a link leads out");
    }

    #[test]
    fn a_run_is_named_after_its_subject_in_plain_letters() {
        assert_eq!(plain("h2-923"), "h2-923");
        assert_eq!(plain("../My Server"), "My-Server");
        assert_eq!(plain("…"), "subject");
    }
}
