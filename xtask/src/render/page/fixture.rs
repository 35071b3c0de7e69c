//! A run as it might be measured, made up but consistent: ten steps, both sides, ten timed rounds, call sites.
//!
//! Deterministic, so that pages rendered from it can be compared byte by byte. No figure here is a measurement.

mod recorded;

use std::collections::BTreeMap;
use std::path::Path;

use alloc_ladder::record::{
    CountRow, Counts, CpuProfile, Environment, FreedBy, HeapSample, Instrument, Limit, Measurement, Retained, Run,
    SCHEMA, Shape, SizeBucket, Stacks, StepRecord, Subject, Timing, Usage, Workload,
};
use alloc_ladder::subject::ladder::{Tuning, ladder};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};

use crate::analyse::cpu::{Samples, Spent, Stack};
use crate::analyse::fold::{Figures, Profile};
use crate::analyse::profiles::Profiles;
use crate::render::files;
use crate::store::find;
use crate::store::layout;
use crate::store::write::RunFolder;

const MESSAGES: u64 = 2000;
const CHUNK: u64 = 64 * 1024;
const STACKS_MESSAGES: u64 = 400;
const ROUNDS: u32 = 10;
/// The first steps of the ladder; it may have more.
const STEPS: usize = 10;

/// Numbers that look random and never change.
struct Noise(u64);

impl Noise {
    /// Around 1, within `spread` of it.
    fn around_one(&mut self, spread: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1.0 + spread * (((self.0 >> 33) as f64 / f64::from(1u32 << 31)) * 2.0 - 1.0)
    }
}

/// Bytes and blocks per message of one stage.
type PerMessage = (Stage, f64, f64);

/// What the server allocates per message once `step` steps are on.
fn server(step: usize) -> [PerMessage; 7] {
    let receive = match step {
        0..=2 => (98_230.0, 12.82),
        3 | 4 => (74_050.0, 2.93),
        _ => (14.2, 0.0025),
    };
    let construction = if step == 0 { (65_536.0, 1.0) } else { (0.0, 0.0) };
    [
        (Stage::Marshal, 4.4, 0.0025),
        (Stage::ReceiveBuffer, receive.0, receive.1),
        (Stage::MessageConstruction, construction.0, construction.1),
        (Stage::Transport, 51.2, 0.051),
        (Stage::Handler, 14.7, 0.024),
        (Stage::Instrument, 3.1, 0.0015),
        (Stage::Other, 0.9, 0.002),
    ]
}

fn client(step: usize) -> [PerMessage; 7] {
    let marshal = match step {
        0..=6 => (73_120.0, 2.97),
        7 => (65_570.0, 1.01),
        8 => (41.0, 0.004),
        _ => (12.0, 0.002),
    };
    let handler = if step < 2 { (65_560.0, 1.02) } else { (24.0, 0.02) };
    [
        (Stage::Marshal, marshal.0, marshal.1),
        (Stage::ReceiveBuffer, 8.4, 0.004),
        (Stage::MessageConstruction, 2.4, 0.001),
        (Stage::Transport, 38.6, 0.042),
        (Stage::Handler, handler.0, handler.1),
        (Stage::Instrument, 3.1, 0.0015),
        (Stage::Other, 1.1, 0.0025),
    ]
}

fn rows(side: Side, step: usize) -> [PerMessage; 7] {
    match side {
        Side::Server => server(step),
        Side::Client => client(step),
    }
}

const CPU_SERVER: [f64; STEPS] = [0.612, 0.618, 0.566, 0.401, 0.352, 0.301, 0.303, 0.302, 0.300, 0.299];
const CPU_CLIENT: [f64; STEPS] = [0.741, 0.738, 0.602, 0.455, 0.452, 0.449, 0.447, 0.421, 0.381, 0.362];
const GB_PER_S: [f64; STEPS] = [1.30, 1.31, 1.52, 2.05, 2.21, 2.42, 2.43, 2.55, 2.83, 3.08];
const PEAK_SERVER: [u64; STEPS] = [1340, 1405, 1310, 4_120, 4_180, 3_720, 3_900, 3_890, 3_910, 3_905];
const PEAK_CLIENT: [u64; STEPS] = [1240, 1240, 1180, 3_310, 3_300, 3_310, 3_312, 3_290, 3_650, 3_480];

