//! OpenTelemetry's OTLP exporter sending spans to the server side of `opentelemetry-proto`'s generated `TraceService`.

use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(crate) const METHODS: &[&str] = &["/opentelemetry.proto.collector.trace.v1.TraceService/Export"];
const EXPORTS: usize = 200;
/// The SDK's own batch size.
const SPANS: usize = 512;

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

pub(crate) fn routes() -> Routes {
    Routes::new(TraceServiceServer::new(Collector))
}

pub(crate) async fn drive(channel: Channel) -> anyhow::Result<()> {
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build()?;
    let spans: Vec<SpanData> = (0..SPANS).map(span).collect();
    for _ in 0..EXPORTS {
        exporter.export(spans.clone()).await?;
    }
    Ok(())
}

/// A span as an instrumented server makes it.
fn span(index: usize) -> SpanData {
    let id = index as u64 + 1;
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(u128::from(id)),
            SpanId::from(id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "GET /users/{id}".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.response.status_code", 200),
            KeyValue::new("url.path", format!("/users/{index}")),
        ],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: SpanStatus::Unset,
        instrumentation_scope: InstrumentationScope::builder("foreign").build(),
    }
}
