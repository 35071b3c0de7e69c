//! Finds the binaries a recording names, and asks them what lies at an address.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use addr2line::Loader;

use crate::analyse::executable::{build_id, claims_too_much};
use crate::analyse::recording::Module;
use crate::analyse::symbols::{Found, Function};

/// No file numbers an address as high: of a damaged recording one may be, and addr2line adds to it.
const HIGHEST: u64 = 1 << 56;

/// Binaries, opened when they are asked for.
pub(crate) struct Binaries {
    /// Unstripped files that may stand in for one that was recorded, with their build ids.
    others: Vec<(Vec<u8>, PathBuf)>,
    open: HashMap<String, Option<Loader>>,
    /// What is said of binaries that cannot be asked.
    pub(crate) warnings: Vec<String>,
}

impl Binaries {
    /// `others` are unstripped files of programs that were recorded; they are known by their build ids.
    pub(crate) fn new(others: &[PathBuf]) -> Binaries {
        let mut warnings = Vec::new();
        let mut known = Vec::new();
        for path in others {
            let file = std::fs::read(path).unwrap_or_default();
            match build_id(&file) {
                Some(_) if claims_too_much(&file) => warnings.push(damaged(&path.display())),
                Some(id) => known.push((id, path.clone())),
                None => warnings.push(format!("{} has no build id and names nothing", path.display())),
            }
        }
        Binaries { others: known, open: HashMap::new(), warnings }
    }

    /// What a module's binary says of an address, as the file numbers it.
    pub(crate) fn look_up(&mut self, module: &Module, address: u64) -> Found {
        if address > HIGHEST {
            return Found::default();
        }
        if !self.open.contains_key(&module.path) {
            let loader = self.load(module);
            self.open.insert(module.path.clone(), loader);
        }
        let Some(Some(loader)) = self.open.get(&module.path) else { return Found::default() };
        let mut functions = Vec::new();
        if let Ok(mut frames) = loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(name) = frame.function.as_ref().and_then(|function| function.raw_name().ok()) else {
                    continue;
                };
                let place = frame.location.as_ref();
                functions.push(Function {
                    name: name.into_owned(),
                    file: place.and_then(|place| place.file).map(str::to_owned),
                    line: place.and_then(|place| place.line).unwrap_or(0),
                    column: place.and_then(|place| place.column).unwrap_or(0),
                });
            }
        }
        Found { functions, symbol: loader.find_symbol(address).map(str::to_owned) }
    }

    /// Opens the file a module was loaded from, unless it has changed since; else one with the same build id.
    fn load(&mut self, module: &Module) -> Option<Loader> {
        if let Some((_, other)) = self.others.iter().find(|(id, _)| *id == module.build_id) {
            return Loader::new(other).ok();
        }
        // The kernel's own library has no file.
        if !module.path.starts_with('/') {
            return None;
        }
        let warning = match std::fs::read(Path::new(&module.path)) {
            Err(error) => format!("{} cannot be read, so that its functions have no names: {error}", module.path),
            Ok(file) if !module.build_id.is_empty() && build_id(&file).is_some_and(|id| id != module.build_id) => {
                format!("{} was built again since it was recorded, so that its functions have no names", module.path)
            }
            Ok(file) if claims_too_much(&file) => damaged(&module.path),
            Ok(_) => match Loader::new(&module.path) {
                Ok(loader) => return Some(loader),
                Err(error) => format!("the symbols of {} cannot be read: {error}", module.path),
            },
        };
        self.warnings.push(warning);
        None
    }
}

fn damaged(path: &dyn Display) -> String {
    format!("the symbols of {path} are damaged: a section claims to unpack to more than it can")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(build_id: Vec<u8>) -> Module {
        let path = std::env::current_exe().expect("a path");
        Module { path: path.to_string_lossy().into_owned(), build_id, ..Module::default() }
    }

    /// Where this test's own function lies in its file.
    fn here() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("reads");
        let path = std::env::current_exe().expect("a path");
        let line = maps.lines().find(|line| line.ends_with(&*path.to_string_lossy())).expect("is mapped");
        let base = u64::from_str_radix(line.split('-').next().expect("an address"), 16).expect("a number");
        here as *const () as u64 - base
    }

    #[test]
    fn an_address_has_its_function_file_and_line() {
        let mut binaries = Binaries::new(&[]);
        let found = binaries.look_up(&own(Vec::new()), here());
        let function = found.functions.last().expect("debug information");
        assert!(function.name.contains("here") && function.line > 0, "{function:?}");
        assert!(function.file.as_deref().is_some_and(|file| file.ends_with("measure/symbols.rs")));
        assert!(found.symbol.is_some_and(|symbol| symbol.contains("here")));
        assert_eq!(binaries.warnings, [""; 0]);
    }

    /// The fuzzer made it: 184 bytes that claim to be two gigabytes, which would be taken before the first is unpacked.
    #[test]
    fn a_section_that_claims_too_much_is_not_unpacked() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/fuzz/binary/claims-two-gigabytes");
        let module = Module { path: path.to_string_lossy().into_owned(), ..Module::default() };
        for others in [vec![], vec![path]] {
            let mut binaries = Binaries::new(&others);
            assert_eq!(binaries.look_up(&module, 0x1020), Found::default());
            assert!(binaries.warnings[0].contains("claims to unpack to more"), "{:?}", binaries.warnings);
        }
    }

    #[test]
    fn a_binary_that_changed_names_nothing_and_another_of_the_same_build_does() {
        let mut binaries = Binaries::new(&[]);
        assert_eq!(binaries.look_up(&own(vec![1, 2, 3]), here()), Found::default());
        assert!(binaries.warnings[0].contains("built again"), "{:?}", binaries.warnings);

        let path = std::env::current_exe().expect("a path");
        let id = build_id(&std::fs::read(&path).expect("reads")).expect("the linker gives one");
        let mut binaries = Binaries::new(&[path]);
        let moved = Module { path: "/gone/away".to_owned(), build_id: id, ..Module::default() };
        assert!(!binaries.look_up(&moved, here()).functions.is_empty());
        let gone = Module { path: "/gone/away".to_owned(), ..Module::default() };
        assert_eq!(Binaries::new(&[]).look_up(&gone, 0), Found::default());
    }
}
