//! The example does what it says.

#[test]
fn the_example_runs_to_its_end() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_renamed")).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
