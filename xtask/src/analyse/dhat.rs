//! Reads what dhat wrote: `dhat-heap.json`, version 2.
//!
//! Only what the other formats are made of is kept: every program point's counts, and of its frames the names and the
//! source lines. Addresses and the folders of cargo and the compiler are dropped while reading.

use std::fmt;

use alloc_ladder::{Side, Stage};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::analyse::frame::file::shown;

/// The largest total a file may have, in blocks or bytes: two exbibytes. pprof and the page count in signed words, and
/// a difference of two files is as wide as both together; both fit with room to spare.
pub(crate) const LARGEST_TOTAL: u64 = 1 << 61;

/// The format version this build reads: the one dhat 0.3 and Valgrind 3.17 and later write.
const VERSION: u64 = 2;

/// One dhat file.
///
/// PERF: the frames of all points lie in one vector, so that a hundred thousand stacks take what their numbers take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dhat {
    pub(crate) points: Vec<Point>,
    /// Places in `names`: those of one point after those of another.
    frames: Vec<u32>,
    /// Function names, shared by the points.
    pub(crate) names: Vec<String>,
    /// Where each name's frame is, as `src/main.rs:40`; empty where the file does not say.
    pub(crate) positions: Vec<String>,
    pub(crate) measured: Measured,
    /// The names are too poor to read stages from: a recording's file says so, and any other whose frames mostly have none.
    pub(crate) stages_mislead: bool,
}

/// What valgrind and heapscope call a function that they have no name of.
const UNNAMED: &str = "???";

/// Which figures a file has beside what was allocated. dhat itself counts the peak and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) live: bool,
    pub(crate) peak: bool,
    pub(crate) temporary: bool,
}

impl Default for Measured {
    fn default() -> Measured {
        Measured { live: true, peak: true, temporary: false }
    }
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
    /// The call that it was part of. Only a recording's file says so.
    pub(crate) method: Option<(Side, String)>,
    /// Where its frames lie among those of all points.
    frames: Span,
}

/// A part of a long vector: half of what a range takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

impl Span {
    /// What was appended to a vector that was `from` long.
    pub(crate) fn since<T>(from: usize, all: &[T]) -> Span {
        let place = |place: usize| u32::try_from(place).expect("a file has fewer than four billion frames");
        Span { from: place(from), to: place(all.len()) }
    }

    pub(crate) fn of<T>(self, all: &[T]) -> &[T] {
        &all[self.from as usize..self.to as usize]
    }
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
    Frame(u32),
    #[error("counts that do not fit: the {what} of all call sites are {total}, more than {LARGEST_TOTAL}")]
    TooLarge { what: &'static str, total: u128 },
}

impl BadDhat {
    /// The way out.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            BadDhat::Truncated { .. } => "profile again, and let the process exit by itself: dhat writes at the end",
            BadDhat::NotDhat(_) | BadDhat::Frame(_) | BadDhat::TooLarge { .. } => {
                "pass the dhat-heap.json of a `stacks` build, or profile again"
            }
            BadDhat::Version { .. } => "profile again with the dhat version in Cargo.lock, or update this checkout",
            BadDhat::Mode(_) => "profile the heap: `dhat::Profiler::new_heap()` or `valgrind --tool=dhat --mode=heap`",
        }
    }
}

impl Dhat {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// See [`BadDhat`].
    pub(crate) fn parse(text: &[u8]) -> Result<Dhat, BadDhat> {
        // The whole is read once; a newer file may be of any other shape, and says so in its version alone.
        let file: File = json(text).map_err(|error| match json::<Version>(text) {
            Ok(Version { version }) if version != VERSION => BadDhat::Version { found: version },
            _ => error,
        })?;
        if file.version != VERSION {
            return Err(BadDhat::Version { found: file.version });
        }
        if !file.mode.ends_with("heap") {
            return Err(BadDhat::Mode(file.mode));
        }
        let parts = || file.frames.iter().map(|frame| parts(frame));
        let unnamed = parts().filter(|(name, _)| name.starts_with(UNNAMED)).count();
        let dhat = Dhat {
            names: parts().map(|(name, _)| name.to_owned()).collect(),
            positions: parts().map(|(_, position)| position.map_or_else(String::new, line)).collect(),
            measured: file.measured,
            stages_mislead: file.stages_by_stack == Some(false) || unnamed * 2 > file.frames.len(),
            points: file.stacks.points,
            frames: file.stacks.frames,
        };
        if let Some(frame) = dhat.frames.iter().max().filter(|frame| **frame as usize >= dhat.names.len()) {
            return Err(BadDhat::Frame(*frame));
        }
        dhat.fits("blocks", |point| point.blocks)?;
        dhat.fits("bytes", |point| point.bytes)?;
        dhat.fits("blocks at the peak", |point| point.peak_blocks)?;
        dhat.fits("bytes at the peak", |point| point.peak_bytes)?;
        dhat.fits("blocks at the end", |point| point.live_blocks)?;
        dhat.fits("bytes at the end", |point| point.live_bytes)?;
        dhat.fits("temporary blocks", |point| point.temporary)?;
        Ok(dhat)
    }

