//! `cargo alloc-ladder`: the command for anybody's service.

fn main() -> std::process::ExitCode {
    cargo_alloc_ladder::cargo_alloc_ladder()
}
