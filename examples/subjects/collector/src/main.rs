//! OpenTelemetry's collector: the server that `opentelemetry-proto` generates, and the exporter of `opentelemetry-otlp`
//! that sends it spans. The collector counts the spans and keeps none.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use alloc_ladder::steps::{Http2, lean};
use alloc_ladder::tonic::{ServerLayer, incoming};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::Layer;

#[global_allocator]
static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();

/// Spans of an export: the SDK's own batch.
const SPANS: u64 = 512;

struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans: usize = resources.iter().flat_map(|r| &r.scope_spans).map(|scope| scope.spans.len()).sum();
        if spans as u64 != SPANS {
            return Err(Status::internal(format!("{spans} spans")));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let _driver = alloc_ladder::driver::install();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(address(port)?).await,
        ["serve", port, "--lean"] => serve_lean(address(port)?).await,
        ["load", port, exports] => load(address(port)?, exports.parse()?).await,
        _ => Err("collector serve PORT [--lean], or collector load PORT EXPORTS".into()),
    }
}

fn address(port: &str) -> Result<SocketAddr, Box<dyn Error>> {
    Ok((Ipv4Addr::LOCALHOST, port.parse()?).into())
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::builder().layer(ServerLayer::new());
    Ok(server.add_service(TraceServiceServer::new(Collector)).serve_with_incoming(incoming(address)?).await?)
}

/// The same on the library's server for h2 alone.
async fn serve_lean(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let incoming = TcpIncoming::bind(address)?.with_nodelay(Some(true));
    lean::serve(Http2::SERVER, incoming, ServerLayer::new().layer(TraceServiceServer::new(Collector))).await;
    Ok(())
}

/// Sends so many exports, one after the other.
async fn load(address: SocketAddr, exports: u64) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build()?;
    let spans: Vec<SpanData> = (1..=SPANS).map(span).collect();
    for _ in 0..exports {
        exporter.export(spans.clone()).await?;
    }
    Ok(())
}

/// A span as an instrumented server makes it.
fn span(id: u64) -> SpanData {
    let trace = TraceId::from(u128::from(id));
    SpanData {
        span_context: SpanContext::new(trace, SpanId::from(id), TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "GET /users/{id}".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.response.status_code", 200),
            KeyValue::new("url.path", format!("/users/{id}")),
        ],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: SpanStatus::Unset,
        instrumentation_scope: InstrumentationScope::builder("collector").build(),
    }
}
