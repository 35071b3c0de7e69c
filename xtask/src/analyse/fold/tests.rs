use expect_test::{expect, expect_file};

use super::*;

const PUT_SERVER: &str = include_str!("../../../tests-data/put-server.json");
const GET_SERVER: &str = include_str!("../../../tests-data/get-server.json");
const UNARY_CLIENT: &str = include_str!("../../../tests-data/unary-client.json");

fn dhat(text: &str) -> Dhat {
    Dhat::parse(text.as_bytes()).expect("the fixture is a dhat file")
}

/// One stack, its frames given as `root;…;leaf`.
fn stack(stage: Stage, frames: &str, blocks: u64, bytes: u64) -> (Stage, Vec<&str>, Figures) {
    (
        stage,
        frames.split(';').collect(),
        Figures { blocks, bytes, peak_bytes: bytes / 2, peak_blocks: blocks / 2, ..Figures::default() },
    )
}

fn sum_of_last_column(folded: &str) -> u64 {
    folded.lines().map(|line| line.rsplit(' ').next().expect("a count").parse::<u64>().expect("a number")).sum()
}

#[test]
fn real_stacks_fold_to_these_lines() {
    let put = Profile::from_dhat(&dhat(PUT_SERVER));
    expect_file!["../../../tests-data/put-server.bytes.folded"].assert_eq(&put.folded(Unit::Bytes));
    expect_file!["../../../tests-data/put-server.blocks.folded"].assert_eq(&put.folded(Unit::Blocks));
    let get = Profile::from_dhat(&dhat(GET_SERVER));
    expect_file!["../../../tests-data/get-server.bytes.folded"].assert_eq(&get.folded(Unit::Bytes));
    let unary = Profile::from_dhat(&dhat(UNARY_CLIENT));
    expect_file!["../../../tests-data/unary-client.bytes.folded"].assert_eq(&unary.folded(Unit::Bytes));
}

#[test]
fn folding_loses_no_block_and_no_byte() {
    for text in [PUT_SERVER, GET_SERVER, UNARY_CLIENT] {
        // Read here without this crate's reader.
        let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let sum = |key: &str| -> u64 {
            let points = json["pps"].as_array().expect("points");
            points.iter().map(|point| point[key].as_u64().expect("a count")).sum()
        };
        for profile in [Profile::from_dhat(&dhat(text)), Profile::raw(&dhat(text))] {
            assert_eq!(profile.total_bytes(), sum("tb"));
            assert_eq!(profile.total_blocks(), sum("tbk"));
            assert_eq!(profile.peak_bytes(), sum("gb"));
            assert_eq!(profile.sites.iter().map(|site| site.peak_blocks).sum::<u64>(), sum("gbk"));
            assert_eq!(sum_of_last_column(&profile.folded(Unit::Bytes)), sum("tb"));
            assert_eq!(sum_of_last_column(&profile.folded(Unit::Blocks)), sum("tbk"));
            assert_eq!(profile.stages().iter().map(|row| row.bytes).sum::<u64>(), sum("tb"));
            assert_eq!(profile.stages().iter().map(|row| row.blocks).sum::<u64>(), sum("tbk"));
        }
    }
}

