//! The files behind a step, with commands to paste that open them elsewhere.

use std::path::Path;

use alloc_ladder::Side;
use alloc_ladder::record::{Run, StepRecord};
use maud::{Markup, html};

use super::figures::StepView;

/// What lies beside a `dhat.json`, and what it is.
const FILES: [(&str, &str); 8] = [
    ("dhat.json", "dhat's own profile"),
    ("bytes.folded", "folded stacks, bytes"),
    ("blocks.folded", "folded stacks, blocks"),
    ("profile.pb.gz", "pprof"),
    ("bytes.svg", "flame graph, bytes"),
    ("blocks.svg", "flame graph, blocks"),
    ("diff-bytes.svg", "difference to the previous step, bytes"),
    ("diff-blocks.svg", "difference to the previous step, blocks"),
];

/// The folder of one side's files, relative to the run's, with forward slashes as links want them.
pub(crate) fn folder(step: &StepRecord, side: Side) -> Option<String> {
    let dhat = &step.stacks(side)?.dhat;
    Some(Path::new(dhat).parent()?.to_str()?.replace('\\', "/"))
}

pub(crate) fn section(run: &Run, view: &StepView<'_>) -> Markup {
    let folders: Vec<(Side, String)> =
        Side::ALL.into_iter().filter_map(|side| Some((side, folder(view.record, side)?))).collect();
    html! {
        details.panel.raw {
            summary { "Raw files of this step, and how to open them elsewhere" }
            p { "Paths are relative to this page. " a href="run.json" { "run.json" } " holds every figure of every step." }
            @if folders.is_empty() {
                p.empty { "No call-site files: the `stacks` instrument was not measured for this step." }
            }
            @for (side, folder) in &folders {
                h3 { (side.name()) }
                ul.files {
                    @for (file, words) in FILES.iter().filter(|(file, _)| view.previous.is_some() || !file.starts_with("diff")) {
                        li { a href={ (encoded(folder)) "/" (file) } { (file) } " " small { (words) } }
                    }
                }
                (commands(run, view, *side, folder))
            }
        }
    }
}

fn commands(run: &Run, view: &StepView<'_>, side: Side, folder: &str) -> Markup {
    let previous = view.previous.and_then(|previous| super::raw::folder(previous, side));
    let run_folder = format!("profiles/{}", run.id);
    let path = |file: &str| shell_word(&format!("{run_folder}/{folder}/{file}"));
    html! {
        dl.commands {
            dt { "pprof, a root per stage" }
            dd { (command(&format!("go tool pprof -http=: -tagroot=stage {}", path("profile.pb.gz")))) }
            dt { "pprof, largest sites on the terminal" }
            dd { (command(&format!("go tool pprof -top -sample_index=alloc_space {}", path("profile.pb.gz")))) }
            @if let Some(previous) = previous {
                dt { "pprof, against the previous step" }
                dd {
                    (command(&format!(
                        "go tool pprof -http=: -diff_base {} {}",
                        shell_word(&format!("{run_folder}/{previous}/profile.pb.gz")),
                        path("profile.pb.gz")
                    )))
                }
            }
            dt { "speedscope" }
            dd { (command(&format!("npx speedscope {}", path("bytes.folded")))) }
            dt { "dh_view.html (Valgrind's, Debian: /usr/libexec/valgrind/)" }
            dd {
                (command("xdg-open /usr/libexec/valgrind/dh_view.html"))
                " then load " code { (format!("{run_folder}/{folder}/dhat.json")) }
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
