//! The tables of `alloc-ladder.toml` as serde reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloc_ladder::Side;
use alloc_ladder::record::Compression;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) server: ServerTable,
    #[serde(default)]
    pub(super) load: Vec<ProgramTable>,
    #[serde(default)]
    pub(super) window: WindowTable,
    #[serde(default)]
    pub(super) workload: WorkloadTable,
    #[serde(default)]
    pub(super) traffic: Vec<TrafficTable>,
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<StepTable>,
}

/// `[server]`. The keys of a program stand here once more: a flattened table would lose the lines of its errors.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ServerTable {
    command: Option<Words>,
    bin: Option<String>,
    example: Option<String>,
    package: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) features: Vec<String>,
    #[serde(default = "yes")]
    pub(super) default_features: bool,
    #[serde(default = "release")]
    pub(super) profile: String,
    pub(super) side: Option<Side>,
    pub(super) port: Option<u16>,
    pub(super) line: Option<String>,
    pub(super) health: Option<String>,
    #[serde(default = "half_a_minute")]
    pub(super) ready_within: u64,
}

impl ServerTable {
    pub(super) fn program(&self) -> ProgramTable {
        let ServerTable { command, bin, example, package, args, env, .. } = self.clone();
        ProgramTable { command, bin, example, package, args, env }
    }
}

/// A program: all of `[[load]]`, and the part of `[server]` that says what is run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct ProgramTable {
    pub(crate) command: Option<Words>,
    pub(crate) bin: Option<String>,
    pub(crate) example: Option<String>,
    pub(crate) package: Option<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

impl ProgramTable {
    /// What cargo builds, where it builds it: `--bin` or `--example`, and its name.
    pub(crate) fn target(&self) -> Option<(&'static str, &str)> {
        let bin = self.bin.as_deref().map(|name| ("--bin", name));
        bin.or_else(|| self.example.as_deref().map(|name| ("--example", name)))
    }

    /// The program's name.
    pub(super) fn name(&self) -> &str {
        let first = self.command.as_ref().and_then(|words| words.0.first()).map_or("", String::as_str);
        let file = Path::new(first).file_name().and_then(|name| name.to_str());
        self.target().map(|(_, name)| name).or(file).unwrap_or_default()
    }

    /// Every text that may hold a placeholder.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let command = self.command.iter().flat_map(|words| &words.0);
        command.chain(&self.args).chain(self.env.values()).map(String::as_str)
    }
}

#[derive(Default, Deserialize)]
pub(super) struct WindowTable {
    pub(super) warmup: Option<f64>,
    pub(super) messages: Option<u64>,
    pub(super) seconds: Option<f64>,
    pub(super) rounds: Option<u32>,
    pub(super) budget: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) pin: Option<bool>,
}

/// `[workload]`: what is known of the traffic.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WorkloadTable {
    pub(crate) payload_bytes: Option<u64>,
    pub(crate) streams: Option<u32>,
    pub(crate) connections: Option<u32>,
    pub(crate) metadata: Option<u32>,
    pub(crate) compress: Option<Compression>,
}

impl WorkloadTable {
    /// Every key, and what it says, as text; `None` where nothing is said.
    pub(super) fn values(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("payload-bytes", self.payload_bytes.map(|bytes| bytes.to_string())),
            ("streams", self.streams.map(|streams| streams.to_string())),
            ("connections", self.connections.map(|connections| connections.to_string())),
            ("metadata", self.metadata.map(|entries| entries.to_string())),
            ("compress", self.compress.map(|compression| compression.name().to_owned())),
        ]
    }

    /// This, where it says something, and else the `other`.
    pub(super) fn or(self, other: WorkloadTable) -> WorkloadTable {
        WorkloadTable {
            payload_bytes: self.payload_bytes.or(other.payload_bytes),
            streams: self.streams.or(other.streams),
            connections: self.connections.or(other.connections),
            metadata: self.metadata.or(other.metadata),
            compress: self.compress.or(other.compress),
        }
    }
}

