//! Whether a program can be recorded from outside, told from its file before it is started.
//!
//! A preload library stands in front of the C library's `malloc` in programs that the dynamic linker starts, and sees
//! nothing of allocators that a program brings along. What it would not see it would not miss either: a recording would
//! be empty or lack most blocks, and nobody would know why. So these programs are refused, each in one sentence.

use object::elf::{EM_AARCH64, EM_X86_64};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object, ObjectSection, ObjectSymbol};

/// Why a program cannot be recorded by a preload library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is a script: name the program it starts, or the children to record with --children")]
    Script,
    #[error("it is not a program of Linux")]
    NotElf,
    #[error("it was built for another machine")]
    OtherMachine,
    #[error("it is a Go program, whose runtime has its memory from the kernel and calls no `malloc`")]
    Go,
    #[error("it is linked statically, so that no library can be put in front of its allocator")]
    Static,
    #[error("it uses musl's C library; the preload library is for glibc's")]
    Musl,
    #[error("it runs with another user's rights, so that the linker ignores preloaded libraries")]
    Setuid,
    #[error("it brings {0} along, which a preload library does not see")]
    Allocator(&'static str),
    #[error("it has a `malloc` of its own, which a preload library does not replace")]
    OwnMalloc,
}

impl Refusal {
    /// The two lines that record such a program from inside, where those help.
    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            Refusal::Script | Refusal::NotElf | Refusal::OtherMachine => None,
            Refusal::Go => Some(GO_LINE),
            _ => Some(ALLOC_LINES),
        }
    }
}

/// What a program's own `main.rs` needs to be recorded wherever it runs.
pub(crate) const ALLOC_LINES: &str = "record it from inside, with two lines in its main.rs and `features = [\"recorder\"]`:\n\
    #[global_allocator]\nstatic ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();\n\
    (`Alloc::wrapping(Jemalloc)` keeps an allocator of its own)";

/// How a Go program's allocations are seen.
const GO_LINE: &str =
    "let Go's own profiler write them (`/debug/pprof/allocs`), and open its file with `cargo alloc-ladder open FILE`";

/// What tells the recorder of a program's own `main.rs` whose a byte is: stage, side and RPC method.
pub(crate) const SEAM_LINES: &str = "rows by RPC method need the seams, with `features = [\"recorder\", \"transport\"]`:\n\
    .layer(alloc_ladder::tonic::ServerLayer::new())               on Server::builder()\n\
    .serve_with_incoming(alloc_ladder::tonic::incoming(addr)?)    in place of .serve(addr)\n\
    alloc_ladder::tonic::connect(endpoint)                        a client's, in place of endpoint.connect()";

/// What matters of a program that can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// It carries the recorder: its own allocator records when it is asked to.
    pub(crate) records_itself: bool,
}

/// Looks at a program's file. `setuid` says whether its mode gives it another user's rights.
///
/// # Errors
/// The [`Refusal`] in the way.
pub(crate) fn examine(file: &[u8], setuid: bool) -> Result<Executable, Refusal> {
    if file.starts_with(b"#!") {
        return Err(Refusal::Script);
    }
    let program = ElfFile64::<object::Endianness>::parse(file).map_err(|_| Refusal::NotElf)?;
    let machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
    if program.elf_header().e_machine.get(program.endian()) != machine {
        return Err(Refusal::OtherMachine);
    }
    let contains = |text: &str| memchr::memmem::find(file, text.as_bytes()).is_some();
    if contains(alloc_ladder::recorder::Variable::Recordings.name()) {
        return Ok(Executable { records_itself: true });
    }
    if is_go(&program) {
        return Err(Refusal::Go);
    }
    match interpreter(&program, file) {
        None => return Err(Refusal::Static),
        Some(interpreter) if memchr::memmem::find(interpreter, b"ld-musl").is_some() => return Err(Refusal::Musl),
        Some(_) if setuid => return Err(Refusal::Setuid),
        Some(_) => {}
    }
    let defined = program.symbols().chain(program.dynamic_symbols()).filter(|symbol| symbol.is_definition());
    // A stripped program still has its allocator's messages.
    let text = [("<jemalloc>: ", "jemalloc"), ("mimalloc: ", "mimalloc")].into_iter().find(|(text, _)| contains(text));
    match own_allocator(defined.filter_map(|symbol| symbol.name().ok()))
        .or(text.map(|(_, name)| Refusal::Allocator(name)))
    {
        Some(refusal) => Err(refusal),
        None => Ok(Executable { records_itself: false }),
    }
}

/// Whether Go's linker made the program. Its section is also in a Rust program that a Go library is linked into, whose own
/// blocks are recorded: that one has rustc's name among its compilers.
fn is_go(program: &ElfFile64<'_, object::Endianness>) -> bool {
    let by_rustc = || {
        let compilers = program.section_by_name(".comment").and_then(|section| section.data().ok());
        compilers.is_some_and(|compilers| memchr::memmem::find(compilers, b"rustc version").is_some())
    };
    program.section_by_name(".go.buildinfo").is_some() && !by_rustc()
}

/// The dynamic linker that starts the program.
fn interpreter<'a>(program: &ElfFile64<'_, object::Endianness>, file: &'a [u8]) -> Option<&'a [u8]> {
    let endian = program.endian();
    let header =
        program.elf_program_headers().iter().find(|header| header.p_type.get(endian) == object::elf::PT_INTERP)?;
    let (at, length) = (header.p_offset.get(endian) as usize, header.p_filesz.get(endian) as usize);
    file.get(at..at.checked_add(length)?)
}

