//! The main job, end to end: real builds, real processes, real traffic. Exact counts only; nothing is timed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloc_ladder::record::{Counts, Instrument, Measurement, Run, Stacks};
use alloc_ladder::subject::ladder::ladder;
use alloc_ladder::subject::scenario::{CHUNK_MAX, Scenario};
use alloc_ladder::{Side, Stage, Tally};

mod support;

use support::{TAG, left_over, measured, output, profile, read, refused, text, xtask};

fn counts(run: &Run, step: usize, side: Side) -> &Counts {
    run.steps[step].counts(side).expect("the step was counted").counts.as_ref().expect("a count record has counts")
}

/// One scenario through these instruments and dhat, and everything that must hold of its record.
fn ladder_holds(scenario: Scenario, messages: u64, instruments: &[Instrument]) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let count = messages.to_string();
    let names: Vec<&str> =
        instruments.iter().chain([&Instrument::Stacks]).map(|instrument| instrument.name()).collect();
    let more = ["--messages", &count, "--runs", "2", "--instruments", &names.join(",")];
    let done = measured(scenario, &folder, &more);
    let run = read(&folder);
    assert!(!run.partial);
    assert_eq!(run.steps.len(), ladder(scenario).len());
    for (index, (record, step)) in run.steps.iter().zip(ladder(scenario)).enumerate() {
        assert_eq!(record.name, step.name);
        for &instrument in instruments {
            for side in Side::ALL {
                assert_eq!(record.of(side, instrument).count(), 2, "{} {side} {}", step.name, instrument.name());
            }
        }
        for measurement in &record.measurements {
            assert_eq!(measurement.messages, messages);
            if scenario != Scenario::Unary {
                let payload = messages * run.workload.chunk as u64;
                assert_eq!(measurement.payload_bytes, payload, "{} {}", step.name, measurement.side);
            }
        }
        for side in Side::ALL {
            let counts = counts(&run, index, side);
            let rows: Tally = counts.rows.iter().map(|row| row.tally).sum();
            assert_eq!(rows, counts.total, "{} {side}: rows sum to the total", step.name);
            let sizes: u64 = counts.sizes.iter().map(|bucket| bucket.blocks).sum();
            assert_eq!(sizes, counts.total.blocks, "{} {side}: every block has a size", step.name);
            let stacks = record.stacks(side).expect("dhat saw both sides");
            let seen = std::fs::read_to_string(folder.join(&stacks.dhat)).expect("dhat's file");
            assert!(!seen.contains("/registry/src/"), "{} {side}: folders of this machine", step.name);
            let part = folder.join(&stacks.dhat).parent().expect("dhat's file lies in a folder").to_owned();
            for file in ["dhat.json", "bytes.folded", "blocks.folded", "bytes.svg", "blocks.svg", "profile.pb.gz"] {
                assert!(part.join(file).is_file(), "{} {side}: {file}", step.name);
            }
            assert_eq!(part.join("diff-bytes.svg").is_file(), index > 0, "{} {side}", step.name);
            same_totals(stacks, &folder, index == 0 || index + 1 == run.steps.len());
            if scenario != Scenario::Unary {
                attributed(&run, &folder, index, side);
            }
        }
        if let Some((side, stage)) = step.reduces {
            let rounds = |index: usize| {
                let rounds = run.steps[index].of(side, Instrument::Count);
                rounds.map(|m| m.counts.as_ref().expect("a count record has counts").stage(stage).bytes)
            };
            let before = rounds(index - 1).max().expect("the step before was counted");
            let after = rounds(index).min().expect("the step was counted");
            // A reader that keeps up leaves h2's buffer reclaimable by itself: then the step before takes little as well.
            // What this step takes is little either way.
            let stream = scenario != Scenario::Unary && stage == Stage::ReceiveBuffer;
            let little = if stream { messages * run.workload.chunk as u64 / 10 } else { 0 };
            assert!(after < before.max(little), "{}: {side} {stage} {before} B → {after} B", step.name);
        }
    }
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the run has a report");
    assert!(page.contains(scenario.words()) && page.contains("default-src 'none'"));
    let table = text(&done.stdout);
    for step in ladder(scenario) {
        assert!(table.contains(step.name), "{table}");
    }
    assert!(table.contains("report.html"), "{table}");
}