/// A complete `put` run.
pub(crate) fn run() -> Run {
    let steps = (0..STEPS).map(step).collect();
    Run {
        schema: SCHEMA,
        id: "put-20260820-140211".to_owned(),
        created: "2026-08-20T14:02:11Z".to_owned(),
        subject: Scenario::Put.subject(),
        workload: Workload::default(),
        stacks_workload: Some(Workload { messages: STACKS_MESSAGES, ..Workload::default() }),
        environment: Environment {
            revision: "0123abc".to_owned(),
            dirty: false,
            rustc: "rustc 1.95.0 (f2d3ce0bd 2026-03-21)".to_owned(),
            profile: "release".to_owned(),
            allocator: "System (glibc 2.36)".to_owned(),
            cpu: "Example CPU @ 2.00GHz".to_owned(),
            cores: 2,
            kernel: "6.1.0".to_owned(),
            command: "cargo xtask profile put --rounds 10".to_owned(),
            timing: Some(Timing {
                messages: 20_000,
                processes: 5,
                discarded: 1,
                budget_seconds: Some(90),
                server_cores: vec![1],
                server_cores_of_many: vec![0, 1],
                client_cores: vec![0],
                congestion: Some("cubic".to_owned()),
                governor: Some("performance".to_owned()),
                load_average: Some(0.21),
                steal_share: Some(0.0),
                others_share: Some(0.012),
            }),
        },
        server_environment: None,
        partial: false,
        seed: 7,
        steps,
        limits: [
            ("raw-tokio", "tokio reads TCP and drops it", 0.204, Some(0.0)),
            ("hyper", "hyper upload sink, stock", 0.598, Some(12.1)),
            ("hyper-tuned", "the same with tuned h2 and aligned reads", 0.281, Some(0.002)),
            ("file-server", "HTTP/1.1 upload into a file server", 0.335, None),
        ]
        .map(|(name, words, cpu, blocks)| {
            let mut noise = Noise(name.len() as u64);
            Limit {
                name: name.to_owned(),
                words: words.to_owned(),
                server_cpu_seconds_per_gb: (0..ROUNDS).map(|_| cpu * noise.around_one(0.04)).collect(),
                blocks_per_message: blocks,
            }
        })
        .to_vec(),
    }
}

fn step(index: usize) -> StepRecord {
    let step = &ladder(Scenario::Put)[index];
    let mut tuning = Tuning::default();
    ladder(Scenario::Put)[..=index].iter().for_each(|step| (step.apply)(&mut tuning));
    let mut measurements = Vec::new();
    let mut noise = Noise(index as u64 + 11);
    for side in Side::ALL {
        measurements.extend([0, 1].map(|round| Measurement { round, ..counted(side, index) }));
        measurements.push(retained(side, index));
        let usage = Usage { user_us: 600_000, system_us: 400_000 + 50_000 * index as u64, ..Usage::default() };
        measurements.push(Measurement { usage, ..measurement(side, Instrument::Cpu, 0) });
        measurements.extend((0..ROUNDS).map(|round| timed(side, index, round, &mut noise)));
    }
    let set = match index {
        0 => "baseline".to_owned(),
        _ => format!("up-to={}", step.name),
    };
    StepRecord {
        name: step.name.to_owned(),
        set,
        settings: tuning.settings(),
        about: None,
        from: None,
        failure: None,
        measurements,
        stacks: Side::ALL.map(|side| stacks(side, index)).to_vec(),
        cpu: Side::ALL.map(|side| cpu(side, index)).to_vec(),
    }
}

fn cpu(side: Side, step: usize) -> CpuProfile {
    let name = ladder(Scenario::Put)[step].name;
    CpuProfile { side, raw: format!("{:02}-{name}/{}/cpu.raw.folded", step + 1, side.name()) }
}

/// 400 samples, fewer of them in the allocator from step to step.
fn samples(step: usize) -> Samples {
    let allocator = 80 / (step as u64 + 1);
    let spent =
        [(Spent::Allocator, allocator), (Spent::Copy, 100), (Spent::Kernel, 120), (Spent::Own, 180 - allocator)];
    let stacks =
        spent.map(|(spent, samples)| Stack { spent, frames: vec!["ladder::Service::put".to_owned()], samples });
    Samples { stacks: stacks.to_vec() }
}

