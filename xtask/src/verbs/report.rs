//! `report`: renders a run again from its stored files; nothing is measured.

use crate::cli::terminal;
use crate::render::page;
use crate::store::find;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: its id, its folder, or `newest`
    run: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (dir, run) = find::load(&args.run)?;
    let path = page::write_all(&RunFolder::edit(&dir)?, &run)?;
    terminal::result(&format!("{}\n", path.display()))
}
