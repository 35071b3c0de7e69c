//! Reads a recording: the file that the recorder writes while a program runs.
//!
//! A recording is read by offset, area by area, and only where something is in use. It may have been copied while the
//! program ran, so counters that belong together may differ by what was under way; nothing else in it may be wrong, and
//! what is wrong is refused in words.

use std::borrow::Cow;
use std::ops::Range;

use alloc_ladder::recorder::layout::{self, header, method, module, peak, shard, slot};
use alloc_ladder::{Side, Stage};

/// Where a recording is read from: a file, or bytes.
pub(crate) trait Source {
    /// Its length.
    fn length(&self) -> u64;
    /// So many bytes from an offset.
    fn bytes(&self, at: usize, length: usize) -> Result<Cow<'_, [u8]>, BadRecording>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn bytes(&self, at: usize, length: usize) -> Result<Cow<'_, [u8]>, BadRecording> {
        let range = at.checked_add(length).and_then(|end| self.get(at..end));
        range.map(Cow::Borrowed).ok_or(BadRecording::Cut)
    }
}

/// Why a recording cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecording {
    #[error("not a recording")]
    Other,
    #[error("the recording is cut short")]
    Cut,
    #[error("the recording has version {found}; this version reads {}", layout::VERSION)]
    Version { found: u32 },
    #[error("the recording was made on another machine (ELF machine {found}); this version reads x86-64 and aarch64")]
    Machine { found: u32 },
    #[error("the recording is damaged: {what}")]
    Damaged { what: &'static str },
    #[error("the recording cannot be read")]
    Io,
}

impl BadRecording {
    /// What to do about it.
    pub(crate) fn help(self) -> &'static str {
        match self {
            BadRecording::Other => "name a recording, dhat's JSON, a pprof profile or folded stacks",
            BadRecording::Cut => "copy the file again: it is as long as it is large, though most of it is empty",
            BadRecording::Version { .. } => "read it with the version that recorded it, or record again",
            BadRecording::Machine { .. } => "read it on a machine like the one it was made on",
            BadRecording::Damaged { .. } => "record again",
            BadRecording::Io => "see whether the file is still there and may be read",
        }
    }
}

/// A recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Recording {
    pub(crate) process: u32,
    /// Whether the program's own allocator wrote it, which knows scopes.
    pub(crate) has_scopes: bool,
    /// Where the recorder's own code lay.
    pub(crate) own: Range<u64>,
    pub(crate) modules: Vec<Module>,
    /// By index; those without a name are missing.
    pub(crate) methods: Vec<Option<(Side, String)>>,
    pub(crate) totals: Totals,
    pub(crate) missed: Missed,
    /// The most live bytes.
    pub(crate) peak_bytes: u64,
    /// When that was, in nanoseconds from the beginning.
    pub(crate) peak_after_ns: u64,
    pub(crate) stacks: Vec<Stack>,
    /// The addresses of all stacks.
    frames: Vec<u64>,
}

/// An executable or a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Module {
    /// What is added to the addresses in the file.
    pub(crate) base: u64,
    pub(crate) code: Range<u64>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) path: String,
}

/// What all threads allocated together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) freed_blocks: u64,
    pub(crate) freed_bytes: u64,
    pub(crate) reallocs: u64,
}

impl Totals {
    /// Bytes allocated and not freed.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.freed_bytes)
    }
}

/// What the recorder could not record, or not in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) homeless_blocks: u64,
    pub(crate) homeless_bytes: u64,
    pub(crate) cut: u64,
    pub(crate) foreign: u64,
    pub(crate) reentered: u64,
    pub(crate) untracked: u64,
    pub(crate) forks: u64,
    pub(crate) early: u64,
}

/// One distinct stack, in one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) freed_blocks: u64,
    pub(crate) freed_bytes: u64,
    /// Blocks freed before their thread allocated again.
    pub(crate) temporary: u64,
    pub(crate) peak_blocks: u64,
    pub(crate) peak_bytes: u64,
    /// The stage of the seam it was in; `None` where no seam was.
    pub(crate) stage: Option<Stage>,
    /// The method's index.
    pub(crate) method: usize,
    frames: Range<usize>,
}

