//! From a recording's addresses to the names that a dhat file has.
//!
//! What a binary says of an address depends on how it was built: with debug information every function that was inlined
//! there has its whole name; with line tables alone it has its last part and a file; with symbols alone only the function
//! that was not inlined is known; a stripped binary says nothing. Names are put together from what there is, and how
//! good they are is told: stages are read from names, and names that mislead must not be read.

use std::collections::HashMap;

use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::dhat::Measured;
use crate::analyse::foreign;
use crate::analyse::frame::file::shown;
use crate::analyse::recording::{Module, Recording, Stack};

/// What a binary says of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The functions that were inlined there and the one they are in, innermost first.
    pub(crate) functions: Vec<Function>,
    /// The symbol of the one they are in.
    pub(crate) symbol: Option<String>,
}

/// A function, as debug information has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Function {
    /// Mangled or not.
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// How much a program's names say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    /// No names.
    Stripped,
    /// Names of functions that were not inlined.
    Symbols,
    /// Whole names of those, and of the inlined ones names put together from files.
    Mixed,
    /// Whole names of all.
    Full,
}

impl Quality {
    /// Whether stages can be read from such names. Without the inlined functions a codec that was inlined into a handler
    /// reads as the handler: a share of 38 % was seen to read as 2.4 %.
    pub(crate) fn tells_stages(self) -> bool {
        self >= Quality::Mixed
    }

    /// What is said of it; nothing where nothing is missing.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Quality::Full => None,
            Quality::Mixed => Some("the program has line tables alone: inlined functions are named after their files"),
            Quality::Symbols => Some(
                "the program has symbols and no debug information: inlined functions are missing, and stages are not \
                 shown because they would mislead",
            ),
            Quality::Stripped => Some("the program is stripped: its functions have no names, and stages are not shown"),
        }
    }

    /// The one line that gives a program whole names.
    pub(crate) const HELP: &str = "build it with debug information (cargo: `CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release`; \
        C: `-g`) and record again";

    /// As [`Quality::HELP`]; a stripped program's profile says `strip`, which has to be undone too.
    pub(crate) fn help(self) -> &'static str {
        match self {
            Quality::Stripped => {
                "build it with names (cargo: `CARGO_PROFILE_RELEASE_DEBUG=1 CARGO_PROFILE_RELEASE_STRIP=false cargo build \
                 --release`; C: `-g`, without `strip`) and record again"
            }
            _ => Quality::HELP,
        }
    }
}

/// How one address was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Whole,
    FromFile,
    Symbol,
    Nothing,
}

/// A recording with names: dhat's own format, version 2, and what it has no field for under names that no reader of
/// dhat's knows.
#[derive(Debug, Serialize)]
pub(crate) struct Named {
    #[serde(rename = "dhatFileVersion")]
    version: u32,
    mode: &'static str,
    verb: &'static str,
    bklt: bool,
    bkacc: bool,
    tu: &'static str,
    #[serde(rename = "Mtu")]
    mtu: &'static str,
    tuth: u32,
    cmd: String,
    pid: u32,
    te: u64,
    /// Whether stages can be read from the names.
    #[serde(rename = "stagesByStack")]
    pub(crate) stages_by_stack: bool,
    measured: Measured,
    #[serde(rename = "pps")]
    points: Vec<Point>,
    #[serde(rename = "ftbl")]
    names: Vec<String>,
    #[serde(skip)]
    pub(crate) quality: Quality,
}

#[derive(Debug, Serialize)]
struct Point {
    tb: u64,
    tbk: u64,
    gb: u64,
    gbk: u64,
    eb: u64,
    ebk: u64,
    /// Blocks freed before their thread allocated again.
    temporary: u64,
    /// The stage of the seam it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<Stage>,
    /// The call that it was part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<(Side, String)>,
    fs: Vec<u32>,
}

