//! pprof's protobuf (`profile.proto` of github.com/google/pprof), and a writer that shares its strings, functions and
//! locations.
//!
//! The messages are written out by hand: they are few and never change, and generating them would need a vendored
//! `.proto`.

use std::collections::HashMap;
use std::io::{Read, Write};

use prost::Message;

/// A whole profile: the fields that are written here.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// A type of values and its unit, as indexes of strings.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct ValueType {
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// One stack, its values, and its labels.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A label, as indexes of strings.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Label {
    #[prost(int64, tag = "1")]
    pub key: i64,
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// Where a program lies in memory, and what is known of its symbols.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Mapping {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    #[prost(int64, tag = "5")]
    pub filename: i64,
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// One address: the functions there, the innermost first.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Location {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    #[prost(uint64, tag = "3")]
    pub address: u64,
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A function and a line in it.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Line {
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function, as indexes of strings.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "named as in profile.proto")]
pub struct Function {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(int64, tag = "2")]
    pub name: i64,
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// One function of a location.
#[derive(Clone, Copy, Debug)]
pub struct SourceLine<'a> {
    /// Its name, demangled.
    pub function: &'a str,
    /// Its file; empty where none is known.
    pub file: &'a str,
    /// The line; 0 where none is known.
    pub line: u32,
}

/// What is known of the program whose functions are named.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name or path.
    pub name: &'a str,
    /// Files, lines and inlined functions are known, not names alone.
    pub lines: bool,
}

/// A part of a file whose code the program ran, as it lay in the program's memory.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// The first address, and the first behind it.
    pub addresses: (u64, u64),
    /// Where in the file it begins.
    pub offset: u64,
    /// The file.
    pub file: &'a str,
    /// Its build id in hexadecimal; empty where it has none.
    pub build_id: &'a str,
    /// The file names its functions: one that has no name here has none in the file either.
    pub named: bool,
}

/// Builds a [`Profile`].
#[derive(Debug)]
pub struct Writer {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<u64, u64>,
    /// Locations without an address, by function.
    named: HashMap<u64, u64>,
    /// Where the mappings are modules: for each, whether its file names its functions.
    modules: Option<Vec<bool>>,
}

impl Writer {
    /// A profile with these values per sample, each `(type, unit)`, of a program whose addresses mean nothing elsewhere.
    pub fn new(values: &[(&str, &str)], program: Program<'_>) -> Writer {
        let mut writer = Writer::of_values(values);
        // One mapping that covers every address and says that the names are known: pprof then asks for no binary.
        let filename = writer.string(program.name);
        writer.profile.mapping.push(Mapping {
            id: 1,
            memory_limit: u64::MAX,
            filename,
            has_functions: true,
            has_filenames: program.lines,
            has_line_numbers: program.lines,
            has_inline_frames: program.lines,
            ..Mapping::default()
        });
        writer
    }

