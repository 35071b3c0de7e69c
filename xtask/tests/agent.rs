//! The agent and its client, each against a counterpart that does not behave. Nothing is built: cargo is a script here,
//! and so is what it builds.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use alloc_ladder::Side;
use alloc_ladder::record::{Environment, Instrument, Measurement};
use alloc_ladder::subject::case::Case;
use alloc_ladder::subject::scenario::Scenario;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Endpoint;
use tonic::{Code, Response, Status, Streaming};

#[rustfmt::skip]
#[path = "../src/measure/remote/pb.rs"]
#[allow(missing_docs, unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
mod pb;
mod support;

use pb::agent_client::AgentClient;
use pb::agent_server::AgentServer;
use pb::reply::What as Reply;
use pb::request::What;
use support::{TAG, left_over, refused, tagged, text};

/// A target folder of its own, with this xtask in it and a cargo that is a script.
struct Bench {
    folder: tempfile::TempDir,
    tag: String,
}

impl Bench {
    /// `ladder` is the script that cargo builds.
    fn new(name: &str, cargo: &str, ladder: &str) -> Bench {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let bench = Bench { folder, tag: format!("{name}-{}", std::process::id()) };
        std::fs::create_dir(bench.path("debug")).expect("writes");
        std::fs::hard_link(env!("CARGO_BIN_EXE_xtask"), bench.path("debug/xtask")).expect("links");
        bench.script("cargo", &format!("{}\n{cargo}", bench.building()));
        bench.script("built", ladder);
        bench
    }

