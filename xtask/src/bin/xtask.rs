//! `cargo xtask`: the command, with the verbs of this repository.

fn main() -> std::process::ExitCode {
    cargo_alloc_ladder::xtask()
}
