//! `profile` without a program: climbs the steps that `alloc-ladder.toml` describes.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::analyse::profiles::Profiles;
use crate::cli::browser;
use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};
use crate::cli::terminal::{self, Style, rendering};
use crate::measure::subject::climb::Climb;
use crate::measure::subject::{self, FILE, Subject};
use crate::measure::{environment, interrupt};
use crate::render::page;
use crate::render::text::summary;
use crate::store::builds::Builds;
use crate::store::write::RunFolder;
use crate::store::{layout, place};

#[derive(Debug, clap::Args)]
// Beside those of `profile -- PROGRAM`, whose type has the same name.
#[group(id = "climb")]
pub(crate) struct Args {
    /// The file that describes the service [default: alloc-ladder.toml in this folder or above, up to the workspace's]
    #[arg(long, value_name = "FILE", conflicts_with = "program")]
    file: Option<PathBuf>,
    /// Only these steps of the file
    #[arg(long, value_delimiter = ',', value_name = "STEP", conflicts_with = "program")]
    steps: Vec<String>,
    /// How often every step is measured [default: what the file says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "program")]
    rounds: Option<u32>,
    /// Run the commands of a file from elsewhere without asking
    #[arg(long, conflicts_with = "program")]
    yes: bool,
}

/// Measures the subject; `open` the page, or print the record as `json`.
pub(crate) fn run(args: &Args, open: bool, json: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    interrupt::catch_interrupts()?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => find()?,
    };
    let mut subject = subject::read(&file)?;
    choose(&mut subject, args)?;
    if !args.yes {
        may_run(&subject)?;
    }
    let builds = Builds::take(&layout::builds())?;
    let (created, stamp) = environment::now();
    let folder = RunFolder::create_new(&layout::runs(), &format!("{}-{stamp}", plain(&subject.name)))?;
    let words = format!("{} · {} steps · {} rounds", subject.name, subject.steps.len(), subject.window.rounds);
    terminal::progress("Profiling", &words);
    let mut climb = Climb::new(&subject, folder, created);
    let measured = climb.build(builds.path()).and_then(|()| climb.measure());
    if !climb.has_figures() {
        // A run of nothing would be the newest one; what was printed stays where it is.
        let (_, folder) = climb.into_parts();
        folder.clear(&[layout::RUN_JSON.to_owned()])?;
        return measured;
    }
    let (run, folder) = climb.into_parts();
    folder.save(&run)?;
    let mut profiles = Profiles::default();
    let page = rendering(folder.path(), || page::write_all(&folder, &run, &mut profiles))?;
    if json {
        terminal::result(&(serde_json::to_string_pretty(&run)? + "\n"))?;
    } else {
        terminal::result(&summary::text(&run, &profiles, &page, None))?;
    }
    if let Err(error) = measured {
        terminal::progress("Kept", &format!("what was measured until then, marked partial: {}", terminal::path(&page)));
        return Err(error);
    }
    terminal::progress("Finished", &format!("in {:.1} s", began.elapsed().as_secs_f64()));
    if open && !browser::open(&page) {
        terminal::labelled(Style::Help, "help", &format!("there is no browser here; open {}", page.display()));
    }
    Ok(())
}

/// The file in this folder, or in one above it within the workspace.
fn find() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = place::root();
    let folders = here.ancestors().take_while(|folder| folder.starts_with(root));
    folders.map(|folder| folder.join(FILE)).find(|file| file.is_file()).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("there is no {FILE} in {}", here.display()))
            .help("`cargo alloc-ladder init` writes one; `cargo alloc-ladder profile -- PROGRAM` records any program")
            .into()
    })
}

/// Leaves the steps and rounds that were asked for.
fn choose(subject: &mut Subject, args: &Args) -> anyhow::Result<()> {
    subject.window.rounds = args.rounds.unwrap_or(subject.window.rounds);
    let names: Vec<String> = subject.steps.iter().map(|step| step.name.clone()).collect();
    if let Some(unknown) = args.steps.iter().find(|step| !names.contains(step)) {
        let meant = nearest(Named::Step, unknown, names.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
        return Err(Failure::new(Kind::Usage, format!("{} has no step `{unknown}`", subject.file.display()))
            .help(format!("{meant}its steps: {}", names.join(", ")))
            .into());
    }
    if !args.steps.is_empty() {
        subject.steps.retain(|step| args.steps.contains(&step.name));
    }
    Ok(())
}

/// Asks before it runs what a file from elsewhere says: one outside of the workspace, or of another user. What is in the
/// workspace may be run by `cargo build` as well.
fn may_run(subject: &Subject) -> anyhow::Result<()> {
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
fn plain(name: &str) -> String {
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