/// Names a recording. `look_up` says what a module's binary has to say of an address as the file numbers it, and `root` is
/// the folder that paths are shown from.
pub(crate) fn name(
    recording: &Recording,
    command: &str,
    root: &str,
    mut look_up: impl FnMut(&Module, u64) -> Found,
) -> Named {
    let mut names = Names { texts: vec!["[root]".to_owned()], places: HashMap::new() };
    let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut how = HashMap::from([(How::Whole as u8, 0u64)]);
    let executable = recording.executable().map_or(0, |module| module.code.start);
    let mut points = Vec::with_capacity(recording.stacks.len());
    for stack in &recording.stacks {
        let mut frames = Vec::new();
        for address in recording.frames(stack).iter().filter(|address| !recording.own.contains(address)) {
            let found = known.entry(*address).or_insert_with(|| {
                let module = recording.module(*address);
                let found = module.map(|module| look_up(module, address.saturating_sub(1).wrapping_sub(module.base)));
                let (texts, as_what) = texts(*address, &found.unwrap_or_default(), module, root);
                if module.is_some_and(|module| module.code.start == executable)
                    && !texts.iter().all(|text| is_std(text))
                {
                    *how.entry(as_what as u8).or_default() += 1;
                }
                texts.into_iter().map(|text| names.place(text)).collect()
            });
            frames.extend_from_slice(found);
        }
        let own = frames.iter().take_while(|frame| is_recorder(&names.texts[**frame as usize])).count();
        frames.drain(..own);
        let method = recording.methods.get(stack.method).cloned().flatten();
        points.push(Point { method, ..point(stack, frames) });
    }
    let count = |what: How| how.get(&(what as u8)).copied().unwrap_or(0);
    let quality = quality(count(How::Whole), count(How::FromFile), count(How::Symbol), count(How::Nothing));
    let measured = Measured { temporary: true, ..Measured::default() };
    Named { measured, ..Named::new(command.to_owned(), recording.process, quality, points, names.texts) }
}

fn point(stack: &Stack, frames: Vec<u32>) -> Point {
    Point {
        tb: stack.bytes,
        tbk: stack.blocks,
        gb: stack.peak_bytes,
        gbk: stack.peak_blocks,
        eb: stack.bytes.saturating_sub(stack.freed_bytes),
        ebk: stack.blocks.saturating_sub(stack.freed_blocks),
        temporary: stack.temporary,
        // A seam that says "other" is no seam.
        stage: stack.stage.filter(|stage| *stage != Stage::Other),
        method: None,
        fs: frames,
    }
}

impl Named {
    /// What another tool wrote, as a dhat file.
    pub(crate) fn from_stacks(stacks: &foreign::Stacks, command: &str) -> Named {
        let mut names = Names { texts: vec!["[root]".to_owned()], places: HashMap::new() };
        let points = stacks.stacks.iter().map(|stack| Point {
            tb: stack.bytes,
            tbk: stack.blocks,
            gb: 0,
            gbk: 0,
            eb: stack.live_bytes,
            ebk: stack.live_blocks,
            temporary: 0,
            stage: None,
            method: None,
            fs: stack.frames.iter().map(|frame| names.place(frame.clone())).collect(),
        });
        let points = points.collect();
        let measured = Measured { live: stacks.has_live, peak: false, temporary: false };
        Named { measured, ..Named::new(command.to_owned(), 0, Quality::Full, points, names.texts) }
    }

    fn new(cmd: String, pid: u32, quality: Quality, points: Vec<Point>, names: Vec<String>) -> Named {
        Named {
            version: 2,
            mode: "heap",
            verb: "Allocated",
            bklt: false,
            bkacc: false,
            tu: "us",
            mtu: "s",
            tuth: 10,
            cmd,
            pid,
            te: 0,
            stages_by_stack: quality.tells_stages(),
            measured: Measured::default(),
            points,
            names,
            quality,
        }
    }
}

/// Texts of frames, each once.
struct Names {
    texts: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    fn place(&mut self, text: String) -> u32 {
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let place = u32::try_from(self.texts.len()).expect("a file has fewer than four billion frames");
        self.places.insert(text.clone(), place);
        self.texts.push(text);
        place
    }
}

/// What most of the program's own addresses are named by.
fn quality(whole: u64, from_file: u64, symbol: u64, nothing: u64) -> Quality {
    let all = whole + from_file + symbol + nothing;
    if all == 0 || 2 * nothing > all {
        Quality::Stripped
    } else if 2 * (symbol + nothing) > all {
        Quality::Symbols
    } else if from_file > whole {
        Quality::Mixed
    } else {
        Quality::Full
    }
}

