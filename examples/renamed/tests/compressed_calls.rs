//! A compressed call makes no compressor of its own: what the server allocates for one fits in a few kilobytes, where tonic
//! makes 476 kB for gzip and 310 kB for zstd.

#![allow(clippy::print_stdout, reason = "what was counted")]

use std::sync::{Arc, Mutex};

use alloc_ladder::{CountingAlloc, Snapshot};
use renamed::pb::toy_client::ToyClient;
use renamed::pb::toy_server::ToyServer;
use renamed::{Handler, user};
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const WARMUP: u64 = 50;
const MEASURED: u64 = 500;
const BYTES_MAX: u64 = 8192;

#[test]
fn a_compressed_call_makes_no_compressor() {
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let bytes = server_bytes(encoding) / MEASURED;
        println!("{encoding}: {bytes} bytes a call");
        assert!((1..=BYTES_MAX).contains(&bytes), "{encoding}: {bytes} bytes a call");
    }
}

/// What the server's thread allocates for the measured calls.
fn server_bytes(encoding: CompressionEncoding) -> u64 {
    let counted = Arc::new(Mutex::new((0, Snapshot::empty(), Snapshot::empty())));
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let server = {
        let counted = Arc::clone(&counted);
        // The handler runs on the server's only thread.
        let tick = move || {
            let (calls, before, after) = &mut *counted.lock().expect("no panic");
            *calls += 1;
            if *calls == WARMUP {
                before.read_thread();
            } else if *calls == WARMUP + MEASURED {
                after.read_thread();
            }
        };
        std::thread::spawn(move || {
            block_on(async move {
                let incoming =
                    TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
                tell.send(incoming.local_addr().expect("an address")).expect("listened to");
                let service = ToyServer::new(Handler { tick: Arc::new(tick) });
                let service = service.accept_compressed(encoding).send_compressed(encoding);
                let stopped = async move { drop(stopped.await) };
                Server::builder()
                    .add_service(service)
                    .serve_with_incoming_shutdown(incoming, stopped)
                    .await
                    .expect("serves");
            });
        })
    };
    let address = format!("http://{}", told.recv().expect("it listens"));
    block_on(async move {
        let client = ToyClient::connect(address).await.expect("it listens");
        let mut client = client.accept_compressed(encoding).send_compressed(encoding);
        for _ in 0..WARMUP + MEASURED {
            let answer = client.hello(user("Ada")).await.expect("answers");
            assert_eq!(
                answer.metadata().get("grpc-encoding").and_then(|value| value.to_str().ok()),
                Some(encoding.to_string()).as_deref()
            );
            assert_eq!(answer.into_inner().name, "Ada");
        }
    });
    drop(stop);
    server.join().expect("no panic");
    let (calls, before, after) = &*counted.lock().expect("no panic");
    assert_eq!(*calls, WARMUP + MEASURED);
    (after.clone() - before.clone()).total().bytes
}

fn block_on(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::spawn(future).await }).expect("no panic");
}