    /// As [`new`](Writer::new), of a program that ran these modules, its own first: what has no name here can be named
    /// later, by whoever has the files. What is known of a module follows from its locations.
    pub fn with_modules<'a>(values: &[(&str, &str)], modules: impl IntoIterator<Item = Module<'a>>) -> Writer {
        let mut writer = Writer::of_values(values);
        let mut named = Vec::new();
        for module in modules {
            let (memory_start, memory_limit) = module.addresses;
            let (filename, build_id) = (writer.string(module.file), writer.string(module.build_id));
            named.push(module.named);
            let (id, file_offset) = (named.len() as u64, module.offset);
            let known =
                Mapping { id, memory_start, memory_limit, file_offset, filename, build_id, ..Mapping::default() };
            writer.profile.mapping.push(known);
        }
        writer.modules = Some(named);
        writer
    }

    fn of_values(values: &[(&str, &str)]) -> Writer {
        let mut writer = Writer {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            named: HashMap::new(),
            modules: None,
        };
        // The table starts with the empty string: index 0 stands for "not given".
        writer.string("");
        for (kind, unit) in values {
            let value = ValueType { r#type: writer.string(kind), unit: writer.string(unit) };
            writer.profile.sample_type.push(value);
        }
        writer
    }

    /// Which value a viewer shows first.
    pub fn default_type(&mut self, kind: &str) {
        self.profile.default_sample_type = self.string(kind);
    }

    /// What was sampled, and every how much of it.
    pub fn period(&mut self, kind: &str, unit: &str, period: i64) {
        self.profile.period_type = Some(ValueType { r#type: self.string(kind), unit: self.string(unit) });
        self.profile.period = period;
    }

    /// When the profile was taken and over how long, nanoseconds. Without it the same samples give the same bytes.
    pub fn time(&mut self, time_nanos: i64, duration_nanos: i64) {
        self.profile.time_nanos = time_nanos;
        self.profile.duration_nanos = duration_nanos;
    }

    /// A regular expression: a viewer leaves out functions it matches as a whole, and what they call. For those that have
    /// no name before the viewer finds one.
    pub fn drop_frames(&mut self, functions: &str) {
        self.profile.drop_frames = self.string(functions);
    }

    /// A line of text for people.
    pub fn comment(&mut self, comment: &str) {
        let comment = self.string(comment);
        self.profile.comment.push(comment);
    }

    /// The location at `address`, a number of the caller's choice; its functions innermost first.
    pub fn location<'a>(&mut self, address: u64, lines: impl IntoIterator<Item = SourceLine<'a>>) -> u64 {
        if let Some(id) = self.locations.get(&address) {
            return *id;
        }
        let line = lines.into_iter().map(|line| self.line(line)).collect();
        let id = self.push_location(address, line);
        self.locations.insert(address, id);
        id
    }

    /// The location of a function of which only the name is known.
    pub fn named_location(&mut self, function: &str) -> u64 {
        let line = self.line(SourceLine { function, file: "", line: 0 });
        let function_id = line.function_id;
        if let Some(id) = self.named.get(&function_id) {
            return *id;
        }
        let id = self.push_location(0, vec![line]);
        self.named.insert(function_id, id);
        id
    }

    /// A sample: its locations innermost first, and a value for each type. Labels with an empty value are left out.
    pub fn sample(&mut self, location_id: Vec<u64>, value: &[i64], labels: &[(&str, &str)]) {
        let label = labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| Label { key: self.string(key), str: self.string(value) })
            .collect();
        self.profile.sample.push(Sample { location_id, value: value.to_vec(), label });
    }

    /// The profile as pprof reads it: protobuf, gzip-compressed.
    pub fn finish(mut self, compression: flate2::Compression) -> Vec<u8> {
        if let Some(modules) = self.modules.take() {
            self.tell_what_is_known(&modules);
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), compression);
        gzip.write_all(&self.profile.encode_to_vec()).expect("writing to memory cannot fail");
        gzip.finish().expect("writing to memory cannot fail")
    }

    fn push_location(&mut self, address: u64, line: Vec<Line>) -> u64 {
        // The format numbers from 1.
        let id = self.profile.location.len() as u64 + 1;
        let mapping_id = match self.modules {
            None => 1,
            // What lies in no module, as a name without an address, has no mapping.
            Some(_) => {
                let mappings = &self.profile.mapping;
                let around = |mapping: &&Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
                mappings.iter().find(around).map_or(0, |mapping| mapping.id)
            }
        };
        self.profile.location.push(Location { id, mapping_id, address, line });
        id
    }

    /// Sets what each mapping's locations have in common, and leaves out the modules that have none.
    fn tell_what_is_known(&mut self, named: &[bool]) {
        let Profile { mapping, location, function, .. } = &mut self.profile;
        for (mapping, named) in mapping.iter_mut().zip(named) {
            let own = || location.iter().filter(|location| location.mapping_id == mapping.id);
            let lines = || own().flat_map(|location| &location.line);
            let has_file = |line: &Line| function[line.function_id as usize - 1].filename != 0;
            let functions = lines().next().is_some() && (*named || own().all(|location| !location.line.is_empty()));
            let filenames = functions && lines().any(has_file);
            let line_numbers = functions && lines().any(|line| line.line != 0);
            mapping.has_functions = functions;
            mapping.has_filenames = filenames;
            mapping.has_line_numbers = line_numbers;
            mapping.has_inline_frames = line_numbers;
        }
        // The program's own stays first. The numbers of the others stay too: they need not be without gaps.
        mapping.retain(|mapping| mapping.id == 1 || location.iter().any(|location| location.mapping_id == mapping.id));
    }

    fn line(&mut self, line: SourceLine<'_>) -> Line {
        let key = (self.string(line.function), self.string(line.file));
        let next = self.profile.function.len() as u64 + 1;
        let id = *self.functions.entry(key).or_insert(next);
        if id == next {
            let (name, filename) = key;
            // A system name that differs tells pprof that the name is demangled already: it would take the generics
            // out of it otherwise.
            let system_name = self.string(&format!("{}.", line.function));
            self.profile.function.push(Function { id, name, system_name, filename });
        }
        Line { function_id: id, line: i64::from(line.line) }
    }

    fn string(&mut self, string: &str) -> i64 {
        if let Some(index) = self.strings.get(string) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(string.to_owned());
        self.strings.insert(string.to_owned(), index);
        index
    }
}

