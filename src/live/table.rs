//! The stage table, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{Side, Snapshot, Tally};

/// Plain columns; method names are escaped so that none can drive a terminal.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let total = snapshot.total();
    if total.is_zero() {
        return "nothing was counted: the program's #[global_allocator] is no CountingAlloc\n".to_owned();
    }
    let (peak, slack) = Snapshot::peak_bytes();
    let mut rows: Vec<[String; 8]> =
        vec![["side", "rpc", "stage", "blocks", "bytes", "bytes %", "freed bytes", "live bytes"].map(str::to_owned)];
    let mut row = |side: &str, rpc: &str, stage: &str, tally: Tally| {
        let share = 100.0 * tally.bytes as f64 / total.bytes.max(1) as f64;
        let [blocks, bytes] = [tally.blocks, tally.bytes].map(|count| count.to_string());
        let [freed, live] = [tally.freed_bytes.to_string(), tally.live_bytes().to_string()];
        let names = [side, rpc, stage].map(|name| if name.is_empty() { "-".to_owned() } else { name.to_owned() });
        let [side, rpc, stage] = names;
        rows.push([side, rpc, stage, blocks, bytes, format!("{share:.1}"), freed, live]);
    };
    for counted in snapshot.rows() {
        let rpc = counted.method.path.escape_debug().to_string();
        row(counted.method.side.map_or("", Side::name), &rpc, counted.stage.name(), counted.tally);
    }
    row("total", "", "", total);

    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = format!("live {} bytes, at most {peak} so far (give or take {slack})\n\n", Snapshot::live_bytes());
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if column < 3 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).expect("writing to a string cannot fail");
    }
    text
}

/// The same as JSON, with the field names of `run.json`'s counts.
pub(super) fn json(snapshot: &Snapshot) -> String {
    let (peak, slack) = Snapshot::peak_bytes();
    let rows: Vec<Value> = snapshot
        .rows()
        .map(|row| {
            let mut object = tally(row.tally);
            object["side"] = row.method.side.map(Side::name).into();
            object["rpc"] = row.method.path.into();
            object["stage"] = row.stage.name().into();
            object
        })
        .collect();
    let table = json!({
        "rows": rows,
        "total": tally(snapshot.total()),
        "live_bytes": Snapshot::live_bytes(),
        "peak_bytes": peak,
        "peak_slack_bytes": slack,
    });
    format!("{table:#}\n")
}

fn tally(tally: Tally) -> Value {
    json!({
        "blocks": tally.blocks,
        "bytes": tally.bytes,
        "freed_blocks": tally.freed_blocks,
        "freed_bytes": tally.freed_bytes,
        "reallocs": tally.reallocs,
        "realloc_old_bytes": tally.realloc_old_bytes,
        "realloc_new_bytes": tally.realloc_new_bytes,
    })
}
