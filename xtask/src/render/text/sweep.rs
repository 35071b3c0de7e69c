//! A sweep as a table, in a terminal and in Markdown.

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Measurement, Workload};
use alloc_ladder::subject::scenario::Scenario;

use crate::analyse::stats;
use crate::analyse::sweep::{Point, Sweep};
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Style, paint};

/// From how many times a neighbour's CPU per byte a point stands out.
pub(crate) const CLIFF: f64 = 1.5;

/// Put and get are told by the byte of payload; calls of unary, whose payload is a few bytes, by the call.
const PER_BYTE: [&str; 11] = [
    "message",
    "streams",
    "server allocs/msg",
    "client",
    "server B/B",
    "client",
    "server CPU-s/GB",
    "to neighbour",
    "to raw-tokio",
    "client CPU-s/GB",
    "to neighbour",
];
const PER_CALL: [&str; 11] = [
    "call",
    "streams",
    "server allocs/call",
    "client",
    "server bytes/call",
    "client",
    "server CPU µs/call",
    "to neighbour",
    "to raw-tokio",
    "client CPU µs/call",
    "to neighbour",
];

const fn headings(scenario: Scenario) -> [&'static str; 11] {
    match scenario {
        Scenario::Unary => PER_CALL,
        Scenario::Put | Scenario::Get => PER_BYTE,
    }
}

pub(crate) fn text(sweep: &Sweep) -> String {
    let mut table = Table::default();
    table.row(headings(sweep.scenario).map(|heading| Cell::right(heading).style(Style::Bold)));
    for (index, point) in sweep.points.iter().enumerate() {
        let cliff = |side| to_neighbour(sweep, index, side).is_some_and(|ratio| ratio > CLIFF);
        let style = |column: usize| {
            let side = if column == 7 { Side::Server } else { Side::Client };
            if matches!(column, 7 | 10) && cliff(side) { Style::Worse } else { Style::Dim }
        };
        let cells = cells(sweep, index, point).into_iter().enumerate();
        let cells = cells.map(|(column, text)| match column {
            7 | 10 => Cell::right(text).style(style(column)),
            _ => Cell::right(text),
        });
        table.row(cells.collect::<Vec<_>>());
    }
    let mut text = table.render();
    for note in notes(sweep) {
        text.push_str(&paint(Style::Dim, &note));
        text.push('\n');
    }
    text
}

/// The rows as GitHub's Markdown has them.
pub(crate) fn markdown(sweep: &Sweep) -> String {
    let headings = headings(sweep.scenario);
    let mut text = format!("| {} |\n|{}\n", headings.join(" | "), "---:|".repeat(headings.len()));
    for (index, point) in sweep.points.iter().enumerate() {
        text.push_str(&format!("| {} |\n", cells(sweep, index, point).join(" | ")));
    }
    text.push('\n');
    text.push_str(&notes(sweep).join("\n"));
    text.push('\n');
    text
}

fn cells(sweep: &Sweep, index: usize, point: &Point) -> [String; 11] {
    let counted = |side, figure: fn(&Measurement) -> Option<f64>| {
        let value = point.of(side, Instrument::Count).filter_map(figure).next();
        value.map_or_else(|| "–".to_owned(), numbers::number)
    };
    let bytes = match sweep.scenario {
        Scenario::Unary => Measurement::bytes_per_message,
        Scenario::Put | Scenario::Get => Measurement::amplification,
    };
    let cpu = |side| {
        let values = point.cpu(sweep.scenario, side);
        if values.is_empty() {
            return "–".to_owned();
        }
        let show = |value| format!("{value:.3}");
        format!("{} {}", show(stats::median(&values)), stats::plus_minus(&values, show))
    };
    let ratio = |side| to_neighbour(sweep, index, side).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    [
        what(sweep, point),
        point.workload.streams.to_string(),
        counted(Side::Server, Measurement::blocks_per_message),
        counted(Side::Client, Measurement::blocks_per_message),
        counted(Side::Server, bytes),
        counted(Side::Client, bytes),
        cpu(Side::Server),
        ratio(Side::Server),
        point.to_raw().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        cpu(Side::Client),
        ratio(Side::Client),
    ]
}

/// A point's messages: their traffic where it is special, else their size.
fn what(sweep: &Sweep, point: &Point) -> String {
    let special = point.workload.special();
    match sweep.scenario {
        _ if !special.is_empty() => special.join(", "),
        Scenario::Unary => "a user".to_owned(),
        Scenario::Put | Scenario::Get => size(point.workload.chunk),
    }
}

/// Whole kibibytes as such, other sizes to the byte: 32,760 is not 32.0 KiB.
fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) { numbers::bytes(bytes as f64) } else { numbers::bytes_in_full(bytes as f64) }
}

