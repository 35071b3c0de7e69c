//! The values of a profile by RPC method.

use alloc_ladder::wire::pprof::Profile;

/// The sum of the values called `kind` over the samples of an RPC method; `None` where it has no sample.
pub(crate) fn sum(gzipped: &[u8], kind: &str, rpc: &str) -> Option<i64> {
    let profile = Profile::read(gzipped).expect("a profile");
    let of_kind = |index: i64| profile.string(index) == kind;
    let value = profile.sample_type.iter().position(|value| of_kind(value.r#type)).expect("a type of values");
    let values = profile.sample.iter().filter_map(|sample| {
        let is_rpc = |(key, value)| key == "rpc" && value == rpc;
        let mut labels = sample.label.iter().map(|label| (profile.string(label.key), profile.string(label.str)));
        labels.any(is_rpc).then(|| sample.value[value])
    });
    values.reduce(|sum, value| sum + value)
}
