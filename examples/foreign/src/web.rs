//! `tonic-health` behind `tonic-web`, called as a browser does: gRPC-web over HTTP/1.1.

use std::net::SocketAddr;

use alloc_ladder::tonic::{Incoming, ServerLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub(crate) const METHODS: &[&str] = &["/grpc.health.v1.Health/Check"];
const CALLS: usize = 1000;
const CONNECTIONS: usize = 4;

/// Serves in a task of its own.
pub(crate) fn serve(layer: ServerLayer, listener: tokio::net::TcpListener) -> JoinHandle<anyhow::Result<()>> {
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .accept_http1(true)
        .layer(layer) // drop-in
        .layer(tonic_web::GrpcWebLayer::new())
        .add_service(health)
        .serve_with_incoming(Incoming::from(TcpIncoming::from(listener))); // drop-in
    tokio::spawn(async { Ok(server.await?) })
}

pub(crate) async fn drive(addr: SocketAddr) -> anyhow::Result<()> {
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {addr}\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
         content-length: 5\r\n\r\n\0\0\0\0\0",
        METHODS[0]
    );
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(addr).await?;
        let mut answer = Vec::new();
        for _ in 0..CALLS / CONNECTIONS {
            socket.write_all(request.as_bytes()).await?;
            answer.clear();
            while !answer.ends_with(b"\r\n0\r\n\r\n") {
                anyhow::ensure!(socket.read_buf(&mut answer).await? > 0, "{}", String::from_utf8_lossy(&answer));
            }
            // The message, and the trailers in a frame behind it.
            let text = String::from_utf8_lossy(&answer);
            anyhow::ensure!(text.starts_with("HTTP/1.1 200") && text.contains("grpc-status:0"), "{text}");
        }
    }
    Ok(())
}
