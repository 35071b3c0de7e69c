//! How many payload bytes a compressed message is: what it was before compression where the seams can know, else what
//! travelled.
#![cfg(all(feature = "steps", feature = "gzip"))]

use std::convert::Infallible;
use std::future::Ready;
use std::task::{Context, Poll};

use alloc_ladder::method::CallCounts;
use alloc_ladder::steps;
use alloc_ladder::tonic::{ClientLayer, ServerLayer, StagedCodec};
use alloc_ladder::{Method, Side};
use prost::Message;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::{Request, Response, Status};
use tower_layer::Layer;

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(string, tag = "1")]
    text: String,
}

type Plain = tonic_prost::ProstCodec<Chunk, Chunk>;
type Staged = StagedCodec<Plain>;

#[derive(Clone, Copy)]
struct Echo;

impl tower_service::Service<Request<Chunk>> for Echo {
    type Response = Response<Chunk>;
    type Error = Status;
    type Future = Ready<Result<Response<Chunk>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Chunk>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

/// Who makes the bodies of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Steps,
    Tonic,
    TonicStaged,
}

/// A call of one message of so many equal letters through a client's layer and a server's, in one process.
async fn call(path: &'static str, letters: usize, client: By, server: By) {
    let service = tower::service_fn(move |request: http::Request<Body>| async move {
        let answer = match server {
            By::Steps => {
                let mut grpc = steps::server::Grpc::new(Plain::default()).accept_compressed(Gzip).send_compressed(Gzip);
                grpc.unary(Echo, request).await
            }
            By::Tonic => {
                let mut grpc = tonic::server::Grpc::new(Plain::default()).accept_compressed(Gzip).send_compressed(Gzip);
                grpc.unary(Echo, request).await
            }
            By::TonicStaged => {
                let grpc = tonic::server::Grpc::new(StagedCodec(Plain::default()));
                grpc.accept_compressed(Gzip).send_compressed(Gzip).unary(Echo, request).await
            }
        };
        Ok::<_, Infallible>(answer)
    });
    let channel = ClientLayer.methods([path]).layer(ServerLayer::new().methods([path]).layer(service));
    let (request, path) = (Request::new(Chunk { text: "x".repeat(letters) }), path.parse().expect("a path"));
    let reply = match client {
        By::Steps => {
            let mut grpc = steps::client::Grpc::new(channel).accept_compressed(Gzip).send_compressed(Gzip);
            grpc.unary(request, path, Plain::default()).await
        }
        By::Tonic => {
            let mut grpc = tonic::client::Grpc::new(channel).accept_compressed(Gzip).send_compressed(Gzip);
            grpc.unary(request, path, Plain::default()).await
        }
        By::TonicStaged => {
            let mut grpc = tonic::client::Grpc::new(channel).accept_compressed(Gzip).send_compressed(Gzip);
            grpc.unary(request, path, Staged::default()).await
        }
    };
    assert_eq!(reply.expect("answers").into_inner().text.len(), letters);
}

fn counts(side: Side, path: &str) -> CallCounts {
    Method::find(side, path).expect("registered").call_counts()
}

#[tokio::test]
async fn what_encodes_and_decodes_tells_how_long_messages_are() {
    const LETTERS: usize = 100_000;
    let plain = Chunk { text: "x".repeat(LETTERS) }.encoded_len() as u64;
    for (path, by) in [("/a.B/Steps", By::Steps), ("/a.B/Tonic", By::Tonic), ("/a.B/Staged", By::TonicStaged)] {
        call(path, LETTERS, by, by).await;
        let [server, client] = Side::ALL.map(|side| counts(side, path));
        for counts in [server, client] {
            assert_eq!(
                (counts.calls, counts.errors, counts.messages_received, counts.messages_sent),
                (1, 0, 1, 1),
                "{by:?}"
            );
        }
        let bytes = |counts: CallCounts| (counts.payload_bytes_received, counts.payload_bytes_sent);
        let short = |bytes: u64| (1..1000).contains(&bytes);
        match by {
            By::Steps => assert_eq!((bytes(server), bytes(client)), ((plain, plain), (plain, plain))),
            // The encoder is between the layer and the compressor, and the decoder does not know whose messages it reads.
            By::TonicStaged => {
                assert_eq!((server.payload_bytes_sent, client.payload_bytes_sent), (plain, plain));
                assert!(short(server.payload_bytes_received) && short(client.payload_bytes_received), "{server:?}");
            }
            By::Tonic => {
                assert_eq!(bytes(server), (client.payload_bytes_sent, client.payload_bytes_received));
                assert!(short(server.payload_bytes_received) && short(server.payload_bytes_sent), "{server:?}");
            }
        }
    }
    // A message that gzip makes longer, and an empty one, between sides of different makes.
    for letters in [1, 0] {
        call("/a.B/Mixed", letters, By::TonicStaged, By::Steps).await;
    }
    let plain = Chunk { text: "x".to_owned() }.encoded_len() as u64;
    let server = counts(Side::Server, "/a.B/Mixed");
    assert_eq!((server.messages_received, server.messages_sent), (2, 2));
    assert_eq!((server.payload_bytes_received, server.payload_bytes_sent), (plain, plain));
    assert_eq!(counts(Side::Client, "/a.B/Mixed").payload_bytes_sent, plain);
}
