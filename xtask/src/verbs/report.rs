//! `report`: renders a run again from its stored files; nothing is measured.

use crate::analyse::profiles::Profiles;
use crate::cli::terminal::{self, rendering};
use crate::render::page;
use crate::store::find;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: its id, its folder, or `newest`
    run: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (dir, run) = find::load(&args.run)?;
    let path = rendering(&dir, || page::write_all(&dir, &run, Profiles::default()))?;
    terminal::result(&format!("{}\n", path.display()))
}
