//! pprof's protobuf, and a writer that shares its strings, functions and locations.

use std::collections::HashMap;
use std::io::Write;

use prost::Message;

/// `perftools.profiles.Profile`, the fields written here.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// One function of a location.
#[derive(Clone, Copy)]
pub struct SourceLine<'a> {
    pub function: &'a str,
    pub file: &'a str,
    pub line: u32,
}

/// Builds a [`Profile`].
pub struct Writer {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<u64, u64>,
}

impl Writer {
    /// A profile with these values per sample, each `(type, unit)`.
    pub fn new(values: &[(&str, &str)]) -> Writer {
        let mut writer = Writer {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // pprof's table starts with the empty string.
        writer.string("");
        for (kind, unit) in values {
            let value = ValueType { r#type: writer.string(kind), unit: writer.string(unit) };
            writer.profile.sample_type.push(value);
        }
        // One mapping that covers every address and says that the names are known: pprof then asks for no binary.
        let filename = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let filename = writer.string(&filename);
        writer.profile.mapping.push(Mapping {
            id: 1,
            memory_start: 0,
            memory_limit: u64::MAX,
            filename,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
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

    /// When the profile was taken and over how long, nanoseconds.
    pub fn time(&mut self, time_nanos: i64, duration_nanos: i64) {
        self.profile.time_nanos = time_nanos;
        self.profile.duration_nanos = duration_nanos;
    }

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
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id: 1, address, line });
        self.locations.insert(address, id);
        id
    }

    /// A sample; labels with an empty value are left out.
    pub fn sample(&mut self, location_id: Vec<u64>, value: &[i64], labels: &[(&str, &str)]) {
        let label = labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| Label { key: self.string(key), str: self.string(value) })
            .collect();
        self.profile.sample.push(Sample { location_id, value: value.to_vec(), label });
    }

    /// The profile as pprof reads it: protobuf, gzip-compressed.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&self.profile.encode_to_vec())?;
        gzip.finish()
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
