//! What stays live, as a table: whose it is, and who frees it.

use alloc_ladder::Side;
use alloc_ladder::record::{FreedBy, Instrument, Retained, Run};

use crate::cli::numbers;
use crate::cli::table::{Cell, Table};

/// Rows a side of a step has of its own, the largest; the others share one.
const ROWS: usize = 3;

/// A line a step, side and allocating stage, the largest first; empty where nothing of the kind was measured.
pub(crate) fn table(run: &Run) -> String {
    let mut table = Table::default();
    let heads = ["step", "side", "allocated by", "live", "blocks", "freed by"];
    table.row(heads.map(|head| if matches!(head, "live" | "blocks") { Cell::right(head) } else { Cell::left(head) }));
    let mut any = false;
    for step in &run.steps {
        for side in Side::ALL {
            let Some(measured) = step.of(side, Instrument::Retained).next() else { continue };
            any = true;
            let mut row = |allocated_by: String, bytes: u64, blocks: u64, freed_by: String| {
                table.row([
                    Cell::left(step.name.clone()),
                    Cell::left(side.name()),
                    Cell::left(allocated_by),
                    Cell::right(numbers::bytes(bytes as f64)),
                    Cell::right(blocks.to_string()),
                    Cell::left(freed_by),
                ]);
            };
            // The record has them the largest first.
            let (large, small) = measured.retained.split_at(ROWS.min(measured.retained.len()));
            for kept in large {
                let stage = format!("{} {}", kept.stage, kept.rpc);
                row(stage.trim_end().to_owned(), kept.curr_bytes, kept.curr_blocks, freed_by(kept));
            }
            if !small.is_empty() {
                let sum = |figure: fn(&Retained) -> u64| small.iter().map(figure).sum();
                row(
                    format!("({} more)", small.len()),
                    sum(|row| row.curr_bytes),
                    sum(|row| row.curr_blocks),
                    String::new(),
                );
            }
        }
    }
    if any { table.render() } else { String::new() }
}

/// `message-construction 83 %, transport 17 %`, in shares of the bytes freed.
fn freed_by(row: &Retained) -> String {
    let total: u64 = row.freed_by.iter().map(|freed| freed.bytes).sum();
    let mut shares: Vec<&FreedBy> = row.freed_by.iter().filter(|freed| freed.bytes > 0).collect();
    shares.sort_by_key(|freed| std::cmp::Reverse(freed.bytes));
    let share = |freed: &FreedBy| format!("{} {:.0} %", freed.stage, 100.0 * freed.bytes as f64 / total as f64);
    shares.into_iter().map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::fixture;

    #[test]
    fn every_stage_that_keeps_something_is_there_with_who_frees_it() {
        let mut run = fixture::run();
        run.steps.truncate(1);
        let table = table(&run);
        assert!(table.contains("allocated by") && table.contains("receive-buffer"), "{table}");
        assert!(table.contains("message-construction 100 %, transport 0 %"), "{table}");
        for step in &mut run.steps {
            step.measurements.clear();
        }
        assert_eq!(super::table(&run), "");
    }
}
