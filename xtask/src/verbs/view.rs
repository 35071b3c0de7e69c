//! `cargo xtask view`: opens a run's page in the browser, or serves the folder of runs to a browser elsewhere.

pub(crate) mod serve;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alloc_ladder::record::Run;

use crate::analyse::profiles::Profiles;
use crate::cli::browser;
use crate::cli::terminal::{self, rendering};
use crate::render::page;
use crate::store::find;
use crate::store::write::RunFolder;
use crate::store::{layout, place};

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
        let run = args.run.as_deref().map(find::load).transpose()?;
        if let Some((dir, run)) = &run {
            rendered(dir, run)?;
        }
        return serve::serve(address, &layout::runs(), run.as_ref().map(|(dir, _)| dir.as_path()));
    }
    let (dir, run) = match &args.run {
        Some(name) => find::load(name)?,
        None => find::newest(None)?,
    };
    let page = rendered(&dir, &run)?;
    terminal::result(&format!("{}\n", page.display()))?;
    if !args.no_open && !browser::open(&page) {
        terminal::labelled(
            terminal::Style::Help,
            "help",
            &format!(
                "no browser here: open the path above, or `{} view --serve` and forward the port",
                place::command()
            ),
        );
    }
    Ok(())
}

/// The page of a run, rendered now where it was not yet: git keeps none.
fn rendered(dir: &Path, run: &Run) -> anyhow::Result<PathBuf> {
    if RunFolder::open(dir)?.has(layout::REPORT) {
        return Ok(dir.join(layout::REPORT));
    }
    let folder = RunFolder::edit(dir)?;
    rendering(dir, || page::write_all(&folder, run, &mut Profiles::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::fixture;

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
}
