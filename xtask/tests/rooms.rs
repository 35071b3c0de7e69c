//! Who may import whom: the rooms of both packages, read from the source.
//!
//! A path counts wherever it stands: in a `use`, in an expression, in a macro. A name that a module re-exports counts as
//! the module it comes from. Test code is left out: `#[cfg(test)]` items and the files they declare.

#[path = "support/paths.rs"]
mod paths;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use paths::{Package, Reference};

/// One room and what it may import.
struct Room {
    name: &'static str,
    /// Rooms, or modules of a room (`store::layout`).
    may: &'static [&'static str],
    /// Crates from a registry; `None` where any may be used.
    crates: Option<&'static [&'static str]>,
}

const fn room(name: &'static str, may: &'static [&'static str]) -> Room {
    Room { name, may, crates: None }
}

const EVERY_ROOM: &[&str] = &["*"];

/// The command, `xtask/src`.
const COMMAND: &[Room] = &[
    room("verbs", &["measure", "render", "analyse", "store", "cli"]),
    room("repository", EVERY_ROOM),
    room("render", &["analyse", "store", "cli"]),
    room("measure", &["analyse", "store", "cli"]),
    room("analyse", &["store::layout", "cli::numbers"]),
    room("store", &["cli"]),
    room("cli", &[]),
];

/// The library, `src`.
const LIBRARY: &[Room] = &[
    // What the allocator's path runs through needs the standard library alone.
    Room { name: "alloc", may: &["stage", "method", "recorder", "sampled"], crates: Some(&[]) },
    // Called by allocators: knows no stages, and asks the C library alone.
    Room { name: "recorder", may: &[], crates: Some(&["gimli", "libc"]) },
    Room { name: "stage", may: &["alloc", "method"], crates: Some(&["pin_project_lite"]) },
    Room { name: "method", may: &["alloc", "stage"], crates: Some(&[]) },
    // tonic for its `Status` and `Code`, prost and flate2 for pprof's messages.
    Room { name: "wire", may: &[], crates: Some(&["http", "bytes", "prost", "flate2", "tonic"]) },
    room("listen", &["wire"]),
    room("assert", &["alloc", "stage", "method", "recorder"]),
    room("sampled", &["alloc", "stage", "method", "recorder"]),
    room("otel", &["alloc", "stage", "method"]),
    // Words alone.
    room("trust", &[]),
    room("tonic", &["alloc", "stage", "method", "wire"]),
    room("steps", &["method", "stage", "tonic", "wire"]),
    // For build scripts, which have nothing else of the library.
    Room { name: "build", may: &[], crates: Some(&["prost_build", "tonic_prost_build"]) },
    room("live", &["alloc", "stage", "method", "sampled", "tonic", "wire", "listen"]),
    // A record names steps and settings as text: it knows no ladder, and no command line.
    Room { name: "record", may: &["alloc", "stage", "method"], crates: Some(&["serde", "serde_json", "thiserror"]) },
    // Its instruments are the allocators of the library.
    room("driver", &["alloc", "stage", "method", "record", "recorder", "sampled"]),
    room("subject", EVERY_ROOM),
];

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a member of the workspace").to_owned()
}

fn command() -> Package {
    Package::read(&root().join("xtask"))
}

fn library() -> Package {
    Package::read(&root())
}

