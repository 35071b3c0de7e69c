//! Builds the preload library, once, into the user's cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;

/// The library's package: a manifest and ten lines.
const MANIFEST: &str = include_str!("../../../crates/preload/Cargo.toml");
const SOURCE: &str = include_str!("../../../crates/preload/src/lib.rs");
/// What the manifest says of where `alloc-ladder` lies; replaced by where it does.
const PATH: &str = "path = \"../..\"";
const LIBRARY: &str = "liballoc_ladder_preload.so";

/// The library's path, built if it is not there or older than its source.
///
/// # Errors
/// When the cache cannot be written, or the library cannot be built.
pub(crate) fn library() -> anyhow::Result<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let checkout = checkout.join("src/recorder.rs").is_file().then_some(checkout);
    let folder = cache()?.join(format!("preload-{}", env!("CARGO_PKG_VERSION")));
    let built = folder.join("target/release").join(LIBRARY);
    if checkout.is_none() && built.is_file() {
        // Published source does not change.
        return Ok(built);
    }
    std::fs::create_dir_all(folder.join("src")).with_context(|| format!("cannot make {}", folder.display()))?;
    write_if_other(&folder.join("Cargo.toml"), &manifest(checkout))?;
    write_if_other(&folder.join("src/lib.rs"), SOURCE)?;
    // The versions that this checkout was tested with.
    if let Some(lock) = checkout.map(|checkout| checkout.join("Cargo.lock")).filter(|lock| lock.is_file())
        && !folder.join("Cargo.lock").exists()
    {
        std::fs::copy(lock, folder.join("Cargo.lock")).with_context(|| format!("cannot write {}", folder.display()))?;
    }
    build(&folder, built.is_file())?;
    Ok(built)
}

/// The manifest, which names `alloc-ladder` in a checkout, or by its version.
fn manifest(checkout: Option<&Path>) -> String {
    let place = match checkout {
        Some(checkout) => format!("path = {:?}", checkout.to_string_lossy()),
        None => format!("version = \"={}\"", env!("CARGO_PKG_VERSION")),
    };
    MANIFEST.replace(PATH, &place)
}

fn write_if_other(path: &Path, text: &str) -> anyhow::Result<()> {
    // A file that is not written anew is not built anew.
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn build(folder: &Path, again: bool) -> anyhow::Result<()> {
    if !again {
        terminal::progress("Building", "the preload library, once");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    command.arg("--target-dir").arg(folder.join("target"));
    // What a cargo above this command set is about another package.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name == "RUSTFLAGS" || name.starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        Failure::new(Kind::Environment, format!("cannot start cargo to build the preload library: {error}"))
            .help("install Rust, or put cargo on the PATH")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let cause = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo says nothing").to_owned();
    Err(anyhow::Error::msg(cause).context(
        Failure::new(Kind::Environment, "the preload library cannot be built")
            .help(format!("`cargo build --release` in {} says why", folder.display())),
    ))
}

/// The user's folder for what can be made again.
fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("alloc-ladder")).ok_or_else(|| {
        Failure::new(Kind::Environment, "there is no folder to build the preload library in")
            .help("set HOME, or XDG_CACHE_HOME")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_library_by_path_or_version() {
        let by_path: toml::Table = manifest(Some(Path::new("/srv/a \"b\""))).parse().expect("TOML");
        assert_eq!(by_path["dependencies"]["alloc-ladder"]["path"].as_str(), Some("/srv/a \"b\""));
        let by_version: toml::Table = manifest(None).parse().expect("TOML");
        let dependency = &by_version["dependencies"]["alloc-ladder"];
        assert_eq!(dependency["version"].as_str(), Some(concat!("=", env!("CARGO_PKG_VERSION"))));
        assert!(dependency.get("path").is_none());
    }
}
