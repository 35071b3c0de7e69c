//! The library's steps as a service takes them: the line to write, and which steps of the study show what it does.
//!
//! What each costs, and when not to, stands in `alloc_ladder::steps`; a test holds this table to that one.

use alloc_ladder::subject::scenario::Scenario::{self, Get, Put, Unary};
use alloc_ladder::{Side, Stage};

/// One step for anybody.
#[derive(Debug)]
pub(crate) struct Part {
    /// As a step of somebody's ladder is called that takes it.
    pub(crate) name: &'static str,
    /// As `alloc_ladder::steps` calls it.
    pub(crate) title: &'static str,
    /// The line, and where it goes, on a server and on a client; `None` where that side has none.
    server: Option<&'static str>,
    client: Option<&'static str>,
    pub(crate) cost: &'static str,
    pub(crate) not_when: &'static str,
    /// What it is meant to reduce, on the sides that have a line.
    pub(crate) reduces: &'static [Stage],
    /// The steps of the study that do the same.
    pub(crate) study: &'static [(Scenario, &'static str)],
}

impl Part {
    /// The line to write.
    pub(crate) fn line(&self, side: Side) -> Option<&'static str> {
        match side {
            Side::Server => self.server,
            Side::Client => self.client,
        }
    }

    /// Whether a step of this name takes it.
    pub(crate) fn is_called(&self, step: &str) -> bool {
        self.name == step || self.study.iter().any(|(_, name)| *name == step)
    }
}

const BODIES: &str = "tonic = { package = \"alloc-ladder-tonic\", version = \"0.1\" } in Cargo.toml, in place of tonic";
const PATCH: &str = "cargo alloc-ladder patch CRATE";
const COMPRESSION: &str =
    "tonic = { package = \"alloc-ladder-tonic\", version = \"0.1\", features = [\"gzip\"] } in Cargo.toml";
const ZLIB_RS: &str =
    "tonic = { package = \"alloc-ladder-tonic\", version = \"0.1\", features = [\"gzip\", \"zlib-rs\"] } in Cargo.toml";
const ALLOCATOR: &str = "#[global_allocator] static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc; in main.rs";
const BYTES: &str = ".bytes([\".\"]) in build.rs";
const POOLED: &str = ".pooled(\".package.Message\") at alloc_ladder::build::generator in build.rs";
const ENCODED: &str = ".encoded(\".package.Message\") at alloc_ladder::build::generator in build.rs";

