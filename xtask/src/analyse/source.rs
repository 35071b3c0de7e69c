//! Where a call site stands in the source: file and line, for what points a reader at a line of code.
//!
//! Profiles drop positions while they are read, so that they are alike on every machine. Here the file is read again for
//! the few sites that are shown.

use serde::Deserialize;

use crate::analyse::dhat;
use crate::analyse::frame::name::Name;
use crate::analyse::sites::{Site, Source};

/// The stacks of a dhat file with the positions of their frames.
pub(crate) struct Sources {
    points: Vec<Point>,
    frames: Vec<Frame>,
}

struct Frame {
    /// As tables name it.
    short: String,
    source: Option<Source>,
}

#[derive(Deserialize)]
struct File {
    pps: Vec<Point>,
    ftbl: Vec<String>,
}

#[derive(Deserialize)]
struct Point {
    #[serde(rename = "tb")]
    bytes: u64,
    /// Places in the table, leaf first.
    fs: Vec<usize>,
}

impl Sources {
    /// Reads a dhat file's text; `None` of one that is not a dhat file.
    pub(crate) fn parse(text: &[u8]) -> Option<Sources> {
        let File { pps, ftbl } = serde_json::from_slice(text).ok()?;
        let frame = |text: &String| {
            let (name, position) = dhat::placed(text);
            let source = position.map(|(file, line)| Source { file: file.to_owned(), line });
            Frame { short: Name::parse(name).short, source }
        };
        Some(Sources { points: pps, frames: ftbl.iter().map(frame).collect() })
    }

    /// The innermost line of a site that is in a file that `is_ours`. Where several stacks read as the site does, that of
    /// the largest.
    pub(crate) fn of(&self, site: &Site, is_ours: impl Fn(&str) -> bool) -> Option<Source> {
        let same = self.points.iter().filter(|point| self.reads_as(point, site));
        let largest = same.max_by_key(|point| point.bytes)?;
        let sources = largest.fs.iter().filter_map(|place| self.frames.get(*place)?.source.as_ref());
        sources.into_iter().find(|source| is_ours(&source.file)).cloned()
    }

    /// Whether a stack shows as a site: the site has its frames in order, without the runtime's.
    fn reads_as(&self, point: &Point, site: &Site) -> bool {
        let mut frames = point.fs.iter().filter_map(|place| self.frames.get(*place));
        // `any` goes on where it stopped, so that the order is kept.
        site.frames.iter().rev().all(|wanted| frames.any(|frame| frame.short == *wanted))
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Stage;

    use crate::analyse::sites::Amount;

    use super::*;

    fn site(frames: &[&str]) -> Site {
        let frames = frames.iter().map(|frame| (*frame).to_owned()).collect();
        Site { stage: Stage::Handler, frames, before: Amount::default(), after: Amount::default(), source: None }
    }

    #[test]
    fn a_site_is_the_innermost_line_of_one_s_own() {
        let frames = [
            "[root]",
            "0x1: alloc::alloc::alloc (alloc/src/alloc.rs:95:9)",
            "0x2: srv::store::copy (src/store.rs:12:5)",
            "0x2: srv::store::copy (src/store.rs:40:5)",
            "0x3: srv::main (src/main.rs:3:1)",
            "0x4: prost::encode (prost-0.14.1/src/lib.rs:3:1)",
        ];
        let json = serde_json::json!({"ftbl": frames, "pps": [
            {"tb": 10, "fs": [1, 2, 4]}, {"tb": 90, "fs": [1, 3, 4]}, {"tb": 500, "fs": [1, 5, 4]},
        ]});
        let sources = Sources::parse(json.to_string().as_bytes()).expect("a file");
        let of = |frames: &[&str]| sources.of(&site(frames), |file| file.starts_with("src/")).map(|at| at.to_string());
        assert_eq!(of(&["srv::main", "store::copy"]), None, "no such frame");
        assert_eq!(of(&["srv::main", "srv::store::copy"]).as_deref(), Some("src/store.rs:40"), "the larger of two");
        assert_eq!(of(&["srv::main", "prost::encode"]).as_deref(), Some("src/main.rs:3"), "not another's line");
        assert_eq!(of(&["srv::store::copy", "srv::main"]), None, "in this order");
        assert!(Sources::parse(b"{}").is_none());
    }
}