/// A little-endian number at an offset of an area that was read whole.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Whether bytes begin as a recording does.
pub(crate) fn is_recording(first: &[u8]) -> bool {
    first.starts_with(&layout::MAGIC)
}

/// How much of a recording is in use: the parts of the file that a copy must have, in order.
pub(crate) fn used(head: &[u8]) -> Vec<Range<usize>> {
    let (slots, frames) = in_use(head);
    vec![
        0..layout::SLOTS_AT,
        layout::SLOTS_AT..layout::SLOTS_AT + slots * slot::SIZE,
        layout::PEAKS_AT..layout::PEAKS_AT + slots * peak::SIZE,
        layout::FRAMES_AT..layout::FRAMES_AT + frames * 8,
    ]
}

fn in_use(head: &[u8]) -> (usize, usize) {
    let slots = u64_at(head, header::SLOTS).min(layout::SLOTS as u64) as usize;
    let frames = u64_at(head, header::FRAMES).min(layout::FRAMES as u64) as usize;
    (slots, frames)
}

/// What all threads allocated together, from the head and the shards of a recording that may be under way.
pub(crate) fn totals(source: &(impl Source + ?Sized)) -> Result<Totals, BadRecording> {
    let mut totals = Totals::default();
    for shard in source.bytes(layout::SHARDS_AT, layout::SHARDS * shard::SIZE)?.chunks_exact(shard::SIZE) {
        totals.blocks = totals.blocks.wrapping_add(u64_at(shard, shard::BLOCKS));
        totals.bytes = totals.bytes.wrapping_add(u64_at(shard, shard::BYTES));
        totals.freed_blocks = totals.freed_blocks.wrapping_add(u64_at(shard, shard::FREED_BLOCKS));
        totals.freed_bytes = totals.freed_bytes.wrapping_add(u64_at(shard, shard::FREED_BYTES));
        totals.reallocs = totals.reallocs.wrapping_add(u64_at(shard, shard::REALLOCS));
    }
    Ok(totals)
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// See [`BadRecording`].
    pub(crate) fn read(source: &(impl Source + ?Sized)) -> Result<Recording, BadRecording> {
        let begin = source.bytes(0, header::SIZE.min(source.length() as usize))?;
        if !is_recording(&begin) {
            return Err(BadRecording::Other);
        }
        // The version and the machine come first: another version may be of any other shape.
        if begin.len() < header::PROCESS {
            return Err(BadRecording::Cut);
        }
        match u32_at(&begin, header::VERSION) {
            layout::VERSION => {}
            found => return Err(BadRecording::Version { found }),
        }
        match u32_at(&begin, header::MACHINE) {
            62 | 183 => {}
            found => return Err(BadRecording::Machine { found }),
        }
        if source.length() < layout::SIZE as u64 {
            return Err(BadRecording::Cut);
        }
        let head = source.bytes(0, layout::SLOTS_AT)?;
        let (slots, frames) = in_use(&head);
        let frames = source.bytes(layout::FRAMES_AT, frames * 8)?;
        let recording = Recording {
            process: u32_at(&head, header::PROCESS),
            has_scopes: u32_at(&head, header::DOOR) == 1,
            own: u64_at(&head, header::OWN)..u64_at(&head, header::OWN + 8),
            modules: modules(&head),
            methods: methods(&head),
            totals: totals(source)?,
            missed: missed(&head),
            peak_bytes: u64_at(&head, header::PEAK),
            peak_after_ns: u64_at(&head, header::PEAK_MONOTONIC).saturating_sub(u64_at(&head, header::BEGAN_MONOTONIC)),
            stacks: Vec::new(),
            frames: frames.chunks_exact(8).map(|frame| u64_at(frame, 0)).collect(),
        };
        let slots_read = source.bytes(layout::SLOTS_AT, slots * slot::SIZE)?;
        let peaks = source.bytes(layout::PEAKS_AT, slots * peak::SIZE)?;
        let stacks = slots_read.chunks_exact(slot::SIZE).zip(peaks.chunks_exact(peak::SIZE));
        let epoch = u32_at(&head, header::EPOCH);
        let stacks = stacks
            .filter(|(slot, _)| u64_at(slot, slot::KEY) != 0 && u64_at(slot, slot::BLOCKS) != 0)
            .map(|(slot, peak)| recording.stack(slot, peak, epoch))
            .collect::<Result<_, _>>()?;
        Ok(Recording { stacks, ..recording })
    }

    fn stack(&self, slot: &[u8], peak: &[u8], epoch: u32) -> Result<Stack, BadRecording> {
        let number = |at| u64_at(slot, at);
        let short = |at: usize| usize::from(u16::from_le_bytes([slot[at], slot[at + 1]]));
        let (at, depth) = (u32_at(slot, slot::AT) as usize, short(slot::DEPTH));
        let frames = at..at.saturating_add(depth);
        if depth > layout::DEPTH || frames.end > self.frames.len() {
            return Err(BadRecording::Damaged { what: "a stack has frames that are not there" });
        }
        let live = |all: u64, freed: u64| all.saturating_sub(freed);
        let mut stack = Stack {
            blocks: number(slot::BLOCKS),
            bytes: number(slot::BYTES),
            freed_blocks: number(slot::FREED_BLOCKS),
            freed_bytes: number(slot::FREED_BYTES),
            temporary: number(slot::TEMPORARY),
            peak_blocks: u64_at(peak, peak::BLOCKS),
            peak_bytes: u64_at(peak, peak::BYTES),
            stage: None,
            method: 0,
            frames,
        };
        if u32_at(slot, slot::EPOCH) != epoch {
            // It has not changed since the peak.
            stack.peak_blocks = live(stack.blocks, stack.freed_blocks);
            stack.peak_bytes = live(stack.bytes, stack.freed_bytes);
        }
        if self.has_scopes {
            let scope = short(slot::SCOPE);
            stack.method = (scope >> 3) % layout::METHODS;
            stack.stage = Stage::ALL.into_iter().find(|stage| *stage as usize == scope & 7);
        }
        Ok(stack)
    }

    /// The addresses that a stack's calls return to, leaf first.
    pub(crate) fn frames(&self, stack: &Stack) -> &[u64] {
        self.frames.get(stack.frames.clone()).unwrap_or(&[])
    }

    /// The module an address lies in: the one that was loaded there last.
    pub(crate) fn module(&self, address: u64) -> Option<&Module> {
        self.modules.iter().rev().find(|module| module.code.contains(&address))
    }

    /// The executable, which is named first.
    pub(crate) fn executable(&self) -> Option<&Module> {
        self.modules.first()
    }
}

