//! axum's own routes and `tonic-health` on one port, served by `axum::serve`: small calls beside uploads.

use alloc_ladder::tonic::{ServerLayer, StagedListener};
use anyhow::Context;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceExt};

use crate::Layered;

pub(crate) const METHODS: &[&str] = &["/grpc.health.v1.Health/Check"];
const CHECKS: usize = 500;
pub(crate) const UPLOADS: usize = 32;
pub(crate) const UPLOAD_BYTES: usize = 1 << 20;

async fn upload(body: axum::body::Body) -> String {
    axum::body::to_bytes(body, UPLOAD_BYTES)
        .await
        .map_or_else(|error| error.to_string(), |bytes| bytes.len().to_string())
}

/// Serves in a task of its own.
pub(crate) fn serve(layer: ServerLayer, listener: TcpListener) -> JoinHandle<anyhow::Result<()>> {
    let (_, health) = tonic_health::server::health_reporter();
    let router = Routes::new(health).into_axum_router().route("/upload", axum::routing::post(upload));
    let router = router.layer(layer); // drop-in
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let listener = StagedListener::new(listener); // drop-in
    tokio::spawn(async move { Ok(axum::serve(listener, router).await?) })
}

pub(crate) async fn drive(mut channel: Layered) -> anyhow::Result<()> {
    let mut health = HealthClient::new(channel.clone());
    for _ in 0..CHECKS {
        health.check(HealthCheckRequest { service: String::new() }).await?;
    }
    let payload = Bytes::from(vec![7; UPLOAD_BYTES]);
    for _ in 0..UPLOADS {
        let request = http::Request::post("/upload").body(Body::new(Full::new(payload.clone())))?;
        let answer = channel.ready().await?.call(request).await?.into_body().collect().await?.to_bytes();
        let received: usize = std::str::from_utf8(&answer)?.parse().context("the upload failed")?;
        anyhow::ensure!(received == UPLOAD_BYTES, "{received} bytes arrived");
    }
    Ok(())
}
