//! The readers of recordings and of the binaries that name them.
//!
//! A recording is 150 MB long and nearly empty: an input is its parts that are not zero, and its length.

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::Command;

use alloc_ladder::recorder::layout::{self, header, method, module, peak, shard, slot};
use anyhow::Context;

use super::readers::hold;
use super::runner::{Outcome, Try};
use crate::analyse::dhat::{BadDhat, Dhat};
use crate::analyse::executable::{build_id, examine};
use crate::analyse::fold::Profile;
use crate::analyse::recording::{BadRecording, Module, Recording, Source, totals};
use crate::analyse::symbols::{self, Found, Function};
use crate::measure::symbols::Binaries;

/// More stacks and frames than this are only slow to make up.
const MOST: u64 = 64;

/// The parts of a file that are not zero.
struct Parts {
    length: u64,
    parts: Vec<(usize, Vec<u8>)>,
}

impl Parts {
    /// Eight bytes of length, and for each part four of its place, two of its length, and its bytes.
    fn read(input: &[u8]) -> Option<Parts> {
        let (length, mut rest) = input.split_first_chunk()?;
        let mut parts = Vec::new();
        while let Some((place, more)) = rest.split_first_chunk::<4>()
            && let Some((length, more)) = more.split_first_chunk::<2>()
        {
            let (bytes, more) = more.split_at(more.len().min(usize::from(u16::from_le_bytes(*length))));
            parts.push((u32::from_le_bytes(*place) as usize, bytes.to_vec()));
            rest = more;
        }
        Some(Parts { length: u64::from_le_bytes(*length), parts })
    }

    fn number(&self, at: usize) -> u64 {
        let bytes = self.bytes(at, 8).ok();
        bytes.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_le_bytes)
    }
}

impl Source for Parts {
    fn length(&self) -> u64 {
        self.length
    }

    fn bytes(&self, at: usize, length: usize) -> Result<Cow<'_, [u8]>, BadRecording> {
        if (at as u64).saturating_add(length as u64) > self.length {
            return Err(BadRecording::Cut);
        }
        let mut bytes = vec![0; length];
        for (place, part) in &self.parts {
            for (index, byte) in part.iter().enumerate() {
                if let Some(to) = (place + index).checked_sub(at).and_then(|at| bytes.get_mut(at)) {
                    *to = *byte;
                }
            }
        }
        Ok(Cow::Owned(bytes))
    }
}

/// A refusal has words; what is accepted is named, and its stacks sum to the same wherever they are read.
pub(super) fn recording() -> anyhow::Result<Try> {
    Ok(Box::new(|input, _| {
        let Some(mut source) = Parts::read(input) else { return Ok(Outcome::Refused) };
        for counter in [header::SLOTS, header::FRAMES] {
            let few = source.number(counter).min(MOST);
            source.parts.push((counter, few.to_le_bytes().to_vec()));
        }
        let recording = match Recording::read(&source) {
            Ok(recording) => recording,
            Err(error) => {
                hold!(!error.to_string().is_empty() && !error.help().is_empty(), "refused without words");
                return Ok(Outcome::Refused);
            }
        };
        hold!(totals(&source) == Ok(recording.totals), "the totals differ from those of a recording under way");
        for stack in &recording.stacks {
            hold!(recording.frames(stack).len() <= layout::DEPTH, "a stack is deeper than any");
        }
        let named = symbols::name(&recording, "srv", "", |_, address| named(input, address));
        let json = serde_json::to_vec(&named).map_err(|error| error.to_string())?;
        let dhat = match Dhat::parse(&json) {
            Ok(dhat) => dhat,
            Err(BadDhat::TooLarge { .. }) => return Ok(Outcome::Refused),
            Err(error) => return Err(format!("our own dhat file: {error}")),
        };
        let blocks: u64 = recording.stacks.iter().map(|stack| stack.blocks).sum();
        for profile in [Profile::from_dhat(&dhat), Profile::raw(&dhat)] {
            hold!(profile.total_blocks() == blocks, "{blocks} blocks recorded, {} named", profile.total_blocks());
        }
        Ok(Outcome::Accepted)
    }))
}

/// What a binary might say of an address: any text of the input for names and files.
fn named(input: &[u8], address: u64) -> Found {
    let text = |from: u64| {
        let at = from as usize % input.len().max(1);
        String::from_utf8_lossy(&input[at..input.len().min(at + 40)]).into_owned()
    };
    let function = |index: u64| Function {
        name: text(address.wrapping_mul(index + 3)),
        file: index.is_multiple_of(2).then(|| format!("{}/src/a.rs", text(address.wrapping_add(index)))),
        line: index as u32,
        column: 0,
    };
    Found {
        functions: (0..address % 4).map(function).collect(),
        symbol: address.is_multiple_of(3).then(|| text(address)),
    }
}

