//! One page is one reading, in every format, whatever the process does meanwhile; and no reading shows in the next one.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use alloc_ladder::sampled::{SampledAlloc, forget_symbols, symbolise};
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage, Tally};

use http::{ask, connect, get};

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(4096, CountingAlloc::new());

// One test function: the counters are the process's.
#[test]
fn a_page_is_one_reading_and_leaves_no_trace() {
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    scraping_changes_nothing(live.addr());
    symbolising_changes_nothing();
    invariants_hold_under_load(live.addr());
    live.stop();
}

const PATHS: [&str; 7] = [
    "/",
    "/metrics",
    "/debug/alloc",
    "/debug/alloc?format=json",
    "/debug/pprof/heap",
    "/debug/pprof/allocs",
    "/debug/pprof/allocs?seconds=1",
];

/// Asks without allocating, but for what the standard library may.
fn scrape(addr: SocketAddr, path: &str) {
    let mut stream = connect(addr);
    for part in ["GET ", path, " HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        stream.write_all(part.as_bytes()).expect("writes");
    }
    let mut chunk = [0u8; 4096];
    let start = stream.read(&mut chunk).expect("reads");
    assert!(chunk[..start].starts_with(b"HTTP/1.1 200 "), "{path}");
    while stream.read(&mut chunk).expect("reads") > 0 {}
}

/// The rows that are not the instrument's; reading them is.
fn rows() -> Vec<(&'static str, Stage, Tally)> {
    let _guard = Stage::Instrument.enter();
    let snapshot = Snapshot::of_process();
    let rows = snapshot.rows().filter(|row| row.stage != Stage::Instrument);
    rows.map(|row| (row.method.path, row.stage, row.tally)).collect()
}

fn scraping_changes_nothing(addr: SocketAddr) {
    let scope = Scope::new(Method::register(Side::Server, "/once.Test/Kept"), Stage::Handler);
    let kept = {
        let _guard = scope.enter();
        black_box(vec![1u8; 1 << 20])
    };
    // The thread that answers has started.
    scrape(addr, "/");
    let before = rows();
    let (live, peak) = (Snapshot::live_bytes(), Snapshot::peak_bytes().0);
    for _ in 0..10 {
        for path in &PATHS[..6] {
            scrape(addr, path);
        }
    }
    scrape(addr, PATHS[6]);
    let (live_after, peak_after) = (Snapshot::live_bytes(), Snapshot::peak_bytes().0);
    assert_eq!((live_after, peak_after), (live, peak), "bytes of the service");
    assert_eq!(rows(), before);
    // And it was not for nothing: a profile takes far more than that.
    let held = ask(addr, "GET /debug/alloc?format=json", "");
    let table: serde_json::Value = serde_json::from_slice(&held.body).expect("JSON");
    assert!(table["instrument_bytes"].as_u64().is_some_and(|bytes| bytes > 10_000), "{}", table["instrument_bytes"]);
    drop(kept);
}

fn symbolising_changes_nothing() {
    forget_symbols();
    let pointers: [usize; 2] =
        [symbolising_changes_nothing as fn() as usize + 1, scrape as fn(SocketAddr, &str) as usize + 1];
    let (live, peak) = (Snapshot::live_bytes(), Snapshot::peak_bytes().0);
    // Debug information takes megabytes to read.
    Snapshot::reset_peak();
    for _ in 0..3 {
        let names = symbolise(pointers);
        assert!(names[&pointers[0]].iter().any(|frame| frame.function.ends_with("symbolising_changes_nothing")));
        drop(names);
        forget_symbols();
    }
    assert_eq!(Snapshot::live_bytes(), live);
    let grown = Snapshot::peak_bytes().0.saturating_sub(live);
    assert!(grown < 64 * 1024, "the answer, and not what it took to find it: {grown} (peak {peak})");
}