impl Profile {
    /// Reads what [`Writer::finish`] wrote.
    ///
    /// # Errors
    /// When the bytes are not gzip, or not a profile.
    pub fn read(gzipped: &[u8]) -> std::io::Result<Profile> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(gzipped).read_to_end(&mut bytes)?;
        Profile::decode(&*bytes).map_err(std::io::Error::other)
    }

    /// The string with this index.
    pub fn string(&self, index: i64) -> &str {
        usize::try_from(index).ok().and_then(|index| self.string_table.get(index)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_functions_only_where_they_are_known() {
        let module = |start: u64, file, named| Module {
            addresses: (start, start + 0x1000),
            offset: 0x200,
            file,
            build_id: "2bc1",
            named,
        };
        let modules = [
            module(0x1000, "stripped", false),
            module(0x2000, "named", true),
            module(0x3000, "exports", false),
            module(0x4000, "unused", true),
        ];
        let mut writer = Writer::with_modules(&[("space", "bytes")], modules);
        let line = SourceLine { function: "f", file: "f.rs", line: 7 };
        let ids = [
            writer.location(0x1010, []),
            writer.location(0x1020, [line]),
            writer.location(0x2010, [line]),
            writer.location(0x2020, []),
            writer.location(0x3010, [SourceLine { function: "malloc", file: "", line: 0 }]),
            writer.location(0x9000, []),
            writer.named_location("(cut)"),
        ];
        writer.sample(ids.to_vec(), &[1], &[]);
        let profile = Profile::read(&writer.finish(flate2::Compression::fast())).expect("a profile");
        let known: Vec<_> = profile
            .mapping
            .iter()
            .map(|mapping| (profile.string(mapping.filename), mapping.has_functions, mapping.has_line_numbers))
            .collect();
        assert_eq!(known, [("stripped", false, false), ("named", true, true), ("exports", true, false)]);
        let mapping = &profile.mapping[0];
        assert_eq!((mapping.memory_start, mapping.memory_limit, mapping.file_offset), (0x1000, 0x2000, 0x200));
        assert_eq!(profile.string(mapping.build_id), "2bc1");
        let of: Vec<u64> = profile.location.iter().map(|location| location.mapping_id).collect();
        assert_eq!(of, [1, 1, 2, 2, 3, 0, 0]);
    }

    #[test]
    fn what_is_the_same_is_written_once() {
        let mut writer = Writer::new(&[("space", "bytes")], Program { name: "test", lines: false });
        let line = SourceLine { function: "Wire<u64>::encode", file: "wire.rs", line: 7 };
        let at = writer.location(0x1000, [line]);
        assert_eq!(writer.location(0x1000, []), at);
        assert_ne!(writer.location(0x2000, [line]), at);
        let named = writer.named_location("main");
        assert_eq!(writer.named_location("main"), named);
        writer.sample(vec![at, named], &[100], &[("side", "server"), ("rpc", "")]);
        let profile = Profile::read(&writer.finish(flate2::Compression::fast())).expect("a profile");
        assert_eq!((profile.location.len(), profile.function.len(), profile.string(0)), (3, 2, ""));
        let labels = &profile.sample[0].label;
        assert_eq!(labels.len(), 1, "the empty label is left out");
        assert_eq!((profile.string(labels[0].key), profile.string(labels[0].str)), ("side", "server"));
        for function in &profile.function {
            assert_ne!(function.name, function.system_name, "pprof would take the generics out of it");
        }
    }
}
