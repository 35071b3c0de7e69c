//! How a page's figures came about: on what machine, by which build, in which rounds.

use alloc_ladder::Side;
use alloc_ladder::record::{Environment, Run, Timing};
use maud::{Markup, html};

use super::figures;
use super::parts;
use super::traffic::workload;
use crate::analyse::{by_stack, judge, marks};
use crate::cli::numbers;

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

/// The closed section at the top of a page.
pub(crate) fn environment(run: &Run) -> Markup {
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
                "all steps, has a p below " (figures::ALPHA) " and the ratio is not within " (numbers::share(judge::EQUALS)) " of one; " b { "call sites" } " are dhat's; " b { "retained bytes" }
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
    parts.extend((timing.messages > 0).then(|| match timing.processes {
        0 | 1 => format!("{} {noun}s each", numbers::count(timing.messages)),
        processes => {
            format!(
                "at most {} {noun}s each, by as many as {processes} processes in turn",
                numbers::count(timing.messages)
            )
        }
    }));
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
    parts.extend(timing.congestion.as_ref().map(|name| format!("TCP by {}", figures::clipped(name, 40))));
    parts.extend(timing.governor.as_ref().map(|governor| format!("governor {}", figures::clipped(governor, 40))));
    parts.extend(timing.load_average.map(|load| format!("load {} before", numbers::number(load))));
    parts.extend(timing.others_share.map(|share| format!("other programs {} of the machine", numbers::share(share))));
    parts.extend(timing.steal_share.map(|share| format!("its host {}", numbers::share(share))));
    parts.join("; ")
}
