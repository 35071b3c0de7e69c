//! The targets: what each tries, what its inputs are made of, and the good inputs it begins with.

use std::path::{Path, PathBuf};

use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::wire::http2::{CONTINUATION, DATA, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE};
use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;

use super::connections::{self, call, frame, headers};
use super::engine::{Engine, Shape};
use super::runner::Start;
use super::{frames, messages, readers, recordings, requests};
use crate::store::layout;

/// A reader or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Target {
    /// Names of frames
    FrameName,
    /// dhat's files
    Dhat,
    /// Folded stacks of a CPU profile
    Folded,
    /// pprof's files
    Pprof,
    /// Recordings, and the names they get
    Recording,
    /// Binaries that name a recording's functions
    Binary,
    /// run.json
    Run,
    /// sweep.json
    Sweep,
    /// budgets.toml
    Budgets,
    /// HTTP/2 frames through `AlignedIo`
    Http2Frames,
    /// gRPC messages, beside tonic's own `Streaming`
    GrpcFrames,
    /// Messages written into recycled memory
    PooledBody,
    /// Requests to the live endpoints, over loopback
    LiveRequests,
    /// Requests to `view --serve`, over loopback
    ViewRequests,
    /// Connections to the study's servers, over loopback
    Connections,
}

impl Target {
    /// As on the command line and in `tests-data/fuzz`.
    pub(super) fn name(self) -> String {
        self.to_possible_value().expect("no target is hidden").get_name().to_owned()
    }

    pub(super) fn start(self) -> Start {
        match self {
            Target::FrameName => readers::frame_name,
            Target::Dhat => readers::dhat,
            Target::Folded => readers::folded,
            Target::Pprof => readers::pprof,
            Target::Recording => recordings::recording,
            Target::Binary => recordings::binary,
            Target::Run => readers::run,
            Target::Sweep => readers::sweep,
            Target::Budgets => readers::budgets,
            Target::Http2Frames => frames::http2_frames,
            Target::GrpcFrames => messages::grpc_frames,
            Target::PooledBody => messages::pooled_body,
            Target::LiveRequests => requests::live,
            Target::ViewRequests => requests::view,
            Target::Connections => connections::connections,
        }
    }

    /// What makes its cases.
    ///
    /// # Errors
    /// A file of the corpus cannot be read.
    pub(super) fn engine(self, seed: u64) -> anyhow::Result<Engine> {
        let mut corpus = self.made()?;
        corpus.extend(extra(&self.name())?);
        anyhow::ensure!(!corpus.is_empty(), "`{}` has no good inputs to begin with", self.name());
        Ok(Engine { seed, shape: self.shape(), words: self.words(), corpus })
    }

    fn shape(self) -> Shape {
        match self {
            Target::Pprof | Target::PooledBody | Target::Recording | Target::Binary => Shape::Bytes,
            Target::Http2Frames | Target::Connections => Shape::Frames,
            Target::GrpcFrames => Shape::Messages,
            _ => Shape::Text,
        }
    }

    fn words(self) -> &'static [&'static [u8]] {
        match self {
            Target::FrameName | Target::Dhat | Target::Folded => NAMES,
            Target::Run | Target::Sweep => RECORDS,
            Target::Budgets => BUDGETS,
            Target::Http2Frames | Target::Connections => FRAMES,
            Target::GrpcFrames => MESSAGES,
            Target::LiveRequests | Target::ViewRequests => REQUESTS,
            Target::Pprof | Target::PooledBody | Target::Recording | Target::Binary => &[],
        }
    }

    /// Inputs made here, or cut from records of this repository.
    fn made(self) -> anyhow::Result<Vec<Vec<u8>>> {
        let data = |name: &str| layout::root().join("xtask/tests-data").join(name);
        Ok(match self {
            Target::FrameName => dhat_names(&data("put-server.json"))?,
            Target::Dhat => {
                let files = ["put-server.json", "get-server.json", "unary-client.json"];
                files.iter().map(|file| small_dhat(&data(file))).collect::<anyhow::Result<_>>()?
            }
            Target::Folded => {
                let text = text(&data("unary-client.bytes.folded"))?;
                text.as_bytes().chunks(700).map(whole_lines).filter(|lines| !lines.is_empty()).collect()
            }
            Target::Pprof => vec![profile()],
            Target::Recording => recordings::recordings(),
            Target::Binary => recordings::binaries()?,
            Target::Run | Target::Sweep => {
                let file = if self == Target::Run { "run.json" } else { "sweep.json" };
                let scenarios = Scenario::ALL.into_iter().map(|scenario| layout::reference(scenario).join(file));
                let files = scenarios.filter(|file| file.is_file());
                files.map(|file| small_record(&file)).collect::<anyhow::Result<_>>()?
            }
            Target::Budgets => {
                let text = text(&layout::root().join("profiles/budgets.toml"))?;
                let tables: Vec<&str> = text.split("\n\n").filter(|part| part.contains('[')).collect();
                tables.chunks(3).map(|tables| tables.join("\n\n").into_bytes()).collect()
            }
            Target::Http2Frames => streams(),
            Target::GrpcFrames => bodies(),
            Target::PooledBody => lengths(),
            Target::LiveRequests => paths(&[
                "/",
                "/metrics",
                "/debug/alloc?format=json",
                "/debug/pprof/allocs?seconds=0",
                "/debug/pprof/heap?seconds=300",
            ]),
            Target::ViewRequests => {
                paths(&["/", "/put-a/report.html", "/put-a/link", "/up/secret", "/put-a/../../secret"])
            }
            Target::Connections => calls(),
        })
    }
}