/// A binary that is damaged names what it can, whatever it is asked; the names have no position of another.
pub(super) fn binary() -> anyhow::Result<Try> {
    let folder = tempfile::tempdir().context("there is no folder for binaries")?;
    let mut number = 0u64;
    Ok(Box::new(move |input, rng| {
        // A file that is mapped must not change: each has a name of its own.
        number += 1;
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, input).map_err(|error| error.to_string())?;
        let is_program = examine(input, false).is_ok();
        let id = build_id(input).unwrap_or_default();
        let module = Module { path: path.to_string_lossy().into_owned(), build_id: id, ..Module::default() };
        let mut binaries = Binaries::new(&[]);
        let mut found = 0;
        for address in (0..0x2000).step_by(0x10).chain([u64::MAX, rng.u64(..)]) {
            let said = binaries.look_up(&module, address);
            found += usize::from(!said.functions.is_empty() || said.symbol.is_some());
        }
        hold!(binaries.warnings.iter().all(|warning| !warning.trim().is_empty()), "a warning without words");
        drop(binaries);
        std::fs::remove_file(&path).map_err(|error| error.to_string())?;
        Ok(if found > 0 || is_program { Outcome::Accepted } else { Outcome::Refused })
    }))
}

/// A recording of two stacks, one of them in a scope, as parts.
pub(super) fn recordings() -> Vec<Vec<u8>> {
    let mut input = (layout::SIZE as u64).to_le_bytes().to_vec();
    let mut put = |at: usize, bytes: &[u8]| {
        input.extend((at as u32).to_le_bytes());
        input.extend((bytes.len() as u16).to_le_bytes());
        input.extend(bytes);
    };
    let numbers = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let two = |first: u32, second: u32| [first.to_le_bytes(), second.to_le_bytes()].concat();
    put(header::MAGIC, &[&layout::MAGIC[..], &two(layout::VERSION, 62), &two(77, 1)].concat());
    put(header::MODULES, &two(1, 2));
    put(header::SLOTS, &numbers(&[2, 3]));
    put(header::PEAK, &numbers(&[900, 5_000_000]));
    put(header::EPOCH, &5u32.to_le_bytes());
    put(layout::MODULES_AT, &numbers(&[0x1000, 0x1000, 0x9000]));
    put(layout::MODULES_AT + module::BUILD_ID_LEN, &[&two(0, 4)[..], &[0; 32], b"/srv"].concat());
    put(layout::METHODS_AT + method::SIZE, &[&two(1, 6)[..], b"/a.B/C"].concat());
    put(layout::SHARDS_AT, &numbers(&[1, 100, 0, 0, 0]));
    put(layout::SHARDS_AT + shard::SIZE, &numbers(&[9, 900, 4, 400, 2]));
    let scope = 1u16 << 3 | alloc_ladder::Stage::Marshal as u16;
    let stack = |key: u64, at: u32, depth: u16, scope: u16| {
        let place = [&at.to_le_bytes()[..], &depth.to_le_bytes(), &scope.to_le_bytes(), &5u32.to_le_bytes()].concat();
        [numbers(&[key, 7, 700, 4, 400, 1]), place].concat()
    };
    put(layout::SLOTS_AT, &stack(11, 0, 2, scope));
    put(layout::SLOTS_AT + slot::SIZE, &stack(12, 2, 1, 0));
    put(layout::PEAKS_AT, &numbers(&[600, 6]));
    put(layout::PEAKS_AT + peak::SIZE, &numbers(&[300, 3]));
    put(layout::FRAMES_AT, &numbers(&[0x1010, 0x1021, 0x1032]));
    vec![input]
}

/// A library with debug information and one without, as the C compiler makes them.
///
/// # Errors
/// There is no C compiler.
pub(super) fn binaries() -> anyhow::Result<Vec<Vec<u8>>> {
    const SOURCE: &str = "static inline int twice(int n) { return n * 2; }\n\
        int outer(int n) { return twice(n) + 1; }\nint other(int n) { return outer(n) - twice(n); }\n";
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("a.c");
    std::fs::write(&source, SOURCE)?;
    let build = |name: &str, flags: &[&str]| -> anyhow::Result<Vec<u8>> {
        let built: PathBuf = folder.path().join(name);
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-nostdlib"]).args(flags).arg("-o").arg(&built).arg(&source);
        anyhow::ensure!(cc.status().context("cannot start cc")?.success(), "cc cannot build {name}");
        std::fs::read(&built).context("cannot read what cc built")
    };
    Ok(vec![build("debug", &["-g"])?, build("compressed", &["-g", "-gz=zlib"])?, build("bare", &["-s"])?])
}
