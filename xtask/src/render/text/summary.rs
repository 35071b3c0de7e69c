//! What `profile` prints: a line a step while it measures, and the ladder as a table at the end.

use std::fmt::Write;
use std::path::Path;

use alloc_ladder::record::{Instrument, Measurement, Run, Shape};
use alloc_ladder::{Side, Stage};

use super::retained;
use crate::analyse::cpu::{Spent, margin};
use crate::analyse::judge::{self, Judged, Ratio, Verdict};
use crate::analyse::marks::{self, Against, Marks, Unsettled, cpu};
use crate::analyse::metric::{self, Accuracy, Metric, Whose};
use crate::analyse::nine_stages;
use crate::analyse::profiles::Profiles;
use crate::analyse::stats::{interval_words, median, plus_minus};
use crate::cli::numbers;
use crate::cli::quantity::Rate;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style, paint};
use crate::render::text;
use crate::store::place;

/// Two shares of a side's bytes may differ by this much and still agree.
const AGREEMENT: f64 = 0.02;
/// Below this many bytes a message, shares of nothing are not compared.
const NOTHING_BYTES: f64 = 64.0;

const SIDES: &[Whose] = &[Whose::Side(Side::Server), Whose::Side(Side::Client)];

/// The columns of the table: the metric and whose figures are shown.
const COLUMNS: &[(&Metric, &[Whose])] = &[
    (&metric::ALLOCS_PER_MESSAGE, SIDES),
    (&metric::BYTES_PER_MESSAGE, SIDES),
    (&metric::AMPLIFICATION, SIDES),
    (&metric::CPU_PER_GB, &Whose::ALL),
    (&metric::CPU_PER_MESSAGE, &Whose::ALL),
    (&metric::THROUGHPUT, &[Whose::Pair]),
    (&metric::CALLS_PER_SECOND, &[Whose::Pair]),
    (&metric::SOCKET_CALLS_PER_MESSAGE, SIDES),
    (&metric::LIVE_PER_MESSAGE, &[Whose::Side(Side::Server)]),
    (&metric::LIVE_PER_STREAM, SIDES),
    (&metric::PEAK_HEAP, &[Whose::Side(Side::Server)]),
    (&metric::PEAK_RSS, SIDES),
    (&metric::INSTRUCTIONS_PER_MESSAGE, SIDES),
];

/// What a table for a narrow terminal has, the most telling first: each where there is still room for it.
const TELLING: &[(&Metric, &[Whose])] = &[
    (&metric::ALLOCS_PER_MESSAGE, SIDES),
    (&metric::CPU_PER_GB, &[Whose::Pair]),
    (&metric::CPU_PER_MESSAGE, &[Whose::Pair]),
    (&metric::LIVE_PER_STREAM, SIDES),
    (&metric::AMPLIFICATION, SIDES),
    (&metric::BYTES_PER_MESSAGE, SIDES),
    // These are there where they were asked for.
    (&metric::INSTRUCTIONS_PER_MESSAGE, SIDES),
    (&metric::LIVE_PER_MESSAGE, &[Whose::Side(Side::Server)]),
    (&metric::PEAK_HEAP, &[Whose::Side(Side::Server)]),
    (&metric::PEAK_RSS, SIDES),
    (&metric::CPU_PER_GB, SIDES),
    (&metric::CPU_PER_MESSAGE, SIDES),
    (&metric::THROUGHPUT, &[Whose::Pair]),
    (&metric::CALLS_PER_SECOND, &[Whose::Pair]),
    (&metric::SOCKET_CALLS_PER_MESSAGE, SIDES),
];

/// What is said of streams that carry next to nothing.
const OF_IDLE: [&Metric; 2] = [&metric::LIVE_PER_STREAM, &metric::PEAK_HEAP];

