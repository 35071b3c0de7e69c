//! Serves and calls the service in one process, with one more line for the socket and one for HTTP/2.

use std::sync::Arc;

use alloc_ladder::steps::{Http2, aligned};
use prost::Message;
use renamed::Handler;
use renamed::pb::{Chunk, GetRequest, toy_client::ToyClient, toy_server::ToyServer};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

const CHUNK_BYTES: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let chunk = Chunk { data: vec![1; CHUNK_BYTES].into() };
    let http2 = Http2::for_messages(chunk.encoded_len());
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let service = ToyServer::new(Handler { tick: Arc::new(|| {}) });
    let server = http2.server(Server::builder()).add_service(service);
    tokio::spawn(server.serve_with_incoming(aligned(incoming, http2)));

    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    let mut client = ToyClient::new(alloc_ladder::steps::connect(endpoint, http2).await?);
    let summary = client.put(tokio_stream::iter(vec![chunk; 100])).await?.into_inner();
    anyhow::ensure!((summary.messages, summary.bytes) == (100, 100 * CHUNK_BYTES as u64), "{summary:?}");
    let request = GetRequest { messages: 100, chunk_size: CHUNK_BYTES as u64 };
    let mut chunks = client.get(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        anyhow::ensure!(chunk.data.len() == CHUNK_BYTES);
    }
    Ok(())
}