const NAMES: &[&[u8]] = &[
    b"<",
    b">",
    b"(",
    b")",
    b"[",
    b"]",
    b"{",
    b"}",
    b"::",
    b" as ",
    b" for ",
    b"impl ",
    b"dyn ",
    b"&",
    b"->",
    b";",
    b" 12",
    b" (",
    b"0x1: ",
    b"(in /opt/my app (1)/bin)",
    b"(src/main.rs:1:2)",
    b"{{closure}}",
    b"operator<<",
    b"h0123456789abcdef",
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{1f980}".as_bytes(),
    b"\0",
    b"\n",
    b"\r",
    b"__rust_alloc",
    b"malloc",
    b"</script>",
    b"alloc::",
    b"tonic::",
    b"\"gb\": 18446744073709551615",
    b"\"dhatFileVersion\": 3",
];
const RECORDS: &[&[u8]] = &[
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"true",
    b"\"..\"",
    b"\"../../x\"",
    b"\"/etc/passwd\"",
    b"<script>fuzz",
    b"</script>",
    b"\"schema\": 99",
    b"\"baseline\"",
    b"\"only=rope\"",
    b"\"server\"",
    b"\"client\"",
    b"\"count\"",
    b"\"time\"",
    b"\"handler\"",
    b"\\u0000",
    b"\\ud800",
    b"\\u202e",
    b"\x1b[2J",
];
const BUDGETS: &[&[u8]] = &[
    b"[put.baseline.server]\n",
    b"[get.rope.client.handler]\n",
    b"[unary]\n",
    b"[[put]]\n",
    b"allocs-per-message",
    b"bytes-per-message",
    b"max",
    b"min",
    b"tolerance",
    b"= { max = 1, tolerance = 0.1 }",
    b"inf",
    b"nan",
    b"-inf",
    b"-0",
    b"1_000",
    b"0x10",
    b"\"",
    b"'''",
    b"\"\"\"",
    b"#",
    b"\r\n",
    b".",
    b"=",
    b"1979-05-27",
];
const FRAMES: &[&[u8]] = &[
    PREFACE,
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff",
    b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\0\xff\0\0\0\0\0",
    b"\0\0\0\0\x01\0\0\0\x01",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"grpc-timeout",
    b"1n",
    b"grpc-encoding",
    b"gzip",
];
const MESSAGES: &[&[u8]] = &[
    b"\0\0\0\0\0",
    b"\x01\0\0\0\x01",
    b"\x02\0\0\0\0",
    b"\0\xff\xff\xff\xff",
    b"\0\0\x40\0\0",
    b"\0\0\x40\0\x01",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0a\x00",
    b"\x0b\x0c",
    b"\x10\xff\x01",
    b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
];
const REQUESTS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"OPTIONS * ",
    b" HTTP/1.0",
    b" HTTP/2.0",
    b"\r\n",
    b"\r\n\r\n",
    b"Host: localhost\r\n",
    b"Host: evil.example\r\n",
    b"Host: 127.0.0.1@evil.example\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"http://localhost",
    b"http://evil.example/",
    b"%2e%2e/",
    b"..",
    b"%00",
    b"%",
    b"/secret",
    b"/link",
    b"?seconds=",
    b"&format=json",
    b"\0",
    PREFACE,
];