/// The first word of a module's path; empty for `lib.rs`.
fn room_of(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// What breaks the table, a line each.
fn trespasses(package: &Package, rooms: &[Room]) -> Vec<String> {
    let row = |name: &str| rooms.iter().find(|room| room.name == name);
    let within = |module: &str, place: &str| {
        place == "*" || module.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let mut found = Vec::new();
    let names: BTreeSet<&str> =
        package.modules().map(|module| room_of(module)).filter(|name| !name.is_empty()).collect();
    found.extend(
        names.iter().filter(|name| row(name).is_none()).map(|name| format!("room `{name}` is not in the table")),
    );
    found.extend(
        rooms.iter().filter(|room| !names.contains(room.name)).map(|room| format!("room `{}` is not there", room.name)),
    );
    for Reference { module, line, target, path } in package.references() {
        // `lib.rs` declares the rooms and starts them.
        let Some(from) = row(room_of(module)) else { continue };
        let place = || format!("{}:{line}: {path}", package.file(module).display());
        if room_of(target) == from.name {
            if from.name == "verbs" && verb(module).is_some_and(|one| verb(target).is_some_and(|other| one != other)) {
                found.push(format!("{} (a verb imports a verb)", place()));
            }
        } else if !target.is_empty() && !from.may.iter().any(|place| within(target, place)) {
            found.push(format!("{} ({} may not import {target})", place(), from.name));
        }
    }
    for (module, line, name) in package.crates() {
        let allowed = row(room_of(module)).and_then(|room| room.crates);
        if allowed.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
            found.push(format!("{}:{line}: crate {name}", package.file(module).display()));
        }
    }
    found
}

/// `compare` of `verbs::compare::table`.
fn verb(module: &str) -> Option<&str> {
    module.split("::").nth(1)
}

/// Circles of imports between files: of each knot, the shortest circle through its first file.
///
/// A file may name the files that it declares, and they may use what it defines: that is a module and its parts. All
/// other circles count.
fn circles(package: &Package) -> Vec<String> {
    let mut edges: BTreeMap<&str, BTreeMap<&str, &Reference>> = BTreeMap::new();
    let is_part = |reference: &&Reference| {
        reference.module.is_empty()
            || reference.target.strip_prefix(&*reference.module).is_some_and(|rest| rest.starts_with("::"))
    };
    for reference in package.references().iter().filter(|reference| !is_part(reference)) {
        edges.entry(&reference.module).or_default().entry(&reference.target).or_insert(reference);
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for start in edges.keys().copied() {
        if told.contains(start) {
            continue;
        }
        let Some(circle) = shortest_circle(&edges, start) else { continue };
        told.extend(circle.iter().map(|reference| &*reference.module));
        let steps = circle.iter().map(|reference| {
            format!("\n    {}:{}: {}", package.file(&reference.module).display(), reference.line, reference.path)
        });
        found.push(format!("a circle:{}", steps.collect::<String>()));
    }
    found
}

fn shortest_circle<'a>(
    edges: &BTreeMap<&'a str, BTreeMap<&'a str, &'a Reference>>,
    start: &'a str,
) -> Option<Vec<&'a Reference>> {
    let mut came_by: BTreeMap<&str, &Reference> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(module) = next.pop_front() {
        for (target, reference) in edges.get(module).into_iter().flatten() {
            if !came_by.contains_key(target) {
                came_by.insert(target, reference);
                next.push_back(target);
            }
        }
    }
    let mut circle = vec![*came_by.get(start)?];
    while circle[circle.len() - 1].module != start {
        circle.push(came_by[&*circle[circle.len() - 1].module]);
    }
    circle.reverse();
    Some(circle)
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_command_s_rooms_import_what_they_may() {
    none(&trespasses(&command(), COMMAND));
}

#[test]
fn the_library_s_rooms_import_what_they_may() {
    none(&trespasses(&library(), LIBRARY));
}

#[test]
fn no_files_of_the_command_import_each_other() {
    none(&circles(&command()));
}

#[test]
fn no_files_of_the_library_import_each_other() {
    none(&circles(&library()));
}

/// A package of these files, with `bytes` for a dependency.
fn package(files: &[(&str, &str)]) -> (tempfile::TempDir, Package) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("a folder");
        std::fs::write(file, text).expect("written");
    };
    write("Cargo.toml", "[dependencies]\nbytes = \"1\"\n");
    for (name, text) in files {
        write(name, text);
    }
    let package = Package::read(folder.path());
    (folder, package)
}

