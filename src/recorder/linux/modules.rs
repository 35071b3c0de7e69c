//! The executable and the libraries of the process: where their rules for unwinding lie, and what they are called.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::file::{ModuleEntry, Recording, write};
use crate::recorder::layout::{MODULES, module};

/// One executable or library, loaded.
#[derive(Clone, Copy)]
pub(super) struct Module {
    base: usize,
    low: usize,
    high: usize,
    /// `.eh_frame_hdr`.
    pub(super) unwind_index: &'static [u8],
    /// The segments, for [`segment`](Module::segment).
    headers: &'static [libc::Elf64_Phdr],
    name: *const c_char,
}

impl Module {
    /// # Safety
    /// `headers` are those of an object that is loaded with `base` added to its addresses, and stays loaded.
    unsafe fn new(base: usize, headers: &'static [libc::Elf64_Phdr], name: *const c_char) -> Option<Module> {
        let (mut low, mut high) = (usize::MAX, 0);
        let mut index: &[u8] = &[];
        for header in headers {
            let at = base.wrapping_add(header.p_vaddr as usize);
            match header.p_type {
                libc::PT_LOAD => {
                    low = low.min(at);
                    high = high.max(at.wrapping_add(header.p_memsz as usize));
                }
                libc::PT_GNU_EH_FRAME => {
                    // SAFETY: the object's headers say that this lies there.
                    index = unsafe { std::slice::from_raw_parts(at as *const u8, header.p_memsz as usize) };
                }
                _ => {}
            }
        }
        (low < high).then_some(Module { base, low, high, unwind_index: index, headers, name })
    }

    /// What lies from this address to the end of its segment.
    pub(super) fn segment(&self, from: usize) -> Option<&'static [u8]> {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD).find_map(|header| {
            let at = self.base.wrapping_add(header.p_vaddr as usize);
            // SAFETY: the object's headers say that so much of the file is loaded there.
            let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, header.p_filesz as usize) };
            bytes.get(from.wrapping_sub(at)..).filter(|rest| !rest.is_empty())
        })
    }

    fn build_id(&self) -> &'static [u8] {
        let notes = self.headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        notes
            .filter_map(|header| {
                let rest = self.segment(self.base.wrapping_add(header.p_vaddr as usize))?;
                build_id(rest.get(..header.p_filesz as usize)?)
            })
            .next()
            .unwrap_or(&[])
    }
}

/// The build id among the notes of a segment.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(*notes.get(at..)?.first_chunk()?));
        let (name, description, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let begin = 12 + name.next_multiple_of(4);
        let found = notes.get(begin..begin.checked_add(description)?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return Some(found);
        }
        notes = notes.get(begin + description.next_multiple_of(4)..)?;
    }
}

/// glibc's answer of `_dl_find_object`, which neither locks nor allocates; since 2.35.
#[repr(C)]
struct FoundObject {
    flags: u64,
    map_start: *mut c_void,
    map_end: *mut c_void,
    link_map: *const LinkMap,
    eh_frame: *mut c_void,
    reserved: [u64; 7],
}

/// The public beginning of glibc's.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

/// `_dl_find_object`, where the C library has it.
static FIND_OBJECT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

static STARTED: AtomicBool = AtomicBool::new(false);

/// Looks up, once, what is needed to find modules. Looking up may allocate, which the caller is prepared for.
pub(super) fn start() {
    if STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    // SAFETY: looks up a function by its name.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    FIND_OBJECT.store(function, Ordering::Relaxed);
}

/// The module that an instruction lies in.
pub(super) fn find(pc: usize) -> Option<Module> {
    let function = FIND_OBJECT.load(Ordering::Relaxed);
    if function.is_null() { find_by_iterating(pc) } else { find_by_asking(function, pc) }
}

fn find_by_asking(function: *mut c_void, pc: usize) -> Option<Module> {
    let mut found = std::mem::MaybeUninit::<FoundObject>::zeroed();
    // SAFETY: a pointer that `dlsym` gave for this name is this function. Where it answers 0 it has filled `found`. What is
    // mapped there begins with the object's ELF header, whose program headers are loaded with it, unless the object is an
    // executable with a gap between its segments: then it is the one segment that holds the instruction.
    unsafe {
        let function: FindObject = std::mem::transmute(function);
        if function(pc as *mut c_void, found.as_mut_ptr()) != 0 {
            return None;
        }
        let found = found.assume_init();
        let header = found.map_start.cast::<libc::Elf64_Ehdr>();
        if found.link_map.is_null() {
            return None;
        }
        if (*header).e_ident.first_chunk() != Some(b"\x7fELF") {
            return executable(&*found.link_map).or_else(|| find_by_iterating(pc));
        }
        let headers = found.map_start.byte_add((*header).e_phoff as usize).cast::<libc::Elf64_Phdr>();
        let headers = std::slice::from_raw_parts(headers, usize::from((*header).e_phnum));
        Module::new((*found.link_map).base, headers, (*found.link_map).name)
    }
}

