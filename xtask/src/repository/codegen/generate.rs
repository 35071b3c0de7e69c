//! The generators and what they generate.

use std::path::{Path, PathBuf};

use anyhow::Context;
use buffa::Message as _;
use buffa_codegen::CodeGenConfig;
use buffa_codegen::generated::descriptor::FileDescriptorSet;
use prost::Message as _;

use super::Args;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::store::write;

/// One generated file.
struct Target {
    proto: &'static str,
    /// What the compiler calls its output.
    package: &'static str,
    /// From the workspace's folder.
    file: &'static str,
    compiler: Compiler,
}

#[derive(Clone, Copy)]
enum Compiler {
    /// prost as it comes: `bytes` fields are `Vec<u8>`.
    Prost,
    /// prost with `bytes` fields as `bytes::Bytes`.
    ProstBytes,
    /// prost, and client and server code too, which names this codec.
    Tonic { codec: &'static str },
    /// buffa, for these messages.
    Buffa { messages: &'static [&'static str] },
}

const TARGETS: &[Target] = &[
    Target { proto: "ladder.proto", package: "ladder.v1", file: "src/subject/pb/owned.rs", compiler: Compiler::Prost },
    Target {
        proto: "ladder.proto",
        package: "ladder.v1",
        file: "src/subject/pb/bytes.rs",
        compiler: Compiler::ProstBytes,
    },
    Target {
        proto: "ladder.proto",
        package: "ladder.v1",
        file: "src/subject/pb/swapped.rs",
        compiler: Compiler::Buffa { messages: &["User", "Export", "Span", "Attribute"] },
    },
    Target {
        proto: "live.proto",
        package: "alloc_ladder.v1",
        file: "src/live/pb.rs",
        compiler: Compiler::Tonic { codec: "tonic_prost::ProstCodec" },
    },
    Target {
        proto: "agent.proto",
        package: "alloc_ladder.agent.v2",
        file: "xtask/src/measure/remote/pb.rs",
        compiler: Compiler::Tonic { codec: "tonic_prost::ProstCodec" },
    },
    Target {
        proto: "greeter.proto",
        package: "greeter.v1",
        file: "examples/support/greeter.rs",
        compiler: Compiler::Tonic { codec: "crate::Codec" },
    },
];

/// Generates every file, or says which are stale.
///
/// # Errors
/// A proto file that does not compile, a file that cannot be written, a stale file with `--check`.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for target in TARGETS {
        let fresh = generate(target)?;
        let path = root().join(target.file);
        if std::fs::read_to_string(&path).is_ok_and(|current| current == fresh) {
            continue;
        }
        if args.check {
            stale.push(path.display().to_string());
        } else {
            write::whole(&path, fresh.as_bytes())?;
            terminal::progress("Generated", &path.display().to_string());
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Verdict, format!("not what proto/ says: {}", stale.join(", ")))
        .help("run `cargo xtask codegen` and commit the result")
        .into())
}

fn generate(target: &Target) -> anyhow::Result<String> {
    let proto = root().join("proto");
    let descriptors =
        protox::compile([target.proto], [&proto]).with_context(|| format!("in proto/{}", target.proto))?;
    match target.compiler {
        Compiler::Buffa { messages } => generate_buffa(target, messages, descriptors),
        Compiler::Prost | Compiler::ProstBytes | Compiler::Tonic { .. } => {
            let out = tempfile::tempdir().context("no temporary folder")?;
            let services = matches!(target.compiler, Compiler::Tonic { .. });
            let builder = tonic_prost_build::configure();
            let mut builder = builder.build_client(services).build_server(services).out_dir(out.path());
            match target.compiler {
                Compiler::ProstBytes => builder = builder.bytes("."),
                Compiler::Tonic { codec } => builder = builder.codec_path(codec),
                Compiler::Prost | Compiler::Buffa { .. } => {}
            }
            builder.compile_fds(descriptors)?;
            read(&out.path().join(format!("{}.rs", target.package)))
        }
    }
}

/// buffa makes a file that includes two others, one for messages and one for views: here they become one.
fn generate_buffa(
    target: &Target,
    messages: &[&str],
    mut descriptors: prost_types::FileDescriptorSet,
) -> anyhow::Result<String> {
    for file in &mut descriptors.file {
        file.service.clear();
        file.message_type.retain(|kept| messages.contains(&kept.name()));
    }
    let descriptors = FileDescriptorSet::decode_from_slice(&descriptors.encode_to_vec())?;
    let files = buffa_codegen::generate(&descriptors.file, &[target.proto.to_owned()], &CodeGenConfig::default())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let content = |name: &str| {
        let file = files.iter().find(|file| file.name == name);
        file.map(|file| file.content.as_str()).with_context(|| format!("buffa made no {name}"))
    };
    let mut whole = content(&format!("{}.mod.rs", target.package))?.to_owned();
    while let Some((before, rest)) = whole.split_once("include!(\"") {
        let (file, after) = rest.split_once("\");").context("buffa's include! lines look different now")?;
        whole = format!("{before}{}{after}", content(file)?);
    }
    Ok(whole)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("the compiler wrote no {}", path.display()))
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_owned()
}
