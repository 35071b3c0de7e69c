//! `tonic-health` with 5,000 connections, each with a call and a stream that stays open.

use std::net::SocketAddr;

use alloc_ladder::tonic::{ClientLayer, Incoming, ServerLayer, TransportExecutor};
use anyhow::Context;
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub(crate) const METHODS: &[&str] = &["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
pub(crate) const CONNECTIONS: usize = 5000;
/// Connections that are being made at the same time: a listener's queue holds 128.
const CONNECTING: usize = 32;

/// Serves in a task of its own.
pub(crate) fn serve(layer: ServerLayer, listener: tokio::net::TcpListener) -> JoinHandle<anyhow::Result<()>> {
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .layer(layer) // drop-in
        .add_service(health)
        .serve_with_incoming(Incoming::from(TcpIncoming::from(listener))); // drop-in
    tokio::spawn(async { Ok(server.await?) })
}

pub(crate) async fn drive(addr: SocketAddr) -> anyhow::Result<()> {
    let mut connecting = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        if connecting.len() == CONNECTING {
            open.push(connecting.join_next().await.context("nothing to wait for")???);
        }
        connecting.spawn(async move {
            let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.executor(TransportExecutor);
            let channel = tower::ServiceBuilder::new().layer(ClientLayer).service(endpoint.connect().await?);
            let mut health = HealthClient::new(channel);
            let check = || HealthCheckRequest { service: String::new() };
            health.check(check()).await?;
            let mut watched = health.watch(check()).await?.into_inner();
            watched.message().await?.context("a watch without a first answer")?;
            anyhow::Ok((health, watched))
        });
    }
    while let Some(connected) = connecting.join_next().await {
        open.push(connected??);
    }
    anyhow::ensure!(open.len() == CONNECTIONS, "{} connections", open.len());
    Ok(())
}