/// One line for a step whose counts are known.
pub(crate) fn step_line(run: &Run, profiles: &Profiles, index: usize) -> String {
    let step = &run.steps[index];
    let mut line = format!("{:>2} {:<20}", index + 1, step.name);
    let noun = noun(run);
    for side in Side::ALL {
        if run.workload.idle {
            let held = metric::LIVE_PER_STREAM.samples(step, side, None);
            let held = held.first().map_or_else(|| "—".to_owned(), |bytes| numbers::bytes(*bytes));
            let _ = write!(line, "  {side} {held:>10}/stream");
            continue;
        }
        let Some([blocks, bytes, amplification]) = allocated(run, profiles, index, side) else { continue };
        let blocks = numbers::number(blocks);
        let bytes = match run.subject.shape.has_payload() {
            true => format!("{} B/B", numbers::number(amplification)),
            false => format!("{}/{noun}", numbers::bytes(bytes)),
        };
        let _ = write!(line, "  {side} {blocks:>7} allocs/{noun} {bytes:>10}");
    }
    line
}

/// Blocks and bytes per message, and bytes per payload byte: as counted, or as dhat saw them where nothing was counted.
fn allocated(run: &Run, profiles: &Profiles, index: usize, side: Side) -> Option<[f64; 3]> {
    let step = &run.steps[index];
    if let Some(counts) = step.counts(side) {
        let figures = [counts.blocks_per_message(), counts.bytes_per_message(), counts.amplification()];
        return Some(figures.map(Option::unwrap_or_default));
    }
    let (stacks, profile) = (step.stacks(side)?, profiles.get(index, side)?);
    let bytes = profile.total_bytes() as f64;
    let messages = stacks.messages as f64;
    Some([profile.total_blocks() as f64 / messages, bytes / messages, bytes / stacks.payload_bytes as f64])
}

fn noun(run: &Run) -> &'static str {
    match run.subject.shape {
        Shape::Unary => "call",
        // Figures of the whole process.
        Shape::Program if run.workload.messages == 1 => "run",
        _ => "msg",
    }
}

/// The ladder as a table, how well the attributions agree, and where the report lies. Where the terminal has so many columns
/// of characters, and the ladder's table more, the least telling of the table's columns are left out and named.
pub(crate) fn text(run: &Run, profiles: &Profiles, page: &Path, link: Option<Rate>, width: Option<usize>) -> String {
    let mut text = String::new();
    let subject = &run.subject.name;
    let rounds = run.steps.iter().map(|step| step.of(Side::Server, Instrument::Time).count());
    let (fewest, most) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    let title = match (fewest, most) {
        (_, 0) => subject.clone(),
        (1, 1) => format!("{subject}, one round"),
        (fewest, most) => {
            let rounds = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
            format!("{subject}, median of {rounds} rounds, ± is the far end of {}", interval_words(fewest))
        }
    };
    let _ = writeln!(text, "\n{}", paint(Style::Bold, &title));
    let stacks_alone = run.steps.iter().all(|step| step.measurements.is_empty());
    text.push_str(&if stacks_alone { seen_by_dhat(run, profiles) } else { ladder(run, width) });
    let agreement = agreement(run, profiles);
    if !agreement.is_empty() {
        let title = "attribution by scope and by stack, shares of bytes";
        let _ = writeln!(text, "\n{}\n{agreement}", paint(Style::Bold, title));
    } else {
        text.push('\n');
    }
    if let Some(stages) = nine_stages(run) {
        let _ = writeln!(text, "{}\n{stages}", paint(Style::Bold, "a call, stage by stage, allocations and bytes"));
    }
    let retained = retained::table(run);
    if !retained.is_empty() {
        let title = "what stays live when the measured part ends";
        let _ = writeln!(text, "{}\n{retained}", paint(Style::Bold, title));
    }
    let spent = spent(run, profiles);
    if !spent.is_empty() {
        let title = "where CPU time goes, shares of samples";
        let _ = writeln!(text, "{}\n{spent}", paint(Style::Bold, title));
    }
    if let Some(rate) = link {
        text.push_str(&held(run, rate));
    }
    text.push_str(&peers(run, link));
    let folder = page.parent().unwrap_or(page);
    let _ = writeln!(text, "report  {}", terminal::path(page));
    let _ = writeln!(text, "raw     {}/", terminal::path(folder));
    let _ = writeln!(text, "open    {} view {}", place::command(), run.id);
    text
}

