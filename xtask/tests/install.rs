//! What `cargo install --path xtask` installs, by what cargo says of the package.

use std::process::Command;

use serde_json::Value;

#[test]
fn exactly_one_program_is_installed() {
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let metadata: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == env!("CARGO_PKG_NAME")).expect("this package");
    let default = package["features"]["default"].as_array().cloned().unwrap_or_default();
    let targets = package["targets"].as_array().expect("targets").iter();
    let programs = targets.filter(|target| target["kind"] == serde_json::json!(["bin"]));
    // Cargo installs a program whose required features are on; `cargo install` turns on the default ones.
    let (installed, others): (Vec<&Value>, Vec<&Value>) = programs.partition(|program| {
        let required = program["required-features"].as_array().cloned().unwrap_or_default();
        required.iter().all(|feature| default.contains(feature))
    });
    assert_eq!(installed.iter().map(|program| &program["name"]).collect::<Vec<_>>(), ["cargo-alloc-ladder"]);
    assert_eq!(others.iter().map(|program| &program["name"]).collect::<Vec<_>>(), ["xtask"]);
}
