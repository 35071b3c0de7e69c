//! Both directions with grpcio, whose HTTP/2, gRPC, gzip and deflate are none of Rust's: every kind of call, uncompressed and
//! in each encoding that both have (grpcio has no zstd), short and long, failures, deadlines and calls that are given up.
//! Needs grpcio for `PYTHON` (python3 if not set); where it is missing, the tests say so and pass, but not on a CI machine.

#![allow(clippy::print_stdout, reason = "what was skipped")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use generated::{pooled, steps};
use support::{Code, Connection, Serving, Transport, block_on, connect};
use tonic::Code as Grpc;
use tonic::codec::CompressionEncoding;

/// The interpreter with the script, if it has grpcio.
fn python() -> Option<Command> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "{python} has no grpcio (pip install grpcio)");
        println!("skipped: {python} has no grpcio (pip install grpcio)");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py"));
    Some(command)
}

#[test]
fn grpcio_calls_every_server() {
    let Some(mut python) = python() else { return };
    python.arg("call");
    let mut servers = Vec::new();
    for code in [Code::Stock, Code::Steps, Code::Pooled, Code::Over] {
        for transport in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
            // Uncompressed calls of one of the two are enough.
            for (encoding, called) in
                [(CompressionEncoding::Gzip, "identity,gzip"), (CompressionEncoding::Deflate, "deflate")]
            {
                let serving = Serving::start(code, transport, Some(encoding));
                let port = serving.address.rsplit_once(':').expect("a port").1;
                python.args([&format!("{code:?} {transport:?}"), port, called]);
                servers.push(serving);
            }
        }
    }
    // One interpreter for all: to start 24 of them takes as long as the calls do.
    let output = python.output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Deflate)] {
        let Some(command) = python() else { return };
        let name = encoding.map_or_else(|| "identity".to_owned(), |encoding| encoding.to_string());
        let python = Python::serve(command, &name);
        for transport in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
            block_on(async {
                match connect(transport, &python.address).await {
                    Connection::Channel(channel) => {
                        of_steps::calls(of_steps::client(channel.clone(), encoding)).await;
                        of_pooled::calls(of_pooled::client(channel, encoding)).await;
                    }
                    Connection::Lean(channel) => {
                        of_steps::calls(of_steps::client(channel.clone(), encoding)).await;
                        of_pooled::calls(of_pooled::client(channel, encoding)).await;
                    }
                }
            });
        }
    }
}

/// The same calls with each kind of generated code.
macro_rules! calls {
    ($name:ident, $module:ident) => {
        mod $name {
            use super::*;
            use $module::pb::GetRequest;
            use $module::pb::toy_client::ToyClient;
            use $module::{chunk, user};

            pub(super) fn client<T>(inner: T, encoding: Option<CompressionEncoding>) -> ToyClient<T>
            where
                T: tonic::client::GrpcService<tonic::body::Body>,
                T::Error: Into<tonic::codegen::StdError>,
                T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
                <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
            {
                let client = ToyClient::new(inner);
                match encoding {
                    Some(encoding) => client.accept_compressed(encoding).send_compressed(encoding),
                    None => client,
                }
            }

            pub(super) async fn calls<T>(mut client: ToyClient<T>)
            where
                T: tonic::client::GrpcService<tonic::body::Body> + Clone,
                T::Error: Into<tonic::codegen::StdError>,
                T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
                <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
            {
                for size in [0, 1, 1000, 16_384, 65_536, 1 << 20] {
                    let sent = || (0..3).map(move |byte| chunk(size, byte));
                    let summary = client.put(tokio_stream::iter(sent())).await.expect("answers").into_inner();
                    assert_eq!((summary.messages, summary.bytes), (3, 3 * size as u64));
                    let request = GetRequest { messages: 3, chunk_size: size as u64 };
                    let mut chunks = client.get(request).await.expect("begins").into_inner();
                    for _ in 0..3 {
                        let got = chunks.message().await.expect("goes well").expect("a chunk");
                        assert!(got.data == chunk(size, 0xA5).data, "{size}");
                    }
                    assert!(chunks.message().await.expect("ends well").is_none());
                    if size > 0 {
                        let mut chunks = client.chat(tokio_stream::iter(sent())).await.expect("begins").into_inner();
                        for sent in sent() {
                            let got = chunks.message().await.expect("goes well").expect("a chunk");
                            assert!(got.data == sent.data, "{size}");
                        }
                    }
                }
                failures(client).await;
            }

            async fn failures<T>(mut client: ToyClient<T>)
            where
                T: tonic::client::GrpcService<tonic::body::Body> + Clone,
                T::Error: Into<tonic::codegen::StdError>,
                T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
                <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
            {
                // A failure after a message, and as all there is.
                for chunks in [vec![chunk(10, 1), chunk(0, 0)], vec![chunk(0, 0)]] {
                    let good = chunks.len() - 1;
                    let answer = client.chat(tokio_stream::iter(chunks)).await;
                    // In the headers or after them.
                    let status = match answer {
                        Err(status) => status,
                        Ok(replies) => {
                            let mut replies = replies.into_inner();
                            for _ in 0..good {
                                assert_eq!(
                                    replies.message().await.expect("goes well").expect("a chunk").data.len(),
                                    10
                                );
                            }
                            replies.message().await.expect_err("refused")
                        }
                    };
                    assert_eq!((status.code(), status.message()), (Grpc::DataLoss, "an empty chunk"));
                }
                let status = client.hello(user("nobody")).await.expect_err("refused");
                assert_eq!((status.code(), status.message()), (Grpc::NotFound, "nobody is called that"));
                assert_eq!(status.metadata().get("x-reason").expect("a reason"), "none");
                let mut late = tonic::Request::new(user("never"));
                late.set_timeout(std::time::Duration::from_millis(100));
                let code = client.hello(late).await.expect_err("too late").code();
                assert!(matches!(code, Grpc::Cancelled | Grpc::DeadlineExceeded), "{code:?}");
                let mut limited = client.clone().max_decoding_message_size(1000);
                let request = GetRequest { messages: 1, chunk_size: 5000 };
                let status = match limited.get(request).await {
                    Err(status) => status,
                    Ok(chunks) => chunks.into_inner().message().await.expect_err("too long"),
                };
                assert!(matches!(status.code(), Grpc::OutOfRange | Grpc::ResourceExhausted), "{status:?}");
                // A call that is given up leaves the connection as it was.
                let request = GetRequest { messages: 200, chunk_size: 65_536 };
                let mut given_up = client.get(request).await.expect("begins").into_inner();
                assert!(given_up.message().await.expect("goes well").is_some());
                drop(given_up);
                assert_eq!(client.hello(user("Ada")).await.expect("answers").into_inner().status, "active");
            }
        }
    };
}

calls!(of_steps, steps);
calls!(of_pooled, pooled);