/// What was allocated, in a run that has nothing but dhat's figures.
fn seen_by_dhat(run: &Run, profiles: &Profiles) -> String {
    let mut table = Table::default();
    let noun = noun(run);
    let heads = ["step", "side", &format!("allocs/{noun}"), &format!("bytes/{noun}"), "peak heap"];
    table.row(heads.map(|head| if matches!(head, "step" | "side") { Cell::left(head) } else { Cell::right(head) }));
    for (index, step) in run.steps.iter().enumerate() {
        for stacks in &step.stacks {
            let Some(profile) = profiles.get(index, stacks.side) else { continue };
            let Some([blocks, bytes, _]) = allocated(run, profiles, index, stacks.side) else { continue };
            table.row([
                Cell::left(step.name.clone()),
                Cell::left(stacks.side.name()),
                Cell::right(numbers::number(blocks)),
                Cell::right(numbers::bytes(bytes)),
                Cell::right(numbers::bytes(profile.peak_bytes() as f64)),
            ]);
        }
    }
    table.render()
}

/// A paced stream that reaches this share of its rate filled the link: late timers cost it a few percent.
const FULL: f64 = 0.95;

/// Cores used while the stream is held to a rate: CPU seconds per second.
fn held(run: &Run, rate: Rate) -> String {
    let mut table = Table::default();
    table.row(["step", "Gbit/s", "server cores", "client cores", ""].map(Cell::left));
    for step in &run.steps {
        let of = |side: Side, figure: fn(&Measurement) -> f64| {
            let values: Vec<f64> = step.of(side, Instrument::Time).map(figure).collect();
            (!values.is_empty()).then(|| median(&values))
        };
        let cores = |m: &Measurement| m.usage.cpu_ns() as f64 / m.wall_ns as f64;
        let (Some(gb), Some(server), Some(client)) =
            (of(Side::Server, |m| m.throughput_gb_per_s()), of(Side::Server, cores), of(Side::Client, cores))
        else {
            continue;
        };
        let full = gb * 8.0 >= FULL * rate.gbit();
        table.row([
            Cell::left(step.name.clone()),
            Cell::right(numbers::number(gb * 8.0)),
            Cell::right(numbers::number(server)),
            Cell::right(numbers::number(client)),
            Cell::left(if full { "" } else { "this machine cannot fill the link" }).style(Style::Warning),
        ]);
    }
    let title = format!("cores used at {} Gbit/s of payload", numbers::number(rate.gbit()));
    format!("{}\n{}\n", paint(Style::Bold, &title), table.render())
}

/// The peers of the same rounds, beside the last step: what the server of each takes.
fn peers(run: &Run, link: Option<Rate>) -> String {
    let Some(last) = run.steps.last().filter(|_| !run.limits.is_empty()) else { return String::new() };
    let own: Vec<f64> = last.of(Side::Server, Instrument::Time).map(Measurement::cpu_seconds_per_gb).collect();
    let mut table = Table::default();
    let cores = link.map(|rate| format!("cores at {} Gbit/s", numbers::number(rate.gbit())));
    let heads = ["server", "CPU-s/GB"].map(str::to_owned).into_iter().chain(cores);
    table
        .row(heads.map(|head| if head == "server" { Cell::left(head) } else { Cell::right(head) }).collect::<Vec<_>>());
    let limits = run.limits.iter().map(|limit| (limit.name.as_str(), &limit.server_cpu_seconds_per_gb));
    for (name, samples) in limits.chain([(last.name.as_str(), &own)]).filter(|(_, samples)| !samples.is_empty()) {
        let middle = median(samples);
        let figure = format!("{} {}", numbers::number(middle), plus_minus(samples, numbers::number));
        let cores = link.map(|rate| Cell::right(numbers::number(middle * rate.gbit() / 8.0)));
        table.row([Cell::left(name), Cell::right(figure)].into_iter().chain(cores).collect::<Vec<_>>());
    }
    format!("{}\n{}\n", paint(Style::Bold, "without gRPC, in the same rounds, and the last step"), table.render())
}