fn measurement(side: Side, instrument: Instrument, round: u32) -> Measurement {
    Measurement {
        side,
        instrument,
        round,
        messages: MESSAGES,
        payload_bytes: MESSAGES * CHUNK,
        wall_ns: 100_000_000,
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

fn timed(side: Side, step: usize, round: u32, noise: &mut Noise) -> Measurement {
    let payload = (MESSAGES * CHUNK) as f64;
    let cpu = match side {
        Side::Server => CPU_SERVER[step],
        Side::Client => CPU_CLIENT[step],
    };
    let cpu_us = payload * cpu / 1e3 * noise.around_one(0.03);
    Measurement {
        wall_ns: (payload / GB_PER_S[step] * noise.around_one(0.025)) as u64,
        usage: Usage {
            user_us: (cpu_us * 0.35) as u64,
            system_us: (cpu_us * 0.65) as u64,
            rss_bytes_max: 9 * 1024 * 1024 + (PEAK_SERVER[step] * 1024),
            voluntary_switches: 1000 + 100 * step as u64,
            involuntary_switches: 20,
        },
        ..measurement(side, Instrument::Time, round)
    }
}

fn tally(bytes: f64, blocks: f64) -> Tally {
    let (bytes, blocks) = ((bytes * MESSAGES as f64) as u64, (blocks * MESSAGES as f64).round() as u64);
    Tally { blocks, bytes, freed_blocks: blocks, freed_bytes: bytes, ..Tally::default() }
}

fn counted(side: Side, step: usize) -> Measurement {
    let rows: Vec<CountRow> = rows(side, step)
        .into_iter()
        .map(|(stage, bytes, blocks)| CountRow {
            rpc: Scenario::Put.path().to_owned(),
            side: Some(side),
            stage,
            tally: tally(bytes, blocks),
        })
        .collect();
    let total: Tally = rows.iter().map(|row| row.tally).sum();
    let peak = 1024
        * match side {
            Side::Server => PEAK_SERVER[step],
            Side::Client => PEAK_CLIENT[step],
        };
    let mut noise = Noise(step as u64 * 3 + 5);
    let heap = (0..=200).map(|index| {
        let ramp = (f64::from(index.min(200 - index)) / 12.0).min(1.0);
        let live = if index == 97 { peak as f64 } else { peak as f64 * ramp * noise.around_one(0.02) * 0.96 };
        HeapSample { messages: index as u64 * MESSAGES / 200, live_bytes: live as u64 }
    });
    let mut sizes: Vec<SizeBucket> = (0..18).map(|power| SizeBucket { bytes_min: 1 << power, blocks: 0 }).collect();
    let share = [0, 0, 0, 2, 6, 14, 60, 4, 3, 2, 2, 1, 1, 8, 3, 1, 12, 0];
    let all: u64 = share.iter().sum();
    sizes.iter_mut().zip(share).for_each(|(bucket, share)| bucket.blocks = total.blocks * share / all);
    Measurement {
        counts: Some(Counts { rows, total, sizes, peak_bytes: peak, peak_slack_bytes: 65_536, heap: heap.collect() }),
        setup: Some(tally(0.0, 0.07)),
        ..measurement(side, Instrument::Count, 0)
    }
}

fn retained(side: Side, step: usize) -> Measurement {
    let rows = [
        (Stage::ReceiveBuffer, 34_000 + 4_000 * step as u64, 6, Stage::MessageConstruction),
        (Stage::MessageConstruction, if step == 0 { 65_536 } else { 0 }, 1, Stage::Handler),
        (Stage::Transport, 52_300, 141, Stage::Transport),
        (Stage::Other, 1_200, 9, Stage::Other),
    ];
    let retained = rows.into_iter().map(|(stage, curr_bytes, curr_blocks, by)| Retained {
        stage,
        rpc: String::new(),
        curr_blocks,
        curr_bytes,
        freed_by: vec![
            FreedBy { stage: by, blocks: 19 * MESSAGES, bytes: CHUNK * MESSAGES },
            FreedBy { stage: Stage::Transport, blocks: MESSAGES, bytes: 64 * MESSAGES },
        ],
    });
    Measurement { retained: retained.collect(), ..measurement(side, Instrument::Retained, 0) }
}

fn stacks(side: Side, step: usize) -> Stacks {
    let name = ladder(Scenario::Put)[step].name;
    Stacks {
        side,
        messages: STACKS_MESSAGES,
        payload_bytes: STACKS_MESSAGES * CHUNK,
        dhat: format!("{:02}-{name}/{}/dhat.json", step + 1, side.name()),
        recorded: None,
    }
}

/// The profiles of [`run`], with every file that is made from them.
pub(crate) fn profiles() -> Profiles {
    let mut profiles = Profiles::beside(files::named(&run()));
    for step in 0..STEPS {
        for side in Side::ALL {
            profiles.insert_folded(step, side, profile(side, step));
            profiles.insert_samples(step, side, samples(step));
        }
    }
    profiles
}

const CONNECTION: &str = "tonic::server::serve_connection;hyper::server::Connection::poll;hyper::h2::Server::poll;\
                          h2::server::Connection::poll_accept;h2::Connection::poll;h2::Connection::poll2";
const READ: &str = "h2::Codec::poll_next;h2::FramedRead::poll_next;tokio_util::FramedRead::poll_next;\
                    tokio_util::LengthDelimitedCodec::decode";
const CALL: &str = "hyper::h2::H2Stream::poll;ladder::LadderServer::call;tonic::server::Grpc::client_streaming;\
                    ladder::Service::put;tonic::Streaming::message;tonic::Streaming::poll_next";
const SEND: &str = "ladder::client::put;tonic::client::Grpc::client_streaming;hyper::h2::PipeToSendStream::poll;\
                    tonic::codec::EncodeBody::poll_frame;tonic::codec::EncodedBytes::poll_next";

/// A stage's call sites: frames above, frames below, share of bytes, share of blocks.
type SiteShare = (Stage, &'static str, &'static str, f64, f64);

const SERVER_SITES: [SiteShare; 12] = [
    (Stage::ReceiveBuffer, CONNECTION, "%;bytes::BytesMut::reserve;bytes::BytesMut::reserve_inner", 0.79, 0.52),
    (
        Stage::ReceiveBuffer,
        CONNECTION,
        "%;LengthDelimitedCodec::decode_head;bytes::BytesMut::reserve;\
                                        bytes::BytesMut::reserve_inner",
        0.16,
        0.08,
    ),
    (
        Stage::ReceiveBuffer,
        CONNECTION,
        "%;LengthDelimitedCodec::decode_data;bytes::BytesMut::split_to;\
                                        bytes::BytesMut::promote_to_shared",
        0.01,
        0.38,
    ),
    (Stage::ReceiveBuffer, CALL, "tonic::Streaming::decode_chunk;bytes::BytesMut::reserve_inner", 0.04, 0.02),
    (
        Stage::MessageConstruction,
        CALL,
        "tonic::Streaming::decode_chunk;tonic_prost::ProstDecoder::decode;\
                                        prost::Message::decode;ladder::Chunk::merge_field;prost::bytes::merge",
        1.0,
        1.0,
    ),
    (Stage::Marshal, CALL, "tonic::codec::encode::EncodedBytes::new;bytes::BytesMut::with_capacity", 1.0, 1.0),
    (Stage::Transport, CONNECTION, "h2::Streams::recv_headers;slab::Slab::insert;slab::Slab::insert_at", 0.6, 0.3),
    (Stage::Transport, CONNECTION, "h2::FramedWrite::new;bytes::BytesMut::with_capacity", 0.25, 0.2),
    (
        Stage::Transport,
        "tonic::server::serve_connection",
        "hyper_util::Builder::serve_connection;TaskRef::new",
        0.1,
        0.3,
    ),
    (Stage::Transport, CONNECTION, "h2::hpack::Decoder::decode;bytes::Bytes::copy_from_slice", 0.05, 0.2),
    (Stage::Handler, CALL, "ladder::Service::put::{closure};http::HeaderMap::insert", 1.0, 1.0),
    (Stage::Other, "main", "ladder::server::main;tracing::init", 1.0, 1.0),
];

const CLIENT_SITES: [SiteShare; 9] = [
    (
        Stage::Marshal,
        SEND,
        "tonic_prost::ProstEncoder::encode;prost::Message::encode;bytes::BytesMut::reserve_inner",
        0.89,
        0.6,
    ),
    (Stage::Marshal, SEND, "tonic::codec::EncodeBuf::reserve;bytes::BytesMut::reserve_inner", 0.11, 0.4),
    (Stage::ReceiveBuffer, "hyper::client::conn", "%;bytes::BytesMut::reserve_inner", 1.0, 1.0),
    (
        Stage::MessageConstruction,
        "ladder::client::put",
        "tonic_prost::ProstDecoder::decode;prost::Message::decode",
        1.0,
        1.0,
    ),
    (Stage::Transport, "hyper::client::conn", "tower::buffer::Buffer::call;tokio::mpsc::Sender::send", 0.5, 0.4),
    (Stage::Transport, "hyper::client::conn", "h2::SendStream::send_data;slab::Slab::insert_at", 0.5, 0.6),
    (Stage::Handler, "ladder::client::put", "ladder::client::Chunks::next;Vec::with_capacity", 0.99, 0.9),
    (Stage::Handler, "ladder::client::put", "ladder::client::Chunks::new;Box::new", 0.01, 0.1),
    (Stage::Other, "main", "ladder::client::main;clap::Parser::parse", 1.0, 1.0),
];

fn profile(side: Side, step: usize) -> Profile {
    let sites: &[SiteShare] = match side {
        Side::Server => &SERVER_SITES,
        Side::Client => &CLIENT_SITES,
    };
    let mut stacks = Vec::new();
    for (stage, bytes, blocks) in rows(side, step) {
        for (_, above, below, share_bytes, share_blocks) in sites.iter().filter(|site| site.0 == stage) {
            let total = |per_message: f64, share: f64| (per_message * share * STACKS_MESSAGES as f64).round() as u64;
            let (bytes, blocks) = (total(bytes, *share_bytes), total(blocks, *share_blocks));
            if bytes == 0 && blocks == 0 {
                continue;
            }
            let below = below.replace('%', READ);
            let frames: Vec<String> = format!("{above};{below}").split(';').map(str::to_owned).collect();
            let figures =
                Figures { blocks: blocks.max(1), bytes, peak_bytes: bytes / 100, peak_blocks: 1, ..Figures::default() };
            stacks.push((stage, frames, figures));
        }
    }
    Profile::of(&stacks)
}

/// A program with very many call sites, as a service of somebody else's may have.
pub(crate) fn wide(sites: usize) -> Profile {
    let mut noise = Noise(3);
    let sites = (0..sites).map(|index| {
        let stage = Stage::ALL[index % Stage::ALL.len()];
        let frames = (0..12).map(|depth| format!("module_{}::function_{}", depth, index >> (11 - depth.min(11))));
        let figures = Figures {
            blocks: 1 + (noise.around_one(1.0) * 50.0) as u64,
            bytes: 64 + (noise.around_one(1.0) * 5000.0) as u64,
            peak_bytes: 64,
            peak_blocks: 1,
            ..Figures::default()
        };
        (stage, frames.chain([format!("leaf::site_{index}")]).collect(), figures)
    });
    Profile::of(&sites.collect::<Vec<(Stage, Vec<String>, Figures)>>())
}

/// Names that try to break out of wherever they are written.
pub(crate) fn hostile_names() -> Vec<String> {
    vec![
        "<script>alert(1)</script>".to_owned(),
        "</script><img src=x onerror=alert(1)>".to_owned(),
        "<!--<script>".to_owned(),
        "a&amp;b && c".to_owned(),
        r#"quotes " and ' and ` in one"#.to_owned(),
        "semi;colon".to_owned(),
        // What a semicolon is replaced by where it would part frames.
        "semi\u{37e}colon".to_owned(),
        "\u{202e}evil\u{202c} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627}".to_owned(),
        "line\u{2028}separator".to_owned(),
        format!("long::{}", "x".repeat(10_000)),
        "__proto__".to_owned(),
        "constructor".to_owned(),
        "[0-9]+(".to_owned(),
    ]
}

pub(crate) use recorded::recorded;

/// The pages the browser tests open.
pub(crate) fn write_pages(dir: &Path) {
    let write = |name: &str, run: &Run, profiles: &Profiles| {
        std::fs::write(dir.join(name), super::render(run, profiles)).expect("writes");
    };
    write("put.html", &run(), &profiles());

    let mut wide_run = run();
    wide_run.steps.truncate(2);
    let mut wide_profiles = Profiles::default();
    Side::ALL.into_iter().for_each(|side| {
        wide_profiles.insert_folded(0, side, wide(2000));
        wide_profiles.insert_folded(1, side, wide(1500));
    });
    write("wide.html", &wide_run, &wide_profiles);

    let (hostile_run, hostile_profiles) = hostile();
    write("hostile.html", &hostile_run, &hostile_profiles);
    write("bare.html", &bare(), &Profiles::default());

    // As it was measured: calls instead of messages, latency, the nine stages.
    let (dir, unary) = find::load(&layout::reference(Scenario::Unary).to_string_lossy()).expect("a reference run");
    let dir = RunFolder::open(&dir).expect("opens");
    write("unary.html", &unary, &files::load(&dir, &unary).expect("loads"));

    write("grown.html", &grown().0, &grown().1);

    let (run, profiles) = recorded(false);
    write("recorded.html", &run, &profiles);
    let (run, profiles) = recorded(true);
    write("scoped.html", &run, &profiles);
}

/// A second step that allocates half as much again as the first.
fn grown() -> (Run, Profiles) {
    let mut run = run();
    run.steps.truncate(2);
    let mut profiles = Profiles::default();
    for side in Side::ALL {
        let mut more = profile(side, 0);
        more.sites.iter_mut().for_each(|site| site.bytes += site.bytes / 2);
        profiles.insert_folded(0, side, profile(side, 0));
        profiles.insert_folded(1, side, more);
    }
    (run, profiles)
}

/// Everything a name can come from holds names that try to break out.
pub(crate) fn hostile() -> (Run, Profiles) {
    let names = hostile_names();
    let mut run = run();
    run.steps.truncate(3);
    run.subject = Subject { name: "program".to_owned(), shape: Shape::Program };
    run.id = "</title><script>alert(1)</script>".to_owned();
    run.environment.command = "cargo xtask profile '</pre><script>'".to_owned();
    run.limits[0].name.clone_from(&names[0]);
    run.limits[0].words.clone_from(&names[1]);
    run.steps[1].name.clone_from(&names[1]);
    run.steps[2].name.clone_from(&names[9]);
    run.steps[0].stacks[0].dhat = "javascript:alert(1)/x/dhat.json".to_owned();
    let stacks = names.iter().enumerate().map(|(index, name)| {
        let figures = Figures { blocks: 10, bytes: 1000 + index as u64, ..Figures::default() };
        (Stage::ALL[index % 6], vec![&names[(index + 1) % names.len()], name], figures)
    });
    let profile = Profile::of(&stacks.collect::<Vec<_>>());
    let mut profiles = Profiles::beside(files::named(&run));
    for step in 0..3 {
        profiles.insert_folded(step, Side::Server, profile.clone());
    }
    // A step after which nothing is left.
    profiles.insert_folded(1, Side::Client, profile);
    profiles.insert_folded(2, Side::Client, Profile::default());
    (run, profiles)
}

/// A service that `attach` followed: one process, counted from its start.
pub(crate) fn attached() -> Run {
    let of_put = run();
    let counts = counted(Side::Server, 0).counts.map(|counts| Counts { heap: Vec::new(), ..counts });
    let counted =
        Measurement { messages: 1, payload_bytes: 0, counts, ..measurement(Side::Server, Instrument::Count, 0) };
    let Environment { cpu, cores, kernel, .. } = of_put.environment;
    let command = "target/release/service --port 50051".to_owned();
    Run {
        id: "attach-20260820-140211".to_owned(),
        subject: Subject { name: "service".to_owned(), shape: Shape::Program },
        workload: Workload { messages: 1, warmup: 0, ..Workload::default() },
        stacks_workload: None,
        environment: Environment { command, cpu, cores, kernel, ..Environment::default() },
        seed: 0,
        steps: vec![StepRecord {
            name: "attached".to_owned(),
            set: "only=attached".to_owned(),
            settings: BTreeMap::new(),
            about: None,
            from: None,
            failure: None,
            measurements: vec![counted],
            stacks: Vec::new(),
            cpu: Vec::new(),
        }],
        limits: Vec::new(),
        ..of_put
    }
}

/// A run that ended early and was measured with nothing but the counting build, on one side.
pub(crate) fn bare() -> Run {
    let mut run = run();
    run.partial = true;
    run.steps.truncate(2);
    run.limits.clear();
    run.stacks_workload = None;
    for step in &mut run.steps {
        step.stacks.clear();
        step.cpu.clear();
        step.measurements.retain(|m| m.instrument == Instrument::Count && m.side == Side::Server);
        step.measurements.iter_mut().for_each(|m| m.setup = None);
    }
    // Planned and never reached.
    let mut unreached = step(2);
    unreached.measurements.clear();
    unreached.stacks.clear();
    unreached.cpu.clear();
    run.steps.push(unreached);
    run
}
