//! Reads what other tools write: pprof's profiles of memory and folded stacks, as points of a dhat file.

use std::collections::HashMap;
use std::io::Read;

use alloc_ladder::wire::pprof::Profile;
use flate2::read::MultiGzDecoder;
use prost::Message;

use crate::analyse::recording::is_recording;

/// What kind of file it is, told from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Recording,
    Dhat,
    Pprof,
    Folded,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Leaf first, as a dhat file has them.
    pub(crate) frames: Vec<String>,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
}

/// A file's stacks, and what is to be said of its figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stacks {
    pub(crate) stacks: Vec<Stack>,
    /// Whether they say what was live when the profile was taken.
    pub(crate) has_live: bool,
    pub(crate) note: Option<&'static str>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFile {
    #[error("it is neither a recording, dhat's JSON, a pprof profile nor folded stacks")]
    Unknown,
    #[error("its gzip is cut short or damaged")]
    Gzip(#[source] std::io::Error),
    #[error("it is larger than {UNPACKED_MAX} bytes when unpacked")]
    TooLarge,
    #[error("it is not a valid pprof profile")]
    Pprof(#[source] prost::DecodeError),
    #[error("it is a pprof profile of `{0}`, which counts no allocations")]
    OtherValues(String),
    #[error("it is jemalloc's own heap profile, which has addresses and no names")]
    Jemalloc,
    #[error("line {0} is not a folded stack: `frame;frame;frame number`")]
    Folded(usize),
}

impl BadFile {
    /// The way out.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            BadFile::Jemalloc => {
                "open what `jeprof --collapsed PROGRAM FILE` prints, or write it as pprof with the crate jemalloc_pprof"
            }
            _ => "name a recording, dhat's JSON, a pprof profile of memory, or folded stacks",
        }
    }
}

/// A profile of a gigabyte is a mistake, or an attack.
const UNPACKED_MAX: u64 = 1 << 30;

/// The file's format, and its content without gzip.
///
/// # Errors
/// See [`BadFile`].
pub(crate) fn recognise(file: &[u8]) -> Result<(Format, Option<Vec<u8>>), BadFile> {
    if is_recording(file) {
        return Ok((Format::Recording, None));
    }
    if !file.starts_with(&[0x1f, 0x8b]) {
        return Ok((plain(file)?, None));
    }
    let mut content = Vec::new();
    let mut unpacked = MultiGzDecoder::new(file).take(UNPACKED_MAX + 1);
    unpacked.read_to_end(&mut content).map_err(BadFile::Gzip)?;
    if content.len() as u64 > UNPACKED_MAX {
        return Err(BadFile::TooLarge);
    }
    Ok((plain(&content)?, Some(content)))
}

fn plain(file: &[u8]) -> Result<Format, BadFile> {
    let first = file.iter().find(|byte| !byte.is_ascii_whitespace()).ok_or(BadFile::Unknown)?;
    if *first == b'{' {
        return Ok(Format::Dhat);
    }
    if file.starts_with(b"heap_v2/") {
        return Err(BadFile::Jemalloc);
    }
    // A line of folded stacks ends with a number; a pprof profile is no text.
    let line = file.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let is_text =
        std::str::from_utf8(line).is_ok_and(|line| !line.contains(|c: char| c.is_control() && c != '\t' && c != '\r'));
    match (is_text, is_text && folded_line(&String::from_utf8_lossy(line)).is_some()) {
        (_, true) => Ok(Format::Folded),
        (false, _) => Ok(Format::Pprof),
        (true, false) => Err(BadFile::Unknown),
    }
}

fn folded_line(line: &str) -> Option<(&str, u64)> {
    let (stack, number) = line.trim_end().rsplit_once([' ', '\t'])?;
    // Some tools write fractions.
    let number =
        number.parse::<u64>().ok().or_else(|| number.parse::<f64>().ok().filter(|n| *n >= 0.0).map(|n| n as u64))?;
    (!stack.trim().is_empty()).then(|| (stack.trim(), number))
}

