//! The page around the sections: one file, no network, its own style and script and nobody else's.

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::figures::{self, StepView};
use super::sites::{self, SeenSites};
use super::{charts, graphs, limits, methods, nine_stages, overview, raw, recorded, stages, step, summary};
use crate::analyse::by_stack;
use crate::analyse::fold::Unit;
use crate::analyse::profiles::Profiles;
use crate::store::place;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the whole page may weigh, in bytes; graphs give way first.
const PAGE_MAX: usize = 960_000;
/// However large the tables are, the graphs keep this much.
const GRAPHS_MIN: usize = 120_000;

pub(crate) fn render(run: &Run, profiles: &Profiles) -> String {
    let run = &*by_stack::completed(run, profiles);
    let steps = figures::steps(run);
    let body = body(run, &steps, profiles).into_string();
    let room = PAGE_MAX.saturating_sub(body.len() + STYLE.len() + SCRIPT.len() + 2000).max(GRAPHS_MIN);
    let data = graphs::json(run, &steps, profiles, figures::noun(run), room);
    let title = format!("{} · allocation profile", overview::title(run));
    shell(
        &title,
        &html! {
            (PreEscaped(body))
            @if !steps.is_empty() {
                script type="application/json" id="data" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        },
    )
}

/// A page of this project around `body`: style, policy, no network.
pub(crate) fn shell(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // Without it a browser asks the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body data-side="server" { (body) }
        }
    }
    .into_string()
}

