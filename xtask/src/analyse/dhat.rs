//! Reads what dhat wrote: `dhat-heap.json`, version 2.
//!
//! Only what the other formats are made of is kept: every program point's counts and the names of its frames.
//! Addresses and source positions are dropped while reading, so nothing of the measuring machine travels further.

use std::path::Path;

use alloc_ladder::Stage;
use serde::Deserialize;

use crate::cli::failure::{Failure, Kind};

/// The format version this build reads: the one dhat 0.3 and Valgrind 3.17 and later write.
const VERSION: u64 = 2;

/// One dhat file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dhat {
    pub(crate) points: Vec<Point>,
    /// Function names, shared by the points.
    pub(crate) names: Vec<String>,
    /// The names are too poor to read stages from. Only a recording's file says so.
    pub(crate) stages_mislead: bool,
}

/// One program point: a distinct stack and what was allocated there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Live when the whole heap was at its largest.
    pub(crate) peak_blocks: u64,
    pub(crate) peak_bytes: u64,
    /// Live at the end.
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
    /// Blocks freed before their thread allocated again. Only a recording's file says so.
    pub(crate) temporary: u64,
    /// The stage of the seam it was in. Only a recording's file says so.
    pub(crate) stage: Option<Stage>,
    /// Places in [`Dhat::names`], leaf first.
    pub(crate) frames: Vec<usize>,
}

/// Why a dhat file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadDhat {
    #[error("the file ends in the middle of its JSON (line {line}); the measured process died while writing it")]
    Truncated { line: usize },
    #[error("not a dhat file: {0}")]
    NotDhat(#[source] serde_json::Error),
    #[error("dhat file version {found}; this build reads version {VERSION}")]
    Version { found: u64 },
    #[error("a dhat file of mode `{0}`, which counts no heap blocks")]
    Mode(String),
    #[error("frame {0} is not in the file's frame table")]
    Frame(usize),
}

impl BadDhat {
    fn help(&self) -> &'static str {
        match self {
            BadDhat::Truncated { .. } => "profile again, and let the process exit by itself: dhat writes at the end",
            BadDhat::NotDhat(_) | BadDhat::Frame(_) => "pass the dhat-heap.json of a `stacks` build, or profile again",
            BadDhat::Version { .. } => "profile again with the dhat version in Cargo.lock, or update this checkout",
            BadDhat::Mode(_) => "profile the heap: `dhat::Profiler::new_heap()` or `valgrind --tool=dhat --mode=heap`",
        }
    }
}