/// Folded stacks, whose numbers are taken for bytes unless they are `blocks`.
///
/// # Errors
/// [`BadFile::Folded`] names the first line that is none.
pub(crate) fn folded(text: &str, blocks: bool) -> Result<Stacks, BadFile> {
    let mut stacks = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (stack, number) = folded_line(line).ok_or(BadFile::Folded(index + 1))?;
        let frames = stack.split(';').rev().filter(|frame| !frame.trim().is_empty()).map(folded_frame).collect();
        let (blocks, bytes) = if blocks { (number, 0) } else { (0, number) };
        stacks.push(Stack { frames, blocks, bytes, ..Stack::default() });
    }
    Ok(Stacks {
        stacks,
        has_live: false,
        note: Some("folded stacks carry one number: the other unit reads as nothing"),
    })
}

/// A frame as it is shown: heaptrack writes names that are mangled, with the file behind.
fn folded_frame(frame: &str) -> String {
    let name = frame.split_once(" (").map_or(frame, |(name, _)| name);
    match name.starts_with("_R") || name.starts_with("_Z") {
        true => format!("{:#}", rustc_demangle::demangle(name)),
        false => frame.to_owned(),
    }
}

/// A pprof profile of memory: Go's `heap` and `allocs`, jemalloc's, this library's.
///
/// # Errors
/// See [`BadFile`].
pub(crate) fn pprof(content: &[u8]) -> Result<Stacks, BadFile> {
    let profile = Profile::decode(content).map_err(BadFile::Pprof)?;
    let text = |index: i64| {
        usize::try_from(index).ok().and_then(|index| profile.string_table.get(index)).map_or("", String::as_str)
    };
    let kinds: Vec<&str> = profile.sample_type.iter().map(|kind| text(kind.r#type)).collect();
    let column = |names: &[&str]| kinds.iter().position(|kind| names.contains(kind));
    let allocated = [column(&["alloc_objects", "blocks", "objects"]), column(&["alloc_space", "bytes", "space"])];
    let live = [column(&["inuse_objects", "live_blocks"]), column(&["inuse_space", "live_bytes"])];
    let live_alone = allocated == [None, None];
    if live_alone && live == [None, None] {
        return Err(BadFile::OtherValues(kinds.join(", ")));
    }
    let functions: HashMap<u64, (&str, &str)> =
        profile.function.iter().map(|function| (function.id, (text(function.name), text(function.filename)))).collect();
    let locations: HashMap<u64, Vec<String>> = profile
        .location
        .iter()
        .map(|location| {
            // Inlined functions come first, as in a dhat file.
            let lines = location.line.iter().filter_map(|line| Some((functions.get(&line.function_id)?, line.line)));
            let frame = |((name, file), line): (&(&str, &str), i64)| match *file {
                "" => format!("{:#x}: {name}", location.address),
                file => format!("{:#x}: {name} ({file}:{})", location.address, line.max(0)),
            };
            let mut names: Vec<String> = lines.map(frame).collect();
            if names.is_empty() {
                names.push(format!("{:#x}: ???", location.address));
            }
            (location.id, names)
        })
        .collect();
    let stacks = profile.sample.iter().map(|sample| {
        let value = |column: Option<usize>| {
            column.and_then(|column| sample.value.get(column)).map_or(0, |value| (*value).max(0) as u64)
        };
        let shown = if live_alone { live } else { allocated };
        Stack {
            frames: sample.location_id.iter().filter_map(|id| locations.get(id)).flatten().cloned().collect(),
            blocks: value(shown[0]),
            bytes: value(shown[1]),
            live_blocks: value(live[0]),
            live_bytes: value(live[1]),
        }
    });
    let note =
        live_alone.then_some("the profile is of live memory: what reads as allocated was live when it was taken");
    Ok(Stacks { stacks: stacks.collect(), has_live: live != [None, None], note })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use alloc_ladder::wire::pprof::{Function, Line, Location, Sample, ValueType};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// As Go writes a heap profile: four values, the second and fourth in bytes.
    fn go(kinds: &[&str]) -> Vec<u8> {
        let mut texts =
            vec!["".to_owned(), "main.keep".to_owned(), "main.main".to_owned(), "runtime.inlined".to_owned()];
        let sample_type = kinds.iter().map(|kind| {
            texts.push((*kind).to_owned());
            ValueType { r#type: texts.len() as i64 - 1, unit: 0 }
        });
        let sample_type = sample_type.collect();
        let function = |id, name| Function { id, name, ..Function::default() };
        let line = |function_id| Line { function_id, line: 7 };
        let profile = Profile {
            sample_type,
            string_table: texts,
            function: vec![function(1, 1), function(2, 2), function(3, 3)],
            location: vec![
                Location { id: 5, address: 16, line: vec![line(3), line(1)], ..Location::default() },
                Location { id: 6, address: 32, line: vec![line(2)], ..Location::default() },
            ],
            sample: vec![Sample { location_id: vec![5, 6], value: vec![10, 1000, 2, 200], ..Sample::default() }],
            ..Profile::default()
        };
        profile.encode_to_vec()
    }

    fn zipped(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("to memory");
        encoder.finish().expect("to memory")
    }

    #[test]
    fn a_heap_profile_of_go_is_read_zipped_or_not() {
        let content = go(&["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
        assert_eq!(recognise(&content).expect("recognised"), (Format::Pprof, None));
        let (format, unpacked) = recognise(&zipped(&content)).expect("recognised");
        assert_eq!((format, unpacked.as_deref()), (Format::Pprof, Some(&content[..])));
        let Stacks { stacks, note, .. } = pprof(&content).expect("a profile");
        let frames = ["0x10: runtime.inlined", "0x10: main.keep", "0x20: main.main"].map(str::to_owned).to_vec();
        assert_eq!(stacks, [Stack { frames, blocks: 10, bytes: 1000, live_blocks: 2, live_bytes: 200 }]);
        assert_eq!(note, None);
    }

    #[test]
    fn a_profile_of_live_memory_says_so_and_one_of_time_is_refused() {
        let Stacks { stacks, note, .. } = pprof(&go(&["inuse_objects", "inuse_space"])).expect("a profile");
        assert_eq!((stacks[0].blocks, stacks[0].bytes, stacks[0].live_bytes), (10, 1000, 1000));
        assert!(note.is_some());
        assert!(matches!(pprof(&go(&["samples", "cpu"])), Err(BadFile::OtherValues(kinds)) if kinds == "samples, cpu"));
    }

    #[test]
    fn folded_stacks_are_read_root_first() {
        let text = "main;serve;alloc::vec::Vec<T> 300\n\nmain;other 12\n";
        assert_eq!(recognise(text.as_bytes()).expect("recognised"), (Format::Folded, None));
        let stacks = folded(text, false).expect("folded").stacks;
        assert_eq!(stacks[0].frames, ["alloc::vec::Vec<T>", "serve", "main"]);
        assert_eq!((stacks[0].bytes, stacks[0].blocks), (300, 0));
        assert_eq!(folded(text, true).expect("folded").stacks[1].blocks, 12);
        let heaptrack = "main;_ZN3srv4keep17h0123456789abcdefE (main.rs);_RNvC3srv4make (main.rs); 7\n";
        assert_eq!(folded(heaptrack, true).expect("folded").stacks[0].frames, ["srv::make", "srv::keep", "main"]);
        assert!(matches!(folded("main 1\nmain;other\n", false), Err(BadFile::Folded(2))));
    }

    #[test]
    fn other_files_are_refused_in_words() {
        for text in ["", "  \n", "hello", "# a comment\n"] {
            assert!(matches!(recognise(text.as_bytes()), Err(BadFile::Unknown)), "{text:?}");
        }
        let cut = &zipped(&go(&["inuse_space"]))[..30];
        assert!(matches!(recognise(cut), Err(BadFile::Gzip(_))));
        let jemalloc = recognise(b"heap_v2/1\n  t*: 50: 64000 [0: 0]\n").expect_err("has no names");
        assert!(matches!(jemalloc, BadFile::Jemalloc) && jemalloc.help().contains("jeprof"));
        assert!(matches!(pprof(&[0xff; 40]), Err(BadFile::Pprof(_))));
        assert_eq!(recognise(b"{\"dhatFileVersion\":2}").expect("recognised").0, Format::Dhat);
        assert_eq!(recognise(b"allocldr....").expect("recognised").0, Format::Recording);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = recognise(&bytes);
            let _ = pprof(&bytes);
            let _ = folded(&String::from_utf8_lossy(&bytes), false);
            let mut profile = go(&["alloc_objects", "alloc_space"]);
            for (index, byte) in bytes.iter().enumerate().take(8) {
                let at = (cut + index * 31) % profile.len();
                profile[at] = *byte;
            }
            let _ = pprof(&profile);
        }
    }
}