/// Every step, in the order of `alloc_ladder::steps`.
pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "bodies",
        title: "bodies",
        server: Some(BODIES),
        client: Some(BODIES),
        cost: "recycled memory a thread",
        not_when: "codecs that are not prost's: those do not compile",
        reduces: &[Stage::Marshal, Stage::ReceiveBuffer],
        study: &[
            (Put, "rope"),
            (Put, "pooled-encode"),
            (Put, "zero-copy"),
            (Get, "pooled-encode"),
            (Get, "zero-copy"),
            (Get, "rope"),
            (Unary, "small-codec-buffers"),
            (Unary, "pooled-compression"),
        ],
    },
    Part {
        name: "patched",
        title: "bodies in somebody else's crate",
        server: Some(PATCH),
        client: Some(PATCH),
        cost: "a copy of the crate in patches/, made anew for each version of it",
        not_when: "crates whose generated code is your own",
        // What the bodies are meant for, and have the line for.
        reduces: &[],
        study: &[],
    },
    Part {
        name: "release-read-buffer",
        title: "released read buffer",
        server: Some(BODIES),
        client: Some(BODIES),
        cost: "messages that arrive in several frames are copied once",
        not_when: "nowhere: it comes with the bodies",
        // Of what is kept, which is no figure of a message.
        reduces: &[],
        study: &[(Put, "release-read-buffer")],
    },
    Part {
        name: "pooled-compression",
        title: "pooled compression",
        server: Some(COMPRESSION),
        client: Some(COMPRESSION),
        cost: "their state is kept, a thread",
        not_when: "programs with many threads that compress seldom",
        // Only of those that compress, which no run says.
        reduces: &[],
        study: &[],
    },
    Part {
        name: "zlib-rs",
        title: "zlib-rs",
        server: Some(ZLIB_RS),
        client: Some(ZLIB_RS),
        cost: "whatever else the program compresses with flate2 gets it too",
        not_when: "compressed bytes that have to stay the same",
        reduces: &[],
        study: &[],
    },
    Part {
        name: "bytes-field",
        title: "`Bytes`",
        server: Some(BYTES),
        client: Some(BYTES),
        cost: "handlers see `Bytes`; who keeps one keeps the memory it was received in",
        not_when: "payloads of some bytes that are kept for long",
        reduces: &[Stage::MessageConstruction],
        study: &[(Put, "bytes-field"), (Get, "bytes-field")],
    },
    Part {
        name: "tuned-h2",
        title: "HTTP/2 settings",
        server: Some("Http2::for_messages(encoded_len).server(Server::builder())"),
        client: Some("Http2::for_messages(encoded_len).endpoint(endpoint)"),
        cost: "at least 4 MiB a stream may wait in memory for a handler that does not read",
        not_when: "peers that are not trusted with that, many streams that are seldom read",
        reduces: &[Stage::ReceiveBuffer],
        study: &[(Put, "tuned-h2"), (Get, "tuned-h2")],
    },
    Part {
        name: "aligned-reads",
        title: "aligned reads",
        server: Some(".serve_with_incoming(aligned(incoming, http2))"),
        client: Some("connect(endpoint, http2)"),
        cost: "64 KiB a connection",
        not_when: "TLS in this process",
        reduces: &[Stage::ReceiveBuffer],
        study: &[(Put, "aligned-reads"), (Get, "aligned-reads")],
    },
    Part {
        name: "core-runtime",
        title: "a runtime a core",
        server: Some("per_core(address, 0, serve)"),
        client: None,
        cost: "connections are spread by address, not by load",
        not_when: "few connections, handlers that block",
        reduces: &[],
        study: &[(Put, "core-runtime"), (Get, "core-runtime")],
    },
    Part {
        name: "lean-client",
        title: "lean channel",
        server: None,
        client: Some("LeanChannel::connect in place of Channel"),
        cost: "tonic's buffer, reconnection and balancing",
        not_when: "connections that break and have to come again",
        reduces: &[Stage::Transport],
        study: &[(Unary, "lean-client")],
    },
    Part {
        name: "lean-server",
        title: "lean server",
        server: Some("lean::serve in place of Server::builder()"),
        client: None,
        cost: "TLS, HTTP/1, keepalive",
        not_when: "servers that face the internet",
        reduces: &[Stage::Transport],
        study: &[(Unary, "lean-server"), (Get, "one-frame")],
    },
    Part {
        name: "pooled-message",
        title: "pooled messages",
        server: Some(POOLED),
        client: Some(POOLED),
        cost: "signatures say `Pooled<Message>`; kept memory a thread",
        not_when: "messages of `Bytes`; messages that are kept",
        reduces: &[Stage::MessageConstruction],
        study: &[(Put, "pooled-message")],
    },
    Part {
        name: "encode-once",
        title: "encode once",
        server: Some(ENCODED),
        client: None,
        cost: "signatures of what methods answer with say `Encoded<Message>`",
        not_when: "messages that differ from stream to stream",
        reduces: &[],
        study: &[(Get, "encode-once")],
    },
    Part {
        name: "allocator",
        title: "allocator",
        server: Some(ALLOCATOR),
        client: Some(ALLOCATOR),
        cost: "a dependency in C, and memory that it keeps",
        not_when: "where other steps have left no blocks",
        reduces: &[],
        study: &[],
    },
];

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::ladder;

    use super::*;

    #[test]
    fn the_table_is_that_of_the_library() {
        let manual = include_str!("../../../src/steps.rs");
        let rows = manual.lines().skip_while(|line| !line.starts_with("//! | step | the line |")).skip(2);
        let rows: Vec<Vec<&str>> = rows
            .take_while(|line| line.starts_with("//! | "))
            .map(|line| line["//! | ".len()..].split(" | ").map(str::trim).collect())
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(names, PARTS.iter().map(|part| part.title).collect::<Vec<_>>());
        for (row, part) in rows.iter().zip(PARTS) {
            // What is called, in the manual and here; the first row's lines stand above the table.
            for line in [part.server, part.client].into_iter().flatten() {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let called = line.split(|letter: char| !is_part(letter)).filter(|word| word.len() > 4);
                assert!(
                    called
                        .clone()
                        .any(|word| row[1].contains(word)
                            || manual.contains(line.split(" in Cargo").next().expect("some"))),
                    "{line} in {}",
                    row[1]
                );
            }
            let plain = |text: &str| text.replace(['`', '[', ']'], "");
            for words in part.cost.split("; ").chain(part.not_when.split("; ")) {
                let wanted: Vec<String> =
                    plain(words).split(' ').filter(|word| word.len() > 6).map(str::to_owned).collect();
                let said = plain(&row[2..].join(" "));
                assert!(wanted.iter().all(|word| said.contains(word.trim_end_matches(','))), "{words} in {said}");
            }
        }
    }

    #[test]
    fn every_step_that_shows_a_part_is_on_a_ladder() {
        for part in PARTS {
            assert!(part.server.is_some() || part.client.is_some(), "{}", part.name);
            assert!(part.is_called(part.name));
            for (scenario, step) in part.study {
                assert!(ladder::step(*scenario, step).is_ok_and(|(index, _)| index > 0), "{scenario} {step}");
            }
        }
    }
}
