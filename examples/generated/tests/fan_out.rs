//! One message to many streams, encoded once: generated code answers with it as it does with any other, to clients that
//! know nothing of it and to clients of the same build script, uncompressed and compressed, and within its limits.

mod support;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use alloc_ladder::steps::Encoded;
use generated::encoded::pb::toy_client::ToyClient;
use generated::encoded::pb::toy_server::{Toy, ToyServer};
use generated::encoded::pb::{Chunk, GetRequest, Summary, User};
use generated::stock;
use support::block_on;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

const STREAMS: usize = 64;
/// Below the size from which on payloads are sent uncopied, and above.
const SIZES: [usize; 4] = [0, 10, 10_000, 70_000];
const LIMIT: usize = 100_000;

/// Sends everyone who asks what is published.
#[derive(Clone, Default)]
struct Publisher(Arc<Mutex<Vec<mpsc::Sender<Encoded<Chunk>>>>>);

impl Publisher {
    fn subscribers(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    async fn publish(&self, chunk: &Chunk) {
        let encoded = Encoded::new(chunk);
        let subscribers = self.0.lock().expect("no panic").clone();
        for subscriber in subscribers {
            subscriber.send(encoded.clone()).await.expect("reads");
        }
    }

    fn end(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Encoded<Chunk>, Status>> + Send>>;

#[tonic::async_trait]
impl Toy for Publisher {
    async fn hello(&self, request: Request<User>) -> Result<Response<User>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn put(&self, _: Request<Streaming<Chunk>>) -> Result<Response<Summary>, Status> {
        Ok(Response::new(Summary::default()))
    }

    type GetStream = Chunks;

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<Chunks>, Status> {
        let (send, receive) = mpsc::channel(SIZES.len() + 1);
        self.0.lock().expect("no panic").push(send);
        Ok(Response::new(Box::pin(ReceiverStream::new(receive).map(Ok))))
    }

    type ChatStream = Chunks;

    /// What methods take is as it was.
    async fn chat(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Chunks>, Status> {
        Ok(Response::new(Box::pin(request.into_inner().map(|chunk| chunk.map(Encoded::from)))))
    }
}

fn chunk(size: usize) -> Chunk {
    Chunk { data: (0..size).map(|index| index as u8).collect() }
}

async fn with_server<F: Future>(
    compression: Option<CompressionEncoding>,
    test: impl FnOnce(Publisher, Channel) -> F,
) -> F::Output {
    let publisher = Publisher::default();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = incoming.local_addr().expect("an address");
    let mut server = ToyServer::new(publisher.clone()).max_encoding_message_size(LIMIT);
    if let Some(encoding) = compression {
        server = server.send_compressed(encoding);
    }
    let serving = tokio::spawn(Server::builder().add_service(server).serve_with_incoming(incoming));
    let channel = Endpoint::try_from(format!("http://{address}")).expect("a URI").connect().await.expect("listens");
    let output = test(publisher, channel).await;
    serving.abort();
    output
}

#[test]
fn every_stream_gets_the_one_message() {
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        block_on(with_server(compression, async |publisher, channel| {
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                let mut client = stock::pb::toy_client::ToyClient::new(channel.clone());
                if let Some(encoding) = compression {
                    client = client.accept_compressed(encoding);
                }
                let request = stock::pb::GetRequest::default();
                streams.push(client.get(request).await.expect("begins").into_inner());
            }
            assert_eq!(publisher.subscribers(), STREAMS);
            for size in SIZES {
                publisher.publish(&chunk(size)).await;
            }
            publisher.end();
            for mut stream in streams {
                for size in SIZES {
                    let received = stream.message().await.expect("goes well").expect("a message");
                    assert_eq!(received.data, chunk(size).data);
                }
                assert!(stream.message().await.expect("goes well").is_none());
            }
        }));
    }
}

#[test]
fn a_client_of_the_same_build_script_looks_into_it_when_it_wants_to() {
    block_on(with_server(None, async |_, channel| {
        let sent = SIZES.map(chunk);
        let replies = ToyClient::new(channel).chat(tokio_stream::iter(sent.clone())).await.expect("begins");
        let replies: Vec<_> = replies.into_inner().collect().await;
        let replies = replies.into_iter().map(|reply| reply.expect("goes well").message().expect("a chunk"));
        assert_eq!(replies.collect::<Vec<_>>(), sent);
    }));
}

#[test]
fn a_message_that_is_too_long_ends_each_stream_as_any_other_does() {
    block_on(with_server(None, async |publisher, channel| {
        let mut client = ToyClient::new(channel);
        let mut stream = client.get(GetRequest::default()).await.expect("begins").into_inner();
        publisher.publish(&chunk(10)).await;
        publisher.publish(&chunk(LIMIT)).await;
        assert_eq!(stream.message().await.expect("goes well").expect("a message").message(), Ok(chunk(10)));
        assert_eq!(stream.message().await.expect_err("too long").code(), Code::OutOfRange);
    }));
}