/// The frames of one address, innermost first, as a dhat file has them.
fn texts(address: u64, found: &Found, module: Option<&Module>, root: &str) -> (Vec<String>, How) {
    let mut how = How::Nothing;
    let mut texts = Vec::with_capacity(found.functions.len().max(1));
    for (index, function) in found.functions.iter().enumerate() {
        let outermost = index + 1 == found.functions.len();
        let (name, as_what) = function_name(function, found.symbol.as_deref().filter(|_| outermost));
        // One name put together makes the address one of those.
        how = if how == How::FromFile { how } else { as_what };
        let place = function
            .file
            .as_deref()
            .map(|file| format!(" ({}:{}:{})", shown(file, root), function.line, function.column));
        texts.push(format!("{address:#x}: {name}{}", place.unwrap_or_default()));
    }
    if texts.is_empty() {
        let library = module.map_or("?", |module| module.path.rsplit('/').next().unwrap_or(&module.path));
        let name = found.symbol.as_deref().map(demangled);
        how = if name.is_some() { How::Symbol } else { How::Nothing };
        texts.push(format!("{address:#x}: {} (in {library})", name.as_deref().unwrap_or("???")));
    }
    (texts, how)
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The name of a function: its own if that is whole, else its symbol's, else one from its file.
fn function_name(function: &Function, symbol: Option<&str>) -> (String, How) {
    let name = demangled(&function.name);
    let is_whole = name != function.name || function.name.starts_with("_Z") || path_part(&name).contains("::");
    let rust_file = function.file.as_deref().filter(|file| file.ends_with(".rs"));
    let Some(file) = rust_file.filter(|_| !is_whole) else { return (name, How::Whole) };
    if let Some(symbol) = symbol.map(demangled).filter(|symbol| symbol.contains("::")) {
        return (symbol, How::FromFile);
    }
    match module_path(file) {
        Some(path) => (format!("{path}::{name}"), How::FromFile),
        None => (name, How::FromFile),
    }
}

/// A name up to its generics.
fn path_part(name: &str) -> &str {
    name.split(['<', '{', ' ']).next().unwrap_or(name)
}

/// `…/registry/src/x/tonic-0.14.2/src/codec/decode.rs` is `tonic::codec::decode`.
fn module_path(file: &str) -> Option<String> {
    let (package, rest) = match file.find("/library/") {
        Some(at) => file[at + "/library/".len()..].split_once("/src/")?,
        None => {
            let (folder, rest) = file.rsplit_once("/src/")?;
            (folder.rsplit('/').next()?, rest)
        }
    };
    let package = match package.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => name,
        _ => package,
    };
    let mut path = package.replace('-', "_");
    for part in rest.trim_end_matches(".rs").split('/') {
        if !matches!(part, "lib" | "mod" | "main") {
            path.push_str("::");
            path.push_str(part);
        }
    }
    Some(path)
}

/// A frame of the standard library, which comes with debug information of its own.
fn is_std(frame: &str) -> bool {
    let name = frame.split_once(": ").map_or(frame, |(_, name)| name).trim_start_matches(['<', '&']);
    ["std::", "core::", "alloc::", "__rustc::", "__rust_", "_start", "main (in"].iter().any(|std| name.starts_with(std))
}

