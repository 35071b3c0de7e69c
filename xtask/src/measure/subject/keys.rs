//! The keys that `alloc-ladder.toml` may have, by table, and what to say of one that it may not have.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

use crate::cli::suggest::{Named, nearest};

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// As a person writes its head; empty for the file's own keys.
    pub(super) head: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const TOP: Keys =
    Keys { head: "", keys: &["name", "server", "load", "window", "workload", "traffic", "step"] };

/// The tables of the file, in the order of the documentation.
pub(super) const TABLES: [Keys; 6] = [
    Keys {
        head: "[server]",
        keys: &[
            "command",
            "bin",
            "example",
            "package",
            "features",
            "default-features",
            "profile",
            "side",
            "args",
            "env",
            "port",
            "line",
            "health",
            "ready-within",
        ],
    },
    Keys { head: "[[load]]", keys: &["command", "bin", "example", "package", "args", "env"] },
    Keys { head: "[window]", keys: &["warmup", "messages", "seconds", "rounds", "budget", "timeout", "pin"] },
    Keys { head: "[workload]", keys: &["payload-bytes", "streams", "connections", "metadata", "compress"] },
    Keys {
        head: "[[traffic]]",
        keys: &["name", "payload-bytes", "streams", "connections", "metadata", "compress", "load-args"],
    },
    Keys {
        head: "[[step]]",
        keys: &["name", "about", "from", "features", "allocator", "env", "args", "load-args", "revision", "patch"],
    },
];

/// The keys of a patch that is not a version.
const PATCH: Keys = Keys { head: "patch", keys: &["version", "path", "git", "rev", "branch", "tag"] };

/// What is wrong in a file: where, and a way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// The byte where it stands.
    pub(super) at: Option<usize>,
    /// The key, as `[server] port`; empty for the whole file.
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Bad {
    pub(super) fn new(at: Option<usize>, key: impl Into<String>, message: impl Into<String>) -> Bad {
        Bad { at, key: key.into(), message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Bad {
        Bad { help: Some(help.into()), ..self }
    }
}

/// Refuses the first key that no table has.
pub(super) fn known(document: &Document<&str>) -> Result<(), Bad> {
    let root = document.as_table();
    check(root, TOP)?;
    for table in TABLES {
        let name = name(table.head);
        for part in parts(root, name) {
            check(part, table)?;
            let patches = part.get("patch").and_then(Item::as_table_like).filter(|_| name == "step");
            for (_, patch) in patches.iter().flat_map(|patches| patches.iter()) {
                patch.as_table_like().map_or(Ok(()), |patch| check(patch, PATCH))?;
            }
        }
    }
    Ok(())
}

/// `[server]` of `server`, `[[step]]` of `step`.
pub(super) fn head(table: &str) -> String {
    let head = TABLES.iter().map(|keys| keys.head).find(|head| name(head) == table);
    head.unwrap_or(table).to_owned()
}

/// `step` of `[[step]]`.
fn name(head: &str) -> &str {
    head.trim_matches(['[', ']'])
}

/// A table, or each of an array of tables.
pub(super) fn parts<'a>(root: &'a dyn TableLike, name: &str) -> Vec<&'a dyn TableLike> {
    match root.get(name) {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
        Some(item) => match (item.as_table_like(), item.as_array()) {
            (Some(table), _) => vec![table],
            (None, Some(array)) => {
                array.iter().filter_map(|value| value.as_inline_table()).map(|table| table as &dyn TableLike).collect()
            }
            (None, None) => Vec::new(),
        },
        None => Vec::new(),
    }
}

fn check(table: &dyn TableLike, keys: Keys) -> Result<(), Bad> {
    let Some((wrong, _)) = table.iter().find(|(key, _)| !keys.keys.contains(key)) else { return Ok(()) };
    let at = table.key(wrong).and_then(toml_edit::Key::span).map(|span| span.start);
    let place = if keys.head.is_empty() { "the file".to_owned() } else { format!("`{}`", keys.head) };
    let meant = nearest(Named::Budget, wrong, keys.keys.iter().copied());
    let elsewhere = || TABLES.iter().find(|table| table.keys.contains(&wrong)).map(|table| table.head);
    let first = match (meant, elsewhere()) {
        (Some(meant), _) => format!("did you mean `{meant}`? "),
        (None, Some(head)) => format!("`{wrong}` belongs to `{head}`; "),
        (None, None) => String::new(),
    };
    Err(Bad::new(at, shown(keys.head, wrong), format!("{place} has no key `{wrong}`"))
        .help(format!("{first}there are: {}", keys.keys.join(", "))))
}

/// A key as messages name it.
pub(super) fn shown(head: &str, key: &str) -> String {
    format!("{head} {key}").trim().to_owned()
}

/// The key whose value holds a place in the text.
pub(super) fn key_at(document: &Document<&str>, place: Range<usize>) -> String {
    let holds =
        |item: &Item| item.span().is_some_and(|span| span.start <= place.start && place.start < span.end.max(1));
    let root = document.as_table();
    for table in TABLES {
        for part in parts(root, name(table.head)) {
            if let Some((key, _)) = part.iter().find(|(_, item)| holds(item)) {
                return shown(table.head, key);
            }
        }
    }
    let Some((key, item)) = root.iter().find(|(_, item)| holds(item)) else { return String::new() };
    // A table that lacks a key is told as it is written.
    let head = TABLES.iter().map(|table| table.head).find(|head| name(head) == key);
    head.filter(|_| item.is_table() || item.is_array_of_tables()).unwrap_or(key).to_owned()
}