    /// Lines of a script that builds as cargo does, and says where.
    fn building(&self) -> String {
        let program = self.path("debug/ladder");
        let said = serde_json::json!({ "target": { "name": "ladder" }, "executable": program });
        format!("cp {} {}\necho '{said}'", self.shown("built"), self.shown("debug/ladder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        format!("'{}'", self.path(name).display())
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets");
    }

    fn xtask(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("debug/xtask"));
        command.args(args).env("CARGO", self.path("cargo")).env(TAG, &self.tag).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn agent(&self, flags: &[&str]) -> Agent {
        self.agent_of(&mut self.xtask(&[&["agent", "--bind", "127.0.0.1:0"], flags].concat()))
    }

    fn agent_of(&self, command: &mut Command) -> Agent {
        let mut child = command.spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines.next().expect("the agent prints its address").expect("text");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Agent { child, address, stderr }
    }

    /// Waits for a file that a script writes.
    async fn appears(&self, name: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.path(name).exists() {
            assert!(Instant::now() < until, "{name} never comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

struct Agent {
    child: Child,
    address: String,
    stderr: BufReader<ChildStderr>,
}

impl Agent {
    /// Reads what it says up to a line with `word`.
    #[track_caller]
    fn says(&mut self, word: &str) {
        let mut said = String::new();
        while !said.contains(word) {
            assert_ne!(self.stderr.read_line(&mut said).expect("text"), 0, "`{word}` never came: {said}");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A run at an agent, as its client sees it.
struct Run {
    requests: mpsc::Sender<pb::Request>,
    replies: Streaming<pb::Reply>,
}

impl Run {
    async fn begin(address: &str, token: Option<&str>) -> Result<Run, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let mut client = AgentClient::new(endpoint.connect().await.expect("the agent listens"));
        let (requests, receiver) = mpsc::channel(4);
        let mut call = tonic::Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            call.metadata_mut().insert("authorization", token.parse().expect("a value"));
        }
        let mut run = Run { requests, replies: client.run(call).await?.into_inner() };
        assert!(matches!(run.reply().await?, Reply::Environment(_)));
        Ok(run)
    }

    /// Begins a run as soon as the agent has a place.
    async fn begin_in_turn(address: &str) -> Run {
        loop {
            match Run::begin(address, None).await {
                Ok(run) => return run,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
        }
    }

    async fn ask(&self, what: What) {
        self.requests.send(pb::Request { what: Some(what) }).await.expect("the run goes on");
    }

    async fn reply(&mut self) -> Result<Reply, Status> {
        Ok(self.replies.message().await?.expect("a reply").what.expect("of this version"))
    }
}

fn build() -> What {
    What::Build(pb::Build { instrument: "count".into(), allocator: "system".into(), profile: "dev".into() })
}

fn case() -> What {
    let case = Case { instrument: Instrument::Count, ..Case::new(Scenario::Put) };
    What::Case(pb::Case { json: case.to_json(), timeout_seconds: u64::MAX })
}

#[tokio::test]
async fn a_token_is_wanted_where_there_is_one() {
    let bench = Bench::new("token", "", "");
    std::fs::write(bench.path("token"), "s3cret\n").expect("writes");
    let agent = bench.agent(&["--token-file", bench.path("token").to_str().expect("text")]);
    for wrong in [None, Some("s3cret"), Some("Bearer s3cre"), Some("Bearer s3crets"), Some("")] {
        let status = Run::begin(&agent.address, wrong).await.err().expect("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{wrong:?}");
    }
    Run::begin(&agent.address, Some("Bearer s3cret")).await.expect("served");

    drop(agent);
    let agent = bench.agent_of(bench.xtask(&["agent", "--bind", "127.0.0.1:0"]).env("ALLOC_LADDER_TOKEN", "s3cret"));
    let profile = |more: &[&str]| {
        let flags = ["profile", "put", "--profile", "dev", "--steps", "baseline", "--instruments", "count"];
        let out = bench.path("run");
        let out = ["--out", out.to_str().expect("text"), "--server", &agent.address];
        bench.xtask(&[&flags[..], &out, more].concat())
    };
    let told = profile(&[]).output().expect("starts");
    refused(&told, 3, &["does not know this token", "--token-file FILE", "ALLOC_LADDER_TOKEN"]);
    std::fs::write(bench.path("two words"), "two words").expect("writes");
    let told = profile(&["--token-file", bench.path("two words").to_str().expect("text")]).output().expect("starts");
    refused(&told, 2, &["holds no token", "openssl rand"]);
    // The right one gets as far as the build, and no process that is started inherits it.
    bench.script("cargo", &format!("env > {}; exit 9", bench.shown("environment")));
    let told = profile(&[]).env("ALLOC_LADDER_TOKEN", "s3cret").output().expect("starts");
    refused(&told, 4, &["cargo could not build"]);
    let environment = std::fs::read_to_string(bench.path("environment")).expect("cargo ran");
    assert!(environment.contains(&bench.tag) && !environment.contains("s3cret"), "{environment}");
}

#[test]
fn beyond_loopback_a_token_is_required() {
    let bench = Bench::new("beyond", "", "");
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let told = bench.xtask(&["agent", "--bind", bind]).output().expect("starts");
        refused(&told, 2, &["is not loopback", "--token-file", "--no-token"]);
    }
    let mut open = bench.xtask(&["agent", "--bind", "0.0.0.0:0", "--no-token"]).spawn().expect("starts");
    let mut address = String::new();
    BufReader::new(open.stdout.take().expect("piped")).read_line(&mut address).expect("text");
    kill_process(Pid::from_child(&open), Signal::TERM).expect("it runs");
    let said = text(&open.wait_with_output().expect("ends").stderr);
    assert!(address.starts_with("0.0.0.0:") && said.contains("anyone who can reach"), "{address}{said}");
}

#[tokio::test]
async fn a_run_that_says_nothing_gives_its_place_back() {
    let bench = Bench::new("idle", "", "");
    let agent = bench.agent(&["--idle", "1"]);
    let mut idle = Run::begin(&agent.address, None).await.expect("served");
    // One more begins when the first was ended, however long that takes.
    let next = Run::begin_in_turn(&agent.address).await;
    let status = idle.reply().await.expect_err("ended");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("said nothing for 1 s"), "{status}");
    drop(next);
}

#[tokio::test]
async fn a_run_that_only_says_that_it_is_there_ends_too() {
    let bench = Bench::new("longest", "", "");
    let agent = bench.agent(&["--idle", "86400", "--longest", "2"]);
    let mut long = Run::begin(&agent.address, None).await.expect("served");
    let requests = long.requests.clone();
    let talk = tokio::spawn(async move {
        while requests.send(pb::Request { what: Some(What::Alive(pb::Alive {})) }).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let status = long.reply().await.expect_err("ended");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("longer than 2 s"), "{status}");
    drop(long);
    talk.abort();
}

/// A cargo, and a child of it, that do not end by themselves.
const SLOW: &str = "sleep 600 & touch \"$0.runs\"; sleep 600";
/// A server that listens and never measures anything.
const HUNG: &str = "touch \"$0.runs\"; echo '{\"address\":\"127.0.0.1:9\"}'; sleep 600 & sleep 600";

#[tokio::test]
async fn what_a_run_started_ends_with_its_client() {
    let bench = Bench::new("client", SLOW, "");
    let agent = bench.agent(&[]);
    let run = Run::begin(&agent.address, None).await.expect("served");
    run.ask(build()).await;
    bench.appears("cargo.runs").await;
    assert!(tagged(&bench.tag).len() > 2, "the agent, cargo, and its child");
    drop(run);
    // The next is served when all of it has ended, and not before.
    bench.script("cargo", &bench.building());
    bench.script("built", HUNG);
    let mut next = Run::begin_in_turn(&agent.address).await;
    assert_eq!(tagged(&bench.tag).len(), 1, "the agent alone: {:?}", tagged(&bench.tag));
    next.ask(build()).await;
    assert!(matches!(next.reply().await.expect("built"), Reply::Built(_)));
    next.ask(case()).await;
    assert!(matches!(next.reply().await.expect("listens"), Reply::Port(9)));
    drop(next);
    drop(Run::begin_in_turn(&agent.address).await);
    assert_eq!(tagged(&bench.tag).len(), 1, "the agent alone: {:?}", tagged(&bench.tag));
}

#[tokio::test]
async fn what_a_run_started_ends_with_the_agent() {
    let bench = Bench::new("term", SLOW, "");
    let mut agent = bench.agent(&[]);
    let mut run = Run::begin(&agent.address, None).await.expect("served");
    run.ask(build()).await;
    bench.appears("cargo.runs").await;
    kill_process(Pid::from_child(&agent.child), Signal::TERM).expect("it runs");
    let status = run.reply().await.expect_err("ended");
    assert!(status.message().contains("the agent was stopped"), "{status}");
    agent.says("Stopped");
    assert!(agent.child.wait().expect("ends").success());
    assert_eq!(tagged(&bench.tag), Vec::<String>::new(), "nothing is left when the agent has ended");
}

#[tokio::test]
async fn what_a_run_started_ends_with_an_agent_that_is_killed() {
    let bench = Bench::new("kill", SLOW, "");
    let agent = bench.agent(&[]);
    let run = Run::begin(&agent.address, None).await.expect("served");
    run.ask(build()).await;
    bench.appears("cargo.runs").await;
    kill_process(Pid::from_child(&agent.child), Signal::KILL).expect("it runs");
    assert_eq!(left_over(&bench.tag), Vec::<String>::new(), "cargo goes with the agent");
}

#[tokio::test]
async fn requests_are_bounded() {
    let bench = Bench::new("bounded", "", "");
    let agent = bench.agent(&[]);
    let mut run = Run::begin(&agent.address, None).await.expect("served");
    run.ask(What::Case(pb::Case { json: " ".repeat(65 << 10), timeout_seconds: 1 })).await;
    let status = run.reply().await.expect_err("refused");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    for (json, why) in [
        ("{}".to_owned(), "this is no case"),
        (Case::new(Scenario::Put).to_json().replace("\"streams\":1", "\"streams\":4294967295"), "streams are too many"),
        (Case::new(Scenario::Put).to_json().replace("\"messages\":2000", "\"messages\":0"), "nothing to measure"),
        (Case::new(Scenario::Put).to_json(), "was not built"),
    ] {
        let mut run = Run::begin_in_turn(&agent.address).await;
        run.ask(What::Case(pb::Case { json, timeout_seconds: 1 })).await;
        let status = run.reply().await.expect_err("refused");
        assert!(status.message().contains(why), "{why}: {status}");
    }
}

#[test]
fn a_run_that_waits_for_a_build_says_for_whom() {
    let bench = Bench::new("lock", "exit 9", "");
    std::fs::create_dir(bench.path("instruments")).expect("writes");
    for lock in ["instruments/lock", "debug/.cargo-lock"] {
        let held = std::fs::File::create(bench.path(lock)).expect("writes");
        held.lock().expect("locks");
        let out = bench.path("run");
        let out = out.to_str().expect("text");
        let args = ["profile", "put", "--profile", "dev", "--instruments", "count", "--out", out];
        let mut waiting = bench.xtask(&args).spawn().expect("starts");
        let mut said = String::new();
        let mut stderr = BufReader::new(waiting.stderr.take().expect("piped"));
        let wanted = format!("waiting for another build (process {})", std::process::id());
        while !said.contains(&wanted) {
            assert_ne!(stderr.read_line(&mut said).expect("text"), 0, "{said}");
        }
        drop(held);
        assert_eq!(waiting.wait().expect("ends").code(), Some(3), "cargo fails then");
    }
}

#[test]
fn a_build_that_was_made_before_is_taken_without_asking_cargo_where_it_is_named() {
    let bench = Bench::new("before", "exit 9", "");
    let made = bench.path("instruments/dev/all/ladder");
    std::fs::create_dir_all(made.parent().expect("a folder")).expect("writes");
    bench.script("instruments/dev/all/ladder", "exit 7");
    let out = bench.path("run");
    let profile = |named: &[&Path]| {
        let args = ["profile", "put", "--profile", "dev", "--instruments", "count", "--out"];
        let mut xtask = bench.xtask(&args);
        xtask.arg(&out).env("ALLOC_LADDER_AS_BUILT", std::env::join_paths(named).expect("no colons"));
        xtask.output().expect("starts")
    };
    let another = bench.path("instruments/dev/cpu/ladder");
    refused(&profile(&[&another]), 3, &["cargo could not build"]);
    refused(&profile(&[&another, &made]), 4, &["exit status: 7"]);
}

/// What an agent sends that lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Call sites without end.
    Sites,
    /// Parts of nothing, without end.
    Nothing,
    /// A part that is larger than any may be.
    Large,
    /// Builds that nobody asked for.
    Builds,
}

struct Liar(Lie);

#[tonic::async_trait]
impl pb::agent_server::Agent for Liar {
    type RunStream = ReceiverStream<Result<pb::Reply, Status>>;

    async fn run(&self, request: tonic::Request<Streaming<pb::Request>>) -> Result<Response<Self::RunStream>, Status> {
        let (replies, receiver) = mpsc::channel(4);
        let (lie, mut requests) = (self.0, request.into_inner());
        tokio::spawn(async move {
            let say = |what| replies.send(Ok(pb::Reply { what: Some(what) }));
            say(Reply::Environment(json(&Environment::default()))).await.ok()?;
            while let Ok(Some(request)) = requests.message().await {
                match request.what? {
                    What::Build(_) => say(Reply::Built(pb::Built {})).await.ok()?,
                    What::Case(_) => {
                        say(Reply::Port(9)).await.ok()?;
                        say(Reply::Measurement(json(&Measurement::new(Side::Server, Instrument::Stacks))))
                            .await
                            .ok()?;
                    }
                    What::LetGo(_) => loop {
                        say(match lie {
                            Lie::Sites => Reply::Stacks(vec![b' '; 256 << 10]),
                            Lie::Nothing => Reply::Stacks(Vec::new()),
                            Lie::Large => Reply::Stacks(vec![b' '; 2 << 20]),
                            Lie::Builds => Reply::Built(pb::Built {}),
                        })
                        .await
                        .ok()?;
                    },
                    What::Alive(_) => {}
                }
            }
            Some(())
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("serialises")
}

/// The most memory a process had at a time, in KiB, as long as it can be asked.
fn memory_max(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lying_agent_fills_nobodys_memory() {
    let record = json(&Measurement::new(Side::Client, Instrument::Stacks));
    let bench = Bench::new("liar", "", &format!("echo '{record}'"));
    for (lie, word) in [
        (Lie::Sites, "sends call sites without end"),
        (Lie::Nothing, "sends call sites without end"),
        (Lie::Large, "sends more than it may"),
        (Lie::Builds, "that nobody asked for"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        let server = tonic::transport::Server::builder().add_service(AgentServer::new(Liar(lie)));
        let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let out = bench.path("run");
        let out = out.to_str().expect("text").to_owned();
        let args = ["profile", "put", "--profile", "dev", "--instruments", "stacks", "--steps", "baseline"];
        let mut client =
            bench.xtask(&[&args[..], &["--out", &out, "--server", &address]].concat()).spawn().expect("starts");
        let mut most = 0;
        let code = loop {
            if let Some(status) = client.try_wait().expect("waits") {
                break status.code();
            }
            most = memory_max(client.id()).unwrap_or(0).max(most);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let said = text(&client.wait_with_output().expect("ended").stderr);
        assert_eq!(code, Some(4), "{lie:?}: {said}");
        assert!(said.contains(word), "{lie:?}: {said}");
        assert!(most < 200 << 10, "{lie:?}: {most} KiB");
        server.abort();
    }
    assert_eq!(left_over(&bench.tag), Vec::<String>::new());
}
