//! The top of the page: what was measured, the four figures from baseline to last, and the ladder.

use alloc_ladder::record::{Environment, Instrument, Run, Shape, StepRecord, Timing, Workload};
use alloc_ladder::subject::ladder;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use maud::{Markup, html};

use super::figures::{self, Figure, Headline, StepView};
use super::{charts, parts, recorded, stages};
use crate::analyse::by_stack;
use crate::analyse::judge::SETTLED;
use crate::analyse::marks::{self, Against};
use crate::analyse::metric::{self, Whose};
use crate::analyse::profiles::Profiles;
use crate::cli::numbers;

/// The page's title and first heading in words.
pub(crate) fn title(run: &Run) -> String {
    match Scenario::of(&run.subject) {
        Some(scenario) => format!("{scenario}: {}", scenario.words()),
        None if run.subject.name.is_empty() => run.id.clone(),
        None => run.subject.name.clone(),
    }
}

pub(crate) fn head(run: &Run, steps: &[StepView<'_>], profiles: &Profiles) -> Markup {
    html! {
        header.top {
            p.eyebrow { "allocation profile · " (run.id) }
            h1 {
                @match Scenario::of(&run.subject) {
                    Some(scenario) => { (scenario.name()) " " small { (scenario.words()) } }
                    None if figures::is_climbed(run) => { (title(run)) " " small { (steps.len()) " steps of alloc-ladder.toml" } }
                    None if steps.len() > 1 && is_opened(run) => {
                        (title(run)) " " small { "and " (steps.len() - 1) " more, in the order they were named" }
                    }
                    None => { (title(run)) " " small { "a program of its own" } }
                }
            }
            p.lead { (traffic(run)) }
            @if run.partial { (partial(run)) }
        }
        @if steps.is_empty() {
            p.notice { "This run ended before its first step was measured: there is nothing to show." }
        } @else {
            (recorded::cards(run, profiles).unwrap_or_else(|| cards(run, steps)))
        }
        (environment(run))
    }
}

/// Whether the page is of files, and no command made them.
fn is_opened(run: &Run) -> bool {
    let mut stacks = run.steps.iter().flat_map(|step| &step.stacks);
    figures::is_program(run) && run.environment.command.is_empty() && stacks.next().is_some()
}

fn traffic(run: &Run) -> String {
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
    let of = of.map_or_else(String::new, |timing| format!(" of {} {noun}s", numbers::count(timing.messages)));
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

fn partial(run: &Run) -> Markup {
    let missing: Vec<&str> = Scenario::of(&run.subject).map_or_else(Vec::new, |scenario| {
        let measured = |name: &str| run.steps.iter().any(|step| step.name == name && figures::is_measured(step));
        ladder::ladder(scenario).iter().map(|step| step.name).filter(|name| !measured(name)).collect()
    });
    html! {
        p.notice role="note" {
            b { "Partial run." }
            @if run.steps.iter().any(|step| step.failure.is_some()) {
                " Not every step was measured to the end: figures are of the rounds that were"
            } @else {
                " It ended early: what is here was measured to the end, the rest was not measured"
            }
            @if !missing.is_empty() { " (no figures of " (missing.join(", ")) ")" }
            "."
            @for step in run.steps.iter().filter(|step| step.failure.is_some()) {
                br; b { (step.name) } ": " (step.failure.as_deref().unwrap_or_default()) "."
            }
        }
    }
}

fn cards(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    let Some(first) = run.steps.first() else { return html! {} };
    html! {
        section.cards aria-label="From the first step to the last" {
            @for figure in Headline::of(run).shown(run) {
                // A run that ended early still went from somewhere to somewhere.
                @let view = steps.iter().rfind(|view| figure.pair(run, view.record).is_some());
                @let last = view.map_or(first, |view| view.record);
                @let (before, after) = (figure.pair(run, first), figure.pair(run, last));
                div.card {
                    h2 { (capitalised(&figure.label(noun))) }
                    p.from-to {
                        @match (&before, &after) {
                            (Some(before), Some(after)) if last != first => {
                                span.from { (figure.format(before.median())) }
                                " " span.to-arrow aria-hidden="true" { "→" } span.spoken { "to" } " "
                                b { (figure.format(after.median())) }
                            }
                            (_, Some(after)) => { b { (figure.format(after.median())) } }
                            _ => { (parts::not_measured()) }
                        }
                    }
                    @if last != first {
                        @let change = view.and_then(|view| view.change(run, figure, Whose::Pair, Against::First));
                        p.delta { (parts::change(change.as_ref())) }
                    }
                    p.by-side {
                        @if after.is_some() { (by_side(run, figure, first, last)) }
                        @if run.partial && last != first { span { "up to " (last.name) } }
                    }
                }
            }
        }
    }
}

/// What each side has of a figure that both pay; a rate belongs to the pair.
fn by_side(run: &Run, figure: Figure, first: &StepRecord, last: &StepRecord) -> Markup {
    if figure.more_is_better() {
        return html! { (figure.seen_by(run)) };
    }
    let of = |step: &StepRecord, side| figure.sample(step, side).map(|sample| figure.format(sample.median()));
    html! {
        @for side in Side::ALL {
            @if let (Some(before), Some(after)) = (of(first, side), of(last, side)) {
                span { (side.name()) " " @if last != first { (before) " → " } (after) }
            }
        }
    }
}

/// The text with a capital first letter.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn revision(environment: &Environment) -> String {
    match (environment.revision.as_str(), environment.dirty) {
        ("", _) => "outside a repository".to_owned(),
        (revision, false) => revision.to_owned(),
        (revision, true) => format!("{revision}, with uncommitted changes"),
    }
}

/// What is known of a program's run: of how it was built, only where steps of it were.
fn program_environment(run: &Run) -> Markup {
    let Environment { command, cpu, cores, kernel, .. } = &run.environment;
    html! {
        details.environment {
            summary { "Environment and method" }
            dl {
                @if !command.is_empty() { dt { "Command" } dd { code { (command) } } }
                dt { "Begun" } dd { (run.created) }
                @if figures::is_climbed(run) { dt { "Revision" } dd { (revision(&run.environment)) } }
                @if !cpu.is_empty() { dt { "Processor" } dd { (cpu) ", " (cores) " logical cores" } }
                @if !kernel.is_empty() { dt { "Kernel" } dd { (kernel) } }
                @if let Some(timing) = &run.environment.timing { dt { "Timed rounds" } dd { (timed_rounds(run, timing)) } }
            }
            p { (method(run)) }
        }
    }
}

/// How a program's figures came about.
fn method(run: &Run) -> Markup {
    let counts = || run.steps.iter().flat_map(|step| &step.measurements).filter_map(|m| m.counts.as_ref());
    let recorded = run.steps.iter().flat_map(|step| &step.stacks).any(|stacks| stacks.recorded.is_some());
    html! {
        @if !counts().any(by_stack::is_of_stacks) {
            b { "Counts" } " are exact, from the program's own allocator, which counts by stage. A realloc counts as a "
            "new block of the new size. What the instrument itself allocates has a row of its own and is left out of "
            "allocations and bytes; sizes of blocks and the peak are the whole process's. Child processes are not "
            "counted."
        } @else if recorded {
            b { "Counts" } " are exact: every block was recorded with its stack when it was allocated, and again when it "
            "was freed. Where no seam of the program says the stage, the names on the stack do. A realloc counts as a new "
            "block of the new size. Child processes are not counted."
        } @else {
            b { "Counts" } " are those of the file that was opened. The names on a stack say its stage."
        }
    }
}

fn environment(run: &Run) -> Markup {
    if figures::is_program(run) {
        return program_environment(run);
    }
    let environment = &run.environment;
    let or_dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    let revision = revision(environment);
    let stacks = run.stacks_workload.as_ref().map_or_else(
        || "not measured".to_owned(),
        |stacks| workload(run.subject.shape, stacks) + " (dhat slows a process down, so it carries less)",
    );
    html! {
        details.environment {
            summary { "Environment and method" }
            dl {
                dt { "Command" } dd { code { (or_dash(&environment.command)) } }
                dt { "Begun" } dd { (run.created) }
                dt { "Revision" } dd { (revision) }
                dt { "Compiler" } dd { (or_dash(&environment.rustc)) ", profile " (or_dash(&environment.profile)) }
                dt { "Allocator" } dd { (or_dash(&environment.allocator)) }
                dt { "Processor" } dd { (or_dash(&environment.cpu)) ", " (environment.cores) " logical cores" }
                dt { "Kernel" } dd { (or_dash(&environment.kernel)) }
                @if let Some(server) = &run.server_environment {
                    dt { "Server's host" }
                    dd { (or_dash(&server.cpu)) ", " (server.cores) " logical cores, kernel " (or_dash(&server.kernel))
                        ", " (or_dash(&server.rustc)) ", revision " (or_dash(&server.revision)) }
                }
                dt { "Warm-up" } dd { (numbers::count(run.workload.warmup)) " messages a stream, before the figures begin" }
                dt { "Call sites" } dd { (stacks) }
                @if let Some(timing) = &environment.timing { dt { "Timed rounds" } dd { (timed_rounds(run, timing)) } }
                dt { "Seed" } dd { (run.seed) }
            }
            p {
                "Four builds, never mixed in one figure. " b { "Counts" } " are exact, from a build whose allocator "
                "counts by stage; " b { "times" } " are from a build with the plain allocator: a median "
                @if let Some(interval) = parts::interval_words_of(run) {
                    "with its " (interval) " between two of the runs themselves, "
                }
                "compared round by round with the step before and the first: the Hodges–Lehmann estimate of the ratio, its "
                "95 % interval, and a mark where Wilcoxon's signed-rank test over the rounds, with Holm's procedure over "
                "all steps, has a p below " (figures::ALPHA) "; " b { "call sites" } " are dhat's; " b { "retained bytes" }
                " are tracking-allocator's. A realloc counts as a new block of the new size. What the instrument "
                "itself allocates has a row of its own and is left out of allocations and bytes; flame graphs, sizes of "
                "blocks, heap and peak are the whole process's."
            }
        }
    }
}

/// How times were taken, and what else the machine did meanwhile.
fn timed_rounds(run: &Run, timing: &Timing) -> String {
    let noun = figures::noun(run);
    let list = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut parts: Vec<String> = Vec::new();
    // Windows of time have as many as there come.
    parts.extend((timing.messages > 0).then(|| format!("{} {noun}s each", numbers::count(timing.messages))));
    parts.push(match timing.discarded {
        0 => "none thrown away".to_owned(),
        1 => "one before them thrown away".to_owned(),
        rounds => format!("{rounds} before them thrown away"),
    });
    parts.extend(timing.budget_seconds.map(|seconds| format!("for at most {seconds} s")));
    parts.push(match (timing.server_cores.as_slice(), timing.client_cores.as_slice()) {
        ([], []) => "on any core".to_owned(),
        // What is measured is called so, whichever side it is; the other is its load.
        (server, client) if figures::is_program(run) => {
            let (own, load) = match marks::alone(run) {
                Some(Side::Client) => (client, server),
                _ => (server, client),
            };
            let words = |cores: &[usize]| format!("core{} {}", if cores.len() == 1 { "" } else { "s" }, list(cores));
            format!("the program on {}, its load on {}", words(own), words(load))
        }
        (server, client) => {
            let many = list(&timing.server_cores_of_many);
            format!("server on core {} (with several threads on {many}), client on core {}", list(server), list(client))
        }
    });
    parts.extend(timing.governor.as_ref().map(|governor| format!("governor {}", figures::clipped(governor, 40))));
    parts.extend(timing.load_average.map(|load| format!("load {} before", numbers::number(load))));
    parts.extend(timing.others_share.map(|share| format!("other programs {} of the machine", numbers::share(share))));
    parts.extend(timing.steal_share.map(|share| format!("its host {}", numbers::share(share))));
    parts.join("; ")
}

pub(crate) fn ladder_section(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    let Headline { blocks, bytes, cpu, rate } = Headline::of(run);
    let timed_columns: Vec<Figure> =
        Headline::of(run).shown(run).into_iter().filter(|figure| [cpu, rate, figures::LIVE].contains(figure)).collect();
    let bar_max = |side| figures::largest(run, |step| figures::subject_per_message(step, side).map(|sum| sum.bytes));
    let dot_max = |figure: Figure| {
        figures::largest(run, |step| {
            figure.pair(run, step).map(|sample| sample.values.iter().copied().fold(0.0, f64::max))
        })
    };
    let max: Vec<(Side, f64)> = figures::sides(run).into_iter().map(|side| (side, bar_max(side))).collect();
    html! {
        section.panel.ladder.three[timed_columns.len() > 2] aria-labelledby="ladder" {
            div.panel-head {
                h2 id="ladder" {
                    @if !figures::is_program(run) { "The ladder" }
                    @else if steps.len() == 1 { "What it allocates" }
                    @else { "The steps" }
                }
                (charts::legend(stages::shown(run).filter(|stage| *stage != Stage::Instrument)))
            }
            table role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th.step-name role="columnheader" scope="col" { "Step" }
                        @for &(side, max) in &max {
                            th role="columnheader" scope="col" {
                                "Allocated" (figures::of_side(run, side)) @if max > 0.0 { br; small { "full bar: " (numbers::bytes(max)) } }
                            }
                        }
                        th.number role="columnheader" scope="col" { "Allocations" br; small { "per " (noun) } }
                        th.number role="columnheader" scope="col" {
                            @if bytes == Figure::Metric(&metric::AMPLIFICATION) { "Bytes" br; small { "per payload byte" } }
                            @else { "Bytes" br; small { "per " (noun) } }
                        }
                        @for figure in &timed_columns {
                            th role="columnheader" scope="col" {
                                (capitalised(&figure.label(noun))) br;
                                @if !figures::is_program(run) {
                                    small { @if *figure == cpu { "client + server" } @else { "of the pair" } }
                                }
                            }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for view in steps {
                        tr role="row" data-row=(view.index) {
                            th.step-name role="rowheader" scope="row" {
                                a href={ "#" (view.anchor()) } data-step=(view.index) {
                                    span.index { (view.index + 1) } " " (view.title())
                                }
                            }
                            @for &(side, max) in &max {
                                td.bars role="cell" data-label={ "Allocated" (figures::of_side(run, side)) } {
                                    (bar(run, view.record, side, max))
                                }
                            }
                            td.number role="cell" data-label={ "Allocations per " (noun) } { (exact(run, blocks, view)) }
                            td.number role="cell" data-label=(bytes.label(noun)) { (exact(run, bytes, view)) }
                            @for figure in &timed_columns {
                                td role="cell" data-label={
                                    (capitalised(&figure.label(noun)))
                                    @if *figure == cpu && !figures::is_program(run) { ", client + server" }
                                } {
                                    (timed(run, *figure, view, dot_max(*figure), noun))
                                }
                            }
                        }
                    }
                }
            }
            (ladder_note(run, steps))
        }
    }
}