impl Dhat {
    /// Reads a file.
    ///
    /// # Errors
    /// A [`Failure`] that names the path and a way out: the file cannot be read, or [`BadDhat`] says what is wrong.
    pub(crate) fn read(path: &Path) -> Result<Dhat, Failure> {
        let text = std::fs::read(path).map_err(|error| {
            Failure::new(Kind::Environment, format!("cannot read {}: {error}", path.display()))
                .help("profile again, or name a run folder that still has its dhat files")
        })?;
        Dhat::parse(&text)
            .map_err(|error| Failure::new(Kind::Environment, format!("{}: {error}", path.display())).help(error.help()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// See [`BadDhat`].
    pub(crate) fn parse(text: &[u8]) -> Result<Dhat, BadDhat> {
        // The version is read first: a newer file may be of any other shape.
        let Version { version } = json(text)?;
        if version != VERSION {
            return Err(BadDhat::Version { found: version });
        }
        let file: File = json(text)?;
        if !file.mode.ends_with("heap") {
            return Err(BadDhat::Mode(file.mode));
        }
        let names: Vec<String> = file.frames.iter().map(|frame| function(frame).to_owned()).collect();
        if let Some(frame) = file.points.iter().flat_map(|point| &point.fs).find(|frame| **frame >= names.len()) {
            return Err(BadDhat::Frame(*frame));
        }
        let points = file.points.into_iter().map(|point| Point {
            blocks: point.tbk,
            bytes: point.tb,
            peak_blocks: point.gbk,
            peak_bytes: point.gb,
            live_blocks: point.ebk,
            live_bytes: point.eb,
            temporary: point.temporary,
            stage: point.stage,
            frames: point.fs,
        });
        Ok(Dhat { points: points.collect(), names, stages_mislead: !file.stages_by_stack })
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, BadDhat> {
    serde_json::from_slice(text).map_err(|error| {
        if error.is_eof() { BadDhat::Truncated { line: error.line() } } else { BadDhat::NotDhat(error) }
    })
}

/// `0x55d0c0de: function (dir/file.rs:10:5)` without the address and the position.
fn function(frame: &str) -> &str {
    let name = match frame.split_once(": ") {
        Some((address, name)) if address.starts_with("0x") => name,
        _ => frame,
    };
    match name.rfind(" (") {
        Some(at) if name.ends_with(')') => &name[..at],
        _ => name,
    }
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "dhatFileVersion")]
    version: u64,
}

#[derive(Deserialize)]
struct File {
    mode: String,
    #[serde(rename = "pps")]
    points: Vec<FilePoint>,
    #[serde(rename = "ftbl")]
    frames: Vec<String>,
    #[serde(rename = "stagesByStack", default = "yes")]
    stages_by_stack: bool,
}

fn yes() -> bool {
    true
}

/// A program point under dhat's own field names.
#[derive(Deserialize)]
struct FilePoint {
    tb: u64,
    tbk: u64,
    #[serde(default)]
    gb: u64,
    #[serde(default)]
    gbk: u64,
    #[serde(default)]
    eb: u64,
    #[serde(default)]
    ebk: u64,
    #[serde(default)]
    temporary: u64,
    #[serde(default)]
    stage: Option<Stage>,
    fs: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT_SERVER: &str = include_str!("../../tests-data/put-server.json");

    #[test]
    fn names_come_without_addresses_and_positions() {
        let dhat = Dhat::parse(PUT_SERVER.as_bytes()).expect("a dhat file");
        assert_eq!(dhat.points.len(), PUT_SERVER.matches("\"tbk\"").count());
        assert!(dhat.names.iter().any(|name| name == "prost::encoding::bytes::merge"));
        assert!(dhat.names.iter().all(|name| !name.contains("0x") && !name.contains(".rs:")));
        assert_eq!(function("0x1: f::<fn(u8) (odd)> (a/b c.rs:1:2)"), "f::<fn(u8) (odd)>");
        assert_eq!(function("[root]"), "[root]");
        assert_eq!(function("0x1: malloc (in /usr/lib/libc.so)"), "malloc");
    }

    #[test]
    fn a_file_cut_anywhere_is_truncated() {
        for cut in [0, 1, 20, PUT_SERVER.len() / 2, PUT_SERVER.trim_end().len() - 1] {
            let error = Dhat::parse(&PUT_SERVER.as_bytes()[..cut]).expect_err("cut");
            assert!(matches!(error, BadDhat::Truncated { .. }), "{cut}: {error}");
        }
    }

    #[test]
    fn what_is_no_dhat_heap_file_says_which_way_it_is_none() {
        let error = |text: &str| Dhat::parse(text.as_bytes()).expect_err("no dhat file");
        assert!(matches!(error("hello"), BadDhat::NotDhat(_)));
        assert!(matches!(error("{}"), BadDhat::NotDhat(_)));
        assert!(matches!(error(r#"{"dhatFileVersion":2,"mode":"rust-heap","pps":[]}"#), BadDhat::NotDhat(_)));
        assert!(matches!(error(r#"{"dhatFileVersion":3,"points":"elsewhere"}"#), BadDhat::Version { found: 3 }));
        assert!(matches!(error(r#"{"dhatFileVersion":1}"#), BadDhat::Version { found: 1 }));
        let ad_hoc = r#"{"dhatFileVersion":2,"mode":"rust-ad-hoc","pps":[],"ftbl":[]}"#;
        assert!(matches!(error(ad_hoc), BadDhat::Mode(mode) if mode == "rust-ad-hoc"));
        let beyond = r#"{"dhatFileVersion":2,"mode":"heap","pps":[{"tb":1,"tbk":1,"fs":[7]}],"ftbl":["[root]"]}"#;
        assert!(matches!(error(beyond), BadDhat::Frame(7)));
    }

    #[test]
    fn a_failure_names_the_path_and_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.dhat.json");
        let missing = Dhat::read(&path).expect_err("no file yet");
        std::fs::write(&path, &PUT_SERVER[..1000]).expect("writable");
        let truncated = Dhat::read(&path).expect_err("cut");
        std::fs::write(&path, r#"{"dhatFileVersion":99}"#).expect("writable");
        let newer = Dhat::read(&path).expect_err("newer");
        for failure in [&missing, &truncated, &newer] {
            assert!(failure.message.contains("server.dhat.json"), "{failure}");
            assert!(failure.help.is_some());
        }
        assert!(truncated.message.contains("ends in the middle"), "{truncated}");
        assert!(newer.message.contains("version 99"), "{newer}");
    }
}
