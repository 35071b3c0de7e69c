//! What was measured of the peers, as a table and as JSON.

use std::fmt::Write;

use alloc_ladder::record::Measurement;
use alloc_ladder::subject::peer::{Direction, Kind};
use alloc_ladder::subject::scenario::Workload;
use serde_json::{Value, json};

use crate::analyse::peers::Contender;
use crate::analyse::stats;
use crate::cli::quantity::{Mode, Rate};
use crate::cli::terminal::{Style, paint};

/// What was measured of the peers, and how.
pub(crate) struct Peers<'a> {
    pub(crate) direction: Direction,
    pub(crate) workload: Workload,
    /// The rate the sender was held to, and how.
    pub(crate) held: Option<(Rate, Mode)>,
    /// Every kind of peer, and the file servers there are.
    pub(crate) contenders: &'a [Contender],
}

/// What every ratio is to.
const REFERENCE: Kind = Kind::RawTokio;

/// A contender's server CPU as a ratio to the reference's in the same round.
fn ratios(contender: &Contender, reference: &Contender) -> Vec<f64> {
    let cpu = |contender: &Contender| contender.server(Measurement::cpu_seconds_per_gb);
    cpu(contender).iter().zip(cpu(reference)).map(|(own, reference)| own / reference).collect()
}

fn reference<'a>(peers: &Peers<'a>) -> &'a Contender {
    let found = peers.contenders.iter().find(|contender| contender.name == REFERENCE.name());
    found.expect("every kind is a contender")
}

/// Cores busy on average.
fn cores(measurement: &Measurement) -> f64 {
    measurement.usage.cpu_ns() as f64 / measurement.wall_ns as f64
}

fn gbit(measurement: &Measurement) -> f64 {
    measurement.throughput_gb_per_s() * 8.0
}

/// The median and how far its interval reaches, as `0.123 ±4%`.
fn spread(values: &[f64], decimals: usize) -> String {
    let show = |value| format!("{value:.decimals$}");
    format!("{} {}", show(stats::median(values)), stats::plus_minus(values, show))
}

pub(crate) fn text(peers: &Peers<'_>) -> String {
    let mut rows = vec![headings(peers.held)];
    rows.extend(peers.contenders.iter().map(|contender| row(peers, contender)));
    if peers.contenders.iter().any(|contender| contender.instructions.is_some()) {
        rows[0].push("instructions/msg".to_owned());
        for (row, contender) in rows[1..].iter_mut().zip(peers.contenders) {
            row.push(contender.instructions.map_or_else(|| "–".to_owned(), |counted| format!("{:.0}", counted.server)));
        }
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right.
            let _ = if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        let _ = writeln!(text, "{}", if index == 0 { paint(Style::Bold, &line) } else { line });
    }
    for note in notes(peers) {
        let _ = writeln!(text, "{}", paint(Style::Dim, &note));
    }
    text
}

fn headings(held: Option<(Rate, Mode)>) -> Vec<String> {
    let headings: &[&str] = match held {
        None => &["peer", "server CPU s/GB", "to raw-tokio", "client CPU s/GB", "GB/s", "allocs/msg", "amplification"],
        Some(_) => &["peer", "server cores", "client cores", "Gbit/s", "server CPU s/GB", "to raw-tokio"],
    };
    headings.iter().map(|heading| (*heading).to_owned()).collect()
}

fn row(peers: &Peers<'_>, contender: &Contender) -> Vec<String> {
    let cpu = spread(&contender.server(Measurement::cpu_seconds_per_gb), 3);
    let ratio = spread(&ratios(contender, reference(peers)), 2);
    match peers.held {
        None => {
            let counted = |figure: fn(&Measurement) -> Option<f64>| {
                let counted = contender.counts.as_ref().and_then(figure);
                counted.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
            };
            vec![
                contender.name.clone(),
                cpu,
                ratio,
                spread(&contender.client(Measurement::cpu_seconds_per_gb), 3),
                format!("{:.2}", stats::median(&contender.client(Measurement::throughput_gb_per_s))),
                counted(Measurement::blocks_per_message),
                counted(Measurement::amplification),
            ]
        }
        Some(_) => vec![
            contender.name.clone(),
            spread(&contender.server(cores), 2),
            spread(&contender.client(cores), 2),
            format!("{:.2}", stats::median(&contender.client(gbit))),
            cpu,
            ratio,
        ],
    }
}

/// What a reader must know beside the figures: the interval, and whether the link was full.
fn notes(peers: &Peers<'_>) -> Vec<String> {
    let rounds = reference(peers).measured.len();
    let interval = stats::interval_words(rounds);
    let mut notes = vec![format!("Medians of {rounds} interleaved rounds; ± is the far end of {interval}.")];
    if let Some((rate, mode)) = peers.held {
        let target = rate.gbit();
        let how = match mode {
            Mode::Paced => "the client paced, over loopback",
            Mode::Veth => "two network namespaces, a shaped veth pair between them",
        };
        notes.push(format!("Link: {target} Gbit/s of {how}."));
        for contender in peers.contenders {
            let reached = stats::median(&contender.client(gbit));
            if reached < mode.full() * target {
                notes.push(format!(
                    "{} reached {reached:.2} of {target} Gbit/s: this machine cannot fill the link with it, and its \
                     cores are for the rate it reached.",
                    contender.name
                ));
            }
        }
    }
    notes
}

pub(crate) fn json(peers: &Peers<'_>, seed: u64) -> Value {
    let rows = peers.contenders.iter().map(|contender| {
        let ratios = ratios(contender, reference(peers));
        let (low, high) = stats::interval95(&ratios);
        let counted = |figure: fn(&Measurement) -> Option<f64>| contender.counts.as_ref().and_then(figure);
        json!({
            "name": contender.name,
            "words": contender.words,
            "server_cpu_seconds_per_gb": contender.server(Measurement::cpu_seconds_per_gb),
            "client_cpu_seconds_per_gb": contender.client(Measurement::cpu_seconds_per_gb),
            "ratio": { "median": stats::median(&ratios), "low": low, "high": high, "rounds": ratios },
            "gb_per_s": contender.client(Measurement::throughput_gb_per_s),
            "server_cores": contender.server(cores),
            "client_cores": contender.client(cores),
            "blocks_per_message": counted(Measurement::blocks_per_message),
            "amplification": counted(Measurement::amplification),
            "server_instructions_per_message": contender.instructions.map(|per_message| per_message.server),
            "client_instructions_per_message": contender.instructions.map(|per_message| per_message.client),
        })
    });
    json!({
        "direction": peers.direction,
        "workload": peers.workload,
        "seed": seed,
        "link": peers.held.map(|(rate, mode)| json!({
            "bits_per_second": rate.0,
            "mode": match mode { Mode::Paced => "paced", Mode::Veth => "veth" },
        })),
        "peers": rows.collect::<Vec<_>>(),
    })
}
