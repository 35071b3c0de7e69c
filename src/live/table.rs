//! The stage table, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::calls;
use super::reading::{Open, Reading};
use crate::method::MethodName;
use crate::sampled::Estimate;
use crate::{Side, Tally};

/// Plain columns; method names are escaped so that none can drive a terminal.
pub(super) fn text(reading: &Reading) -> String {
    let Reading { live_bytes, peak_bytes, peak_slack_bytes, own_bytes, .. } = reading;
    let mut text = String::new();
    if reading.is_counted() {
        line(
            &mut text,
            format_args!("live {live_bytes} bytes, at most {peak_bytes} so far (give or take {peak_slack_bytes})"),
        );
        if *own_bytes > 0 {
            line(&mut text, format_args!("besides {own_bytes} bytes of these endpoints"));
        }
    } else {
        text.push_str("nothing was counted: the program's #[global_allocator] is not a CountingAlloc\n");
    }
    memory(&mut text, reading);
    if reading.is_counted() || reading.sampled.is_some() {
        text.push('\n');
        rows(&mut text, reading);
    }
    open(&mut text, reading);
    calls(&mut text, reading);
    let Reading { overflowed, untracked, .. } = reading;
    if overflowed + untracked > 0 {
        line(
            &mut text,
            format_args!(
                "\n{overflowed} samples without frames (too many stacks), {untracked} missing from live bytes (too many live)"
            ),
        );
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

fn memory(text: &mut String, reading: &Reading) {
    if let Some(resident) = reading.memory.resident {
        let (bytes, peak) = (resident.bytes, resident.peak_bytes);
        let (anonymous, file, shared) = (resident.anonymous, resident.file, resident.shared);
        line(
            text,
            format_args!(
                "resident {bytes} bytes, at most {peak} so far: {anonymous} heaps and stacks, {file} code and files, {shared} shared"
            ),
        );
    }
    for allocator in &reading.memory.allocators {
        let (name, in_use, kept) = (allocator.name, allocator.in_use, allocator.kept);
        if allocator.is_old {
            line(
                text,
                format_args!("{name} was asked before much of this was allocated or freed: its figures are left out"),
            );
            continue;
        }
        line(text, format_args!("{name} handed out {in_use} bytes and keeps {kept} that are free"));
    }
    if let Some(gap) = reading.gap() {
        line(text, format_args!("{gap}"));
    }
}

/// What a row's allocations less its releases are called: some of what is freed here was allocated elsewhere.
const NET: &str = "allocated \u{2212} freed here";

fn rows(text: &mut String, reading: &Reading) {
    let total = reading.total;
    let mut table = vec![
        ["side", "rpc", "stage", "blocks", "bytes", "bytes %", "freed bytes", NET, "live bytes", "\u{b1}"]
            .map(str::to_owned),
    ];
    let mut row = |[side, rpc, stage]: [String; 3], tally: Tally, live: Option<Estimate>| {
        let share = 100.0 * tally.bytes as f64 / total.bytes.max(1) as f64;
        let [blocks, bytes, freed] = [tally.blocks, tally.bytes, tally.freed_bytes].map(|count| count.to_string());
        let net = tally.live_bytes().to_string();
        let [live, error] = [whole(live.map(|live| live.bytes)), whole(live.map(|live| live.bytes_error()))];
        table.push([side, rpc, stage, blocks, bytes, format!("{share:.1}"), freed, net, live, error]);
    };
    for counted in &reading.rows {
        let [side, rpc] = names(counted.method);
        row([side, rpc, counted.stage.name().to_owned()], counted.tally, counted.live);
    }
    row(["total", "-", "-"].map(str::to_owned), total, reading.sampled);
    if reading.sampled.is_some() {
        columns(text, &table, 3);
        text.push_str("\nlive bytes are those a row allocated and nobody freed, estimated from sampled stacks, with their standard error;\n");
    } else {
        let table: Vec<[String; 8]> =
            table.into_iter().map(|[a, b, c, d, e, f, g, h, ..]| [a, b, c, d, e, f, g, h]).collect();
        columns(text, &table, 3);
        text.push_str("\nlive bytes by row take a SampledAlloc around the program's allocator;\n");
    }
    line(text, format_args!("{NET} is not what a row holds: it is negative where blocks of another row are freed"));
}

fn whole(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"))
}

/// Calls that ended, and how they differ.
fn calls(text: &mut String, reading: &Reading) {
    let table = calls::lines(reading, |calls| names(calls.method));
    if table.len() > 1 {
        text.push('\n');
        columns(text, &table, 2);
        text.push_str("\ncalls are those that ended; blocks, bytes and milliseconds of one are read off buckets, give or take a tenth\n");
    }
}

fn open(text: &mut String, reading: &Reading) {
    let open: Vec<&Open> = reading.methods.iter().filter(|open| open.is_something()).collect();
    if open.is_empty() {
        return;
    }
    let head =
        ["side", "rpc", "open calls", "live bytes", "\u{b1}", "mean per open call", "largest message as received"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(open.iter().map(|open| {
        let [side, rpc] = names(open.method);
        let [live, error] = [open.live.map(|live| live.bytes), open.live.map(|live| live.bytes_error())].map(whole);
        let largest = open.largest_received.to_string();
        [side, rpc, open.calls.to_string(), live, error, whole(open.bytes_per_call()), largest]
    }));
    text.push_str("\nopen calls, and what their methods allocated that is live (estimated from sampled stacks)\n\n");
    columns(text, &rows, 2);
    text.push_str("\na message that is compressed counts as it arrived: decompressed it may hold many times as much\n");
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
pub(super) fn json(reading: &Reading) -> String {
    let mut total = tally(reading.total);
    sampled(&mut total, reading.sampled);
    let rows: Vec<Value> = reading
        .rows
        .iter()
        .map(|row| {
            let mut object = tally(row.tally);
            object["side"] = row.method.side.map(Side::name).into();
            object["rpc"] = row.method.path.into();
            object["stage"] = row.stage.name().into();
            sampled(&mut object, row.live);
            object
        })
        .collect();
    let methods: Vec<Value> = reading
        .methods
        .iter()
        .filter(|open| open.is_something())
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
    let resident = reading.memory.resident;
    let allocators = reading.memory.allocators.iter().filter(|allocator| !allocator.is_old);
    let table = json!({
        "rows": rows,
        "methods": methods,
        "calls": calls::json(reading),
        "total": total,
        "live_bytes": reading.live_bytes,
        "peak_bytes": reading.peak_bytes,
        "peak_slack_bytes": reading.peak_slack_bytes,
        "instrument_bytes": reading.own_bytes,
        "resident_bytes": resident.map(|resident| resident.bytes),
        "resident_peak_bytes": resident.map(|resident| resident.peak_bytes),
        "resident_anonymous_bytes": resident.map(|resident| resident.anonymous),
        "resident_file_bytes": resident.map(|resident| resident.file),
        "resident_shared_bytes": resident.map(|resident| resident.shared),
        "allocators": allocators
            .map(|allocator| json!({ "name": allocator.name, "in_use_bytes": allocator.in_use, "kept_bytes": allocator.kept }))
            .collect::<Vec<_>>(),
        "resident_not_live": reading.gap(),
        "sampled_overflowed": reading.overflowed,
        "sampled_untracked": reading.untracked,
    });
    format!("{table:#}\n")
}

/// Adds what the sampler says is live.
fn sampled(object: &mut Value, live: Option<Estimate>) {
    object["sampled_live_bytes"] = live.map(|live| live.bytes).into();
    object["sampled_live_bytes_error"] = live.map(|live| live.bytes_error()).into();
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