#[test]
fn a_trespass_is_found_however_it_is_written() {
    const ROOMS: &[Room] =
        &[room("verbs", &["store::layout"]), room("store", &[]), Room { name: "wire", may: &[], crates: Some(&[]) }];
    let table = |verb: &str| {
        let (_folder, package) = package(&[
            ("src/lib.rs", "mod store; mod verbs; mod wire; pub use store::find::Found;"),
            ("src/store.rs", "pub mod find; pub mod layout;"),
            ("src/store/find.rs", "pub struct Found;"),
            ("src/store/layout.rs", ""),
            ("src/verbs.rs", "mod one; mod two;"),
            ("src/verbs/one.rs", verb),
            ("src/verbs/two.rs", "pub fn run() {}"),
            ("src/wire.rs", ""),
        ]);
        trespasses(&package, ROOMS).len()
    };
    for (text, expected) in [
        ("use crate::store::layout;", 0),
        ("use crate::store::layout::{self, ROOT};", 0),
        ("use crate::store::find;", 1),
        ("use crate::store::{find, layout};", 1),
        ("use crate::{store::{find::{self, Found}}, wire};", 3),
        ("fn f() -> crate::store::find::Found { todo!() }", 1),
        ("fn f() { html! { p { (crate::store::find::Found) } } }", 1),
        ("mod inner { use super::super::super::store::find; }", 1),
        ("use crate::store; fn f() { store::layout::root(); }", 1),
        ("use crate::Found;", 1),
        ("use super::two;", 1),
        ("use crate::verbs::two::run as other;", 1),
        // Words, visibility and tests are no imports.
        (
            "// use crate::store::find;\n/// [`crate::store::find`]\npub(in crate::verbs) const S: &str = \"crate::store::find\";",
            0,
        ),
        ("#[cfg(test)] mod tests { use crate::store::find; }", 0),
        ("#[cfg(test)] use crate::store::{find};", 0),
        ("#[cfg(test)]\n#[path = \"x.rs\"]\nfn f() { crate::store::find::x(); } use crate::store::find;", 1),
    ] {
        assert_eq!(table(text), expected, "{text}");
    }
}

#[test]
fn a_crate_a_room_may_not_use_is_found() {
    const WIRE: &[Room] = &[Room { name: "wire", may: &[], crates: Some(&[]) }];
    for (text, expected) in [
        ("use bytes::Bytes;", 1),
        ("fn f(b: &bytes::Bytes) {}", 1),
        ("use std::io;", 0),
        ("mod bytes { } use self::bytes::x;", 0),
    ] {
        let (_folder, package) = package(&[("src/lib.rs", "mod wire;"), ("src/wire.rs", text)]);
        assert_eq!(trespasses(&package, WIRE).len(), expected, "{text}");
    }
}

#[test]
fn circles_are_found_and_told_once() {
    let circles_of = |files: &[(&str, &str)]| circles(&package(files).1);
    let lib = ("src/lib.rs", "mod a; mod b; mod c;");
    let line = circles_of(&[lib, ("src/a.rs", "use crate::b;"), ("src/b.rs", "use crate::c;"), ("src/c.rs", "")]);
    assert_eq!(line, [""; 0]);
    let circle =
        circles_of(&[lib, ("src/a.rs", "use crate::b;"), ("src/b.rs", "use crate::c;"), ("src/c.rs", "use super::a;")]);
    assert_eq!(circle.len(), 1, "{circle:?}");
    for file in ["src/a.rs:1", "src/b.rs:1", "src/c.rs:1"] {
        assert!(circle[0].contains(file), "{circle:?}");
    }
    let parts = |b: &str, c: &str| {
        let parent = ("src/a.rs", "mod b; mod c; pub use b::B; fn f() { c::g() }\npub struct A;");
        circles_of(&[("src/lib.rs", "mod a;"), parent, ("src/a/b.rs", b), ("src/a/c.rs", c)]).len()
    };
    assert_eq!(parts("use super::A;", "use super::{A, B};"), 0, "parts may use their module and each other");
    assert_eq!(parts("use super::c;", "use super::B;"), 1, "but not in a circle, whatever name they go by");
    let tests =
        [("src/lib.rs", "mod a;"), ("src/a.rs", "#[cfg(test)] mod tests;"), ("src/a/tests.rs", "use super::S;")];
    assert_eq!(circles_of(&tests), [""; 0]);
}
