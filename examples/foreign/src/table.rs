//! What the processes of these programs print of themselves.

use std::io::Write;

use alloc_ladder::{Side, Snapshot, Stage};

/// The table, its total and how much of it carries a stage, as lines of words that a test can read.
pub(crate) fn print(process: &str, counted: &Snapshot) -> anyhow::Result<()> {
    let total = counted.total();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{process} process")?;
    for row in counted.rows() {
        let (side, rpc) = (row.method.side.map_or("-", Side::name), row.method.path);
        let rpc = if rpc.is_empty() { "-" } else { rpc };
        let share = 100.0 * row.tally.bytes as f64 / total.bytes as f64;
        writeln!(
            out,
            "  {side:<6}  {rpc:<60}  {:<20}  {:>9} blocks  {:>12} bytes  {share:>5.1} %",
            row.stage, row.tally.blocks, row.tally.bytes
        )?;
    }
    let staged = total.bytes - counted.stage(Stage::Other).bytes;
    let share = 100.0 * staged as f64 / total.bytes as f64;
    writeln!(out, "  total  {} blocks  {} bytes  {share:.2} % with a stage\n", total.blocks, total.bytes)?;
    Ok(())
}
