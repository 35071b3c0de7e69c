//! How a recording begins: once a process, from its first allocation or before its `main`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::file::{self, NoFile, Recording, errno, set_errno};
use super::{arch, current, live, modules, table, thread};
use crate::recorder::layout::{MAGIC, VERSION};
use crate::recorder::{Variable, say};

/// Who calls the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Door {
    /// The program's own allocator.
    Program = 1,
    /// The preload library.
    Preload = 2,
}

/// Where a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file, which is there after the process.
    InFile,
    /// In the process's memory alone.
    InMemory,
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Begins to record, unless that was begun before; says whether this process records. Where it cannot, a line on stderr
/// says why, and the program runs on as if nobody had asked.
pub fn start(door: Door, kept: Kept) -> bool {
    if STARTED.swap(true, Ordering::AcqRel) {
        return current::recording().is_some();
    }
    let errno = errno();
    // What is allocated from here is the recorder's.
    let busy = thread::thread().hold();
    let begun = begin(door, kept);
    drop(busy);
    if let Err(reason) = begun {
        say(reason);
    }
    set_errno(errno);
    begun.is_ok()
}

fn begin(door: Door, kept: Kept) -> Result<(), &'static str> {
    if door == Door::Program {
        stop_preload();
    }
    modules::start();
    thread::start();
    let made = match kept {
        Kept::InFile => make_file(),
        Kept::InMemory => file::create_in_memory(),
    };
    let recording = made.map_err(|reason| match reason {
        NoFile::Name => "not recorded: the name of the folder for recordings is too long",
        NoFile::Create => "not recorded: cannot make a file in the folder for recordings",
        NoFile::Full => "not recorded: the folder for recordings is full",
    })?;
    let Some(word) = file::map_private(4096) else { return Err(NO_MEMORY) };
    if !table::start() || !live::start() {
        return Err(NO_MEMORY);
    }
    fill(recording, door);
    modules::note_executable(recording);
    // SAFETY: the page was just mapped, is zeroed, and is never unmapped. A child that is forked in whatever way finds
    // zeros in it, and records nothing; where the kernel cannot do that, `forked_child` stops it.
    let word = unsafe {
        libc::madvise(word, 4096, libc::MADV_WIPEONFORK);
        libc::pthread_atfork(None, Some(forked_parent), Some(forked_child));
        &*word.cast::<AtomicUsize>()
    };
    current::record_into(recording, word);
    Ok(())
}

const NO_MEMORY: &str = "not recorded: there is no memory for its tables";

/// A file named after the process. An earlier program of the same process, before it executed this one, may have one.
fn make_file() -> Result<&'static Recording, NoFile> {
    let folder = Variable::Recordings.value().map_or(&b"/dev/shm"[..], CStr::to_bytes);
    // SAFETY: asks the kernel for a number.
    let process = unsafe { libc::getpid() } as u32;
    for attempt in 0..100 {
        let mut name = Name::default();
        name.push(folder);
        name.push(b"/alloc-ladder-");
        name.push_number(process);
        if attempt > 0 {
            name.push(b"-");
            name.push_number(attempt);
        }
        name.push(b".recording\0");
        let path = name.text().ok_or(NoFile::Name)?;
        match file::create(path) {
            Err(NoFile::Create) if errno() == libc::EEXIST => {}
            made => return made,
        }
    }
    Err(NoFile::Create)
}

/// A path that is put together without an allocator.
struct Name {
    bytes: [u8; 512],
    length: usize,
    fits: bool,
}

impl Default for Name {
    fn default() -> Name {
        Name { bytes: [0; 512], length: 0, fits: true }
    }
}

impl Name {
    fn push(&mut self, text: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                self.length += text.len();
            }
            None => self.fits = false,
        }
    }

    fn push_number(&mut self, mut number: u32) {
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn text(&self) -> Option<&CStr> {
        if self.fits { CStr::from_bytes_with_nul(&self.bytes[..self.length]).ok() } else { None }
    }
}

fn fill(recording: &Recording, door: Door) {
    let fixed = &recording.header.fixed;
    fixed.version.store(VERSION, Ordering::Relaxed);
    fixed.machine.store(arch::MACHINE, Ordering::Relaxed);
    // SAFETY: asks the kernel for a number.
    fixed.process.store(unsafe { libc::getpid() } as u32, Ordering::Relaxed);
    fixed.door.store(door as u32, Ordering::Relaxed);
    fixed.began.store(file::realtime(), Ordering::Relaxed);
    fixed.began_monotonic.store(file::monotonic(), Ordering::Relaxed);
    if door == Door::Preload
        && let Some((low, high)) = modules::own_range()
    {
        fixed.own[0].store(low as u64, Ordering::Relaxed);
        fixed.own[1].store(high as u64, Ordering::Relaxed);
    }
    fixed.magic.store(u64::from_ne_bytes(MAGIC), Ordering::Release);
}

/// The name under which the preload library exports [`yield_to_program`].
const YIELD: &CStr = c"alloc_ladder_preload_yield";

/// A program that records itself is not recorded a second time from below.
fn stop_preload() {
    // SAFETY: the one library that exports this name exports a function that takes and returns nothing.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, YIELD.as_ptr());
        if !function.is_null() {
            let function: unsafe extern "C" fn() = std::mem::transmute(function);
            function();
        }
    }
}

/// Ends this recording and takes its file away: the program makes one of its own.
pub fn yield_to_program() {
    if current::recording().is_some() {
        current::stop();
        file::unlink();
    }
}

unsafe extern "C" fn forked_parent() {
    if let Some(recording) = current::recording() {
        recording.header.missed.forks.fetch_add(1, Ordering::Relaxed);
    }
}

unsafe extern "C" fn forked_child() {
    current::stop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_together_and_too_long_ones_are_refused() {
        let mut name = Name::default();
        name.push(b"/dev/shm/alloc-ladder-");
        name.push_number(0);
        name.push(b"-");
        name.push_number(u32::MAX);
        name.push(b"\0");
        assert_eq!(name.text(), Some(c"/dev/shm/alloc-ladder-0-4294967295"));
        name.push(&[b'a'; 512]);
        assert_eq!(name.text(), None);
    }
}
