//! Both directions with grpcio, whose HTTP/2, gRPC and gzip are none of Rust's: every kind of call, with and without
//! compression, short and long, and failures. Needs grpcio for `PYTHON` (python3 if not set); where it is missing, the tests
//! say so and pass.

#![allow(clippy::print_stdout, reason = "what was skipped")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use generated::steps::pb::toy_client::ToyClient;
use generated::steps::pb::{Chunk, GetRequest};
use generated::steps::{chunk, user};
use support::{Code, Connection, Serving, Transport, block_on, connect};
use tonic::Code as Grpc;
use tonic::codec::CompressionEncoding;

/// The interpreter with the script, if it has grpcio.
fn python() -> Option<Command> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has no grpcio (pip install grpcio)");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py"));
    Some(command)
}

#[test]
fn grpcio_calls_every_server() {
    for code in [Code::Stock, Code::Steps, Code::Pooled] {
        for transport in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
            let Some(mut python) = python() else { return };
            // The script calls with and without compression.
            let serving = Serving::start(code, transport, Some(CompressionEncoding::Gzip));
            let port = serving.address.rsplit_once(':').expect("a port").1.to_owned();
            let output = python.args(["call", &port]).output().expect("python starts");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{code:?} {transport:?}: {error}");
        }
    }
}

/// A grpcio server, until it is dropped.
struct Python {
    child: Child,
    address: String,
}

impl Python {
    fn serve(mut command: Command, compression: &str) -> Python {
        command.args(["serve", compression]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut port).expect("a line");
        Python { child, address: format!("127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("it was started");
    }
}

#[test]
fn every_channel_calls_grpcio() {
    for compression in ["identity", "gzip"] {
        for transport in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
            let Some(command) = python() else { return };
            let python = Python::serve(command, compression);
            block_on(async {
                match connect(transport, &python.address).await {
                    Connection::Channel(channel) => calls(ToyClient::new(channel), compression).await,
                    Connection::Lean(channel) => calls(ToyClient::new(channel), compression).await,
                }
            });
        }
    }
}

async fn calls<T>(mut client: ToyClient<T>, compression: &str)
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    client = client.accept_compressed(CompressionEncoding::Gzip);
    if compression == "gzip" {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    for size in [0, 1, 1000, 16_384, 65_536, 1 << 20] {
        let sent: Vec<Chunk> = (0..3).map(|byte| chunk(size, byte)).collect();
        let summary = client.put(tokio_stream::iter(sent.clone())).await.expect("answers").into_inner();
        assert_eq!((summary.messages, summary.bytes), (3, 3 * size as u64));
        let request = GetRequest { messages: 3, chunk_size: size as u64 };
        let mut chunks = client.get(request).await.expect("begins").into_inner();
        for _ in 0..3 {
            assert!(chunks.message().await.expect("goes well") == Some(chunk(size, 0xA5)), "{size}");
        }
        assert!(chunks.message().await.expect("ends well").is_none());
        let answer = client.chat(tokio_stream::iter(sent.clone())).await;
        if size == 0 {
            // In the headers or after them.
            let status = match answer {
                Ok(chunks) => chunks.into_inner().message().await.expect_err("refused"),
                Err(status) => status,
            };
            assert_eq!(status.code(), Grpc::DataLoss);
            continue;
        }
        let mut chunks = answer.expect("begins").into_inner();
        for sent in &sent {
            assert!(chunks.message().await.expect("goes well").as_ref() == Some(sent), "{size}");
        }
    }
    assert_eq!(client.hello(user("Ada")).await.expect("answers").into_inner().status, "active");
    let status = client.hello(user("nobody")).await.expect_err("refused");
    assert_eq!((status.code(), status.message()), (Grpc::NotFound, "nobody is called that"));
}
