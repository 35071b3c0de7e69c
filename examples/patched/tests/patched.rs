//! What the program prints, of services whose sources are as they were published: streams without a block a message.

mod support;

#[test]
fn the_protocol_allocates_nothing_and_arrow_what_is_arrows() {
    let table = support::table(env!("CARGO_BIN_EXE_patched"));
    let row = |name: &str| table.get(name).copied().unwrap_or_else(|| panic!("no row `{name}`"));
    for name in ["Put aligned", "Get aligned"] {
        assert!(row(name).iter().all(|blocks| *blocks <= 0.01), "{name}: {:?}", row(name));
    }
    // Whatever the transport, who sends allocates nothing.
    assert!(row("Put as it is")[2] <= 0.01 && row("Get as it is")[0] <= 0.01, "{table:?}");
    let [put, get] = ["PutBatches aligned", "GetBatches aligned"].map(row);
    let ([receiving, reallocs, ..], [.., again, more]) = (put, get);
    // Where a column does not lie at its alignment, arrow copies it: a block more.
    assert!(receiving <= 8.01 && again <= 8.01 && reallocs + more <= 0.01, "{put:?} {get:?}");
    assert!(put[2] <= 19.01 && get[0] <= 19.01, "{put:?} {get:?}");
    // What is left of a call is hyper's, h2's and the message's own. The test of `before` holds what it was.
    let [export, check] = ["Export as it is", "Check as it is"].map(row);
    assert!(export[0] <= 56.1 && export[2] <= 51.1, "{export:?}");
    assert!(check[0] <= 28.1 && check[2] <= 24.1, "{check:?}");
}
