//! The counters as an OpenTelemetry SDK collects them.
#![cfg(feature = "otel")]

use std::hint::black_box;

use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn a_collection_carries_every_row() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    let instruments = alloc_ladder::otel::register(&provider.meter("alloc-ladder"));
    {
        let _guard = Scope::new(Method::register(Side::Server, "/otel.Test/Put"), Stage::Marshal).enter();
        black_box(vec![0u8; 4321]);
    }
    provider.force_flush().expect("collects");
    let collected = exporter.get_finished_metrics().expect("the exporter keeps what it is given");
    let metrics: Vec<_> = collected.iter().flat_map(|m| m.scope_metrics()).flat_map(|s| s.metrics()).collect();
    let bytes = metrics.iter().find(|metric| metric.name() == "grpc.alloc.bytes").expect("the counter");
    assert_eq!(bytes.unit(), "By");
    let AggregatedMetrics::U64(MetricData::Sum(sum)) = bytes.data() else { panic!("{bytes:?}") };
    assert!(sum.is_monotonic());
    let point = sum
        .data_points()
        .find(|point| point.attributes().any(|pair| pair.value.as_str() == "/otel.Test/Put"))
        .expect("the row");
    assert_eq!(point.value(), 4321);
    let mut attributes: Vec<_> = point.attributes().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    attributes.sort();
    assert_eq!(attributes, ["rpc=/otel.Test/Put", "side=server", "stage=marshal"]);
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["grpc.alloc.blocks", "grpc.alloc.bytes", "grpc.alloc.live", "grpc.alloc.open_calls", "grpc.alloc.peak"]
    );
    drop(instruments);
}
