//! By counters, what a row `handler` holds: with the steps in place of tonic's `Grpc` the service's own code and nothing
//! else; with tonic's own, and a codec nobody staged, the message, the buffers and the answer as well.

use std::sync::Arc;

use alloc_ladder::tonic::ServerLayer;
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage, Tally};
use generated::{steps, stock};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const CALLS: u64 = 200;
const HELLO: &str = "/toy.v1.Toy/Hello";

/// The rows of `CALLS` calls, after one that is not counted.
async fn rows(routes: Routes) -> [Tally; 2] {
    let server = Server::builder().layer(ServerLayer::new().methods([HELLO])).add_routes(routes);
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("binds").with_nodelay(Some(true));
    let address = format!("http://{}", incoming.local_addr().expect("bound"));
    let server = tokio::spawn(server.serve_with_incoming(incoming));
    let mut client = stock::pb::toy_client::ToyClient::connect(address).await.expect("connects");
    let mut before = Snapshot::empty();
    for call in 0..=CALLS {
        client.hello(stock::pb::User::default()).await.expect("answers");
        if call == 0 {
            before = Snapshot::of_process();
        }
    }
    let counted = Snapshot::of_process() - before;
    server.abort();
    [Stage::Handler, Stage::Dispatch].map(|stage| {
        let rows = counted.rows().filter(|row| row.method.side == Some(Side::Server) && row.method.path == HELLO);
        rows.filter(|row| row.stage == stage).map(|row| row.tally).sum()
    })
}

// On one thread and in one test: the counters are the process's.
#[tokio::test]
async fn the_steps_know_where_a_handler_begins_and_ends() {
    // First, while nothing is known of the method.
    let service = stock::pb::toy_server::ToyServer::new(stock::Handler { tick: Arc::new(|| ()) });
    let [handler, dispatch] = rows(Routes::new(service)).await;
    assert!(handler.bytes > CALLS * 2 * 8192, "the codec's buffers: {handler:?}");
    assert!(dispatch.blocks >= 6 * CALLS, "{dispatch:?}");

    let service = steps::pb::toy_server::ToyServer::new(steps::Handler { tick: Arc::new(|| ()) });
    let [handler, dispatch] = rows(Routes::new(service)).await;
    // `async_trait`'s box, and the string that the handler writes into.
    assert_eq!(handler.blocks, 2 * CALLS, "{handler:?}");
    assert!(dispatch.blocks >= 10 * CALLS, "{dispatch:?}");
}