/// Blocks and bytes of a side in every format are those of dhat's file, and the bytes at its peak where a format has
/// them.
fn same_totals(stacks: &Stacks, folder: &Path, by_go: bool) {
    let part = folder.join(&stacks.dhat).parent().expect("dhat's file lies in a folder").to_owned();
    let place = part.display();
    let file = |name: &str| std::fs::read_to_string(part.join(name)).expect("the file is there");
    let dhat: serde_json::Value = serde_json::from_str(&file("dhat.json")).expect("JSON");
    let points = dhat["pps"].as_array().expect("program points");
    let sum = |key: &str| points.iter().map(|point| point[key].as_u64().expect("a count")).sum::<u64>();
    let (totals, peak) = ((sum("tbk"), sum("tb")), sum("gb"));
    assert!(totals.0 > 0 && totals.1 > 0, "{place}: dhat saw nothing");
    let folded = |name: &str| -> u64 {
        let text = file(name);
        text.lines().map(|line| line.rsplit_once(' ').and_then(|(_, n)| n.parse::<u64>().ok()).expect("a count")).sum()
    };
    assert_eq!((folded("blocks.folded"), folded("bytes.folded")), totals, "{place}: folded stacks");
    assert_eq!((folded("blocks.raw.folded"), folded("bytes.raw.folded")), totals, "{place}: raw folded stacks");
    // inferno's root frame; the picture of a graph without stacks has none.
    let drawn = |unit: &str| -> u64 {
        let svg = file(&format!("{unit}.svg"));
        let Some((_, title)) = svg.split_once("<title>all (") else {
            assert!(svg.contains("nothing"), "{place}: {unit}.svg has neither a root nor says that it is empty");
            return 0;
        };
        let (count, _) = title.split_once(' ').expect("a count and its unit");
        count.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a count")
    };
    assert_eq!((drawn("blocks"), drawn("bytes")), totals, "{place}: flame graphs");
    let pprof = part.join("profile.pb.gz");
    let peak = (totals.0, totals.1, peak);
    assert_eq!(decoded(&pprof), peak, "{place}: pprof");
    if by_go && let Some(read) = read_by_go(&pprof) {
        assert_eq!(read, peak, "{place}: pprof by go tool pprof");
    }
}

