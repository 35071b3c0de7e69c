//! From what dhat wrote for a side of a step to its record.

use std::path::Path;

use alloc_ladder::record::{Measurement, Run, Stacks};
use anyhow::Context;

use crate::analyse::dhat::{BadDhat, Dhat};
use crate::analyse::profiles::Profiles;
use crate::store::layout;
use crate::store::layout::DHAT_FILE;
use crate::store::read;
use crate::store::write::RunFolder;

/// The folder of a side's files, relative to the run's: `03-bytes-field/server`.
pub(crate) fn folder(run: &Run, index: usize, measurement: &Measurement) -> String {
    format!("{}/{}", layout::step_folder(index, &run.steps[index].name), measurement.side.name())
}

/// Takes what dhat wrote for one side of a step, in `from`, into the run's folder, and keeps it in `profiles`: nobody need
/// read it again.
///
/// # Errors
/// When it left nothing, or what it left cannot be read.
pub(crate) fn keep(
    into: &RunFolder,
    from: &Path,
    run: &Run,
    index: usize,
    measurement: &Measurement,
    profiles: &mut Profiles,
) -> anyhow::Result<Stacks> {
    let side = measurement.side;
    let left = from.join(DHAT_FILE);
    let text = std::fs::read_to_string(&left)
        .with_context(|| format!("the {side} left no call sites: cannot read {}", left.display()))?;
    let text = without_folders(&text);
    let dhat = format!("{}/{DHAT_FILE}", folder(run, index, measurement));
    into.write(&dhat, text.as_bytes())?;
    let seen = read::taken_apart(text.as_bytes(), &into.path().join(&dhat), Dhat::parse, BadDhat::help)?;
    profiles.insert(index, side, seen);
    Ok(Stacks { side, messages: measurement.messages, payload_bytes: measurement.payload_bytes, dhat, recorded: None })
}

/// What dhat wrote without the folders of this machine: a run is there to be shown to others.
fn without_folders(text: &str) -> String {
    let workspace = format!("{}/", layout::root().display());
    without_registry(text).replace(&workspace, "")
}

/// The folder in which cargo keeps the sources of a registry's crates, each registry in a folder of its own below it.
const REGISTRY: &str = "/registry/src/";

/// Paths into a registry's sources from the crate on: `h2-0.4.13/src/lib.rs`.
fn without_registry(text: &str) -> String {
    let begins = |c: char| c.is_whitespace() || matches!(c, '"' | '(');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(REGISTRY) {
        let from = &rest[at + REGISTRY.len()..];
        match from.find(['/', '"']) {
            Some(end) if end > 0 && from[end..].starts_with('/') => {
                let path = rest[..at].rmatch_indices(begins).next().map_or(0, |(place, before)| place + before.len());
                kept.push_str(&rest[..path]);
                rest = &from[end + 1..];
            }
            _ => {
                kept.push_str(&rest[..at + REGISTRY.len()]);
                rest = from;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crates_path_begins_with_the_crate() {
        for (text, wanted) in [
            (r#""1: f (/home/me/.cargo/registry/src/x-1/h2-0.4.1/src/a.rs:7:1)""#, r#""1: f (h2-0.4.1/src/a.rs:7:1)""#),
            ("a /mü/registry/src/x/b-1/c.rs /q/registry/src/y/d-2/e.rs z", "a b-1/c.rs d-2/e.rs z"),
            (r#"(/home/registry/src/")"#, r#"(/home/registry/src/")"#),
            ("(/home/registry/src//x/y)", "(/home/registry/src//x/y)"),
            ("/registry/src/", "/registry/src/"),
            ("nothing to do", "nothing to do"),
        ] {
            assert_eq!(without_registry(text), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_else_is_lost(text in "[a-zü(\" ]{0,20}", path in "(/[a-z]{1,4}){1,3}", end in "[a-z.]{1,8}") {
            let whole = format!("{text} {path}/registry/src/index-1/{end}");
            proptest::prop_assert_eq!(without_registry(&whole), format!("{text} {end}"));
        }
    }
}