/// The executable, if this is it: glibc gives it no name, and the kernel says where its headers are.
fn executable(found: &LinkMap) -> Option<Module> {
    // SAFETY: glibc's names end with a zero; the kernel's headers are those of the executable, and stay loaded.
    unsafe {
        if found.name.is_null() || *found.name != 0 {
            return None;
        }
        let headers = std::ptr::with_exposed_provenance::<libc::Elf64_Phdr>(libc::getauxval(libc::AT_PHDR) as usize);
        let count = libc::getauxval(libc::AT_PHNUM) as usize;
        if headers.is_null() {
            return None;
        }
        Module::new(found.base, std::slice::from_raw_parts(headers, count), found.name)
    }
}

fn find_by_iterating(pc: usize) -> Option<Module> {
    iterate(Some(pc))
}

/// The module an instruction lies in, or the executable, which the linker names first.
fn iterate(pc: Option<usize>) -> Option<Module> {
    struct Search {
        pc: Option<usize>,
        found: Option<Module>,
    }
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: the linker hands over an object that is loaded, and the pointer given below.
        unsafe {
            let search = &mut *search.cast::<Search>();
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            let module = Module::new(info.dlpi_addr as usize, headers, info.dlpi_name);
            search.found = module.filter(|module| search.pc.is_none_or(|pc| (module.low..module.high).contains(&pc)));
            c_int::from(search.found.is_some())
        }
    }
    let mut search = Search { pc, found: None };
    // SAFETY: `look` takes what is handed over. The lock is the linker's, which a thread that loads a library may hold
    // while it allocates; it may be taken again by the same thread.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// Writes the executable into the recording, as its first module.
pub(super) fn note_executable(recording: &Recording) {
    if let Some(executable) = iterate(None) {
        note(recording, &executable);
    }
}

/// Writes a module into the recording, if it is not there yet.
pub(super) fn note(recording: &Recording, found: &Module) {
    let used = (recording.header.used.modules.load(Ordering::Acquire) as usize).min(MODULES);
    let known = |entry: &ModuleEntry| {
        entry.low.load(Ordering::Relaxed) == found.low as u64 && entry.base.load(Ordering::Relaxed) == found.base as u64
    };
    if recording.modules[..used].iter().any(known) {
        return;
    }
    let index = recording.header.used.modules.fetch_add(1, Ordering::AcqRel) as usize;
    let Some(entry) = recording.modules.get(index) else { return };
    entry.base.store(found.base as u64, Ordering::Relaxed);
    entry.low.store(found.low as u64, Ordering::Relaxed);
    entry.high.store(found.high as u64, Ordering::Relaxed);
    let build_id = found.build_id();
    entry.build_id_len.store(write(&entry.build_id, build_id), Ordering::Relaxed);
    // SAFETY: the linker's name of a loaded object.
    let name = if found.name.is_null() { &[] } else { unsafe { CStr::from_ptr(found.name) }.to_bytes() };
    let mut own = [0u8; module::PATH_MAX];
    let length = if name.is_empty() { own_path(&mut own) } else { 0 };
    let path = if name.is_empty() { &own[..length] } else { name };
    entry.path_len.store(write(&entry.path, path), Ordering::Release);
}

/// The executable's path; how many bytes of it there are.
pub(super) fn own_path(path: &mut [u8]) -> usize {
    // SAFETY: the kernel writes at most so many bytes.
    let length = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr().cast(), path.len()) };
    usize::try_from(length).unwrap_or(0)
}

/// Where the module lies that this function is part of.
pub(super) fn own_range() -> Option<(usize, usize)> {
    static HERE: AtomicUsize = AtomicUsize::new(0);
    let own = find(&raw const HERE as usize).or_else(|| find(own_range as *const () as usize))?;
    Some((own.low, own.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same_module() {
        let here = both_ways_find_the_same_module as *const () as usize;
        let iterated = find_by_iterating(here).expect("the test is loaded");
        assert!(!iterated.unwind_index.is_empty());
        start();
        let asked = find(here).expect("the test is loaded");
        assert_eq!((asked.base, asked.low, asked.build_id()), (iterated.base, iterated.low, iterated.build_id()));
        assert_eq!(asked.unwind_index.as_ptr(), iterated.unwind_index.as_ptr());
        assert!(find(16).is_none() && find_by_iterating(16).is_none());
    }

    #[test]
    fn a_build_id_is_found_among_notes_and_cut_ones_end() {
        let mut notes = Vec::new();
        for (kind, name, description) in [(1u32, &b"GNU\0"[..], &[9u8; 16][..]), (3, b"GNU\0", &[1, 2, 3, 4, 5])] {
            for word in [name.len() as u32, description.len() as u32, kind] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(name);
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes), Some(&[1, 2, 3, 4, 5][..]));
        for cut in 0..notes.len() - 3 {
            assert_eq!(build_id(&notes[..cut]), None, "{cut}");
        }
    }
}