#[test]
fn every_stage_has_a_row_in_table_order() {
    let rows = Profile::from_dhat(&dhat(PUT_SERVER)).stages();
    assert_eq!(rows.iter().map(|row| row.stage).collect::<Vec<_>>(), Stage::ALL);
    let text: String = rows.iter().map(|row| format!("{} {} {}\n", row.stage, row.blocks, row.bytes)).collect();
    expect![[r#"
        marshal 4 656
        receive-buffer 2308 19245800
        message-construction 202 13238272
        transport 2 285
        dispatch 6 150
        handler 0 0
        instrument 0 0
        other 0 0
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_order_of_the_file_does_not_matter() {
    let forward = dhat(PUT_SERVER);
    let mut backward = forward.clone();
    backward.points.reverse();
    assert_eq!(Profile::from_dhat(&forward), Profile::from_dhat(&backward));
}

#[test]
fn raw_stacks_keep_the_runtime_and_the_generics() {
    let raw = Profile::raw(&dhat(PUT_SERVER)).folded(Unit::Bytes);
    assert!(raw.contains("tokio::runtime::task::harness::Harness<T,S>::poll;"));
    assert!(raw.contains(";alloc::raw_vec::RawVecInner<A>::finish_grow;"));
    let folded = Profile::from_dhat(&dhat(PUT_SERVER)).folded(Unit::Bytes);
    for plumbing in [";alloc::", ";core::", ";std::", ";tokio::Harness", "{{closure}}", "<"] {
        assert!(!folded.contains(plumbing), "{plumbing} is folded away");
    }
}

#[test]
fn stacks_that_read_the_same_are_one_site() {
    let text = r#"{"dhatFileVersion":2,"mode":"rust-heap","ftbl":["[root]",
        "0x1: alloc::alloc::alloc (alloc.rs:1:1)", "0x2: app::work::{{closure}} (main.rs:1:1)",
        "0x3: app::work (main.rs:2:2)", "0x4: app::work (main.rs:3:3)", "0x5: start_thread (pthread.c:1:1)"],
        "pps":[{"tb":10,"tbk":1,"gb":4,"gbk":1,"fs":[1,2,3,5]},{"tb":5,"tbk":2,"fs":[1,4]},
               {"tb":1,"tbk":1,"fs":[1,5]},{"tb":2,"tbk":1,"fs":[1]},{"tb":4,"tbk":1,"fs":[]}]}"#;
    let profile = Profile::from_dhat(&dhat(text));
    expect![[r#"
        handler;app::work 15
        other;??? 4
        other;alloc::alloc 2
        other;start_thread 1
    "#]]
    .assert_eq(&profile.folded(Unit::Bytes));
    assert_eq!((profile.sites[0].blocks, profile.sites[0].peak_bytes), (3, 4));
}

#[test]
fn the_union_shows_what_vanished_and_adds_up() {
    let before = Profile::of(&[
        stack(Stage::Marshal, "a;b", 4, 400),
        stack(Stage::Marshal, "a;c", 2, 200),
        stack(Stage::Handler, "h", 1, 70),
        stack(Stage::Handler, "i", 0, 0),
    ]);
    let after = Profile::of(&[
        stack(Stage::Marshal, "a;b", 4, 100),
        stack(Stage::Handler, "h", 5, 90),
        stack(Stage::Other, "n", 1, 30),
    ]);
    let text = union(&before, &after, Unit::Bytes);
    expect![[r#"
        marshal;a;b 700 400
        marshal;a;c 400 200
        handler;h 70 90
        other;n 0 30
    "#]]
    .assert_eq(&text);
    let columns = |line: &str| -> (i64, i64) {
        let mut columns = line.rsplit(' ').map(|column| column.parse().expect("a number"));
        let second = columns.next().expect("a second column");
        (columns.next().expect("a first column"), second)
    };
    let change: i64 = text.lines().map(columns).map(|(first, second)| second - first).sum();
    assert_eq!(change, after.total_bytes() as i64 - before.total_bytes() as i64);
    assert_eq!(union(&before, &before, Unit::Blocks).lines().count(), 3, "nothing of nothing has no line");
    assert_eq!(union(&Profile::default(), &Profile::default(), Unit::Bytes), "");
}

#[test]
fn both_directions_of_a_real_difference_are_exact() {
    let put = Profile::from_dhat(&dhat(PUT_SERVER));
    let get = Profile::from_dhat(&dhat(GET_SERVER));
    for unit in Unit::ALL {
        let joined = joined(&put, &get);
        let both: Vec<[u64; 2]> = joined.stacks.iter().map(|stack| stack.both(|site| site.value(unit))).collect();
        assert_eq!(both.iter().map(|[before, _]| before).sum::<u64>(), put.total(unit));
        assert_eq!(both.iter().map(|[_, after]| after).sum::<u64>(), get.total(unit));
        assert!(both.iter().any(|[_, after]| *after == 0) && both.iter().any(|[before, _]| *before == 0));
    }
}
