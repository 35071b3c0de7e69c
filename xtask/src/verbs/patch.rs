//! `patch CRATE…`: the steps in the generated code of crates that somebody else wrote.

use crate::cli::terminal;
use crate::measure::interrupt;
use crate::measure::subject::patched;
use crate::store::layout;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Crates of crates.io that hold generated code and are in Cargo.lock; if omitted, those that Cargo.toml names already
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    interrupt::catch_interrupts()?;
    let taken = patched::take(&layout::root(), &args.crates)?;
    let mut text = "[patch.crates-io]\n".to_owned();
    for copy in &taken {
        let word = if copy.kept { "Kept" } else { "Copied" };
        terminal::progress(word, &format!("{} {} in patches/{}", copy.name, copy.version, copy.name));
        text += &copy.line;
        text.push('\n');
    }
    terminal::result(&text)
}
