//! `examples/fleet` as the engines read it: promtool, and a Prometheus that scrapes three instances.
//!
//! Where an engine is not installed the test says so and checks nothing, except on CI, where that is a failure.
#![cfg(feature = "live")]

#[path = "support/http.rs"]
mod http;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloc_ladder::live::pb::SnapshotRequest;
use alloc_ladder::live::pb::allocations_client::AllocationsClient;
use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::stage::Scope;
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use tower_layer::Layer;
use yaml_rust2::{Yaml, YamlLoader};

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(4096, CountingAlloc::new());

const RPC: &str = "/fleet.Test/Upload";

fn fleet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fleet(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Yaml {
    YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}")).swap_remove(0)
}

/// The program's path, or `None` with a line that says why nothing is checked.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let line = format!("`{program}` is not installed (Debian package `prometheus`)");
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

/// One instance: this test program started again. It ends when its stdin does.
#[test]
#[ignore = "run by the test below, in processes of its own"]
fn instance() {
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let method = Method::register(Side::Server, RPC);
    let scopes = [Stage::Marshal, Stage::ReceiveBuffer, Stage::Handler].map(|stage| Scope::new(method, stage));
    calls();
    writeln!(std::io::stderr(), "serves {}", live.addr()).expect("the test reads");
    let running = std::thread::spawn(move || {
        let mut kept = Vec::new();
        loop {
            for scope in &scopes {
                let _guard = scope.enter();
                black_box(Vec::<u8>::with_capacity(1 << 14));
                kept.push(Vec::<u8>::with_capacity(1 << 10));
            }
            kept.truncate(64);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(running);
    live.stop();
}

/// Calls through a server's layer, within the process, that go on. The first has ended when this returns: what is
/// served of a call's distribution begins with a call that has ended.
fn calls() {
    let layer = ServerLayer::new().methods(["/alloc_ladder.v1.Allocations/Snapshot"]);
    let mut client = AllocationsClient::new(layer.layer(alloc_ladder::live::allocations_for_anybody()));
    let (ended, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            loop {
                client.snapshot(SnapshotRequest {}).await.expect("answers");
                let _ = ended.send(());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    first.recv().expect("a call");
}

fn start_instance() -> (Reaped, SocketAddr) {
    let own = std::env::current_exe().expect("this test has a file");
    let mut child = Command::new(own)
        .args(["--exact", "instance", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let said = BufReader::new(child.stderr.take().expect("piped"));
    let reaped = Reaped(child);
    let line = said.lines().map_while(Result::ok).find(|line| line.starts_with("serves ")).expect("an address");
    (reaped, line["serves ".len()..].parse().expect("an address"))
}

/// The expressions of the dashboard's panels.
fn expressions() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&text("dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets").clone());
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// The names of metrics in a text: words that begin as ours do.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let ours = words.filter(|word| word.starts_with("grpc_alloc_") || word.starts_with("process_resident_"));
    // A colon ends a word of a sentence.
    ours.map(|word| word.trim_end_matches(':').to_owned()).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_served() {
    let (_instance, addr) = start_instance();
    let served = metrics(http::get(addr, "/metrics").text());
    assert!(served.len() > 10, "{served:?}");
    for file in ["alerts.yml", "alerts_test.yml", "dashboard.json"] {
        let asked: BTreeSet<String> = metrics(&text(file)).into_iter().collect();
        assert!(!asked.is_empty(), "{file} asks for nothing");
        let missing: Vec<&String> = asked.difference(&served).collect();
        assert!(missing.is_empty(), "{file} asks for what is not served: {missing:?}");
    }
    // And what profilers ask for is answered.
    for path in ["/debug/pprof/heap", "/debug/pprof/allocs"] {
        assert!(text("parca.yaml").contains(path) && text("pyroscope.alloy").contains(path), "{path}");
        assert_eq!(http::get(addr, path).status, 200, "{path}");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: serde_json::Value = serde_json::from_str(&text("dashboard.json")).expect("JSON");
    // Grafana refuses a title that is empty and a uid of more than 40 characters; it migrates older schemas.
    assert!(dashboard["title"].as_str().is_some_and(|title| !title.is_empty()));
    assert!(dashboard["uid"].as_str().is_some_and(|uid| (1..=40).contains(&uid.len())));
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| {
            let kind = variable["type"].as_str().expect("a type");
            assert!(["datasource", "query"].contains(&kind), "{variable}");
            variable["name"].as_str().expect("a name")
        })
        .collect();
    let (mut ids, mut taken, mut asked) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "an id twice: {panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert_eq!(panel["type"], "timeseries");
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
            assert!(taken.insert(cell), "two panels at {cell:?}: {panel}");
        }
        let mut names = BTreeSet::new();
        for target in panel["targets"].as_array().expect("targets") {
            assert!(names.insert(target["refId"].as_str().expect("a name")), "{target}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "no data source of somebody else's");
            let expression = target["expr"].as_str().expect("an expression");
            let mut parts = expression.split('$').skip(1);
            let known =
                |part: &str| part.starts_with("__rate_interval") || variables.iter().any(|name| part.starts_with(name));
            assert!(parts.all(known), "a variable that is not there: {expression}");
            asked += expression;
        }
    }
    for word in [
        "histogram_quantile(0.95",
        "grpc_alloc_call_duration_seconds_bucket",
        "by (stage)",
        "by (side)",
        "by (side, rpc)",
        "grpc_alloc_heap_bytes",
        "process_resident_memory_bytes",
    ] {
        assert!(asked.contains(word), "no panel has {word}");
    }
}

#[test]
fn profilers_are_told_what_they_understand() {
    let parca = yaml("parca.yaml");
    let scrape = &parca["scrape_configs"][0];
    assert!(parca["object_storage"]["bucket"]["type"].as_str().is_some(), "Parca asks for a bucket");
    assert!(scrape["job_name"].as_str().is_some());
    assert!(scrape["scrape_timeout"].is_badvalue(), "Parca wants it above the interval, and makes it so");
    let profiles = scrape["profiling_config"]["pprof_config"].as_hash().expect("profiles");
    for (name, profile) in profiles {
        // Parca refuses keys that it does not know, and fails where a profile of another name is not on or off.
        let keys: Vec<&str> = profile.as_hash().expect("keys").keys().filter_map(Yaml::as_str).collect();
        assert!(keys.iter().all(|key| ["enabled", "path", "delta", "keep_sample_type"].contains(key)), "{keys:?}");
        assert!(profile["enabled"].as_bool().is_some(), "{name:?}");
    }
    // What Parca scrapes by default and is not served here is off.
    for off in ["process_cpu", "goroutine", "block", "mutex"] {
        assert_eq!(profiles[&Yaml::String(off.to_owned())]["enabled"].as_bool(), Some(false), "{off}");
    }
    let alloy = text("pyroscope.alloy");
    assert_eq!(alloy.matches('{').count(), alloy.matches('}').count());
    for block in ["process_cpu", "goroutine", "block", "mutex"] {
        let after = alloy.split_once(&format!("profile.{block} {{")).expect("a block").1;
        assert!(after.trim_start().starts_with("enabled = false"), "{block}");
    }
    assert!(alloy.contains("forward_to      = [pyroscope.write.backend.receiver]") && alloy.contains("service_name"));
}

#[test]
fn promtool_takes_configuration_and_rules_and_its_tests_pass() {
    let Some(promtool) = find("promtool") else { return };
    for args in
        [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]
    {
        let done = Command::new(&promtool).args(args).current_dir(fleet("")).output().expect("promtool starts");
        let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(done.status.success() && said.contains("SUCCESS"), "{args:?}: {said}");
    }
    // Every alert has a test, and every annotation says where to look.
    let (rules, tests) = (yaml("alerts.yml"), text("alerts_test.yml"));
    let rules = rules["groups"][0]["rules"].as_vec().expect("rules").iter();
    let alerts: Vec<&Yaml> = rules.filter(|rule| !rule["alert"].is_badvalue()).collect();
    assert!(alerts.len() > 4);
    for alert in alerts {
        let name = alert["alert"].as_str().expect("a name");
        assert!(tests.contains(&format!("alertname: {name}")), "{name} has no test");
        assert!(text("README.md").contains(&format!("`{name}`")), "{name} is not in the README");
        assert!(alert["annotations"]["look"].as_str().is_some(), "{name} says nothing of where to look");
    }
}

#[test]
fn a_prometheus_scrapes_three_instances_and_answers_every_panel() {
    let Some(prometheus) = find("prometheus") else { return };
    let instances = [start_instance(), start_instance(), start_instance()];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = text("prometheus.yml").replace("15s", "1s");
    for (port, (_, addr)) in [9464, 9465, 9466].into_iter().zip(&instances) {
        let target = format!("127.0.0.1:{port}");
        assert!(config.contains(&target), "{config}");
        config = config.replace(&target, &addr.to_string());
    }
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("writes");
    std::fs::copy(fleet("alerts.yml"), folder.path().join("alerts.yml")).expect("copies");
    // Taken and given back, because Prometheus does not say which free port it took.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let child = Command::new(prometheus)
        .current_dir(folder.path())
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", &format!("--web.listen-address={addr}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let _reaped = Reaped(child);
    let ask = |path: &str| -> Option<serde_json::Value> {
        std::net::TcpStream::connect(addr).ok()?;
        let answer = http::ask(addr, &format!("GET /api/v1/{path}"), "Connection: close\r\n");
        let start = answer.body.iter().position(|byte| *byte == b'{')?;
        let end = answer.body.iter().rposition(|byte| *byte == b'}')?;
        serde_json::from_slice(&answer.body[start..=end]).ok()
    };
    let query = |expression: &str| ask(&format!("query?query={}", encoded(expression)));
    let wait = |expression: &str, enough: &dyn Fn(&[serde_json::Value]) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = query(expression);
            if let Some(answer) = &answer {
                assert_eq!(answer["status"], "success", "{expression}: {answer}");
                if answer["data"]["result"].as_array().is_some_and(|result| enough(result)) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "Prometheus has no answer to {expression}: {answer:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    wait("up == 1", &|result| result.len() == 3);
    for expression in expressions() {
        // Nothing is open here, so that nothing is to be divided by.
        let expression =
            expression.replace(" > 0)", " >= 0)").replace("1024 *", "0 *").replace("$__rate_interval", "10s");
        let expression =
            ["$job", "$instance", "$side", "$rpc"].iter().fold(expression, |text, name| text.replace(name, ".*"));
        wait(&expression, &|result| !result.is_empty());
    }
    let rules = ask("rules").expect("an answer");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), 10);
    for rule in rules {
        assert_eq!(rule["lastError"].as_str().unwrap_or_default(), "", "{rule}");
    }
}

#[test]
fn the_readme_s_workflow_is_one() {
    let readme = include_str!("../README.md");
    let text = readme.split_once("```yaml\n").expect("a workflow").1.split_once("```\n").expect("its end").0;
    assert!(text.lines().count() <= 15, "{text}");
    let workflow = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")).swap_remove(0);
    assert!(workflow["on"][0].as_str().is_some_and(|event| event == "pull_request"));
    let (_, job) = workflow["jobs"].as_hash().expect("jobs").iter().next().expect("a job");
    assert!(job["runs-on"].as_str().is_some());
    let mut runs = Vec::new();
    for step in job["steps"].as_vec().expect("steps") {
        assert!(step["uses"].as_str().is_some() != step["run"].as_str().is_some(), "one of the two: {step:?}");
        runs.extend(step["run"].as_str().map(str::to_owned));
    }
    // The verbs and forms are those that there are.
    let verbs = include_str!("../xtask/src/verbs.rs");
    let forms = include_str!("../xtask/src/cli/format.rs").to_lowercase();
    let called: Vec<Vec<&str>> =
        runs.iter().filter_map(|run| Some(run.split_once("cargo alloc-ladder ")?.1.split(' ').collect())).collect();
    assert_eq!(called.len(), 3, "{runs:?}");
    for words in called {
        assert!(verbs.contains(&format!("mod {};", words[0])), "{words:?}");
        if let Some(at) = words.iter().position(|word| *word == "--format") {
            assert!(forms.contains(&format!("    {},", words[at + 1])), "{words:?}");
        }
    }
}

/// A query as a URL holds it.
fn encoded(expression: &str) -> String {
    expression
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
