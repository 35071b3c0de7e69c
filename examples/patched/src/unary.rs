//! Calls of one message: an OTLP collector's, and a health check.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::{MESSAGES, Tick};

/// Few, so that what a call costs is seen beside what its spans cost.
const SPANS: usize = 8;

struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans: usize = resources.iter().flat_map(|r| &r.scope_spans).map(|scope| scope.spans.len()).sum();
        if spans != SPANS {
            return Err(Status::internal(format!("{spans} spans")));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(crate) fn collector() -> Routes {
    Routes::new(TraceServiceServer::new(Collector))
}

pub(crate) async fn export(channel: Channel, tick: Tick) -> anyhow::Result<()> {
    let mut client = TraceServiceClient::new(channel);
    let span = |id: usize| Span {
        trace_id: (id as u128).to_be_bytes().to_vec(),
        span_id: (id as u64).to_be_bytes().to_vec(),
        name: "GET /users/{id}".to_owned(),
        ..Span::default()
    };
    let spans = ScopeSpans { spans: (1..=SPANS).map(span).collect(), ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![spans], ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource] };
    for _ in 0..MESSAGES {
        client.export(request.clone()).await?;
        tick();
    }
    Ok(())
}

pub(crate) fn health() -> Routes {
    let (_, health) = tonic_health::server::health_reporter();
    Routes::new(health)
}

pub(crate) async fn check(channel: Channel, tick: Tick) -> anyhow::Result<()> {
    let mut client = HealthClient::new(channel);
    for _ in 0..MESSAGES {
        client.check(HealthCheckRequest { service: String::new() }).await?;
        tick();
    }
    Ok(())
}