/// How many times the CPU, per byte or per call, of its cheapest neighbour a point takes: the median over rounds of the ratio within
/// a round. Neighbours are the next smaller and the next larger size, number of streams or other traffic.
fn to_neighbour(sweep: &Sweep, index: usize, side: Side) -> Option<f64> {
    let own = sweep.points[index].cpu(sweep.scenario, side);
    let key = |point: &Point| {
        let Workload { streams, chunk, metadata, spans, echo, .. } = point.workload;
        (streams, chunk, metadata, spans, echo)
    };
    let (streams, chunk, ..) = key(&sweep.points[index]);
    let along = |same: &dyn Fn(&Point) -> bool| {
        let mut line: Vec<&Point> = sweep.points.iter().filter(|point| same(point)).collect();
        line.sort_by_key(|point| key(point));
        let at = line
            .iter()
            .position(|point| std::ptr::eq(*point, &sweep.points[index]))
            .expect("a point is on its own line");
        let before = at.checked_sub(1).map(|before| line[before]);
        [before, line.get(at + 1).copied()]
    };
    let neighbours = [along(&|point| point.workload.streams == streams), along(&|point| point.workload.chunk == chunk)];
    let ratio = |neighbour: &Point| {
        let ratios: Vec<f64> =
            own.iter().zip(neighbour.cpu(sweep.scenario, side)).map(|(own, other)| own / other).collect();
        stats::median(&ratios)
    };
    neighbours.into_iter().flatten().flatten().map(ratio).filter(|ratio| ratio.is_finite()).max_by(f64::total_cmp)
}

impl Point {
    fn of(&self, side: Side, instrument: Instrument) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |m| m.side == side && m.instrument == instrument)
    }

    /// How many times the CPU of a raw TCP copy the server takes: the median over rounds.
    fn to_raw(&self) -> Option<f64> {
        let raw = self.raw_tokio.iter().map(Measurement::cpu_seconds_per_gb);
        let own = self.of(Side::Server, Instrument::Time).map(Measurement::cpu_seconds_per_gb);
        let ratios: Vec<f64> = own.zip(raw).map(|(own, raw)| own / raw).collect();
        (!ratios.is_empty()).then(|| stats::median(&ratios))
    }

    /// CPU seconds per GB, of unary microseconds a call, of each round, in round order.
    fn cpu(&self, scenario: Scenario, side: Side) -> Vec<f64> {
        let cost = match scenario {
            Scenario::Unary => Measurement::cpu_us_per_message,
            Scenario::Put | Scenario::Get => Measurement::cpu_seconds_per_gb,
        };
        self.of(side, Instrument::Time).map(cost).collect()
    }
}

fn notes(sweep: &Sweep) -> Vec<String> {
    let rounds = sweep.points.iter().map(|point| point.cpu(sweep.scenario, Side::Server).len()).min().unwrap_or(0);
    let (per, next) = match sweep.scenario {
        Scenario::Unary => ("call", "points"),
        Scenario::Put | Scenario::Get => ("byte", "sizes, or numbers of streams,"),
    };
    let raw = match sweep.points.iter().any(|point| !point.raw_tokio.is_empty()) {
        true => "; to raw-tokio: of a raw TCP copy's in the same rounds",
        false => "",
    };
    let mut notes = vec![format!(
        "{}, {}. Medians of {rounds} interleaved rounds; ± is the far end of {}. To neighbour: CPU per {per} as a multiple \
         of the cheaper of the next {next} in the same rounds{raw}.",
        sweep.scenario,
        sweep.step,
        stats::interval_words(rounds),
    )];
    for (index, point) in sweep.points.iter().enumerate() {
        for side in Side::ALL {
            if let Some(ratio) = to_neighbour(sweep, index, side).filter(|ratio| *ratio > CLIFF) {
                notes.push(format!(
                    "{} × {} on the {side} costs {ratio:.2} times what a neighbour does, above {CLIFF}.",
                    point.workload.streams,
                    what(sweep, point),
                ));
            }
        }
    }
    if notes.len() == 1 && rounds > 0 {
        notes.push(format!("Nothing costs more than {CLIFF} times what a neighbour does."));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_by_the_call_and_a_message_by_the_byte() {
        let mut timed = Measurement::new(Side::Server, Instrument::Time);
        (timed.messages, timed.payload_bytes, timed.usage.user_us) = (10, 1000, 300);
        let workload = Workload::default();
        let point = Point { workload, measurements: vec![timed], raw_tokio: Vec::new() };
        assert_eq!(point.cpu(Scenario::Unary, Side::Server), [30.0]);
        assert_eq!(point.cpu(Scenario::Put, Side::Server), [300.0]);
        assert!(headings(Scenario::Unary).iter().all(|heading| !heading.contains("GB")));
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(
            ["4 KiB", "32 760 B", "32 KiB", "1 MiB", "1.50 MiB"],
            [4096, 32_760, 32_768, 1 << 20, 3 << 19].map(|bytes| size(bytes).replace('\u{202f}', " "))
        );
    }
}
