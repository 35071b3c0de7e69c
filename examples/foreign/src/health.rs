//! `tonic-health` and `tonic-reflection` on one server: two small services whose rows must not mix.

use anyhow::Context;
use tokio_stream::StreamExt;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::Layered;

pub(crate) const METHODS: &[&str] =
    &["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];
const CHECKS: usize = 2000;
const REFLECTIONS: usize = 500;

pub(crate) fn routes() -> anyhow::Result<Routes> {
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(health).add_service(reflection))
}

pub(crate) async fn drive(channel: Layered) -> anyhow::Result<()> {
    let mut health = HealthClient::new(channel.clone());
    for _ in 0..CHECKS {
        health.check(HealthCheckRequest { service: String::new() }).await?;
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned())),
    };
    let requests = tokio_stream::iter(std::iter::repeat_n(request, REFLECTIONS));
    let mut answers = reflection.server_reflection_info(requests).await?.into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.next().await {
        answer?.message_response.context("an answer without content")?;
        answered += 1;
    }
    anyhow::ensure!(answered == REFLECTIONS, "{answered} answers");
    Ok(())
}
