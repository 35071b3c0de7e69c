//! `tonic-health` in what services wear in production: TLS, gzip, an interceptor on either side, tower's layers.

use std::time::Duration;

use alloc_ladder::tonic::ServerLayer;
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::limit::ConcurrencyLimitLayer;

use crate::Layered;

pub(crate) const METHODS: &[&str] = &["/grpc.health.v1.Health/Check"];
/// The environment variable by which the client process is told the server's certificate, as PEM.
pub(crate) const CERTIFICATE: &str = "FOREIGN_CERTIFICATE";
const NAME: &str = "localhost";
const TOKEN: &str = "Bearer of good news";
const CHECKS: usize = 2000;

pub(crate) fn routes() -> Routes {
    let (_, health) = tonic_health::server::health_reporter();
    let health = health.accept_compressed(Gzip).send_compressed(Gzip);
    Routes::new(InterceptedService::new(health, |request: Request<()>| match request.metadata().get("authorization") {
        Some(token) if token == TOKEN => Ok(request),
        _ => Err(Status::unauthenticated("no token")),
    }))
}

/// Serves in a task of its own; returns the certificate that the client must trust, as PEM.
pub(crate) fn serve(
    layer: ServerLayer,
    routes: Routes,
    listener: TcpListener,
) -> anyhow::Result<(JoinHandle<anyhow::Result<()>>, String)> {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = own.cert.pem();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&certificate, own.signing_key.serialize_pem()));
    let server = Server::builder()
        .tls_config(tls)?
        .timeout(Duration::from_secs(10))
        .layer(layer) // drop-in
        .layer(ConcurrencyLimitLayer::new(64))
        .add_routes(routes)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    Ok((tokio::spawn(async { Ok(server.await?) }), certificate))
}

pub(crate) fn client_tls() -> anyhow::Result<ClientTlsConfig> {
    let certificate = std::env::var(CERTIFICATE).context("the server's certificate is not known")?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name(NAME))
}

pub(crate) async fn drive(channel: Layered) -> anyhow::Result<()> {
    let check = || HealthCheckRequest { service: String::new() };
    let stranger = HealthClient::new(channel.clone()).check(check()).await;
    let refused = stranger.err().context("the interceptor let a stranger in")?;
    anyhow::ensure!(refused.code() == Code::Unauthenticated, "{refused}");
    let token = MetadataValue::from_static(TOKEN);
    let mut health = HealthClient::with_interceptor(channel, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", token.clone());
        Ok(request)
    })
    .accept_compressed(Gzip)
    .send_compressed(Gzip);
    for _ in 0..CHECKS {
        let answer = health.check(check()).await?;
        let encoding = answer.metadata().get("grpc-encoding").context("the answer is not compressed")?;
        anyhow::ensure!(encoding == "gzip", "{encoding:?}");
    }
    Ok(())
}
