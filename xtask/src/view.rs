//! `cargo xtask view`: opens a run's page in the browser, or serves the folder of runs to a browser elsewhere.

mod serve;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloc_ladder::record::Run;

use crate::{report, run_dir, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: its id, or its folder [default: the newest]
    run: Option<String>,
    /// Serve all runs over HTTP; loopback unless the address says otherwise, port 0 picks a free one
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8733")]
    serve: Option<SocketAddr>,
    /// Print the page's path and open nothing
    #[arg(long)]
    no_open: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(address) = args.serve {
        let run = args.run.as_deref().map(run_dir::load).transpose()?;
        if let Some((dir, run)) = &run {
            rendered(dir, run)?;
        }
        return serve::serve(address, &run_dir::profiles(), run.as_ref().map(|(dir, _)| dir.as_path()));
    }
    let (dir, run) = match &args.run {
        Some(name) => run_dir::load(name)?,
        None => run_dir::newest(None)?,
    };
    let page = rendered(&dir, &run)?;
    terminal::result(&format!("{}\n", page.display()))?;
    if !args.no_open && !open(&page) {
        terminal::labelled(
            terminal::Style::Help,
            "help",
            "no browser here: open the path above, or `cargo xtask view --serve` and forward the port",
        );
    }
    Ok(())
}

/// The page of a run, rendered now where it was not yet: git keeps none.
fn rendered(dir: &Path, run: &Run) -> anyhow::Result<PathBuf> {
    let page = dir.join(report::FILE);
    if page.is_file() { Ok(page) } else { report::write_all(dir, run) }
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
        .flat_map(|(prefix, parent)| run_dir::all(&parent).into_iter().map(move |(dir, run)| (prefix, dir, run)))
        .filter_map(|(prefix, dir, run)| {
            Some(Found { name: format!("{prefix}{}", dir.file_name()?.to_str()?), dir: dir.clone(), run })
        })
        .collect();
    found.sort_by(|a, b| b.run.created.cmp(&a.run.created).then_with(|| b.name.cmp(&a.name)));
    found
}

/// Hands the page to the browser; false where there is none. `BROWSER` wins, as everywhere on Unix.
pub(crate) fn open(page: &Path) -> bool {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut command = match std::env::var_os("BROWSER").filter(|browser| !browser.is_empty()) {
        Some(browser) => Command::new(browser),
        None if cfg!(target_os = "macos") => Command::new("open"),
        None if cfg!(windows) => {
            let mut command = Command::new("cmd");
            command.args(["/C", "start", ""]);
            command
        }
        // Without a display xdg-open may start a browser in this terminal, or wait.
        None if has("DISPLAY") || has("WAYLAND_DISPLAY") => Command::new("xdg-open"),
        None => return false,
    };
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_run_without_a_page_gets_one_and_one_with_a_page_keeps_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = fixture::bare();
        let page = rendered(dir.path(), &run).expect("renders");
        assert!(std::fs::read_to_string(&page).expect("reads").starts_with("<!DOCTYPE html>"));
        std::fs::write(&page, "seen").expect("writes");
        assert_eq!(rendered(dir.path(), &run).expect("finds"), page);
        assert_eq!(std::fs::read_to_string(&page).expect("reads"), "seen");
    }

    fn stored(profiles: &Path, name: &str, created: &str) {
        let dir = profiles.join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let mut run = fixture::run();
        run.created = created.to_owned();
        std::fs::write(dir.join("run.json"), serde_json::to_vec(&run).expect("serialises")).expect("writes");
    }

    #[test]
    fn the_newest_comes_first_and_reference_runs_are_found_too() {
        let profiles = tempfile::tempdir().expect("a folder");
        stored(profiles.path(), "put-1", "2026-08-19T09:11:00Z");
        stored(profiles.path(), "reference/put-0", "2026-08-18T09:11:00Z");
        stored(profiles.path(), "put-2", "2026-08-20T14:02:11Z");
        std::fs::create_dir(profiles.path().join("no-run")).expect("a folder");
        let names: Vec<String> = runs(profiles.path()).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["put-2", "put-1", "reference/put-0"]);
    }
}
