//! The files behind a step, with commands to paste that open them elsewhere.

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use maud::{Markup, html};

use super::figures::{self, StepView};
use crate::analyse::profiles::Profiles;
use crate::cli::numbers;
use crate::render::files;
use crate::store::place;

pub(crate) fn section(run: &Run, view: &StepView<'_>, profiles: &Profiles) -> Markup {
    let folders: Vec<(Side, String)> =
        Side::ALL.into_iter().filter_map(|side| Some((side, files::folder(view.record.stacks(side)?)?))).collect();
    html! {
        details.panel.raw {
            summary { "Raw files of this step, and how to open them elsewhere" }
            p {
                @if !folders.is_empty() || !figures::is_program(run) {
                    "Paths are relative to this page: run the commands in the folder it lies in. "
                }
                a href="run.json" { "run.json" } " holds every figure of every step."
            }
            @if folders.is_empty() && !figures::is_program(run) {
                p.empty { "No call-site files: the `stacks` instrument was not measured for this step." }
            }
            @for (side, folder) in &folders {
                @if !figures::of_side(run, *side).is_empty() { h3 { (side.name()) } }
                ul.files {
                    @if let Some(stacks) = view.record.stacks(*side) {
                        li { (link(profiles, &stacks.dhat, "dhat.json")) " " small {
                            @if stacks.recorded.is_some() { "every stack, in dhat's format" } @else { "dhat's own profile" }
                        } }
                    }
                    @for (file, words) in files::MADE {
                        @let path = format!("{folder}/{file}");
                        @if profiles.has(&path) { li { (link(profiles, &path, file)) " " small { (words) } } }
                    }
                    @if lacks_raw(profiles, folder) {
                        li { small {
                            "Stacks with every frame would be larger than "
                            (numbers::bytes(files::RAW_BYTES_MAX as f64)) ": dhat.json has them all."
                        } }
                    }
                }
                (commands(view, *side, folder, profiles))
            }
        }
    }
}

/// Whether the raw folded stacks were left out.
fn lacks_raw(profiles: &Profiles, folder: &str) -> bool {
    let has = |file: &str| profiles.has(&format!("{folder}/{file}"));
    has(files::MADE[0].0) && !files::RAW.into_iter().any(has)
}

/// A link to a file of the run, or its name alone where it is not there.
pub(crate) fn link(profiles: &Profiles, path: &str, words: &str) -> Markup {
    html! {
        @if profiles.has(path) { a href=(encoded(path)) { (words) } }
        @else { (words) " " span.absent { "(not kept)" } }
    }
}

/// What to paste for each reader, for the files that are there.
fn commands(view: &StepView<'_>, side: Side, folder: &str, profiles: &Profiles) -> Markup {
    let there = |path: String| profiles.has(&path).then(|| shell_word(&path));
    let pprof = there(format!("{folder}/profile.pb.gz"));
    let previous = view
        .previous
        .and_then(|previous| files::folder(previous.stacks(side)?))
        .and_then(|folder| there(format!("{folder}/profile.pb.gz")));
    let folded = there(format!("{folder}/bytes.folded"));
    html! {
        @if pprof.is_none() || folded.is_none() {
            p.note { "What is missing here is made from dhat's file by " code { (place::command()) " report" } "." }
        }
        dl.commands {
            @if let Some(pprof) = pprof {
                dt { "pprof, a root per stage" }
                dd { (command(&format!("go tool pprof -http=: -tagroot=stage {pprof}"))) }
                dt { "pprof, largest sites on the terminal" }
                dd { (command(&format!("go tool pprof -top -sample_index=alloc_space {pprof}"))) }
                @if let Some(previous) = previous {
                    dt { "pprof, against the previous step" }
                    dd { (command(&format!("go tool pprof -http=: -diff_base {previous} {pprof}"))) }
                }
            }
            @if let Some(folded) = folded {
                dt { "speedscope" }
                dd { (command(&format!("npx speedscope {folded}"))) }
            }
            @if let Some(stacks) = view.record.stacks(side) {
                dt { "dh_view.html (Valgrind's, Debian: /usr/libexec/valgrind/)" }
                dd {
                    (command("xdg-open /usr/libexec/valgrind/dh_view.html"))
                    " then load " code { (stacks.dhat) }
                }
            }
        }
    }
}

fn command(text: &str) -> Markup {
    html! { pre tabindex="0" { code { (text) } } }
}

/// Quoted for a POSIX shell where it has to be.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+,:".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A relative link: whatever is not plain is percent-encoded, so that no folder name turns into a scheme or a query.
pub(crate) fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_links_are_quoted_where_they_must_be() {
        assert_eq!(
            shell_word("profiles/put-1/01-baseline/server/dhat.json"),
            "profiles/put-1/01-baseline/server/dhat.json"
        );
        assert_eq!(shell_word("a b'c"), r"'a b'\''c'");
        assert_eq!(encoded("02-up to=x/server"), "02-up%20to%3Dx/server");
        assert_eq!(encoded("javascript:alert(1)"), "javascript%3Aalert%281%29");
    }
}
