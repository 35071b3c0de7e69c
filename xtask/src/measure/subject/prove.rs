//! The steps that need no change of a service's code, as steps to measure: what would this service save?
//!
//! Each is climbed from the service as it is, under the load of its own file.

use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Kind};
use crate::measure::subject::file::{Step, Subject};
use crate::measure::subject::source::{Package, Workspace};

/// Allocators that may be put in the place of the system's.
const ALLOCATORS: [&str; 2] = ["mimalloc", "jemalloc"];
/// Where Linux keeps libraries.
const LIBRARIES: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib"];
/// The package that stands in for tonic.
pub(super) const TONIC: &str = "alloc-ladder-tonic";

/// A step that could be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    /// Where the line goes.
    pub(crate) place: String,
    /// What to write.
    pub(crate) line: String,
}

/// What can be measured of a subject, and what not.
#[derive(Debug)]
pub(crate) struct Proving {
    /// The service as it is, and each candidate on top of it.
    pub(crate) subject: Subject,
    pub(crate) candidates: Vec<Candidate>,
    /// What cannot be tried here: its name, and why.
    pub(crate) left_out: Vec<(String, String)>,
}

/// What only a line of the service's own code can change, and the line.
const WINDOWS: (&str, &str) = (
    "windows and frames of HTTP/2",
    "they are set in the service's code: write `Http2::for_messages(BYTES).server(Server::builder())` \
     (`alloc_ladder::steps`), with the encoded length of a message, and measure that as a step of a feature or a revision",
);

/// The candidates on top of the step called `base`, or of the first.
///
/// # Errors
/// [`Kind::Usage`] for a step that the file does not have, and when cargo cannot read the workspace.
pub(crate) fn candidates(mut subject: Subject, base: Option<&str>) -> anyhow::Result<Proving> {
    let names: Vec<String> = subject.steps.iter().map(|step| step.name.clone()).collect();
    let found = subject.steps.iter().find(|step| base.is_none_or(|base| step.name == base)).cloned();
    let Some(base) = found else {
        let message = format!("{} has no step `{}`", subject.file.display(), base.unwrap_or_default());
        return Err(Failure::new(Kind::Usage, message).help(format!("its steps: {}", names.join(", "))).into());
    };
    let packages = match subject.server.program.target() {
        None => Vec::new(),
        Some(_) => Workspace::of(&subject.base())?.map_err(|said| Failure::new(Kind::Environment, said))?.packages,
    };
    let (mut candidates, mut left_out) = (Vec::new(), Vec::new());
    let mut steps = vec![base.clone()];
    let mut add = |candidate: Candidate, change: &dyn Fn(&mut Step)| {
        let mut step = Step { name: candidate.name.clone(), about: candidate.line.clone(), ..base.clone() };
        step.from = Some(base.name.clone());
        change(&mut step);
        steps.push(step);
        candidates.push(candidate);
    };
    match tonic(&packages) {
        Ok(line) => {
            let candidate = Candidate { name: TONIC.to_owned(), place: "Cargo.toml".to_owned(), line };
            add(candidate, &|step| step.tonic = Some(TONIC));
        }
        Err(why) => left_out.push((TONIC.to_owned(), why)),
    }
    for allocator in ALLOCATORS {
        let name = allocator.to_owned();
        if packages.iter().any(|package| package.features.contains_key(allocator)) {
            let line = format!("cargo build --features {allocator}");
            let candidate = Candidate { name, place: "where it is built".to_owned(), line };
            add(candidate, &|step| step.allocator = Some(allocator.to_owned()));
        } else if let Some(library) = library(allocator, &LIBRARIES.map(Path::new)) {
            let library = library.to_string_lossy().into_owned();
            let line = format!("LD_PRELOAD={library}");
            let candidate = Candidate { name, place: "the service's environment".to_owned(), line };
            add(candidate, &|step| drop(step.env.insert("LD_PRELOAD".to_owned(), library.clone())));
        } else {
            let why = format!("the package has no feature `{allocator}`, and lib{allocator} is not installed");
            left_out.push((name, why));
        }
    }
    left_out.push((WINDOWS.0.to_owned(), WINDOWS.1.to_owned()));
    subject.steps = steps;
    Ok(Proving { subject, candidates, left_out })
}

/// The line that puts another package in tonic's place, or why there is none.
fn tonic(packages: &[Package]) -> Result<String, String> {
    if packages.is_empty() {
        return Err("a `command` is not built; name a `bin` or an `example` in [server]".to_owned());
    }
    let named = |package: &&Package| {
        package.dependencies.iter().any(|dependency| dependency.name == "tonic" && dependency.rename.is_none())
    };
    match packages.iter().find(named) {
        Some(_) => Ok(format!("tonic = {{ package = \"{TONIC}\", version = \"{}\" }}", env!("CARGO_PKG_VERSION"))),
        None => Err("no package of the workspace depends on tonic by its own name".to_owned()),
    }
}

/// The library of an allocator, where it is installed.
fn library(name: &str, folders: &[&Path]) -> Option<PathBuf> {
    let is_it = |file: &Path| {
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.strip_prefix(&format!("lib{name}.so")).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut found: Vec<PathBuf> =
        files.flat_map(|entries| entries.flatten()).map(|entry| entry.path()).filter(|file| is_it(file)).collect();
    found.sort();
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::subject::file::read_str;
    use crate::measure::subject::source::Dependency;

    #[test]
    fn tonic_is_replaced_where_it_is_named() {
        let of = |name: &str, rename: Option<&str>| Package {
            dependencies: vec![Dependency { name: name.to_owned(), rename: rename.map(str::to_owned) }],
            ..Package::default()
        };
        assert!(tonic(&[of("tonic", None)]).is_ok_and(|line| line.contains("package = \"alloc-ladder-tonic\"")));
        assert!(tonic(&[of("tonic", Some("grpc"))]).is_err());
        assert!(tonic(&[of("prost", None)]).is_err());
        assert!(tonic(&[]).is_err_and(|why| why.contains("not built")));
    }

    #[test]
    fn a_library_is_found_by_its_name_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["libmimalloc-secure.so", "libmimalloc.so.2", "libjemalloc.a"] {
            std::fs::write(folder.path().join(name), "").expect("writes");
        }
        assert_eq!(library("mimalloc", &[folder.path()]), Some(folder.path().join("libmimalloc.so.2")));
        assert_eq!(library("jemalloc", &[folder.path()]), None);
    }

    #[test]
    fn what_cannot_be_tried_says_why() {
        let text = "[server]\ncommand = \"./a\"\n[[step]]\nname = \"one\"\n[[step]]\nname = \"two\"\nargs = [\"x\"]\n";
        let proving = candidates(read_str(text), Some("two")).expect("reads");
        assert_eq!(
            (proving.subject.steps[0].name.as_str(), &proving.subject.steps[0].args[..]),
            ("two", &["x".to_owned()][..])
        );
        assert!(proving.left_out.iter().any(|(name, why)| name == TONIC && why.contains("not built")));
        assert!(proving.left_out.iter().any(|(_, why)| why.contains("Http2::for_messages")), "the line for windows");
        assert!(candidates(read_str(text), Some("three")).is_err());
    }
}