    /// The frames of a point, leaf first: places in [`Dhat::names`].
    pub(crate) fn frames(&self, point: &Point) -> &[u32] {
        point.frames.of(&self.frames)
    }

    fn fits(&self, what: &'static str, count: fn(&Point) -> u64) -> Result<(), BadDhat> {
        let total: u128 = self.points.iter().map(|point| u128::from(count(point))).sum();
        if total > u128::from(LARGEST_TOTAL) { Err(BadDhat::TooLarge { what, total }) } else { Ok(()) }
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, BadDhat> {
    serde_json::from_slice(text).map_err(|error| {
        if error.is_eof() { BadDhat::Truncated { line: error.line() } } else { BadDhat::NotDhat(error) }
    })
}

/// `dir/file.rs:10:5`, without the column and the folders that only this machine has.
fn line(position: &str) -> String {
    let mut numbers = position.rsplitn(3, ':');
    let (last, before) = (numbers.next(), numbers.next());
    let has_column = [last, before].into_iter().all(|number| number.is_some_and(is_number));
    let line = if has_column { &position[..position.len() - last.map_or(0, str::len) - 1] } else { position };
    shown(line, "").to_owned()
}

/// The function's name, and its position with the blank before it, ` (dir/file.rs:10:5)`, or nothing. An address before
/// the name is left out.
///
/// Folders may hold any parenthesis, names hold them within brackets: the position begins at the first parenthesis
/// after a blank that stands in no bracket of the name and holds what a position holds. A name whose own brackets do
/// not balance (`operator<<`) leaves the last pair of parentheses that balances to the end.
fn split(frame: &str) -> (&str, &str) {
    let name = match frame.split_once(": ") {
        Some((address, name)) if address.starts_with("0x") => name,
        _ => frame,
    };
    let begin = Position::of(name).and_then(|position| first_outside(&position).or_else(|| last_balanced(&position)));
    name.split_at(begin.unwrap_or(name.len()))
}

/// The function's name, and the file and line of its position, where it has both.
pub(crate) fn placed(frame: &str) -> (&str, Option<(&str, u32)>) {
    let (name, position) = split(frame);
    let inner = position.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    let read = |inner: &'_ str| -> Option<(usize, u32)> {
        // `file:line:column` or `file:line`.
        let (head, last) = inner.rsplit_once(':')?;
        let last = last.parse().ok()?;
        match head.rsplit_once(':').and_then(|(file, line)| Some((file.len(), line.parse().ok()?))) {
            Some((file, line)) => Some((file, line)),
            None => Some((head.len(), last)),
        }
    };
    (name, inner.and_then(|inner| read(inner).map(|(end, line)| (&inner[..end], line))))
}

/// The function's name, and its position without its parentheses, where that says more than which file is mapped.
fn parts(frame: &str) -> (&str, Option<&str>) {
    let (name, position) = split(frame);
    let inner = position.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    (name, inner.filter(|inner| !inner.starts_with("in ") && offset(inner).is_none()))
}

/// Where the offset of `file+0x1f`, which heapscope writes for a position, begins.
fn offset(inner: &str) -> Option<usize> {
    let at = inner.rfind("+0x")?;
    let digits = &inner[at + 3..];
    (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(at)
}

/// What a name's last parenthesis closes can be, without reading the name again for each that opens.
struct Position<'a> {
    name: &'a str,
    /// Where the colon before a last line or column number stands, or the plus before an offset.
    mark: Option<usize>,
}

impl<'a> Position<'a> {
    fn of(name: &'a str) -> Option<Position<'a>> {
        let inner = name.strip_suffix(')')?;
        let colon = inner.rfind(':').filter(|colon| is_number(&inner[colon + 1..]));
        Some(Position { name, mark: colon.or_else(|| offset(inner)) })
    }

    /// Whether ` (` stands here and what follows is one to the end: `(file:line)`, `(file:line:column)`, `(in file)`,
    /// `(file+0x1f)`.
    fn begins(&self, at: usize) -> bool {
        let rest = &self.name.as_bytes()[at..];
        rest.starts_with(b" (") && (rest[2..].starts_with(b"in ") || self.mark.is_some_and(|mark| mark > at + 1))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where the first position outside the name's brackets begins.
fn first_outside(position: &Position<'_>) -> Option<usize> {
    let bytes = position.name.as_bytes();
    let mut depth = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        // `decltype (…)` is how C++ writes a type.
        if depth == 0 && position.begins(at) && !bytes[..at].ends_with(b"decltype") {
            return Some(at);
        }
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // The arrow of `fn() -> T` closes nothing.
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            // What closes nothing (`operator>>`) leaves nothing open.
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Where the parenthesis that the last one closes begins, if a position begins there.
fn last_balanced(position: &Position<'_>) -> Option<usize> {
    let mut depth = 0_u64;
    let opening = position.name.bytes().enumerate().rev().find(|(_, byte)| {
        match byte {
            b')' => depth += 1,
            b'(' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    let blank = opening?.0.checked_sub(1)?;
    position.begins(blank).then_some(blank)
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "dhatFileVersion")]
    version: u64,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "dhatFileVersion")]
    version: u64,
    mode: String,
    #[serde(rename = "pps")]
    stacks: Stacks,
    #[serde(rename = "ftbl")]
    frames: Vec<String>,
    #[serde(rename = "stagesByStack", default)]
    stages_by_stack: Option<bool>,
    #[serde(default)]
    measured: Measured,
}

/// A point under dhat's own field names.
#[derive(Deserialize)]
struct Listed {
    tbk: u64,
    tb: u64,
    #[serde(default)]
    gbk: u64,
    #[serde(default)]
    gb: u64,
    #[serde(default)]
    ebk: u64,
    #[serde(default)]
    eb: u64,
    #[serde(default)]
    temporary: u64,
    #[serde(default)]
    stage: Option<Stage>,
    #[serde(default)]
    method: Option<(Side, String)>,
    fs: Vec<u32>,
}

/// All points. A point's own vector of frames lives until the next point is read.
struct Stacks {
    points: Vec<Point>,
    frames: Vec<u32>,
}

impl<'de> Deserialize<'de> for Stacks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stacks, D::Error> {
        deserializer.deserialize_seq(Stacks { points: Vec::new(), frames: Vec::new() })
    }
}

impl<'de> Visitor<'de> for Stacks {
    type Value = Stacks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("program points")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut all: A) -> Result<Stacks, A::Error> {
        while let Some(Listed { tbk, tb, gbk, gb, ebk, eb, temporary, stage, method, fs }) = all.next_element()? {
            let from = self.frames.len();
            self.frames.extend_from_slice(&fs);
            self.points.push(Point {
                blocks: tbk,
                bytes: tb,
                peak_blocks: gbk,
                peak_bytes: gb,
                live_blocks: ebk,
                live_bytes: eb,
                temporary,
                stage,
                method,
                frames: Span::since(from, &self.frames),
            });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT_SERVER: &str = include_str!("../../tests-data/put-server.json");

    fn named(frame: &str) -> &str {
        parts(frame).0
    }

    #[test]
    fn a_frame_has_its_line_without_this_machine_s_folders() {
        let at = |frame: &str| parts(frame).1.map(line);
        for (frame, position) in [
            ("0x1: f (src/main.rs:40:9)", Some("src/main.rs:40")),
            ("0x1: f (main.c:12)", Some("main.c:12")),
            ("0x1: f (/home/me/.cargo/registry/src/x-1/h2-0.4.1/src/a.rs:7:1)", Some("h2-0.4.1/src/a.rs:7")),
            ("0x1: f (/rustc/abc/library/alloc/src/vec.rs:7:1)", Some("library/alloc/src/vec.rs:7")),
            ("0x1: f (in /usr/lib/libc.so.6)", None),
            ("0x1: f (/srv/service+0x70fa5a)", None),
            ("f", None),
        ] {
            assert_eq!(at(frame).as_deref(), position, "{frame}");
        }
    }

    #[test]
    fn a_file_whose_frames_have_no_names_tells_no_stages() {
        let of = |frames: &[&str]| {
            let frames = serde_json::to_string(frames).expect("JSON");
            let point = r#"{"tb":8,"tbk":1,"gb":0,"gbk":0,"eb":0,"ebk":0,"fs":[1,2]}"#;
            let text = format!(r#"{{"dhatFileVersion":2,"mode":"heap","pps":[{point}],"ftbl":{frames}}}"#);
            Dhat::parse(text.as_bytes()).expect("a dhat file")
        };
        let heapscope = of(&["[root]", "0x1: ??? (/srv/service+0x70fa5a)", "0x2: ??? (/srv/service+0x3178da)"]);
        assert!(heapscope.stages_mislead);
        assert_eq!(heapscope.names[1..], ["???", "???"], "no folder and no address of this machine");
        assert!(of(&["[root]", "0x1: ??? (in /usr/bin/sort)", "0x2: ??? (in /usr/bin/sort)"]).stages_mislead);
        assert!(!of(&["[root]", "0x1: ??? (in /lib/libc.so.6)", "0x2: prost::encode (encode.rs:1)"]).stages_mislead);
    }

    #[test]
    fn names_come_without_addresses_and_positions() {
        let dhat = Dhat::parse(PUT_SERVER.as_bytes()).expect("a dhat file");
        assert_eq!(dhat.points.len(), PUT_SERVER.matches("\"tbk\"").count());
        assert!(dhat.names.iter().any(|name| name == "prost::encoding::bytes::merge"));
        assert!(dhat.names.iter().all(|name| !name.contains("0x") && !name.contains(".rs:")));
    }

    #[test]
    fn a_position_is_dropped_whole_whatever_the_folder_is_called() {
        let names = [
            "f",
            "app::Server::put",
            "f::<fn(u8) (odd)>",
            "<(A, B) as fn() -> C>::g",
            "(below main)",
            "???",
            "operator>>",
            "a]::b",
        ];
        let positions = [
            "(svc/src/main.rs:40:9)",
            "(svc (copy)/src/main.rs:40:9)",
            "(svc ((a) b)) (c/src/main.rs:40:9)",
            "(:( /src/main.rs:1:1)",
            "(in /opt/my app (1)/bin)",
            "(in /opt/) (in x/bin)",
            r"(C:\Program Files (x86)\app\main.rs:1:2)",
            "(libc-start.c:308)",
            "(/home/j\u{f6}rg (\u{1f980})/m.rs:1:1)",
        ];
        for name in names {
            assert_eq!(named(name), name, "without a position");
            assert_eq!(named(&format!("0xAB: {name}")), name, "with an address");
            for position in positions {
                assert_eq!(named(&format!("0x1: {name} {position}")), name, "{position}");
            }
        }
        assert_eq!(named("[root]"), "[root]");
        let cpp = "std::function<void ()>::operator()() const";
        assert_eq!(named(&format!("0x1: {cpp} (in /usr/lib (64)/x.so)")), cpp);
        assert_eq!(named("0x1: operator<<(A, B) (a (b)/c.cpp:3)"), "operator<<(A, B)");
        assert_eq!(named("0x1: decltype (a()) f<X>(X) (c.cpp:3)"), "decltype (a()) f<X>(X)");
        assert_eq!(named("0x1: call (a, b)"), "call (a, b)", "arguments are not a position");
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let file = |counts: &str| {
            let point = |counts: &str| format!(r#"{{{counts},"fs":[0]}}"#);
            let text =
                format!(r#"{{"dhatFileVersion":2,"mode":"heap","pps":[{0},{0}],"ftbl":["[root]"]}}"#, point(counts));
            Dhat::parse(text.as_bytes())
        };
        let half = LARGEST_TOTAL / 2;
        assert!(file(&format!(r#""tb":{half},"tbk":{half},"gb":{half},"gbk":{half}"#)).is_ok());
        for (count, others) in
            [("tb", r#""tbk":1"#), ("tbk", r#""tb":1"#), ("gb", r#""tb":1,"tbk":1"#), ("gbk", r#""tb":1,"tbk":1"#)]
        {
            for value in [half + 1, u64::MAX] {
                let error = file(&format!(r#""{count}":{value},{others}"#)).expect_err("too large");
                assert!(error.to_string().starts_with("counts that do not fit"), "{count} {value}: {error}");
            }
            for value in ["-1", "1.5", "18446744073709551616", "1e300", "\"1\"", "null"] {
                let error = file(&format!(r#""{count}":{value},{others}"#)).expect_err("not a count");
                assert!(matches!(error, BadDhat::NotDhat(_)), "{count} {value}: {error}");
            }
        }
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
}
