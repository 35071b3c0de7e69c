//! What was sent and how it was measured, in words.

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Run, Shape, StepRecord, Timing, Workload};

use super::figures;
use crate::cli::numbers;

pub(crate) fn traffic(run: &Run) -> String {
    if figures::is_climbed(run) && run.workload.messages != 1 {
        return climbed(run);
    }
    let mut stacks = run.steps.iter().flat_map(|step| &step.stacks);
    if is_opened(run) && stacks.all(|stacks| stacks.recorded.is_none()) {
        // What another tool left out is not known.
        return "Figures are what the opened file holds.".to_owned();
    }
    if figures::is_program(run) {
        let whole = "Figures are of the whole process, from its start";
        return match run.workload.messages {
            1 => format!("{whole}, per run."),
            messages => format!("{whole}; it was said to have handled {} messages.", numbers::count(messages)),
        };
    }
    let noun = figures::noun(run);
    let rounds = || run.steps.iter().map(|step| step.of(Side::Server, Instrument::Time).count());
    let (fewest, most) = (rounds().min().unwrap_or(0), rounds().max().unwrap_or(0));
    let mut text = workload(run.subject.shape, &run.workload);
    let of = run.environment.timing.as_ref().filter(|timing| timing.messages != run.workload.messages);
    let bound = |timing: &Timing| if timing.processes > 1 { "at most " } else { "" };
    let of = of
        .map_or_else(String::new, |timing| format!(" of {}{} {noun}s", bound(timing), numbers::count(timing.messages)));
    match (fewest, most) {
        (_, 0) => text.push_str("; times not measured"),
        (_, 1) => text.push_str(&format!("; one timed run{of} per step")),
        (fewest, most) if fewest == most => text.push_str(&format!("; {most} timed runs{of} per step, interleaved")),
        (fewest, most) => text.push_str(&format!("; {fewest} to {most} timed runs{of} per step, interleaved")),
    }
    text.push_str(match run.server_environment {
        None => ". Client and server are separate processes on one machine",
        Some(_) => ". Client and server are processes on a machine each",
    });
    if run.workload.retain > 0 {
        text.push_str(&format!("; the handler keeps the last {} {noun}s", run.workload.retain));
    }
    text.push('.');
    text
}

/// The windows that somebody's service was measured in.
fn climbed(run: &Run) -> String {
    let Workload { messages, warmup, .. } = run.workload;
    let of = |step: &StepRecord, instrument| Side::ALL.into_iter().map(|side| step.of(side, instrument).count()).sum();
    let rounds = |instrument| run.steps.iter().map(|step| of(step, instrument)).max().unwrap_or(0_usize);
    let window = match messages {
        0 => "Windows of time".to_owned(),
        messages => {
            format!("Windows of {} messages after {} of warm-up", numbers::count(messages), numbers::count(warmup))
        }
    };
    let each = match (rounds(Instrument::Count), rounds(Instrument::Time)) {
        (0 | 1, 0 | 1) => "one per step".to_owned(),
        (counted, 0) => format!("{counted} rounds per step"),
        (counted, timed) if counted == timed => format!("{counted} rounds per step, interleaved"),
        (counted, timed) => {
            let fewest = run.steps.iter().map(|step| of(step, Instrument::Time)).filter(|timed| *timed > 0).min();
            let timed =
                fewest.filter(|fewest| *fewest < timed).map_or_else(String::new, |least| format!("{least} to "))
                    + &timed.to_string();
            format!("{counted} rounds per step that count and {timed} that are timed, interleaved")
        }
    };
    let told = told(&run.workload);
    format!("{window}, {each}, each in a process of its own. Call stacks are of whole processes.{told}")
}

/// What the file says of the traffic, where it says something.
fn told(workload: &Workload) -> String {
    let Workload { chunk, streams, connections, .. } = *workload;
    let mut words: Vec<String> = Vec::new();
    words.extend((chunk > 0).then(|| format!("messages of {}", numbers::bytes(chunk as f64))));
    words.extend((streams > 1).then(|| format!("{streams} streams")));
    words.extend((connections > 1).then(|| format!("{connections} connections")));
    words.extend(workload.special());
    if words.is_empty() { String::new() } else { format!(" Traffic, as the file says: {}.", words.join(", ")) }
}

/// `2 000 messages of 64 KiB, 125 MiB of payload, one stream`, and what else is special about the traffic.
pub(crate) fn workload(shape: Shape, workload: &Workload) -> String {
    let special: String = workload.special().iter().map(|word| format!(", {word}")).collect();
    size(shape, workload) + &special
}

fn size(shape: Shape, workload: &Workload) -> String {
    let plural = |count: u32, word: &str| match count {
        1 => format!("one {word}"),
        count => format!("{count} {word}s"),
    };
    let messages = numbers::count(workload.messages);
    let connections = match workload.connections {
        1 => String::new(),
        connections => format!(" over {connections} connections"),
    };
    match shape {
        Shape::Unary => format!("{messages} calls, {}{connections}", plural(workload.streams, "caller")),
        Shape::Upload | Shape::Download => format!(
            "{messages} messages of {}, {} of payload, {}{connections}",
            numbers::bytes(workload.chunk as f64),
            numbers::bytes(workload.chunk as f64 * workload.messages as f64),
            plural(workload.streams, "stream"),
        ),
        Shape::Program if workload.messages == 1 => "one message".to_owned(),
        Shape::Program => format!("{messages} messages"),
    }
}

/// Whether the page is of files, and no command made them.
pub(crate) fn is_opened(run: &Run) -> bool {
    let mut stacks = run.steps.iter().flat_map(|step| &step.stacks);
    figures::is_program(run) && run.environment.command.is_empty() && stacks.next().is_some()
}
