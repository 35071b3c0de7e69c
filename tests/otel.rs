//! The counters as an OpenTelemetry SDK collects them.
#![cfg(all(feature = "otel", feature = "tonic"))]

use std::hint::black_box;

use alloc_ladder::stage::Scope;
use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tonic::codec::Streaming;
use tonic::{Request, Response, Status};
use tower_layer::Layer;

#[path = "../examples/support/greeter.rs"]
#[allow(unreachable_pub, dead_code, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

type Codec<T, U> = tonic_prost::ProstCodec<T, U>;

const RPC: &str = "/otel.Test/Put";
const PEAK: usize = 64 << 20;

const CALLED: &str = "/greeter.v1.Greeter/SayHello";

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = tokio_stream::Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: request.into_inner().name.repeat(2) }))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("chat"))
    }
}

/// One call through a server's layer, within this process.
fn call() {
    let layer = ServerLayer::new().methods([CALLED]);
    let mut client = GreeterClient::new(layer.layer(GreeterServer::new(Hello)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(client.say_hello(HelloRequest { name: "n".into() })).expect("answers");
}

fn attributes<'a>(pairs: impl Iterator<Item = &'a KeyValue>) -> Vec<String> {
    let mut attributes: Vec<_> = pairs.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    attributes.sort();
    attributes
}

#[test]
fn a_collection_carries_every_row() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    let instruments = alloc_ladder::otel::register(&provider.meter("alloc-ladder"));
    call();
    let scope = Scope::new(Method::register(Side::Server, RPC), Stage::Marshal);
    let kept = {
        let _guard = scope.enter();
        black_box(vec![0u8; 4321]);
        black_box(vec![0u8; 1000])
    };
    // Far above what anything else here needs at a time.
    drop(black_box(vec![0u8; PEAK]));
    provider.force_flush().expect("collects");
    let collected = exporter.get_finished_metrics().expect("the exporter keeps what it is given");
    let metrics: Vec<_> = collected.iter().flat_map(|m| m.scope_metrics()).flat_map(|s| s.metrics()).collect();
    let find = |name: &str, unit: &str| {
        let metric = metrics.iter().find(|metric| metric.name() == name).expect("the instrument");
        assert_eq!(metric.unit(), unit, "{name}");
        metric.data()
    };

    let row = ["rpc=/otel.Test/Put", "side=server", "stage=marshal"];
    for (name, unit, value) in [("grpc.alloc.blocks", "{block}", 2), ("grpc.alloc.bytes", "By", 5321)] {
        let AggregatedMetrics::U64(MetricData::Sum(sum)) = find(name, unit) else { panic!("{name}") };
        assert!(sum.is_monotonic(), "{name}");
        let points: Vec<_> = sum.data_points().map(|point| (attributes(point.attributes()), point.value())).collect();
        assert!(points.contains(&(row.map(str::to_owned).to_vec(), value)), "{name}: {points:?}");
    }
    let AggregatedMetrics::I64(MetricData::Sum(net)) = find("grpc.alloc.net", "By") else { panic!("net") };
    assert!(!net.is_monotonic());
    let points: Vec<_> = net.data_points().map(|point| (attributes(point.attributes()), point.value())).collect();
    assert!(points.contains(&(row.map(str::to_owned).to_vec(), 1000)), "{points:?}");
    let AggregatedMetrics::U64(MetricData::Gauge(peak)) = find("grpc.alloc.peak", "By") else { panic!("peak") };
    let peaks: Vec<_> = peak.data_points().map(|point| (attributes(point.attributes()), point.value())).collect();
    let [(none, peak)] = &peaks[..] else { panic!("{peaks:?}") };
    assert!(none.is_empty() && (PEAK as u64..2 * PEAK as u64).contains(peak), "{peaks:?}");

    // Every method has a figure, also where it is 0, and so have calls without a row.
    let AggregatedMetrics::I64(MetricData::Sum(open)) = find("grpc.alloc.open_calls", "{call}") else { panic!("open") };
    let points: Vec<_> = open.data_points().map(|point| (attributes(point.attributes()), point.value())).collect();
    for (rpc, side) in [("/otel.Test/Put", "server"), ("", "")] {
        let attributes = vec![format!("rpc={rpc}"), format!("side={side}")];
        assert!(points.contains(&(attributes, 0)), "{points:?}");
    }
    // What the seams counted: one call, whose code is said, with a message each way.
    let of_call = |more: &str| {
        let mut attributes = vec![more.to_owned(), format!("rpc={CALLED}"), "side=server".to_owned()];
        attributes.sort();
        attributes
    };
    for (name, unit, expected) in [
        ("grpc.alloc.calls", "{call}", vec![("code=OK", 1)]),
        ("grpc.alloc.messages", "{message}", vec![("direction=received", 1), ("direction=sent", 1)]),
        // A string is its letters, a tag and a length.
        ("grpc.alloc.payload", "By", vec![("direction=received", 3), ("direction=sent", 4)]),
    ] {
        let AggregatedMetrics::U64(MetricData::Sum(sum)) = find(name, unit) else { panic!("{name}") };
        let mut points: Vec<_> =
            sum.data_points().map(|point| (attributes(point.attributes()), point.value())).collect();
        points.sort();
        let expected: Vec<_> = expected.into_iter().map(|(more, value)| (of_call(more), value)).collect();
        assert_eq!((sum.is_monotonic(), points), (true, expected), "{name}");
    }
    drop(kept);
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "grpc.alloc.blocks",
            "grpc.alloc.bytes",
            "grpc.alloc.calls",
            "grpc.alloc.largest_received",
            "grpc.alloc.live",
            "grpc.alloc.messages",
            "grpc.alloc.net",
            "grpc.alloc.open_calls",
            "grpc.alloc.payload",
            "grpc.alloc.peak"
        ]
    );
    drop(instruments);
}