/// The allocator that a program's own symbols show.
fn own_allocator<'a>(defined: impl Iterator<Item = &'a str>) -> Option<Refusal> {
    let mut own = None;
    for name in defined {
        match name {
            "_rjem_malloc" | "_rjem_mallocx" | "je_malloc" | "je_mallocx" => {
                return Some(Refusal::Allocator("jemalloc"));
            }
            "mi_malloc" => return Some(Refusal::Allocator("mimalloc")),
            "tc_malloc" | "TCMallocInternalMalloc" => return Some(Refusal::Allocator("tcmalloc")),
            "malloc" => own = Some(Refusal::OwnMalloc),
            _ => {}
        }
    }
    own
}

/// A file's build id, by which a program and its names find each other.
pub(crate) fn build_id(file: &[u8]) -> Option<Vec<u8>> {
    let program = object::File::parse(file).ok()?;
    program.build_id().ok().flatten().map(<[u8]>::to_vec)
}

/// The most that deflate makes of a byte: <https://zlib.net/zlib_tech.html>. zstd can make more, of what no debug information
/// is.
const UNPACKED_RATIO: u64 = 1032;

/// Whether a section that is packed claims to hold more than it can: who unpacks it takes that much memory first.
pub(crate) fn claims_too_much(file: &[u8]) -> bool {
    let Ok(program) = object::File::parse(file) else { return false };
    let mut packed = program.sections().filter_map(|section| section.compressed_data().ok());
    packed.any(|section| {
        section.format != CompressionFormat::None
            && section.uncompressed_size > UNPACKED_RATIO.saturating_mul(section.data.len() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("a path")).expect("reads")
    }

    /// The header of a program of this class, machine and number of program headers.
    fn header(class: u8, machine: u16) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        header[16] = 2;
        header[18..20].copy_from_slice(&machine.to_le_bytes());
        header[20] = 1;
        header[52] = 64;
        header
    }

    #[test]
    fn a_program_that_carries_the_recorder_records_itself() {
        // This test names the variable, as the recorder does.
        assert_eq!(examine(&own(), true), Ok(Executable { records_itself: true }));
    }

    #[test]
    fn what_a_preload_library_would_not_see_is_refused() {
        let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        assert_eq!(examine(b"#!/bin/sh\n", false), Err(Refusal::Script));
        assert_eq!(examine(b"MZ", false), Err(Refusal::NotElf));
        assert_eq!(examine(b"", false), Err(Refusal::NotElf));
        assert_eq!(examine(&header(1, machine), false), Err(Refusal::NotElf), "32 bits");
        assert_eq!(examine(&header(2, 8), false), Err(Refusal::OtherMachine));
        assert_eq!(examine(&header(2, machine), false), Err(Refusal::Static));
        let sh = std::fs::read("/bin/sh").expect("a shell");
        assert_eq!(examine(&sh, false), Ok(Executable { records_itself: false }));
        assert_eq!(examine(&sh, true), Err(Refusal::Setuid));
        let with = |text: &[u8]| examine(&[&sh, text].concat(), false);
        assert_eq!(with(b"<jemalloc>: Error"), Err(Refusal::Allocator("jemalloc")), "stripped");
    }

    #[test]
    fn a_go_program_is_refused_and_a_rust_program_with_a_go_library_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let with = |sections: &[(&str, &str)]| {
            let mut objcopy = std::process::Command::new("objcopy");
            for (name, text) in sections {
                let file = folder.path().join(name.trim_start_matches('.'));
                std::fs::write(&file, text).expect("writes");
                objcopy.arg("--add-section").arg(format!("{name}={}", file.display()));
            }
            let program = folder.path().join("program");
            assert!(objcopy.arg("/bin/sh").arg(&program).status().expect("binutils").success());
            examine(&std::fs::read(program).expect("reads"), false)
        };
        assert_eq!(with(&[(".go.buildinfo", "Go buildinf:")]), Err(Refusal::Go));
        let rust = with(&[(".go.buildinfo", "Go buildinf:"), (".comment", "rustc version 1.95.0")]);
        assert_eq!(rust, Ok(Executable { records_itself: false }));
        assert!(Refusal::Go.help().is_some_and(|help| help.contains("pprof")));
    }

    #[test]
    fn allocators_are_known_by_their_symbols() {
        let of = |names: &[&'static str]| own_allocator(names.iter().copied());
        assert_eq!(of(&["main", "malloc", "_rjem_malloc"]), Some(Refusal::Allocator("jemalloc")));
        assert_eq!(of(&["mi_malloc"]), Some(Refusal::Allocator("mimalloc")));
        assert_eq!(of(&["main", "malloc"]), Some(Refusal::OwnMalloc));
        assert_eq!(of(&["main", "malloc_usable_size"]), None);
        assert!(Refusal::Static.help().is_some_and(|help| help.lines().count() == 4));
    }

    #[test]
    fn a_cut_program_is_refused_and_never_a_panic() {
        let sh = std::fs::read("/bin/sh").expect("a shell");
        for cut in (0..sh.len()).step_by(997) {
            let _ = examine(&sh[..cut], false);
            let _ = build_id(&sh[..cut]);
        }
        assert!(build_id(&sh).is_some_and(|id| !id.is_empty()));
    }
}
