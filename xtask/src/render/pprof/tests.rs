use std::collections::HashMap;
use std::io::Read;

use expect_test::expect;
use flate2::read::GzDecoder;

use super::*;
use crate::analyse::dhat::Dhat;
use crate::analyse::fold::Figures;

fn fixture(text: &str) -> Profile {
    Profile::from_dhat(&Dhat::parse(text.as_bytes()).expect("the fixture is a dhat file"))
}

fn written(profiles: &[(Side, &str, &Profile)]) -> Vec<u8> {
    let mut file = Vec::new();
    encode(profiles, &mut file).expect("memory takes it");
    file
}

fn decode(file: &[u8]) -> proto::Profile {
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    proto::Profile::decode(bytes.as_slice()).expect("protobuf")
}

/// The label's value, looked up as a reader does.
fn label<'a>(profile: &'a proto::Profile, sample: &proto::Sample, key: &str) -> Option<&'a str> {
    let string = |index: i64| profile.string_table[index as usize].as_str();
    sample.label.iter().find(|label| string(label.key) == key).map(|label| string(label.str))
}

#[test]
fn totals_by_side_and_stage_are_the_profiles() {
    let server = fixture(include_str!("../../../tests-data/put-server.json"));
    let client = fixture(include_str!("../../../tests-data/unary-client.json"));
    let decoded = decode(&written(&[(Side::Server, "/s/Put", &server), (Side::Client, "/s/Unary", &client)]));
    let mut totals: HashMap<(String, String), [i64; 3]> = HashMap::new();
    for sample in &decoded.sample {
        let key = |name| label(&decoded, sample, name).expect("labelled").to_owned();
        let total = totals.entry((key("side"), key("stage"))).or_default();
        total.iter_mut().zip(&sample.value).for_each(|(total, value)| *total += value);
        assert_eq!(key("rpc"), if key("side") == "server" { "/s/Put" } else { "/s/Unary" });
    }
    for (side, profile) in [(Side::Server, &server), (Side::Client, &client)] {
        let mut peak = 0;
        for row in profile.stages() {
            let key = (side.name().to_owned(), row.stage.name().to_owned());
            let [blocks, bytes, stage_peak] = totals.get(&key).copied().unwrap_or_default();
            assert_eq!((blocks as u64, bytes as u64), (row.blocks, row.bytes), "{side} {}", row.stage);
            peak += stage_peak as u64;
        }
        assert_eq!(peak, profile.peak_bytes());
        assert!(peak > 0);
    }
}

#[test]
fn stacks_read_leaf_first_and_names_are_no_system_names() {
    let stack = |frames: &'static str, bytes| {
        let figures = Figures { blocks: 2, bytes, peak_bytes: 1, peak_blocks: 1, ..Figures::default() };
        (alloc_ladder::Stage::Marshal, frames.split(';').collect::<Vec<_>>(), figures)
    };
    let profile = Profile::of(&[stack("root;Vec<T>::leaf", 10), stack("root;mid;root", 20)]);
    let decoded = decode(&written(&[(Side::Server, "", &profile)]));
    let string = |index: i64| decoded.string_table[index as usize].as_str();
    let mut text = String::new();
    for of in &decoded.sample_type {
        text.push_str(&format!("{}/{} ", string(of.r#type), string(of.unit)));
    }
    text.push_str(&format!("by default {}\n", string(decoded.default_sample_type)));
    for sample in &decoded.sample {
        for id in &sample.location_id {
            let location = decoded.location.iter().find(|location| location.id == *id).expect("a location");
            assert_eq!(location.mapping_id, decoded.mapping[0].id);
            let function = decoded.function.iter().find(|f| f.id == location.line[0].function_id).expect("a function");
            assert_ne!(function.name, function.system_name);
            text.push_str(&format!("{} < ", string(function.name)));
        }
        text.push_str(&format!("{:?} rpc {:?}\n", sample.value, label(&decoded, sample, "rpc")));
    }
    expect![[r#"
        alloc_objects/count alloc_space/bytes peak_space/bytes by default alloc_space
        Vec<T>::leaf < root < [2, 10, 1] rpc None
        root < mid < root < [2, 20, 1] rpc None
    "#]]
    .assert_eq(&text);
    assert_eq!(decoded.string_table[0], "");
}

#[test]
fn the_same_profiles_give_the_same_bytes() {
    let profile = fixture(include_str!("../../../tests-data/get-server.json"));
    let file = written(&[(Side::Server, "/s/Get", &profile)]);
    assert_eq!(file, written(&[(Side::Server, "/s/Get", &profile)]));
    assert_eq!(decode(&written(&[])).sample.len(), 0);
}
