//! As with tonic itself, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "../../proto";
    println!("cargo::rerun-if-changed={proto}/toy.proto");
    let descriptors = protox::compile(["toy.proto"], [proto])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
