//! Exports profiles as pprof's `profile.proto`, gzipped: what `go tool pprof`, speedscope and others read.
//!
//! Three values a sample (blocks, bytes, bytes at the peak) and three labels (side, rpc, stage): `go tool pprof
//! -tagroot=stage` gives every stage a root of its own. A run has a file a side and step; the label keeps the sides of
//! files apart that a reader merges. The messages are written out here by hand: they are few, they never change, and
//! generating them would need a vendored `.proto`.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};

use alloc_ladder::Side;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::analyse::fold::Profile;

/// How many samples are made before they are written.
const PART: usize = 1000;

/// Writes the gzipped profile of every side and RPC given. The same profiles give the same bytes: no time is written.
///
/// PERF: messages of this format that follow each other are one. So it is written in parts, and the samples of a large
/// file are never all in memory.
///
/// # Errors
/// Those of `into`.
pub(crate) fn encode(profiles: &[(Side, &str, &Profile)], into: impl Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(into, Compression::fast());
    let mut part = |profile: proto::Profile| gzip.write_all(&profile.encode_to_vec());
    let mut strings = Table::default();
    // The format wants the empty string first: 0 stands for "not given".
    strings.index(String::new());
    let mut functions = Table::default();
    let mut value_type = |of: &str, unit: &str| proto::ValueType {
        r#type: strings.index(of.to_owned()),
        unit: strings.index(unit.to_owned()),
    };
    let sample_type = vec![
        value_type("alloc_objects", "count"),
        value_type("alloc_space", "bytes"),
        value_type("peak_space", "bytes"),
    ];
    let default_sample_type = sample_type[1].r#type;
    for (side, rpc, profile) in profiles {
        // Each name is looked up once, however many stacks hold it.
        let mut known: Vec<Option<u64>> = vec![None; profile.names().len()];
        for sites in profile.sites.chunks(PART) {
            let sample = sites.iter().map(|site| {
                let mut location = |place: u32| {
                    let place = place as usize;
                    // The format numbers from 1.
                    *known[place].get_or_insert_with(|| functions.index(profile.names()[place].clone()) as u64 + 1)
                };
                // The format wants the leaf first.
                let location_id = profile.places(site).rev().map(&mut location).collect();
                let labels = [("side", side.name()), ("rpc", rpc), ("stage", site.stage.name())];
                let label = labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| {
                    proto::Label { key: strings.index(key.to_owned()), str: strings.index(value.to_owned()) }
                });
                let label = label.collect();
                let value = [site.blocks, site.bytes, site.peak_bytes].map(signed).to_vec();
                proto::Sample { location_id, value, label }
            });
            part(proto::Profile { sample: sample.collect(), ..proto::Profile::default() })?;
        }
    }
    let mapping = proto::Mapping { id: 1, filename: strings.index("alloc-ladder".to_owned()), has_functions: true };
    let mut location = Vec::new();
    let mut function = Vec::new();
    for (id, name) in (1..).zip(functions.values) {
        location.push(proto::Location { id, mapping_id: 1, line: vec![proto::Line { function_id: id }] });
        // pprof demangles a function whose system name is its name, and strips what it takes for C++ templates.
        let system_name = strings.index(format!("rust:{name}"));
        function.push(proto::Function { id, name: strings.index(name), system_name });
    }
    part(proto::Profile {
        sample_type,
        mapping: vec![mapping],
        location,
        function,
        string_table: strings.values,
        default_sample_type,
        sample: Vec::new(),
    })?;
    gzip.finish().map(drop)
}

/// A count as the format has it. What a dhat file adds up to fits by far: its reader refuses more.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Values by index, each once.
struct Table<T> {
    values: Vec<T>,
    places: HashMap<T, i64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { values: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn index(&mut self, value: T) -> i64 {
        if let Some(place) = self.places.get(&value) {
            return *place;
        }
        let place = self.values.len() as i64;
        self.values.push(value.clone());
        self.places.insert(value, place);
        place
    }
}

/// The fields of github.com/google/pprof's `proto/profile.proto` that are written here.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "14")]
        pub(super) default_sample_type: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) r#type: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) str: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Mapping {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "5")]
        pub(super) filename: i64,
        #[prost(bool, tag = "7")]
        pub(super) has_functions: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) mapping_id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
    }
}

#[cfg(test)]
mod tests;
