//! What the same program prints with the crates as they were published: what the patch removes.

#[path = "../../tests/support/mod.rs"]
mod support;

#[test]
fn tonic_allocates_for_each_message() {
    let table = support::table(env!("CARGO_BIN_EXE_before"));
    let row = |name: &str| table.get(name).copied().unwrap_or_else(|| panic!("no row `{name}`"));
    let near = |figure: f64, expected: f64| (figure - expected).abs() <= 0.1;
    let [put, get] = ["Put as it is", "Get as it is"].map(row);
    // Who sends: a block, one that is grown, and what is shared of it.
    assert!(near(put[2], 3.0) && near(put[3], 1.0) && near(get[0], 3.0) && near(get[1], 1.0), "{put:?} {get:?}");
    // Who receives: how much depends on how frames arrive.
    assert!(put[0] > 8.0 && get[2] > 8.0, "{put:?} {get:?}");
    let [put, get] = ["PutBatches as it is", "GetBatches as it is"].map(row);
    assert!(put[0] > 14.0 && near(get[0], 22.0) && near(get[1], 1.0), "{put:?} {get:?}");
    let [export, check] = ["Export as it is", "Check as it is"].map(row);
    assert!(near(export[0], 63.0) && near(export[2], 59.0), "{export:?}");
    assert!(near(check[0], 34.0) && near(check[2], 32.0), "{check:?}");
}
