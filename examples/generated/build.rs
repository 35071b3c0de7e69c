//! The same service several times: as tonic generates it, with the steps' bodies, with pooled messages as well, and with
//! messages that are encoded once for many streams.

use std::path::{Path, PathBuf};

use alloc_ladder::build::generator;
use prost_build::Config;
use tonic_prost_build::configure;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "../../proto";
    println!("cargo::rerun-if-changed={proto}/toy.proto");
    let descriptors = protox::compile(["toy.proto"], [proto])?;

    // As tonic comes.
    configure().out_dir(folder("stock")?).compile_fds(descriptors.clone())?;

    // The one line. `bytes` is prost's own setting: payloads that are received and sent without a copy.
    Config::new()
        .service_generator(Box::new(generator(configure())))
        .bytes(["."])
        .out_dir(folder("steps")?)
        .compile_fds(descriptors.clone())?;

    // One more setting for messages whose strings and vectors are worth recycling.
    Config::new()
        .service_generator(Box::new(generator(configure()).pooled(".toy.v1.User").pooled(".toy.v1.Chunk")))
        .out_dir(folder("pooled")?)
        .compile_fds(descriptors.clone())?;

    // For messages that many calls are answered with.
    Config::new()
        .service_generator(Box::new(generator(configure()).encoded(".toy.v1.Chunk")))
        .out_dir(folder("encoded")?)
        .compile_fds(descriptors.clone())?;

    // A server over the trait that the first one generated: for handlers written against another crate's code.
    Config::new()
        .service_generator(Box::new(
            generator(configure().build_client(false)).over_trait("crate::stock::pb::toy_server::Toy"),
        ))
        .extern_path(".toy.v1", "crate::stock::pb")
        .out_dir(folder("over")?)
        .compile_fds(descriptors)?;
    Ok(())
}

/// A folder of this name for generated code.
fn folder(name: &str) -> std::io::Result<PathBuf> {
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    let folder = Path::new(&out).join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
