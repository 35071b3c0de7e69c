//! The call sites of what was measured, where [`Alloc`](crate::Alloc) records every stack.

use std::cmp::Reverse;
use std::path::Path;

use super::plumbing::without_plumbing;
use super::{CallSite, Reach};
use crate::Stage;
use crate::recorder::{Watch, Watched, Whose};
use crate::stage::Scope;

/// Counting under way, by stack.
#[derive(Debug)]
pub(super) struct Watching(Watch);

impl Watching {
    /// `None` where stacks are not recorded.
    pub(super) fn of(reach: Reach) -> Option<Watching> {
        let whose = match reach {
            Reach::Thread => Whose::Thread,
            Reach::Process => Whose::Process,
        };
        Watch::new(whose).map(Watching)
    }

    pub(super) fn resume(&mut self) {
        self.0.begin();
    }

    pub(super) fn pause(&mut self) {
        self.0.end();
    }

    pub(super) fn finish(self) -> Stacks {
        let _guard = Stage::Instrument.enter();
        let mut stacks: Vec<Watched> = self.0.stacks();
        stacks.retain(|stack| stage(stack) != Stage::Instrument);
        stacks.sort_by_key(|stack| Reverse((stack.bytes, stack.blocks)));
        Stacks(stacks)
    }
}

fn stage(stack: &Watched) -> Stage {
    Scope::from_index(stack.scope).stage()
}

/// What was counted, the largest first, and without names: looking those up takes long, and most assertions hold.
#[derive(Clone, Debug)]
pub(super) struct Stacks(Vec<Watched>);

impl Stacks {
    /// The largest call sites of a stage, or of all.
    pub(super) fn sites(&self, of: Option<Stage>, most: usize) -> Vec<CallSite> {
        let _guard = Stage::Instrument.enter();
        let stacks: Vec<&Watched> =
            self.0.iter().filter(|stack| of.is_none_or(|of| stage(stack) == of)).take(most).collect();
        let folder = std::env::current_dir().unwrap_or_default();
        let site = |stack: &&Watched| {
            let frames = stack.frames.iter().flat_map(|frame| names(*frame, &folder));
            let frames = without_plumbing(frames.collect());
            CallSite { blocks: stack.blocks, bytes: stack.bytes, stage: Some(stage(stack)), frames }
        };
        stacks.iter().map(site).collect()
    }
}

/// The functions that a call returns into, innermost first: those that were inlined there and the one they are in.
fn names(frame: usize, folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    // What it keeps of the program's debug information is kept, for the next that asks: this is a test.
    backtrace::resolve(frame as *mut std::ffi::c_void, |symbol| {
        let Some(name) = symbol.name() else { return };
        let place = symbol.filename().map(|file| place(file, symbol.lineno().unwrap_or(0), folder));
        names.push(format!("{name:#}{}", place.unwrap_or_default()));
    });
    names
}

/// ` (file:line)`, the file as it is called from `folder`, or by its crate.
fn place(file: &Path, line: u32, folder: &Path) -> String {
    let file = file.strip_prefix(folder).unwrap_or(file).display().to_string();
    let of_crate = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    format!(" ({}:{line})", of_crate.map_or(file.as_str(), |(_, file)| file))
}
