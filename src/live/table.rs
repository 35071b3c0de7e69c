//! The stage table, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::open::{self, Open};
use crate::method::MethodName;
use crate::sampled::Live;
use crate::{Side, Snapshot, Tally};

/// Plain columns; method names are escaped so that none can drive a terminal.
pub(super) fn text(snapshot: &Snapshot, heap: &Live) -> String {
    let total = snapshot.total();
    if total.is_zero() {
        return "nothing was counted: the program's #[global_allocator] is no CountingAlloc\n".to_owned();
    }
    let (peak, slack) = Snapshot::peak_bytes();
    let mut rows =
        vec![["side", "rpc", "stage", "blocks", "bytes", "bytes %", "freed bytes", "live bytes"].map(str::to_owned)];
    let mut row = |[side, rpc, stage]: [String; 3], tally: Tally| {
        let share = 100.0 * tally.bytes as f64 / total.bytes.max(1) as f64;
        let [blocks, bytes] = [tally.blocks, tally.bytes].map(|count| count.to_string());
        let [freed, live] = [tally.freed_bytes.to_string(), tally.live_bytes().to_string()];
        rows.push([side, rpc, stage, blocks, bytes, format!("{share:.1}"), freed, live]);
    };
    for counted in snapshot.rows() {
        let [side, rpc] = names(counted.method);
        row([side, rpc, counted.stage.name().to_owned()], counted.tally);
    }
    row(["total", "-", "-"].map(str::to_owned), total);
    let mut text = format!("live {} bytes, at most {peak} so far (give or take {slack})\n\n", Snapshot::live_bytes());
    columns(&mut text, &rows, 3);

    let open: Vec<Open> = open::methods(heap).filter(Open::is_something).collect();
    if !open.is_empty() {
        let head = ["side", "rpc", "open calls", "live bytes", "±", "mean per open call", "largest message"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(open.iter().map(|open| {
            let [side, rpc] = names(open.method);
            let bytes = |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
            let (live, error) = (open.live.map(|live| live.bytes), open.live.map(|live| live.bytes_error()));
            let largest = open.largest_received.to_string();
            [side, rpc, open.calls.to_string(), bytes(live), bytes(error), bytes(open.bytes_per_call()), largest]
        }));
        text.push_str(
            "\nopen calls, and what their methods allocated that is live (estimated from sampled stacks)\n\n",
        );
        columns(&mut text, &rows, 2);
    }
    if heap.overflowed + heap.untracked > 0 {
        let Live { overflowed, untracked, .. } = heap;
        writeln!(
            text,
            "\n{overflowed} samples without frames (too many stacks), {untracked} missing from live bytes (too many live)"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

fn names(method: MethodName) -> [String; 2] {
    let shown = |name: String| if name.is_empty() { "-".to_owned() } else { name };
    [method.side.map_or("", Side::name).to_owned(), method.path.escape_debug().to_string()].map(shown)
}

/// Adds the rows in columns: the first few hold names and stand to the left, numbers to the right.
fn columns<const N: usize>(text: &mut String, rows: &[[String; N]], left: usize) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).expect("writing to a string cannot fail");
    }
}

/// The same as JSON, with the field names of `run.json`'s counts.
pub(super) fn json(snapshot: &Snapshot, heap: &Live) -> String {
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
    let methods: Vec<Value> = open::methods(heap)
        .filter(Open::is_something)
        .map(|open| {
            json!({
                "side": open.method.side.map(Side::name),
                "rpc": open.method.path,
                "open_calls": open.calls,
                "sampled_live_bytes": open.live.map(|live| live.bytes),
                "sampled_live_bytes_error": open.live.map(|live| live.bytes_error()),
                "sampled_live_bytes_per_open_call": open.bytes_per_call(),
                "largest_received_bytes": open.largest_received,
            })
        })
        .collect();
    let table = json!({
        "rows": rows,
        "methods": methods,
        "total": tally(snapshot.total()),
        "live_bytes": Snapshot::live_bytes(),
        "peak_bytes": peak,
        "peak_slack_bytes": slack,
        "sampled_overflowed": heap.overflowed,
        "sampled_untracked": heap.untracked,
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