/// The parts of a pprof file that hold its values.
#[derive(Clone, PartialEq, prost::Message)]
struct Pprof {
    #[prost(message, repeated, tag = "2")]
    samples: Vec<PprofSample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PprofSample {
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

/// Blocks, bytes and bytes at the peak of a pprof file, added up.
fn decoded(profile: &Path) -> (u64, u64, u64) {
    let mut bytes = Vec::new();
    let packed = std::fs::File::open(profile).expect("the file is there");
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
    let Pprof { samples } = prost::Message::decode(&bytes[..]).expect("a profile");
    let value = |index: usize| samples.iter().map(|sample| sample.values[index] as u64).sum();
    (value(0), value(1), value(2))
}

/// The same as `go tool pprof` adds them up; `None`, and a line, where Go is not installed, which CI does not forgive.
fn read_by_go(profile: &Path) -> Option<(u64, u64, u64)> {
    let Ok(output) = Command::new("go").args(["tool", "pprof", "-raw"]).arg(profile).output() else {
        assert!(std::env::var_os("CI").is_none(), "CI installs Go");
        skipped("go is not installed: its pprof reads none of the profiles");
        return None;
    };
    let raw = text(&output.stdout);
    assert!(raw.contains("alloc_objects/count alloc_space/bytes"), "{raw}{}", text(&output.stderr));
    let mut totals = (0, 0, 0);
    // A sample is a line of its three values, a colon, and its locations.
    for line in raw.lines().skip_while(|line| !line.starts_with("Samples:")).take_while(|line| *line != "Locations") {
        let Some((values, _)) = line.split_once(": ") else { continue };
        let values: Vec<u64> = values.split_whitespace().map_while(|value| value.parse().ok()).collect();
        if let [blocks, bytes, peak] = values[..] {
            totals = (totals.0 + blocks, totals.1 + bytes, totals.2 + peak);
        }
    }
    Some(totals)
}

/// A line about what was not tested, past the harness's capture.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// On the streams, 98 % of the bytes carry a stage, and scopes and stacks agree.
///
/// They are of two runs, and what h2's read buffer allocates in one of them depends on how far its reader keeps up. So
/// the stages that a message alone decides are compared, in bytes per message; the receive buffer is what is left, on
/// both sides of the comparison.
fn attributed(run: &Run, folder: &Path, index: usize, side: Side) {
    let step = &run.steps[index];
    let (name, counts) = (&step.name, counts(run, index, side));
    let stacks = step.stacks(side).expect("dhat saw both sides");
    let folded = folder.join(&stacks.dhat).with_file_name("bytes.folded");
    let folded = std::fs::read_to_string(folded).expect("folded stacks");
    let seen = |stage: Stage| -> u64 {
        let of_stage = folded.lines().filter(|line| line.split(';').next() == Some(stage.name()));
        of_stage.map(|line| line.rsplit_once(' ').and_then(|(_, n)| n.parse::<u64>().ok()).expect("a count")).sum()
    };
    let by_scope = |stage: Stage| counts.stage(stage).bytes as f64 / run.workload.messages as f64;
    let by_stack = |stage: Stage| seen(stage) as f64 / stacks.messages as f64;
    let payload = run.workload.chunk as f64;
    for bytes in [by_scope(Stage::Other), by_stack(Stage::Other)] {
        assert!(bytes <= 0.02 * payload, "{name} {side}: {bytes:.0} bytes a message carry no stage");
    }
    for stage in [Stage::Marshal, Stage::MessageConstruction, Stage::Handler, Stage::Transport] {
        let difference = (by_scope(stage) - by_stack(stage)).abs();
        // The side that sends marshals into tonic's encode buffer, which survives a message or not by whether h2 had
        // let go of it: two runs of one program differ by some percent there, whatever attributes them.
        let sends = side != run.subject.shape.receiver();
        let allowed = if stage == Stage::Marshal && sends { 0.05 } else { 0.02 };
        assert!(
            difference <= allowed * payload,
            "{name} {side} {stage}: {:.0} bytes a message by scope, {:.0} by stack",
            by_scope(stage),
            by_stack(stage)
        );
    }
}

#[test]
fn put_climbs_its_ladder() {
    ladder_holds(Scenario::Put, 300, &[Instrument::Count, Instrument::Time]);
}

#[test]
fn get_climbs_its_ladder() {
    ladder_holds(Scenario::Get, 300, &[Instrument::Count, Instrument::Time]);
}

#[test]
fn unary_climbs_its_ladder() {
    // No timed rounds: of unoptimised calls they take a quarter of a minute, and the other two have them.
    ladder_holds(Scenario::Unary, 300, &[Instrument::Count]);
}

#[test]
fn cpu_time_is_sampled_on_both_sides() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let more = ["--steps", "baseline", "--instruments", "cpu", "--messages", "300"];
    let done = measured(Scenario::Put, &folder, &more);
    let run = read(&folder);
    for side in Side::ALL {
        let profile = run.steps[0].cpu.iter().find(|profile| profile.side == side).expect("both sides were sampled");
        let used = run.steps[0].of(side, Instrument::Cpu).next().expect("the window is on record").usage;
        assert!(used.system_share().is_some_and(|share| (0.0..=1.0).contains(&share)), "{used:?}");
        let raw = folder.join(&profile.raw);
        let total = |file: &Path| -> u64 {
            let folded = std::fs::read_to_string(file).expect("folded stacks");
            folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        assert!(total(&raw) > 0, "{}", raw.display());
        assert_eq!(total(&raw.with_file_name("cpu.folded")), total(&raw), "no sample is lost");
        assert!(raw.with_file_name("cpu.svg").is_file());
    }
    let table = text(&done.stdout);
    assert!(table.contains("where CPU time goes") && table.contains("getrusage"), "{table}");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the run has a report");
    assert!(page.contains("01-baseline/server/cpu.svg"));
}

#[test]
fn a_sweep_finds_nothing_allocated_at_any_size_or_number_of_streams() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let file = temporary.path().join("sweep.json");
    let path = file.to_str().expect("a temporary folder's path is text");
    let small = ["--profile", "dev", "--runs", "1", "--payload", "8", "--sizes", "4KiB,64KiB", "--streams", "8"];
    let done = output(&[&["sweep", "put", "--json", "--out", path], &small[..]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), std::fs::read_to_string(&file).expect("the sweep is kept"));
    let sweep: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let points = sweep["points"].as_array().expect("points");
    let at = |point: &serde_json::Value| (point["workload"]["chunk"].as_u64(), point["workload"]["streams"].as_u64());
    let expected = [(4096, 1), (65_536, 1), (65_536, 8)].map(|(chunk, streams)| (Some(chunk), Some(streams)));
    assert_eq!(points.iter().map(at).collect::<Vec<_>>(), expected);
    for point in points {
        let measured: Vec<Measurement> = serde_json::from_value(point["measurements"].clone()).expect("measurements");
        assert_eq!(measured.len(), 4, "both sides, counted and timed");
        for counted in measured.iter().filter(|measurement| measurement.instrument == Instrument::Count) {
            let blocks = counted.blocks_per_message().expect("a count");
            // A machine that stops one side for milliseconds costs some blocks; the baseline takes three a message.
            assert!(blocks <= 0.1, "{:?} {}: {blocks} allocations a message", at(point), counted.side);
        }
        let raw = point["raw_tokio"].as_array().expect("the raw copy's rounds").len();
        assert_eq!(raw, usize::from(point["workload"]["streams"] == 1));
    }
}

#[test]
fn the_cost_of_a_build_stands_beside_the_bare_one() {
    let done = output(&["cost", "unary", "--profile", "dev", "--runs", "2", "--messages", "50", "--json"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let rows = rows.as_array().expect("rows");
    let of = |key: &str| rows.iter().map(|row| row[key].as_str().expect("a name").to_owned()).collect::<Vec<_>>();
    assert_eq!(of("build"), ["bare", "seams", "count", "sampled"].repeat(2));
    assert_eq!(of("scenario"), ["unary"; 8]);
    assert!(rows.iter().all(|row| row["cpu_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0)), "{rows:?}");
    assert!(rows.iter().all(|row| row["build"] != "bare" || row["cpu_ratio"] == 1.0), "{rows:?}");
}

/// An agent on a free port, killed when dropped.
struct Agent {
    child: std::process::Child,
    address: String,
    /// In the environment of all that it starts.
    tag: String,
}

impl Agent {
    fn start() -> Agent {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("agent-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let mut command = xtask(&["agent", "--bind", "127.0.0.1:0"]);
        command.env(TAG, &tag);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the agent starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let address = lines.next().expect("the agent prints its address").expect("text");
        Agent { child, address, tag }
    }

    fn profile(&self, folder: &Path, more: &[&str]) -> Output {
        profile(Scenario::Put, folder, &[&["--server", &self.address], more].concat())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Servers of the agent that are still there, a moment after they should be gone.
fn servers_of(agent: &Agent) -> Vec<String> {
    let parent = format!("PPid:\t{}\n", agent.child.id());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found: Vec<String> = std::fs::read_dir("/proc")
            .expect("Linux has /proc")
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
            .filter(|status| status.contains(&parent))
            .collect();
        if found.is_empty() || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_on_another_host_measures_the_same() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let [near, far] = ["near", "far"].map(|name| temporary.path().join(name));
    let more = ["--steps", "baseline,zero-copy", "--messages", "300", "--instruments", "count,stacks"];
    measured(Scenario::Put, &near, &more);
    let agent = Agent::start();
    // What is no HTTP/2 does the agent no harm.
    let mut garbage = std::net::TcpStream::connect(&agent.address).expect("the agent listens");
    garbage.write_all(&[0xA5; 4000]).expect("the agent reads");
    drop(garbage);
    for again in [&[][..], &["--replace"]] {
        let there = agent.profile(&far, &[&more[..], again].concat());
        assert!(there.status.success(), "{}", text(&there.stderr));
    }
    let [near, far] = [near, far].map(|folder| (read(&folder), folder));
    assert!(near.0.server_environment.is_none() && far.0.server_environment.is_some());
    for side in Side::ALL {
        for run in [&near.0, &far.0] {
            let blocks = run.steps[1].counts(side).and_then(Measurement::blocks_per_message).expect("counted");
            assert!(blocks < 0.05, "{side}: {blocks} allocations a message");
        }
        let stacks = far.0.steps[0].stacks(side).expect("stacks");
        let dhat = std::fs::read_to_string(far.1.join(&stacks.dhat)).expect("dhat's file");
        assert!(dhat.contains(r#""tbk""#), "{side}: dhat saw nothing on the other host");
    }
    assert_eq!(servers_of(&agent), Vec::<String>::new());
}

#[test]
fn an_agent_that_cannot_serve_is_named() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = |name: &str| temporary.path().join(name);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = nobody.expect("a free port").to_string();
    refused(
        &profile(Scenario::Put, &folder("none"), &["--server", &nobody]),
        3,
        &["no agent answers", &nobody, "cargo xtask agent"],
    );
    refused(
        &profile(Scenario::Put, &folder("none"), &["--server", "nowhere"]),
        2,
        &["`nowhere` is not a valid address"],
    );
    refused(&profile(Scenario::Put, &folder("none"), &["--server", &nobody, "--limits"]), 2, &["--limits"]);
    let instructions = ["--server", &nobody, "--instruments", "instructions"];
    refused(&profile(Scenario::Put, &folder("none"), &instructions), 2, &["one host only"]);
    assert!(!folder("none").exists());

    let mut agent = Agent::start();
    let tag = agent.tag.clone();
    let path = folder("long").to_str().expect("a temporary folder's path is text").to_owned();
    let args = ["profile", "put", "--profile", "dev", "--instruments", "count", "--steps", "baseline,zero-copy"];
    let endless = ["--server", &agent.address, "--out", &path, "--messages", "100000000"];
    let mut long = xtask(&[&args[..], &endless[..]].concat())
        .env(TAG, &tag)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xtask starts");
    let mut lines = BufReader::new(long.stderr.take().expect("stderr is piped")).lines();
    let built = lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line.contains("Built")));
    built.expect("the client is built").expect("text");
    refused(&agent.profile(&folder("busy"), &["--instruments", "count"]), 3, &["busy with another run"]);
    agent.child.kill().and_then(|()| agent.child.wait()).expect("the agent is killed");
    let said: String = lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert_eq!(long.wait().expect("xtask ends").code(), Some(4), "{said}");
    assert!(said.contains("the agent on") && said.contains("went away"), "{said}");
    // Neither the client nor the server that the agent ran.
    assert_eq!(left_over(&tag), Vec::<String>::new());
}

#[test]
fn bad_input_is_refused_with_a_way_out() {
    refused(&output(&["profile", "putt"]), 2, &["'putt'", "'put'"]);
    refused(
        &output(&["profile", "put", "--steps", "poled-message"]),
        2,
        &["has no step", "did you mean `pooled-message`?"],
    );
    refused(&output(&["profile", "put", "--chunk", "0"]), 2, &["at least 1 byte"]);
    let above = (CHUNK_MAX + 1).to_string();
    refused(&output(&["profile", "put", "--chunk", &above]), 2, &["receive limit", &CHUNK_MAX.to_string()]);
    refused(&output(&["profile", "put", "--messages", "0"]), 2, &["--messages"]);
    refused(&output(&["profile", "put", "--no-such-flag"]), 2, &["--no-such-flag"]);
    refused(&output(&["sweep", "unary"]), 2, &["unary has none", "cargo xtask sweep put"]);
    refused(&output(&["sweep", "put", "--sizes", "4MiB"]), 2, &[&CHUNK_MAX.to_string()]);
    refused(&output(&["report", "no-such-run"]), 2, &["there is no run `no-such-run`"]);
}

#[test]
fn an_unwritable_folder_is_refused_before_anything_is_built() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let file = temporary.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let done = profile(Scenario::Put, &file.join("run"), &[]);
    refused(&done, 3, &["cannot make the folder"]);
    assert!(!text(&done.stderr).contains("Building"));
}

#[test]
fn a_port_in_use_is_named() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let more = ["--bind", address.as_str(), "--steps", "baseline", "--instruments", "count"];
    let folder = temporary.path().join("run");
    refused(&profile(Scenario::Put, &folder, &more), 3, &["cannot listen on", &address, "in use"]);
    assert!(!folder.exists(), "nothing was measured, nothing is left");
}

#[test]
fn damaged_runs_are_told_apart() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("run");
    let more = ["--messages", "64", "--steps", "baseline", "--instruments", "stacks"];
    measured(Scenario::Put, &folder, &more);
    let path = folder.to_str().expect("a temporary folder's path is text");
    let dhat = folder.join("01-baseline/server/dhat.json");
    let whole = std::fs::read(&dhat).expect("dhat's file");
    std::fs::write(&dhat, &whole[..whole.len() / 2]).expect("written");
    refused(&output(&["report", path]), 3, &["dhat.json"]);
    std::fs::write(&dhat, "not JSON").expect("written");
    refused(&output(&["report", path]), 3, &["dhat.json"]);
    std::fs::write(&dhat, &whole).expect("written");
    assert!(output(&["report", path]).status.success());
    let record = folder.join("run.json");
    let json = std::fs::read_to_string(&record).expect("the record");
    std::fs::write(&record, json.replacen("\"schema\": 2", "\"schema\": 99", 1)).expect("written");
    refused(&output(&["report", path]), 3, &["schema 99"]);
    std::fs::write(&record, &json[..json.len() / 2]).expect("written");
    refused(&output(&["report", path]), 3, &["run.json"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = xtask(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xtask starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("xtask ends").success(), "{said}");
    assert_eq!(said, "");
}