/// The recorder's own frames, which are innermost in a program that records itself.
fn is_recorder(frame: &str) -> bool {
    let name = frame.split_once(": ").map_or(frame, |(_, name)| name);
    let name = name.trim_start_matches('<');
    name.starts_with("alloc_ladder::recorder::") || name.starts_with("alloc_ladder::alloc::switch::")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::dhat::Dhat;
    use crate::analyse::recording::tests::sample;

    fn function(name: &str, file: &str) -> Function {
        Function { name: name.to_owned(), file: Some(file.to_owned()), line: 7, column: 3 }
    }

    const REGISTRY: &str = "/home/me/.cargo/registry/src/index-1/prost-0.14.1/src/encoding.rs";

    #[test]
    fn a_named_recording_is_a_dhat_file() {
        let recording = Recording::read(&sample()).expect("whole");
        let named = name(&recording, "srv --port 1", "/home/me/srv", |_, address| Found {
            // Return addresses are looked up by the byte before.
            functions: match address {
                0xf => vec![function("alloc_ladder::recorder::linux::hooks::record", "/a.rs")],
                0x1f => vec![
                    function("_ZN5prost8encoding6encode17h0123456789abcdefE", REGISTRY),
                    function("srv::main", "/home/me/srv/src/main.rs"),
                ],
                _ => vec![function("srv::Keep::all", "/home/me/srv/src/keep.rs")],
            },
            symbol: None,
        });
        assert_eq!(named.quality, Quality::Full);
        let text = serde_json::to_vec(&named).expect("serialises");
        let dhat = Dhat::parse(&text).expect("a dhat file");
        let frames = |point: usize| {
            dhat.frames(&dhat.points[point]).iter().map(|at| dhat.names[*at as usize].as_str()).collect::<Vec<_>>()
        };
        assert_eq!(frames(0), ["prost::encoding::encode", "srv::main"], "the recorder's own frames are gone");
        assert_eq!(frames(1), ["srv::Keep::all"]);
        let first = &dhat.points[0];
        assert_eq!((first.blocks, first.bytes, first.peak_bytes, first.stage), (7, 700, 600, Some(Stage::Marshal)));
        assert_eq!((first.live_blocks, first.live_bytes, first.temporary), (3, 300, 1));
        assert_eq!(dhat.points[1].stage, None);
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("prost-0.14.1/src/encoding.rs:7:3") && text.contains("(src/main.rs:7:3)"), "{text}");
        assert!(!text.contains("/home/me"), "{text}");
    }

    #[test]
    fn bare_names_are_completed_from_symbols_and_files() {
        let bare = Found {
            functions: vec![
                function("encode", REGISTRY),
                function("to_vec", "/rustc/abc/library/alloc/src/slice.rs"),
                function("poll", "/home/me/srv/src/serve/mod.rs"),
            ],
            symbol: Some("_ZN43_$LT$srv..Serve$u20$as$u20$core..Future$GT$4poll17h0123456789abcdefE".to_owned()),
        };
        let (texts, how) = texts(16, &bare, None, "");
        assert_eq!(how, How::FromFile);
        assert_eq!(texts[0], "0x10: prost::encoding::encode (prost-0.14.1/src/encoding.rs:7:3)");
        assert_eq!(texts[1], "0x10: alloc::slice::to_vec (library/alloc/src/slice.rs:7:3)");
        assert_eq!(texts[2], "0x10: <srv::Serve as core::Future>::poll (/home/me/srv/src/serve/mod.rs:7:3)");
        assert_eq!(module_path("/home/me/my-srv/src/serve/mod.rs").as_deref(), Some("my_srv::serve"));
        assert_eq!(module_path("main.rs"), None);
    }

    #[test]
    fn a_symbol_alone_and_nothing_are_told_apart() {
        let module = Module { path: "/usr/lib/libc.so.6".to_owned(), ..Module::default() };
        let symbol = Found { functions: Vec::new(), symbol: Some("malloc".to_owned()) };
        assert_eq!(texts(1, &symbol, Some(&module), ""), (vec!["0x1: malloc (in libc.so.6)".to_owned()], How::Symbol));
        assert_eq!(texts(1, &Found::default(), None, ""), (vec!["0x1: ??? (in ?)".to_owned()], How::Nothing));
    }

    #[test]
    fn the_quality_is_what_most_of_the_program_has() {
        assert_eq!(quality(90, 0, 10, 0), Quality::Full);
        assert_eq!(quality(30, 60, 10, 0), Quality::Mixed);
        assert_eq!(quality(30, 0, 70, 0), Quality::Symbols);
        assert_eq!(quality(10, 0, 0, 90), Quality::Stripped);
        assert_eq!(quality(0, 0, 0, 0), Quality::Stripped);
        assert!(Quality::Mixed.tells_stages() && !Quality::Symbols.tells_stages());
        for quality in [Quality::Mixed, Quality::Symbols, Quality::Stripped] {
            assert!(quality.note().is_some());
        }
    }
}