/// Files of this repository kept for a target alone: inputs that once failed, and kinds that nothing else has.
fn extra(name: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = layout::root().join("xtask/tests-data/fuzz").join(name);
    let entries = std::fs::read_dir(&folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // Cases are numbered, so that their order is the names'.
    files.sort();
    files.iter().map(|file| std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))).collect()
}

fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn json(file: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&text(file)?).with_context(|| format!("`{}` is not JSON", file.display()))
}

/// The frames of a dhat file, without address and position.
fn dhat_names(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = json(file)?;
    let frames = file["ftbl"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names = frames.map(|frame| frame.split_once(": ").map_or(frame, |(_, name)| name));
    Ok(names.map(|name| name.rsplit_once(" (").map_or(name, |(name, _)| name).as_bytes().to_vec()).collect())
}

/// A dhat file with a few call sites and the frames these have.
fn small_dhat(file: &Path) -> anyhow::Result<Vec<u8>> {
    const FRAMES: usize = 24;
    let mut dhat = json(file)?;
    let cut = |value: &mut Value, len: usize| value.as_array_mut().map(|array| array.truncate(len));
    cut(&mut dhat["ftbl"], FRAMES);
    cut(&mut dhat["pps"], 4);
    for point in dhat["pps"].as_array_mut().into_iter().flatten() {
        if let Some(frames) = point["fs"].as_array_mut() {
            frames.retain(|frame| frame.as_u64().is_some_and(|frame| (frame as usize) < FRAMES));
        }
    }
    Ok(serde_json::to_vec_pretty(&dhat)?)
}

/// A record with the first two of everything.
fn small_record(file: &Path) -> anyhow::Result<Vec<u8>> {
    fn cut(value: &mut Value) {
        match value {
            Value::Array(values) => {
                values.truncate(2);
                values.iter_mut().for_each(cut);
            }
            Value::Object(fields) => fields.values_mut().for_each(cut),
            _ => {}
        }
    }
    let mut record = json(file)?;
    cut(&mut record);
    Ok(serde_json::to_vec(&record)?)
}

fn whole_lines(bytes: &[u8]) -> Vec<u8> {
    let begin = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.get(begin..end).unwrap_or_default().to_vec()
}

/// A profile of two stacks, as it is within gzip.
fn profile() -> Vec<u8> {
    use alloc_ladder::wire::pprof::{Profile, Program, SourceLine, Writer};
    let mut writer =
        Writer::new(&[("alloc_objects", "count"), ("alloc_space", "bytes")], Program { name: "app", lines: true });
    let leaf = writer.location(0x1000, [SourceLine { function: "app::put", file: "src/main.rs", line: 7 }]);
    let root = writer.named_location("main");
    writer.default_type("alloc_space");
    writer.period("space", "bytes", 512 * 1024);
    writer.comment("a comment");
    writer.sample(vec![leaf, root], &[3, 4096], &[("side", "server"), ("rpc", "/a.B/C")]);
    writer.sample(vec![root], &[1, 16], &[]);
    let written = writer.finish(flate2::Compression::fast());
    prost::Message::encode_to_vec(&Profile::read(&written).expect("what was just written can be read"))
}

/// What a client sends on a connection, frames of all the sizes at which reads differ; and what is not HTTP/2.
fn streams() -> Vec<Vec<u8>> {
    let sizes: [&[usize]; 10] = [
        &[1; 5],
        &[0, 1, 9, 100],
        &[7, 300, 2],
        &[1000, 1009, 991],
        &[8183, 8192, 8201],
        &[16_384; 6],
        &[16_384, 5, 16_384],
        &[5, 16_384, 16_384],
        &[32_768, 40_000],
        &[65_536; 2],
    ];
    let mut streams: Vec<Vec<u8>> = sizes
        .iter()
        .map(|sizes| {
            let data = sizes.iter().enumerate().map(|(index, size)| frame(DATA, 0, 1, &vec![index as u8 + 1; *size]));
            let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
            let head = frame(HEADERS, 0, 1, &[0x82; 30]);
            let rest = frame(CONTINUATION, 4, 1, &[0x84; 10]);
            [PREFACE.to_vec(), settings, head, rest].into_iter().chain(data).collect::<Vec<_>>().concat()
        })
        .collect();
    let post = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n";
    streams.push([&post[..], &[0; 20_000]].concat());
    streams.push([PREFACE, &post[..]].concat());
    streams.push([&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[9; 600]].concat());
    streams
}

/// Bodies of one message and more, and of a message too long.
fn bodies() -> Vec<Vec<u8>> {
    use alloc_ladder::subject::pb::bytes::Chunk;
    let body = |lengths: &[usize]| {
        let mut body = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            let chunk = prost::Message::encode_to_vec(&Chunk { data: vec![index as u8 + 1; *length].into() });
            body.push(0);
            body.extend((chunk.len() as u32).to_be_bytes());
            body.extend(chunk);
        }
        body
    };
    let lengths: [&[usize]; 6] = [&[0], &[1, 0, 63, 64, 65], &[4096, 4091], &[9000, 3, 9000], &[300; 12], &[70_000]];
    lengths.iter().map(|lengths| body(lengths)).collect()
}

