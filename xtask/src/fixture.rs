//! Runs made up for the tests of the verbs that read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use alloc_ladder::record::{
    CountRow, Counts, Environment, Instrument, Measurement, Run, SCHEMA, Stacks, StepRecord, Usage, Workload,
};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};

use crate::store::layout::RUN_JSON;

/// A run in which nothing was measured.
pub(crate) fn run(id: &str, scenario: Scenario) -> Run {
    Run {
        schema: SCHEMA,
        id: id.to_owned(),
        created: "2026-08-20T14:02:11Z".to_owned(),
        subject: scenario.subject(),
        workload: Workload::default(),
        stacks_workload: None,
        environment: Environment::default(),
        partial: false,
        seed: 0,
        steps: Vec::new(),
        server_environment: None,
        limits: Vec::new(),
    }
}

/// Writes a run where `run_dir` looks for it.
pub(crate) fn write(profiles: &Path, run: &Run) {
    let folder = profiles.join(&run.id);
    fs::create_dir_all(&folder).expect("creates");
    fs::write(folder.join(RUN_JSON), serde_json::to_string(run).expect("serialises")).expect("writes");
}

/// A step with these measurements.
pub(crate) fn step(name: &str, measurements: Vec<Measurement>) -> StepRecord {
    StepRecord {
        name: name.to_owned(),
        set: format!("up-to={name}"),
        settings: BTreeMap::new(),
        about: None,
        from: None,
        failure: None,
        measurements,
        stacks: Vec::new(),
        cpu: Vec::new(),
    }
}

fn measurement(side: Side, instrument: Instrument, round: u32) -> Measurement {
    Measurement {
        side,
        instrument,
        round,
        messages: 1000,
        payload_bytes: 1_000_000,
        wall_ns: 1_000_000,
        usage: Usage::default(),
        counts: None,
        setup: None,
        retained: Vec::new(),
        latency: None,
        instructions: None,
        socket: None,
        open_streams: None,
        calls: Vec::new(),
    }
}

/// A thousand messages of a thousand bytes, and what they allocated: `(stage, blocks, bytes)`.
pub(crate) fn count(side: Side, round: u32, rows: &[(Stage, u64, u64)]) -> Measurement {
    let row = |(stage, blocks, bytes): &(Stage, u64, u64)| CountRow {
        rpc: String::new(),
        side: None,
        stage: *stage,
        tally: Tally { blocks: *blocks, bytes: *bytes, ..Tally::default() },
    };
    let rows: Vec<CountRow> = rows.iter().map(row).collect();
    let total = rows.iter().map(|row| row.tally).sum();
    let counts = Counts { rows, total, peak_bytes: 4 << 20, peak_slack_bytes: 8192, ..Counts::default() };
    Measurement { counts: Some(counts), ..measurement(side, Instrument::Count, round) }
}

/// The same thousand messages, timed: CPU microseconds and wall nanoseconds.
pub(crate) fn time(side: Side, round: u32, cpu_us: u64, wall_ns: u64) -> Measurement {
    let usage = Usage { user_us: cpu_us, rss_bytes_max: 8 << 20, voluntary_switches: 1000, ..Usage::default() };
    Measurement { usage, wall_ns, ..measurement(side, Instrument::Time, round) }
}

/// A dhat file in `folder` for the server side of a step: `(frames leaf first, blocks, bytes)` a program point.
pub(crate) fn stacks(folder: &Path, step: &str, messages: u64, points: &[(&[&str], u64, u64)]) -> Stacks {
    let mut names = vec!["[root]".to_owned()];
    let points: Vec<_> = points
        .iter()
        .map(|(frames, blocks, bytes)| {
            let start = names.len();
            names.extend(frames.iter().enumerate().map(|(at, frame)| format!("0x{at}: {frame} (src/lib.rs:1:1)")));
            let frames: Vec<usize> = (start..names.len()).collect();
            serde_json::json!({
                "tb": bytes, "tbk": blocks, "tl": 0, "mb": 0, "mbk": 0, "gb": 0, "gbk": 0, "eb": 0, "ebk": 0,
                "fs": frames,
            })
        })
        .collect();
    let json = serde_json::json!({
        "dhatFileVersion": 2, "mode": "rust-heap", "verb": "Allocated", "bklt": true, "bkacc": false, "tu": "µs",
        "Mtu": "s", "tuth": 10, "cmd": "server", "pid": 1, "tg": 0, "te": 1, "pps": points, "ftbl": names,
    });
    let file = format!("{step}.json");
    fs::write(folder.join(&file), json.to_string()).expect("writes");
    Stacks { side: Side::Server, messages, payload_bytes: 0, dhat: file, recorded: None }
}
