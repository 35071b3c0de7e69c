//! The files whose code the process runs, where they lie in its memory, and the build they are of: what a profile needs
//! for its addresses to be named elsewhere, also later.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::{Object, ReadCache};

/// A part of a file that is mapped as code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) start: u64,
    pub(super) limit: u64,
    /// Where in the file it begins.
    pub(super) offset: u64,
    pub(super) file: String,
    /// In hexadecimal; empty where the file has none, or is not the one that was loaded any more.
    pub(super) build_id: String,
    /// It carries neither a table of symbols nor debug information.
    pub(super) stripped: bool,
}

/// The modules of this process, its program first; none on other systems than Linux.
pub(super) fn of_process() -> Vec<Module> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let mut modules: Vec<Module> = maps.lines().filter_map(mapped).map(|mapped| mapped.module(&program)).collect();
    // Stable: all else stays in the order of addresses.
    modules.sort_by_key(|module| Path::new(&module.file) != program);
    modules
}

/// A line of the kernel's `maps` that is about code of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapped<'a> {
    start: u64,
    limit: u64,
    offset: u64,
    inode: u64,
    file: &'a str,
}

/// Of a line such as `55d0c8a00000-55d0c8b00000 r-xp 00012000 fd:01 4242   /usr/bin/service`.
fn mapped(line: &str) -> Option<Mapped<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (_device, rest) = rest.split_once(' ')?;
    let (inode, file) = rest.split_once(' ')?;
    // A path may hold spaces, and what is not a file has a name in brackets or none.
    let file = file.trim_start();
    let (start, limit) = range.split_once('-')?;
    let number = |hexadecimal: &str| u64::from_str_radix(hexadecimal, 16).ok();
    (permissions.as_bytes().get(2) == Some(&b'x') && file.starts_with('/')).then_some(())?;
    Some(Mapped {
        start: number(start)?,
        limit: number(limit)?,
        offset: number(offset)?,
        inode: inode.parse().ok()?,
        file,
    })
}

impl Mapped<'_> {
    fn module(&self, program: &Path) -> Module {
        let Mapped { start, limit, offset, .. } = *self;
        let file = self.file.strip_suffix(" (deleted)").unwrap_or(self.file);
        // The program's own file can be read when it was replaced or removed.
        let path = if Path::new(file) == program { PathBuf::from("/proc/self/exe") } else { PathBuf::from(file) };
        let (build_id, stripped) = self.look_into(&path).unwrap_or_default();
        Module { start, limit, offset, file: file.to_owned(), build_id, stripped }
    }

    /// The build id, and whether the file is stripped; `None` where it is another file by now, or not ELF.
    fn look_into(&self, path: &Path) -> Option<(String, bool)> {
        let file = File::open(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            (file.metadata().ok()?.ino() == self.inode).then_some(())?;
        }
        let cache = ReadCache::new(file);
        let object = object::File::parse(&cache).ok()?;
        let build_id = object.build_id().ok().flatten().unwrap_or_default();
        let stripped = [".symtab", ".debug_info"].into_iter().all(|name| object.section_by_name(name).is_none());
        Some((build_id.iter().map(|byte| format!("{byte:02x}")).collect(), stripped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_code_are_read_and_others_left_out() {
        let line = "55d0c8a00000-55d0c8b00000 r-xp 00012000 fd:01 4242                  /srv/my service (deleted)";
        let expected = Mapped {
            start: 0x55d0_c8a0_0000,
            limit: 0x55d0_c8b0_0000,
            offset: 0x12000,
            inode: 4242,
            file: "/srv/my service (deleted)",
        };
        assert_eq!(mapped(line), Some(expected.clone()));
        assert_eq!(expected.module(Path::new("/none")).file, "/srv/my service");
        for other in [
            "55d0c8a00000-55d0c8b00000 r--p 00012000 fd:01 4242                  /usr/bin/service",
            "7ffd1000-7ffd2000 r-xp 00000000 00:00 0                          [vdso]",
            "7ffd1000-7ffd2000 r-xp 00000000 00:00 0 ",
            "zz-7ffd2000 r-xp 00000000 00:00 0 /x",
            "",
        ] {
            assert_eq!(mapped(other), None, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_program_is_the_first_module() {
        let modules = of_process();
        let own = this_program_is_the_first_module as fn() as usize as u64;
        let first = modules.first().expect("this program");
        assert!((first.start..first.limit).contains(&own), "{first:?}");
        assert!(!first.stripped, "{first:?}");
        assert!(modules.iter().any(|module| module.file.contains("libc")), "{modules:?}");
    }
}
