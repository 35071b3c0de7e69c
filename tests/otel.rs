//! The counters as an OpenTelemetry SDK collects them.
#![cfg(feature = "otel")]

use std::hint::black_box;

use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Stage};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const RPC: &str = "/otel.Test/Put";
const PEAK: usize = 64 << 20;

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
    drop(kept);
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "grpc.alloc.blocks",
            "grpc.alloc.bytes",
            "grpc.alloc.largest_received",
            "grpc.alloc.live",
            "grpc.alloc.net",
            "grpc.alloc.open_calls",
            "grpc.alloc.peak"
        ]
    );
    drop(instruments);
}