/// See [`messages::pooled_body`]: four bytes a message.
fn lengths() -> Vec<Vec<u8>> {
    let list = |lengths: &[u32]| {
        let message = |(index, length): (usize, &u32)| {
            let [_, a, b, c] = length.to_be_bytes();
            [index as u8 + 1, a, b, c]
        };
        lengths.iter().enumerate().flat_map(message).collect()
    };
    let kib = 1024;
    [
        &[0, 1, 5, 200][..],
        &[64 * kib; 5],
        &[40 * kib - 1, 40 * kib, 40 * kib + 1],
        &[128 * kib - 20, 3, 128 * kib, 3],
        &[5000; 12],
        &[64 * kib, 10, 64 * kib, 10, 64 * kib],
    ]
    .map(list)
    .to_vec()
}

fn paths(paths: &[&str]) -> Vec<Vec<u8>> {
    let get = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").into_bytes();
    let mut requests: Vec<Vec<u8>> = paths.iter().map(get).collect();
    requests.push(b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec());
    requests.push(b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 4\r\n\r\nabcd".to_vec());
    requests
        .push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
    requests.push(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n".to_vec(),
    );
    requests.push(b"GET http://localhost/ HTTP/1.0\r\n\r\n".to_vec());
    requests
}

/// A good call of each scenario, several on one connection, and with deadlines and encodings.
fn calls() -> Vec<Vec<u8>> {
    let mut calls: Vec<Vec<u8>> = Scenario::ALL.into_iter().map(call).collect();
    for scenario in Scenario::ALL {
        for more in [("grpc-timeout", "1n"), ("grpc-timeout", "99999999H"), ("grpc-encoding", "gzip")] {
            let mut connection = call(scenario);
            for stream in [3, 5] {
                connection.extend(frame(HEADERS, 4, stream, &headers(scenario.path(), &[more])));
                connection.extend(frame(WINDOW_UPDATE, 0, stream, &[0, 1, 0, 0]));
                connection.extend(frame(DATA, 1, stream, &[0, 0, 0, 0, 4, 0x0a, 2, 7, 7]));
            }
            calls.push(connection);
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::*;
    use crate::repository::fuzz::runner::{self, Outcome};

    /// How often each good input is tried: what a target does with it is drawn anew each time.
    const DRAWS: u64 = 64;

    /// Otherwise every case would be turned away at the door.
    #[test]
    fn some_good_input_of_every_target_is_accepted_and_none_fails() {
        let _alone = runner::ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for target in Target::value_variants() {
            let engine = target.engine(1).expect("a corpus");
            let mut attempt = target.start()().expect("starts");
            let mut outcomes = Vec::new();
            for draw in 0..DRAWS {
                let once = |input: &Vec<u8>| runner::once(&mut attempt, input, draw);
                let verdicts = engine.corpus.iter().map(once).collect::<Result<Vec<_>, _>>();
                outcomes = verdicts.unwrap_or_else(|error| panic!("{target:?}: {error}"));
                if outcomes.contains(&Outcome::Accepted) {
                    break;
                }
            }
            assert!(outcomes.contains(&Outcome::Accepted), "{target:?}: {outcomes:?}");
        }
    }
}