fn modules(head: &[u8]) -> Vec<Module> {
    let used = (u32_at(head, header::MODULES) as usize).min(layout::MODULES);
    let entries = head[layout::MODULES_AT..layout::METHODS_AT].chunks_exact(module::SIZE).take(used);
    let read = entries.filter_map(|entry| {
        let path =
            entry[module::PATH..].get(..u32_at(entry, module::PATH_LEN) as usize).filter(|path| !path.is_empty())?;
        let id = entry[module::BUILD_ID..module::PATH].get(..u32_at(entry, module::BUILD_ID_LEN) as usize)?;
        Some(Module {
            base: u64_at(entry, module::BASE),
            code: u64_at(entry, module::LOW)..u64_at(entry, module::HIGH),
            build_id: id.to_vec(),
            path: String::from_utf8_lossy(path).into_owned(),
        })
    });
    read.collect()
}

fn methods(head: &[u8]) -> Vec<Option<(Side, String)>> {
    let entries = head[layout::METHODS_AT..layout::SHARDS_AT].chunks_exact(method::SIZE);
    let read = entries.map(|entry| {
        let side = match u32_at(entry, method::SIDE) {
            1 => Side::Server,
            2 => Side::Client,
            _ => return None,
        };
        let path = entry[method::PATH..].get(..u32_at(entry, method::PATH_LEN) as usize)?;
        Some((side, String::from_utf8_lossy(path).into_owned()))
    });
    read.collect()
}