/// `[[traffic]]`: the keys of a workload stand here once more, as those of a program do in [`ServerTable`].
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TrafficTable {
    pub(super) name: String,
    payload_bytes: Option<u64>,
    streams: Option<u32>,
    connections: Option<u32>,
    metadata: Option<u32>,
    compress: Option<Compression>,
    #[serde(default)]
    pub(super) load_args: Vec<String>,
}

impl TrafficTable {
    pub(super) fn workload(&self) -> WorkloadTable {
        let TrafficTable { payload_bytes, streams, connections, metadata, compress, .. } = *self;
        WorkloadTable { payload_bytes, streams, connections, metadata, compress }
    }
}

#[derive(Deserialize)]
pub(super) struct StepTable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) about: String,
    pub(super) from: Option<String>,
    #[serde(default)]
    pub(super) features: Vec<String>,
    pub(super) allocator: Option<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default, rename = "load-args")]
    pub(super) load_args: Vec<String>,
    pub(super) revision: Option<String>,
    #[serde(default)]
    pub(super) patch: BTreeMap<String, Patch>,
}

impl StepTable {
    /// The keys under which it changes something.
    pub(super) fn changes(&self) -> Vec<&'static str> {
        let each = [
            ("features", !self.features.is_empty()),
            ("allocator", self.allocator.is_some()),
            ("env", !self.env.is_empty()),
            ("args", !self.args.is_empty()),
            ("load-args", !self.load_args.is_empty()),
            ("revision", self.revision.is_some()),
            ("patch", !self.patch.is_empty()),
        ];
        each.into_iter().filter(|(_, changes)| *changes).map(|(key, _)| key).collect()
    }
}

const fn yes() -> bool {
    true
}

fn release() -> String {
    "release".to_owned()
}

const fn half_a_minute() -> u64 {
    30
}

/// A command: one line, whose words stand between blanks or in quotes, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a command line, or a list of words")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Words, E> {
                let words = shlex::split(line).ok_or_else(|| E::custom("a quote is not closed"))?;
                Ok(Words(words))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Words, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(words)).map(Words)
            }
        }
        let words = deserializer.deserialize_any(Either)?;
        match words.0.first() {
            Some(program) if !program.is_empty() => Ok(words),
            _ => Err(de::Error::custom("it names no program")),
        }
    }
}

/// Where a dependency comes from in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// This version, from the registry.
    Version(String),
    Path(PathBuf),
    /// A repository, and what of it: `rev`, `branch` or `tag`, and its value.
    Git(String, Option<(&'static str, String)>),
}

impl<'de> Deserialize<'de> for Patch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patch, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Patch;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a version, as \"=0.4.13\", or a table with `path` or `git`")
            }

            fn visit_str<E: de::Error>(self, version: &str) -> Result<Patch, E> {
                exact(version).map(Patch::Version).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Patch, A::Error> {
                let table = PatchTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                table.patch().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
struct PatchTable {
    version: Option<String>,
    path: Option<PathBuf>,
    git: Option<String>,
    rev: Option<String>,
    branch: Option<String>,
    tag: Option<String>,
}

impl PatchTable {
    fn patch(self) -> Result<Patch, String> {
        let named = [("rev", self.rev), ("branch", self.branch), ("tag", self.tag)];
        let mut of = named.into_iter().filter_map(|(key, value)| Some((key, value?)));
        match (self.version, self.path, self.git, of.next(), of.next()) {
            (Some(version), None, None, None, _) => exact(&version).map(Patch::Version),
            (None, Some(path), None, None, _) => Ok(Patch::Path(path)),
            (None, None, Some(git), of, None) => Ok(Patch::Git(git, of)),
            _ => Err("a patch has one of `version`, `path` and `git`, and with `git` one of `rev`, `branch` and `tag`"
                .to_owned()),
        }
    }
}

/// `0.4.13` of `=0.4.13`: one version, and not a range of them.
fn exact(version: &str) -> Result<String, String> {
    let number = version.strip_prefix('=').unwrap_or(version).trim();
    let core = number.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let whole = parts.len() == 3 && parts.iter().all(|part| part.parse::<u64>().is_ok());
    let plain = number.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte));
    if whole && plain {
        Ok(number.to_owned())
    } else {
        Err(format!("`{version}` is not one version, as \"=0.4.13\" is"))
    }
}