/// A column of the ladder's table.
type Column = (&'static Metric, Whose);

fn ladder(run: &Run, width: Option<usize>) -> String {
    let marks = Marks::of(run);
    let all = columns(run);
    let whole = table(run, &marks, &all, true);
    let Some(width) = width.filter(|width| *width < whole.width()) else {
        return whole.render() + &unsettled(run, &marks);
    };
    let mut shown: Vec<Column> = Vec::new();
    for (metric, whose) in TELLING {
        let of = |(of, its): &Column| of == metric && whose.contains(its);
        let with: Vec<Column> = all.iter().copied().filter(|column| of(column) || shown.contains(column)).collect();
        if shown.is_empty() || table(run, &marks, &with, false).width() <= width {
            shown = with;
        }
    }
    let shows_pair = |metric: &Metric| shown.iter().any(|(of, whose)| *of == metric && *whose == Whose::Pair);
    let named = |(metric, _): &Column| match shows_pair(metric) {
        true => format!("{} of each side", label(run, metric)),
        false => label(run, metric),
    };
    let mut left_out: Vec<String> = all.iter().filter(|column| !shown.contains(column)).map(named).collect();
    left_out.dedup();
    left_out.push("± of what is shown".to_owned());
    let left_out = format!("no room for {}: the report has them\n", left_out.join(", "));
    table(run, &marks, &shown, false).render() + &left_out + &unsettled(run, &marks)
}

/// A metric's label, of this run's messages.
fn label(run: &Run, metric: &Metric) -> String {
    metric.label.replace("/msg", &format!("/{}", noun(run)))
}

/// A label on two lines.
fn split(label: &str) -> (&str, &str) {
    match label.find([' ', '/']) {
        Some(at) => (&label[..at], label[at..].trim_start()),
        None => ("", label),
    }
}

/// Every column that says something of the run.
fn columns(run: &Run) -> Vec<Column> {
    let shape = run.subject.shape;
    let alone = marks::alone(run);
    // What an allocator keeps is in no other figure.
    let allocators = run.steps.iter().any(|step| step.settings.contains_key("allocator"));
    COLUMNS
        .iter()
        .filter(|(metric, _)| metric.is_meant_for(shape) && metric.says_something_of(run))
        .filter(|(metric, _)| !run.workload.idle || OF_IDLE.contains(metric))
        .filter(|(metric, _)| *metric != &metric::PEAK_RSS || allocators)
        .flat_map(|(metric, whose)| whose.iter().map(move |whose| (*metric, *whose)))
        // A program by itself has no pair but itself.
        .filter(|(metric, whose)| *whose != Whose::Pair || alone.is_none() || metric.sides(shape).len() == 1)
        .filter(|(metric, whose)| run.steps.iter().any(|step| !metric.rounds(step, shape, *whose).is_empty()))
        .collect()
}

/// The ladder's table with these columns, and with the spread of what was sampled.
fn table(run: &Run, marks: &Marks, columns: &[Column], spread: bool) -> Table {
    let shape = run.subject.shape;
    let alone = marks::alone(run);
    let mut table = Table::default();
    let head = |cell: &dyn Fn(&Metric, Whose) -> String, first: &str, last: &str| {
        let mut row = vec![Cell::left(""), Cell::left(first)];
        row.extend(columns.iter().map(|(metric, whose)| Cell::right(cell(metric, *whose))));
        row.push(Cell::right(last));
        row
    };
    // What a step saves on one side may be what it costs on the other: the pair's CPU time says whether it is a saving.
    let judged = Some(cpu(shape)).filter(|cpu| columns.iter().any(|(metric, _)| metric == cpu));
    let timed = |words: &'static str| if judged.is_some() { words } else { "" };
    let of = if alone.is_some() { "CPU" } else { "pair's CPU" };
    table.row(head(&|metric, _| split(&label(run, metric)).0.to_owned(), "", ""));
    table.row(head(&|metric, _| split(&label(run, metric)).1.to_owned(), "", timed(of)));
    let one = |metric: &Metric| metric.sides(shape).len() == 1;
    table.row(head(
        &|metric, whose| if one(metric) { String::new() } else { whose.name().to_owned() },
        "step",
        timed("vs previous"),
    ));
    for (index, step) in run.steps.iter().enumerate() {
        let changed = run.elsewhere(index).map_or_else(String::new, |changed| format!(", from {changed}"));
        let mut row = vec![Cell::right((index + 1).to_string()), Cell::left(step.name.clone() + &changed)];
        for (metric, whose) in columns {
            let samples: Vec<f64> = metric.rounds(step, shape, *whose).into_values().collect();
            row.push(Cell::right(figure(metric, &samples, spread)));
        }
        if let Some(cpu) = judged {
            let judged = marks.get(index, Against::Previous, cpu, Whose::Pair);
            row.push(judged.map_or_else(|| Cell::right(""), |judged| against(judged, Ratio::to_string)));
        }
        table.row(row);
    }
    if let [first, .., last] = run.steps.as_slice() {
        let mut row = vec![Cell::left(""), Cell::left(format!("{} vs 1", run.steps.len()))];
        let short = |ratio: &Ratio| format!("{} {}", ratio.multiple(), numbers::plus_minus(ratio.reach()));
        for (metric, whose) in columns {
            let judged = match (metric.is_exact(), whose) {
                (true, Whose::Side(side)) => {
                    judge::steps(&[run], metric, *side, None, [first, last], judge::ALPHA).map(|pair| pair.judged)
                }
                _ => marks.get(run.steps.len() - 1, Against::First, metric, *whose).copied(),
            };
            row.push(judged.map_or_else(|| Cell::right(""), |judged| against(&judged, short)));
        }
        table.row(row);
    }
    table
}

/// The steps of which more rounds would tell more.
fn unsettled(run: &Run, marks: &Marks) -> String {
    let wide = marks.unsettled(run);
    if wide.is_empty() {
        return String::new();
    }
    let reach = |of: &Unsettled| match of.reach.is_finite() {
        true => format!("{} {}", of.whose.name(), numbers::plus_minus(of.reach)),
        false => of.whose.name().to_owned(),
    };
    let steps = wide.chunk_by(|a, b| a.step == b.step).map(|of| {
        let reaches: Vec<String> = of.iter().map(reach).collect();
        format!("{} ({})", run.steps[of[0].step].name, reaches.join(", "))
    });
    let within = numbers::share(judge::SETTLED);
    format!(
        "unsettled: CPU against the previous step is not known to ±{within} of {}\n",
        steps.collect::<Vec<_>>().join(", ")
    )
}

/// A median, with its spread where that is wanted and there are rounds enough to have one.
fn figure(metric: &Metric, samples: &[f64], spread: bool) -> String {
    if samples.is_empty() {
        return "—".to_owned();
    }
    let shown = metric.show(median(samples));
    match metric.accuracy {
        Accuracy::Sampled if spread && samples.len() > 1 => {
            format!("{shown} {}", plus_minus(samples, |value| metric.show(value)))
        }
        _ => shown,
    }
}

/// How a step's figure stands against another's; coloured where it is better or worse, with `~` where it is unsettled.
fn against(judged: &Judged, ratio: fn(&Ratio) -> String) -> Cell {
    let change = judged.ratio.as_ref().map_or_else(|| judged.change.to_string(), ratio);
    let settled = judged.ratio.is_some_and(|ratio| ratio.is_settled());
    let rounds = judged.ratio.map_or(0, |ratio| ratio.rounds);
    match judged.verdict {
        Verdict::Better => Cell::right(change).style(Style::Better),
        Verdict::Worse => Cell::right(change).style(Style::Worse),
        Verdict::Equal => Cell::right("="),
        Verdict::Unclear if settled => Cell::right(change),
        Verdict::Unclear if judged.ratio.is_some() => Cell::right(format!("~ {change}")),
        Verdict::TooFew if rounds > 1 => Cell::right(format!("~ {change}")),
        Verdict::Unclear => Cell::right("~"),
        Verdict::TooFew => Cell::right("~ n too small"),
        Verdict::OneRound => Cell::right(format!("{} one round", judged.change)),
    }
}

/// Per step and side: the stage whose shares by scope and by stack differ most, and what neither can place.
fn agreement(run: &Run, profiles: &Profiles) -> String {
    let mut table = Table::default();
    table.row(["step", "side", "largest difference", "scope", "stack", "other", ""].map(Cell::left));
    let mut rows = 0;
    for (index, step) in run.steps.iter().enumerate() {
        for side in Side::ALL {
            let (Some(measurement), Some(profile)) = (step.counts(side), profiles.get(index, side)) else { continue };
            let stages = profile.stages();
            let Some(counts) = &measurement.counts else { continue };
            let subject = counts.subject().bytes as f64;
            let seen: u64 = stages.iter().filter(|row| row.stage != Stage::Instrument).map(|row| row.bytes).sum();
            if subject / (measurement.messages as f64) < NOTHING_BYTES {
                table.row([Cell::left(step.name.clone()), Cell::left(side.name()), Cell::left("nothing to attribute")]);
                rows += 1;
                continue;
            }
            let by_scope = |stage: Stage| counts.stage(stage).bytes as f64 / subject;
            let by_stack = |stage: Stage| {
                let row = stages.iter().find(|row| row.stage == stage);
                row.map_or(0.0, |row| row.bytes as f64 / seen.max(1) as f64)
            };
            let largest = Stage::ALL
                .into_iter()
                .filter(|stage| *stage != Stage::Instrument)
                .max_by(|a, b| {
                    let difference = |stage: Stage| (by_scope(stage) - by_stack(stage)).abs();
                    difference(*a).total_cmp(&difference(*b))
                })
                .expect("there are stages");
            let agrees = (by_scope(largest) - by_stack(largest)).abs() <= AGREEMENT;
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            table.row([
                Cell::left(step.name.clone()),
                Cell::left(side.name()),
                Cell::left(largest.name()),
                Cell::right(percent(by_scope(largest))),
                Cell::right(percent(by_stack(largest))),
                Cell::right(percent(by_scope(Stage::Other))),
                if agrees {
                    Cell::left("agree").style(Style::Better)
                } else {
                    Cell::left("differ").style(Style::Worse)
                },
            ]);
            rows += 1;
        }
    }
    if rows == 0 { String::new() } else { table.render() }
}

/// What a unary call allocates from the client's marshalling to the client's unmarshalling, first step and last.
fn nine_stages(run: &Run) -> Option<String> {
    if run.subject.shape != Shape::Unary {
        return None;
    }
    let mut counted: Vec<_> =
        run.steps.iter().filter_map(|step| Some((step.name.as_str(), nine_stages::of_step(step)?))).collect();
    if counted.len() > 2 {
        counted.drain(1..counted.len() - 1);
    }
    (!counted.is_empty()).then(|| text::nine_stages::table(&counted))
}

/// Per step and side: what CPU time was spent on, how sure that is, and what the system charged for its own part.
fn spent(run: &Run, profiles: &Profiles) -> String {
    let mut table = Table::default();
    table.row(
        ["step", "side", "samples", "± at worst", "allocator", "copy", "kernel", "own", "system (getrusage)"]
            .map(|head| if matches!(head, "step" | "side") { Cell::left(head) } else { Cell::right(head) }),
    );
    let mut rows = 0;
    for (index, step) in run.steps.iter().enumerate() {
        for side in step.cpu.iter().map(|cpu| cpu.side) {
            let Some(samples) = profiles.samples(index, side) else { continue };
            let percent = |share: f64| Cell::right(format!("{:.1} %", share * 100.0));
            let system = step.of(side, Instrument::Cpu).next().and_then(|measurement| measurement.usage.system_share());
            table.row([
                Cell::left(step.name.clone()),
                Cell::left(side.name()),
                Cell::right(samples.total().to_string()),
                percent(margin(samples.total())),
                percent(samples.share(Spent::Allocator)),
                percent(samples.share(Spent::Copy)),
                percent(samples.share(Spent::Kernel)),
                percent(samples.own_share()),
                system.map_or_else(|| Cell::right("—"), percent),
            ]);
            rows += 1;
        }
    }
    if rows == 0 { String::new() } else { table.render() }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::scenario::Scenario;

    use crate::fixture;

    use super::*;

    #[test]
    fn a_change_within_noise_has_no_colour() {
        let step = |name, cpu: &[u64], blocks: [u64; 2]| {
            let timed = (0..).zip(cpu).map(|(round, cpu)| fixture::time(Side::Server, round, *cpu, 1_000_000));
            let client = (0..).zip(cpu).map(|(round, _)| fixture::time(Side::Client, round, 1000, 1_000_000));
            let counted = |(round, blocks)| fixture::count(Side::Server, round, &[(Stage::Handler, blocks, 0)]);
            fixture::step(name, timed.chain(client).chain((0..).zip(blocks).map(counted)).collect())
        };
        let slow = [1000, 1100, 1050, 1010, 1090, 1020, 1000, 1100, 1050, 1010, 1090, 1020];
        let noisy = [1110, 1000, 950, 1200, 1000, 1030, 1100, 990, 1150, 910, 1190, 920];
        let near: Vec<u64> = noisy.iter().zip(0..).map(|(cpu, round)| cpu + round % 3 - 1).collect();
        let fast = noisy.map(|cpu| cpu / 2);
        let run = Run {
            steps: vec![
                step("baseline", &slow, [3000, 3400]),
                step("pooled-message", &noisy, [2900, 3100]),
                step("bytes-field", &near, [2900, 3100]),
                step("rope", &fast, [100, 100]),
            ],
            ..fixture::run("put-a", Scenario::Put)
        };
        let text = ladder(&run, None);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).expect("a row").trim_end().to_owned();
        assert!(line("2  pooled-message").contains(" ~ ×"), "{text}");
        assert!(line("3  bytes-field").contains(" ×1.000 [1.000, 1.000]"), "settled, and nothing to mark: {text}");
        assert!(line("4  rope").contains(&paint(Style::Better, "×0.744 [0.737, 0.754]")), "{text}");
        assert!(line("4 vs 1").contains(&paint(Style::Better, "−96.9%")), "{text}");
        assert!(line("unsettled").contains("pooled-message (server ±"), "{text}");
        assert!(!line("unsettled").contains("bytes-field"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_what_tells_most() {
        let step = |name| {
            let timed = (0..12).flat_map(|round| {
                Side::ALL.map(|side| fixture::time(side, round, 1_000_000 + u64::from(round), 1_000_000))
            });
            let counted = Side::ALL.map(|side| fixture::count(side, 0, &[(Stage::Handler, 3000, 1 << 20)]));
            fixture::step(name, timed.chain(counted).collect())
        };
        let run = Run { steps: vec![step("baseline"), step("pooled-message")], ..fixture::run("put-a", Scenario::Put) };
        let lines = |width| terminal::plain(&ladder(&run, width)).lines().map(str::to_owned).collect::<Vec<_>>();
        let whole = lines(None);
        assert!(whole[1].contains("GB/s") && !whole.concat().contains("no room for"), "{whole:#?}");
        let wide = whole.iter().map(|line| line.chars().count()).max().expect("lines");
        assert_eq!(lines(Some(wide)), whole);
        for width in [wide - 1, 100, 80] {
            let lines = lines(Some(width));
            let table: Vec<_> = lines.iter().take_while(|line| !line.starts_with("no room for")).collect();
            assert!(table.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(table[0].contains("allocs") && table[1].contains("pair's CPU"), "{width}: {lines:#?}");
            assert_eq!(table.len(), whole.iter().take_while(|line| !line.starts_with("unsettled")).count());
            assert!(lines.len() > table.len(), "what is left out is named");
        }
    }

    #[test]
    fn few_rounds_do_not_claim_a_95_percent_interval() {
        let run = |rounds| Run {
            steps: vec![fixture::step(
                "baseline",
                (0..rounds).map(|round| fixture::time(Side::Server, round, 1000, 1_000_000)).collect(),
            )],
            ..fixture::run("put-a", Scenario::Put)
        };
        let text = |rounds| text(&run(rounds), &Profiles::default(), Path::new("report.html"), None, None);
        assert!(text(1).contains("put, one round"));
        assert!(text(3).contains("median of 3 rounds, ± is the far end of the range (75 % coverage)"));
        assert!(text(10).contains("median of 10 rounds, ± is the far end of a 95 % interval"));
    }
}