fn missed(head: &[u8]) -> Missed {
    let number = |at| u64_at(head, at);
    Missed {
        homeless_blocks: number(header::HOMELESS_BLOCKS),
        homeless_bytes: number(header::HOMELESS_BYTES),
        cut: number(header::CUT),
        foreign: number(header::FOREIGN),
        reentered: number(header::REENTERED),
        untracked: number(header::UNTRACKED),
        forks: number(header::FORKS),
        early: number(header::EARLY),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The parts of a recording that are not zero.
    #[derive(Clone, Default)]
    pub(crate) struct Sparse(pub(crate) Vec<(usize, Vec<u8>)>, pub(crate) Option<u64>);

    impl Source for Sparse {
        fn length(&self) -> u64 {
            self.1.unwrap_or(layout::SIZE as u64)
        }

        fn bytes(&self, at: usize, length: usize) -> Result<Cow<'_, [u8]>, BadRecording> {
            if (at + length) as u64 > self.length() {
                return Err(BadRecording::Cut);
            }
            let mut bytes = vec![0; length];
            for (place, part) in &self.0 {
                for (index, byte) in part.iter().enumerate() {
                    if let Some(to) = (place + index).checked_sub(at).and_then(|at| bytes.get_mut(at)) {
                        *to = *byte;
                    }
                }
            }
            Ok(Cow::Owned(bytes))
        }
    }

    impl Sparse {
        fn put(mut self, at: usize, bytes: impl Into<Vec<u8>>) -> Sparse {
            self.0.push((at, bytes.into()));
            self
        }

        fn numbers(self, at: usize, numbers: &[u64]) -> Sparse {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            self.put(at, bytes)
        }
    }

    /// A program at 0x1000 that allocated from two stacks, one of them in a scope.
    pub(crate) fn sample() -> Sparse {
        let entry = layout::MODULES_AT;
        Sparse::default()
            .put(header::MAGIC, layout::MAGIC)
            .put(header::VERSION, layout::VERSION.to_le_bytes())
            .put(header::MACHINE, 62u32.to_le_bytes())
            .put(header::PROCESS, 77u32.to_le_bytes())
            .put(header::DOOR, 1u32.to_le_bytes())
            .put(header::MODULES, 1u32.to_le_bytes())
            .numbers(header::SLOTS, &[2, 3])
            .put(header::EPOCH, 5u32.to_le_bytes())
            .numbers(header::PEAK, &[900])
            .numbers(entry, &[0x1000, 0x1000, 0x9000])
            .put(entry + module::PATH_LEN, 4u32.to_le_bytes())
            .put(entry + module::PATH, *b"/srv")
            .put(layout::METHODS_AT + method::SIZE, 1u32.to_le_bytes())
            .put(layout::METHODS_AT + method::SIZE + method::PATH_LEN, 6u32.to_le_bytes())
            .put(layout::METHODS_AT + method::SIZE + method::PATH, *b"/a.B/C")
            .numbers(layout::SHARDS_AT, &[1, 100, 0, 0, 0])
            .numbers(layout::SHARDS_AT + shard::SIZE, &[9, 900, 4, 400, 2])
            .numbers(layout::SLOTS_AT, &[11, 7, 700, 4, 400, 1])
            .put(layout::SLOTS_AT + slot::DEPTH, 2u16.to_le_bytes())
            .put(layout::SLOTS_AT + slot::SCOPE, (1u16 << 3 | Stage::Marshal as u16).to_le_bytes())
            .put(layout::SLOTS_AT + slot::EPOCH, 5u32.to_le_bytes())
            .numbers(layout::PEAKS_AT, &[600, 6])
            .numbers(layout::SLOTS_AT + slot::SIZE, &[12, 3, 300, 0, 0, 0])
            .put(layout::SLOTS_AT + slot::SIZE + slot::AT, 2u32.to_le_bytes())
            .put(layout::SLOTS_AT + slot::SIZE + slot::DEPTH, 1u16.to_le_bytes())
            .put(layout::SLOTS_AT + slot::SIZE + slot::EPOCH, 4u32.to_le_bytes())
            .numbers(layout::FRAMES_AT, &[0x1010, 0x1020, 0x1030])
    }

    #[test]
    fn a_recording_is_read() {
        let recording = Recording::read(&sample()).expect("whole");
        assert_eq!(
            recording.totals,
            Totals { blocks: 10, bytes: 1000, freed_blocks: 4, freed_bytes: 400, reallocs: 2 }
        );
        assert_eq!(recording.methods[1], Some((Side::Server, "/a.B/C".to_owned())));
        let [first, second] = &recording.stacks[..] else { panic!("two stacks") };
        assert_eq!((first.stage, first.method), (Some(Stage::Marshal), 1));
        assert_eq!((first.peak_bytes, first.peak_blocks, first.temporary), (600, 6, 1), "changed since the peak");
        assert_eq!((second.peak_bytes, second.peak_blocks), (300, 3), "as it was at the peak");
        assert_eq!(recording.frames(first), [0x1010, 0x1020]);
        assert_eq!(recording.frames(second), [0x1030]);
        assert_eq!(recording.module(0x1030).map(|module| module.path.as_str()), Some("/srv"));
        assert_eq!(recording.module(0x9000), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        let refused = |source: &Sparse| Recording::read(source).expect_err("refused");
        assert_eq!(refused(&Sparse(Vec::new(), Some(0))), BadRecording::Other);
        assert_eq!(refused(&Sparse::default()), BadRecording::Other);
        assert_eq!(refused(&sample().put(header::VERSION, 2u32.to_le_bytes())), BadRecording::Version { found: 2 });
        assert_eq!(refused(&sample().put(header::MACHINE, 8u32.to_le_bytes())), BadRecording::Machine { found: 8 });
        for length in [9, header::SIZE as u64, layout::SLOTS_AT as u64, layout::SIZE as u64 - 1] {
            assert_eq!(refused(&Sparse(sample().0, Some(length))), BadRecording::Cut, "{length}");
        }
        let outside = sample().put(layout::SLOTS_AT + slot::AT, u32::MAX.to_le_bytes());
        assert!(matches!(refused(&outside), BadRecording::Damaged { .. }));
        assert!(BadRecording::Version { found: 2 }.to_string().contains("version 2"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_the_reader_panic(
            parts in prop::collection::vec((0..layout::SIZE, prop::collection::vec(any::<u8>(), 0..64)), 0..12),
            in_head in prop::collection::vec((8..layout::SHARDS_AT, prop::collection::vec(any::<u8>(), 0..64)), 0..12),
            in_slots in prop::collection::vec((0..3 * slot::SIZE, prop::collection::vec(any::<u8>(), 0..64)), 0..12),
        ) {
            let mut source = sample();
            source.0.extend(parts);
            source.0.extend(in_head.into_iter().filter(|(at, _)| !(header::VERSION..header::PROCESS).contains(at)));
            source.0.extend(in_slots.into_iter().map(|(at, bytes)| (layout::SLOTS_AT + at, bytes)));
            // More in use than is there would only be slow to make up here.
            source = source.numbers(header::SLOTS, &[3, 4]);
            if let Ok(recording) = Recording::read(&source) {
                for stack in &recording.stacks {
                    for frame in recording.frames(stack) {
                        let _ = recording.module(*frame);
                    }
                }
            }
        }

        #[test]
        fn no_short_file_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = Recording::read(&bytes[..]);
            let mut named = layout::MAGIC.to_vec();
            named.extend(bytes);
            prop_assert!(Recording::read(&named[..]).is_err());
        }
    }
}
