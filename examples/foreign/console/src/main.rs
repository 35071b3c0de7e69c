//! alloc-ladder dropped into console-subscriber's own server: its aggregator, and watchers that it tells of tasks.
//!
//! `foreign-console` runs tasks that console-subscriber traces, serves what it knows of them, and starts its client in
//! another process. Lines marked `drop-in` are all that alloc-ladder needs.

#[path = "../../src/table.rs"]
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use alloc_ladder::alloc::Mode;
use alloc_ladder::stage::FutureExt;
use alloc_ladder::tonic::{ServerLayer, connect, incoming};
use alloc_ladder::{Alloc, Snapshot, Stage};
use anyhow::Context;
use console_api::instrument::InstrumentRequest;
use console_api::instrument::instrument_client::InstrumentClient;
use console_subscriber::{ConsoleLayer, ServerParts};
use tokio::task::JoinSet;
use tonic::transport::{Endpoint, Server};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOC: Alloc = Alloc::new().unless_asked(Mode::Count); // drop-in

/// Tasks that are traced.
const TASKS: usize = 100;
const WATCHERS: usize = 10;
/// What each watcher waits for.
const UPDATES: usize = 20;
/// How often the aggregator tells its watchers.
const INTERVAL: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1) {
        None => serve().await,
        Some(addr) => watch(addr.parse().context("usage: foreign-console")?).await,
    }
}

async fn serve() -> anyhow::Result<()> {
    let (layer, server) = ConsoleLayer::builder().publish_interval(INTERVAL).build();
    tracing_subscriber::registry().with(layer).init();
    let ServerParts { instrument_server, aggregator, .. } = server.into_parts();
    let incoming = incoming(([127, 0, 0, 1], 0).into())?; // drop-in
    let addr = incoming.local_addr()?;
    let before = Snapshot::of_process();
    let aggregator = tokio::spawn(aggregator.run().staged(Stage::Handler)); // drop-in: `.staged`
    let server = Server::builder().layer(ServerLayer::new()).add_service(instrument_server); // drop-in
    let server = alloc_ladder::tonic::spawn(server.serve_with_incoming(incoming)); // drop-in
    let mut traced = JoinSet::new();
    {
        // Spawning a task is where tracing makes its two histograms of 24 KiB.
        let _guard = Stage::Handler.enter(); // drop-in
        for _ in 0..TASKS {
            let ticks = async {
                loop {
                    tokio::time::sleep(INTERVAL).await;
                }
            };
            traced.spawn(ticks.staged(Stage::Handler)); // drop-in: `.staged`
        }
    }
    let program = std::env::current_exe()?;
    let client = move || std::process::Command::new(program).arg(addr.to_string()).status();
    let status = tokio::task::spawn_blocking(client).await??;
    table::print("server", &(Snapshot::of_process() - before))?;
    aggregator.abort();
    server.abort();
    anyhow::ensure!(status.success(), "the client failed: {status}");
    Ok(())
}

/// Every watcher sees every task, and as many updates as it waits for.
async fn watch(addr: SocketAddr) -> anyhow::Result<()> {
    let before = Snapshot::of_process();
    let client = InstrumentClient::new(connect(Endpoint::from_shared(format!("http://{addr}"))?).await?);
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        watchers.spawn(updates(client.clone()).staged(Stage::Handler));
    }
    while let Some(seen) = watchers.join_next().await {
        let tasks = seen??;
        anyhow::ensure!(tasks >= TASKS, "a watcher was told of {tasks} tasks");
    }
    table::print("client", &(Snapshot::of_process() - before))
}

/// How many tasks one watcher is told of.
async fn updates(
    mut client: InstrumentClient<alloc_ladder::tonic::ClientService<tonic::transport::Channel>>,
) -> anyhow::Result<usize> {
    let mut updates = client.watch_updates(InstrumentRequest {}).await?.into_inner();
    let mut tasks = 0;
    for _ in 0..UPDATES {
        let update = updates.message().await?.context("the server ended the stream")?;
        tasks += update.task_update.map_or(0, |update| update.new_tasks.len());
    }
    Ok(tasks)
}