/// Nothing but the page's own style and script, by hash: text that came in with the data cannot run or load.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; \
         form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn body(run: &Run, steps: &[StepView<'_>], profiles: &Profiles) -> Markup {
    html! {
        a.skip id="skip" href="#steps" { "Skip to the steps" }
        div.tools {
            button type="button" id="help-button" aria-keyshortcuts="?" { "Keys " kbd { "?" } }
            button type="button" id="theme-button" { "Theme: auto" }
        }
        main {
            (overview::head(run, steps, profiles))
            @if !steps.is_empty() {
                (overview::ladder_section(run, steps))
                (nine_stages::section(run, steps))
                (stepper(steps))
                div id="steps" tabindex="-1" {
                    @for view in steps { (step_section(run, view, steps.len(), profiles)) }
                }
                @if !figures::is_program(run) || !run.limits.is_empty() { (limits::section(run, steps)) }
                @if !figures::is_program(run) || steps.len() > 1 { (summary::section(run, steps)) }
            }
        }
        footer {
            "Rendered by " (place::command()) " report " (env!("CARGO_PKG_VERSION")) " from " a href="run.json" { "run.json" }
            " · flame graphs laid out by inferno · this file needs no network"
        }
        (help(run))
    }
}

fn stepper(steps: &[StepView<'_>]) -> Markup {
    html! {
        nav.stepper aria-label="Steps" hidden[steps.len() == 1] {
            button.arrow type="button" id="previous" aria-label="Previous step" aria-keyshortcuts="ArrowLeft" { "←" }
            ol {
                @for view in steps {
                    li {
                        a href={ "#" (view.anchor()) } data-step=(view.index) {
                            span.index { (view.index + 1) } " " span.name { (view.title()) }
                        }
                    }
                }
            }
            button.arrow type="button" id="next" aria-label="Next step" aria-keyshortcuts="ArrowRight" { "→" }
        }
    }
}

fn step_section(run: &Run, view: &StepView<'_>, count: usize, profiles: &Profiles) -> Markup {
    html! {
        section.step id=(view.anchor()) aria-labelledby={ (view.anchor()) "-title" } data-index=(view.index) {
            div.panel {
                (step::story(run, view, count, profiles))
                (step::metrics(run, view, profiles))
            }
            (methods::section(run, view))
            @let by_stage = html! {
                (stages::section(run, view, profiles))
                (step::attribution(run, view, profiles))
                (step::cpu(view, profiles))
            };
            @if !by_stage.0.is_empty() { div.panel { (by_stage) } }
            (recorded::timeline(run, view, profiles))
            @if figures::has_call_sites(run, profiles) {
                div.panel {
                    h3 { "Flame graph" }
                    div.graph-slot { noscript { (without_script(run, view, profiles)) } }
                    @for side in figures::sides(run) {
                        div class={ "of-" (side.name()) } {
                            h3 { "Largest allocation sites" (figures::of_side(run, side)) }
                            (site_table(run, view, profiles, side))
                        }
                    }
                }
            } @else {
                // The script looks for it.
                div.graph-slot hidden {}
            }
            @for side in figures::sides(run) {
                div class={ "halves" (seen_with(run, side)) } { (step::distributions(run, view, side)) }
            }
            @for side in figures::sides(run) {
                @let retained = run.steps.iter().any(|step| step.of(side, Instrument::Retained).next().is_some());
                @if retained || !figures::is_program(run) {
                    div class={ "panel" (seen_with(run, side)) } { (step::retained(run, view, side)) }
                }
            }
            (raw::section(run, view, profiles))
        }
    }
}

/// What stands in the graph's place where the script does not run.
fn without_script(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    html! {
        @match profiles.get(view.index, Side::Server) {
            Some(profile) if view.index == 0 => {
                p.note { @if !figures::of_side(run, Side::Server).is_empty() { "Server, bytes. " } @else { "Bytes. " } "The other graphs need JavaScript; the tables below do not." }
                div.scroll tabindex="0" role="region" aria-label="Flame graph" {
                    (graphs::still(profile, Unit::Bytes, &figures::of_side(run, Side::Server)))
                }
            }
            _ => { p.note { "Graphs of this step need JavaScript; the tables below say the same." } }
        }
    }
}

/// The class of what is about one side: it is seen while that side is chosen. Of a program with one side there is
/// nothing to choose.
fn seen_with(run: &Run, side: Side) -> String {
    if figures::sides(run).len() == 1 { String::new() } else { format!(" of-{}", side.name()) }
}

fn site_table(run: &Run, view: &StepView<'_>, profiles: &Profiles, side: Side) -> Markup {
    let of =
        |index: usize| Some(SeenSites { profile: profiles.get(index, side)?, stacks: run.steps[index].stacks(side)? });
    match of(view.index) {
        Some(this) => sites::table(
            &figures::of_side(run, side),
            figures::noun(run),
            figures::is_program(run),
            this,
            run.before(view.index).and_then(of),
        ),
        None => html! { p.empty { "Not measured: no call sites of this side of this step." } },
    }
}

fn help(run: &Run) -> Markup {
    const KEYS: [(&str, &str); 10] = [
        ("← →", "previous, next step"),
        ("s", "server or client"),
        ("b", "bytes or allocations"),
        ("d", "this step or its difference to the previous one"),
        ("f", "true scale or fill the width"),
        ("/", "search the frames (regular expression)"),
        ("↑ ↓", "in the graph: a frame up or down; with Shift ← → its neighbours"),
        ("Enter", "in the graph: zoom into the frame"),
        ("Esc", "zoom out, clear the search, close this"),
        ("?", "these keys"),
    ];
    let sides: Vec<(&str, &str)> = figures::sides(run).iter().map(|side| (side.name(), side.name())).collect();
    html! {
        dialog id="help" aria-labelledby="help-title" {
            h2 id="help-title" { "Keys" }
            dl { @for (key, words) in KEYS { dt { kbd { (key) } } dd { (words) } } }
            form method="dialog" { button type="submit" { "Close" } }
        }
        p.spoken id="announce" role="status" {}
        template id="graph" {
            div.graph {
                div.graph-head { (charts::legend(stages::shown(run))) }
                div.controls {
                    (choice("side", "Side", &sides))
                    (choice("unit", "Unit", &[("bytes", "bytes"), ("blocks", "allocations")]))
                    div hidden[run.steps.len() == 1] {
                        (choice("mode", "Compare", &[("this", "this step"), ("diff", "vs previous")]))
                    }
                    (choice("scale", "Scale", &[("true", "to scale"), ("fill", "fill width")]))
                    div.search {
                        input type="search" id="search" placeholder="Search frames (regex)" aria-label="Search frames (regular expression)"
                            aria-describedby="found" autocomplete="off" spellcheck="false";
                        span id="found" role="status" {}
                    }
                    button type="button" id="zoom-out" hidden { "Zoom out" }
                }
                p.lost id="lost" role="status" hidden {}
                p.hint id="detail" { "Hover or focus a frame for its figures. Click to zoom, Esc to zoom out." }
                div.strip id="strip" hidden {}
                div.canvas id="canvas" tabindex="0" role="application" aria-roledescription="flame graph"
                    aria-label="Flame graph; the table of allocation sites below says the same in words"
                    aria-describedby="detail" {}
                p.spoken id="spoken" role="status" {}
                ul.legend.diff-legend id="diff-legend" hidden {
                    li { span.key.gone {} " gone" }
                    li { span.key.much-less {} span.key.less {} " less" }
                    li { span.key.same {} " same" }
                    li { span.key.more {} span.key.much-more {} " more" }
                    li { span.key.new {} " new" }
                    li.words { "width is the larger of before and after, so what disappeared stays visible" }
                }
            }
        }
    }
}

fn choice(name: &str, label: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        div.choice role="group" aria-label=(label) hidden[options.len() < 2] {
            @for (value, words) in options {
                button type="button" data-choice=(name) data-value=(value) aria-pressed="false" { (words) }
            }
        }
    }
}
