//! What an inner allocator says of itself stands beside what the program holds.
#![cfg(all(feature = "live", any(feature = "jemalloc", feature = "mimalloc")))]

#[path = "support/http.rs"]
mod http;

use std::hint::black_box;

use alloc_ladder::CountingAlloc;

#[cfg(feature = "jemalloc")]
type Inner = tikv_jemallocator::Jemalloc;
#[cfg(not(feature = "jemalloc"))]
type Inner = mimalloc::MiMalloc;

#[cfg(feature = "jemalloc")]
const INNER: (Inner, &str) = (tikv_jemallocator::Jemalloc, "jemalloc");
#[cfg(not(feature = "jemalloc"))]
const INNER: (Inner, &str) = (mimalloc::MiMalloc, "mimalloc");

#[global_allocator]
static ALLOC: CountingAlloc<Inner> = CountingAlloc::wrapping(INNER.0);

#[test]
fn the_inner_allocators_figures_are_shown() {
    let held: Vec<Vec<u8>> = (0..64).map(|_| black_box(vec![1; 1 << 20])).collect();
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let json = http::get(live.addr(), "/debug/alloc?format=json");
    let table: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
    let allocators = table["allocators"].as_array().expect("a list");
    let inner = allocators.iter().find(|allocator| allocator["name"] == INNER.1).unwrap_or_else(|| panic!("{table}"));
    // 64 MiB that are held, and touched: the kernel and both allocators know of them.
    for figure in [&inner["in_use_bytes"], &table["resident_bytes"], &table["live_bytes"]] {
        assert!(figure.as_u64().is_some_and(|bytes| bytes >= 64 << 20), "{table}");
    }
    let metrics = http::get(live.addr(), "/metrics");
    let series = format!("grpc_alloc_allocator_bytes{{allocator=\"{}\",kind=\"kept\"}} ", INNER.1);
    assert!(metrics.text().contains(&series), "{}", metrics.text());
    drop(held);
    live.stop();
}