/// Threads that allocate, free each other's blocks and reallocate, at random.
fn invariants_hold_under_load(addr: SocketAddr) {
    let stop = AtomicBool::new(false);
    let shared = std::sync::Mutex::new(Vec::<Vec<u8>>::new());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (stop, shared) = (&stop, &shared);
            scope.spawn(move || {
                let mut random = 0x9E37_79B9_7F4A_7C15 ^ thread;
                while !stop.load(Ordering::Relaxed) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let method = Method::register(Side::Server, ["/once.Test/A", "/once.Test/B"][random as usize % 2]);
                    let stage = Stage::ALL[(random >> 8) as usize % Stage::ALL.len()];
                    let _guard = Scope::new(method, stage).enter();
                    let mut block = Vec::with_capacity(1 << ((random >> 16) % 20));
                    block.push(1);
                    if random & 64 == 0 {
                        block.reserve_exact(1 << ((random >> 24) % 20));
                    }
                    let mut shared = shared.lock().expect("no thread panics");
                    shared.push(block);
                    if shared.len() > 200 {
                        let at = random as usize % shared.len();
                        drop(shared.swap_remove(at));
                    }
                }
            });
        }
        #[cfg(feature = "transport")]
        let grpc = grpc::Asked::new();
        for _ in 0..50 {
            #[cfg(feature = "transport")]
            grpc.is_one_reading();
            let json = get(addr, "/debug/alloc?format=json");
            json_is_one_reading(&serde_json::from_slice(&json.body).expect("JSON"));
            text_is_one_reading(get(addr, "/debug/alloc").text());
            prometheus_is_one_reading(ask(addr, "GET /metrics", "").text());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn json_is_one_reading(table: &serde_json::Value) {
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert!(
        number(&table["live_bytes"]) <= number(&table["peak_bytes"]) + number(&table["peak_slack_bytes"]),
        "{table}"
    );
    assert!(number(&table["resident_bytes"]) <= number(&table["resident_peak_bytes"]), "{table}");
    let rows = table["rows"].as_array().expect("rows");
    for field in ["blocks", "bytes", "freed_blocks", "freed_bytes", "reallocs", "sampled_live_bytes"] {
        let sum: f64 = rows.iter().map(|row| number(&row[field])).sum();
        assert_eq!(sum, number(&table["total"][field]), "{field}");
    }
    // The upper table and the lower one say the same of a method.
    for method in table["methods"].as_array().expect("methods") {
        let own = rows
            .iter()
            .filter(|row| row["rpc"] == method["rpc"] && row["side"] == method["side"] && row["stage"] != "instrument");
        let sum: f64 = own.map(|row| number(&row["sampled_live_bytes"])).sum();
        assert_eq!(sum, number(&method["sampled_live_bytes"]), "{method}");
    }
}

fn text_is_one_reading(text: &str) {
    let first: Vec<u64> = text
        .lines()
        .next()
        .expect("a line")
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let [live, peak, slack] = first[..] else { panic!("{text}") };
    assert!(live <= peak + slack, "{text}");
    let mut rows = text.lines().skip_while(|line| !line.starts_with("side ")).take_while(|line| !line.is_empty());
    let head = rows.next().expect("a head");
    assert!(head.contains("allocated \u{2212} freed here") && head.contains("live bytes"), "{head}");
    let (mut sums, mut total) = ([0i64; 5], None);
    for row in rows {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let number = |from_the_end: usize| cells[cells.len() - from_the_end].parse::<i64>().expect("a number");
        let numbers = [7, 6, 4, 3, 2].map(number);
        if cells[0] == "total" {
            total = Some(numbers);
        } else {
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
    }
    assert_eq!(Some(sums), total, "{text}");
}

fn prometheus_is_one_reading(text: &str) {
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let slack = value("grpc_alloc_heap_peak_slack_bytes");
    assert!(value("grpc_alloc_heap_bytes") <= value("grpc_alloc_heap_peak_bytes") + slack, "{text}");
    assert!(value("process_resident_memory_bytes") <= value("process_resident_memory_peak_bytes"), "{text}");
    assert!(!text.contains("grpc_alloc_live_bytes"), "a flow that is called a stock");
    let sum = |name: &str| -> i64 {
        let rows = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        rows.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<i64>().ok()).expect("a number")).sum()
    };
    assert_eq!(sum("grpc_alloc_bytes_total") - sum("grpc_alloc_freed_bytes_total"), sum("grpc_alloc_net_bytes"));
}

/// The same over gRPC.
#[cfg(feature = "transport")]
mod grpc {
    use alloc_ladder::live::pb::allocations_client::AllocationsClient;
    use alloc_ladder::live::pb::{Row, SnapshotRequest, Tally};
    use tokio::runtime::{Builder, Runtime};
    use tonic::transport::{Channel, Endpoint, Server};

    pub(crate) struct Asked {
        runtime: Runtime,
        client: AllocationsClient<Channel>,
    }

    impl Asked {
        pub(crate) fn new() -> Asked {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
            let client = runtime.block_on(async {
                let incoming = alloc_ladder::tonic::incoming(([127, 0, 0, 1], 0).into()).expect("binds");
                let addr = incoming.local_addr().expect("bound");
                let server = Server::builder().add_service(alloc_ladder::live::allocations());
                tokio::spawn(server.serve_with_incoming(incoming));
                let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
                AllocationsClient::new(endpoint.connect().await.expect("connects"))
            });
            Asked { runtime, client }
        }

        pub(crate) fn is_one_reading(&self) {
            let mut client = self.client.clone();
            let asked = self.runtime.block_on(client.snapshot(SnapshotRequest {})).expect("answers").into_inner();
            assert!(asked.live_bytes <= asked.peak_bytes + asked.peak_slack_bytes, "{asked:?}");
            let total = asked.total.expect("a total");
            let tally = |row: &Row| row.tally.expect("a tally");
            let fields: [fn(&Tally) -> u64; 7] = [
                |tally| tally.blocks,
                |tally| tally.bytes,
                |tally| tally.freed_blocks,
                |tally| tally.freed_bytes,
                |tally| tally.reallocs,
                |tally| tally.realloc_old_bytes,
                |tally| tally.realloc_new_bytes,
            ];
            for field in fields {
                assert_eq!(asked.rows.iter().map(|row| field(&tally(row))).sum::<u64>(), field(&total), "{asked:?}");
            }
            for method in asked.methods.iter().filter(|method| method.sampled_live_bytes.is_some()) {
                let own = asked.rows.iter().filter(|row| row.rpc == method.rpc && row.side == method.side);
                let own = own.filter(|row| row.stage != "instrument");
                let sum: f64 = own.map(|row| row.sampled_live_bytes.expect("it samples")).sum();
                assert_eq!(Some(sum), method.sampled_live_bytes, "{method:?}");
            }
        }
    }
}
