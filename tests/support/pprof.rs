//! Just enough of pprof's protobuf to read the values of a profile by RPC method.

use std::io::Read;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
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

/// The sum of the values called `kind` over the samples of an RPC method; `None` where it has no sample.
pub(crate) fn sum(gzipped: &[u8], kind: &str, rpc: &str) -> Option<i64> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzipped).read_to_end(&mut bytes).expect("gzip");
    let profile = Profile::decode(&*bytes).expect("a profile");
    let string = |index: i64| profile.string_table[index as usize].as_str();
    let value = profile.sample_type.iter().position(|value| string(value.r#type) == kind).expect("a type of values");
    let of_method =
        |sample: &&Sample| sample.label.iter().any(|label| string(label.key) == "rpc" && string(label.str) == rpc);
    let values: Vec<i64> = profile.sample.iter().filter(of_method).map(|sample| sample.value[value]).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}
