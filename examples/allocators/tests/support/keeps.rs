//! What an inner allocator says of itself beside what the program holds.

use std::hint::black_box;

use crate::http;

/// The allocator of this name is the one below the program's counters.
pub(crate) fn its_figures_are_shown(name: &str) {
    let held: Vec<Vec<u8>> = (0..64).map(|_| black_box(vec![1; 1 << 20])).collect();
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let json = http::get(live.addr(), "/debug/alloc?format=json");
    let table: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
    let allocators = table["allocators"].as_array().expect("a list");
    let inner = allocators.iter().find(|allocator| allocator["name"] == name).unwrap_or_else(|| panic!("{table}"));
    // 64 MiB that are held, and touched: the kernel and the allocator know of them.
    for figure in [&inner["in_use_bytes"], &table["resident_bytes"], &table["live_bytes"]] {
        assert!(figure.as_u64().is_some_and(|bytes| bytes >= 64 << 20), "{table}");
    }
    // One that is linked in and allocates nothing is not shown.
    let other = if name == "jemalloc" { "mimalloc" } else { "jemalloc" };
    assert!(allocators.iter().all(|allocator| allocator["name"] != other), "{table}");
    let metrics = http::get(live.addr(), "/metrics");
    let series = format!("grpc_alloc_allocator_bytes{{allocator=\"{name}\",kind=\"kept\"}} ");
    assert!(metrics.text().contains(&series), "{}", metrics.text());
    drop(held);
    live.stop();
}
