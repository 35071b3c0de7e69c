//! `report`: renders a run again from its stored files; nothing is measured.

use crate::analyse::profiles::Profiles;
use crate::cli::terminal::{self, rendering};
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
    let folder = RunFolder::edit(&dir)?;
    let path = rendering(&dir, || page::write_all(&folder, &run, &mut Profiles::default()))?;
    terminal::result(&format!("{}\n", path.display()))
}