/// What the ladder's bars, plots and colours mean.
fn ladder_note(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let noun = figures::noun(run);
    html! {
        p.note {
            @if figures::is_program(run) {
                "Bars are bytes per " (noun) " on one scale."
                @if steps.len() > 1 {
                    " Changes are against the step above: " span.better { "blue" } " is better, "
                    span.worse { "orange" } " worse."
                }
            } @else {
                "Bars are bytes per " (noun) " on one scale per column, so they shrink from step to step. "
                (parts::plot_words(run)) "; plots begin at zero. Changes are against the step above: "
                span.better { "blue" } " is better, " span.worse { "orange" } " worse, of times as a multiple with its 95 % "
                "interval; ~ is unsettled: no mark, and an interval that reaches further than ±"
                (numbers::share(SETTLED)) "."
                (unsettled(run, steps))
            }
        }
    }
}

/// The steps of which more rounds would tell more, by name.
fn unsettled(run: &Run, steps: &[StepView<'_>]) -> Markup {
    let wide = steps.first().map(|view| view.unsettled(run)).unwrap_or_default();
    html! {
        @if !wide.is_empty() {
            " Unsettled against the step above, CPU: "
            @for (index, view) in steps.iter().filter(|view| wide.iter().any(|of| of.step == view.index)).enumerate() {
                @if index > 0 { "; " }
                (view.title())
                " ("
                @for (nth, of) in wide.iter().filter(|of| of.step == view.index).enumerate() {
                    @if nth > 0 { ", " }
                    (of.whose.name()) @if of.reach.is_finite() { " " (numbers::plus_minus(of.reach)) }
                }
                ")"
            }
            "."
        }
    }
}

fn bar(run: &Run, step: &StepRecord, side: Side, max: f64) -> Markup {
    let parts: Option<Vec<(Stage, f64)>> = figures::subject_stages()
        .map(|stage| Some((stage, figures::stage_per_message(step, side, stage)?.bytes)))
        .collect();
    match parts {
        Some(parts) => charts::stage_bar(&format!("Allocated{}", figures::of_side(run, side)), &parts, max),
        None => parts::not_measured(),
    }
}

fn exact(run: &Run, figure: Figure, view: &StepView<'_>) -> Markup {
    let sample = figure.pair(run, view.record);
    html! {
        span.value { (parts::figure(figure, sample.as_ref())) }
        @if view.previous.is_some() && sample.is_some() {
            span.delta { (parts::change(view.change(run, figure, Whose::Pair, Against::Previous).as_ref())) }
        }
    }
}

fn timed(run: &Run, figure: Figure, view: &StepView<'_>, max: f64, noun: &str) -> Markup {
    let sample = figure.pair(run, view.record);
    html! {
        div.timed {
            @match &sample {
                Some(sample) => {
                    (charts::dots(&figure.label(noun), sample, max))
                    span.value { b { (figure.format(sample.median())) } }
                    @if view.previous.is_some() {
                        span.delta { (parts::change(view.change(run, figure, Whose::Pair, Against::Previous).as_ref())) }
                    }
                }
                None => { (parts::not_measured()) }
            }
        }
    }
}
