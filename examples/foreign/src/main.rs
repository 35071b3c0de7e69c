//! alloc-ladder dropped into services nobody here wrote: who allocates, by RPC method and stage.
//!
//! `foreign health|flight|otlp|wrapped` starts the service in this process and its client in another, then prints what each
//! allocated while the client ran. Lines marked `drop-in` are all that alloc-ladder needs.

mod flight;
mod health;
mod otlp;
mod wrapped;

use std::io::Write;
use std::net::SocketAddr;

use alloc_ladder::tonic::{ClientLayer, ClientService, ServerLayer, TransportExecutor};
use alloc_ladder::{CountingAlloc, Side, Snapshot, Stage};
use anyhow::{Context, bail};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new(); // drop-in

/// The services to choose from.
#[derive(Clone, Copy)]
enum Service {
    Health,
    Flight,
    Otlp,
    Wrapped,
}

impl Service {
    fn parse(name: &str) -> anyhow::Result<Service> {
        Ok(match name {
            "health" => Service::Health,
            "flight" => Service::Flight,
            "otlp" => Service::Otlp,
            "wrapped" => Service::Wrapped,
            _ => bail!("`{name}` is none of health, flight, otlp, wrapped"),
        })
    }

    fn routes(self) -> anyhow::Result<Routes> {
        match self {
            Service::Health => health::routes(),
            Service::Flight => Ok(flight::routes()),
            Service::Otlp => Ok(otlp::routes()),
            Service::Wrapped => Ok(wrapped::routes()),
        }
    }

    /// Rows from the first call on. Without them a method gets its row once it has answered a call, which is too late
    /// for one that is called once and streams.
    fn methods(self) -> impl Iterator<Item = &'static str> {
        match self {
            Service::Health => health::METHODS,
            Service::Flight => flight::METHODS,
            Service::Otlp => otlp::METHODS,
            Service::Wrapped => wrapped::METHODS,
        }
        .iter()
        .copied()
    }

    async fn drive(self, channel: Channel) -> anyhow::Result<()> {
        let layer = ClientLayer.methods(self.methods());
        let layered = tower::ServiceBuilder::new().layer(layer).service(channel.clone()); // drop-in
        match self {
            Service::Health => health::drive(layered).await,
            Service::Flight => flight::drive(layered).await,
            // The exporter takes a bare channel: its calls have stages, but no rows of their own.
            Service::Otlp => otlp::drive(channel).await,
            Service::Wrapped => wrapped::drive(layered).await,
        }
    }
}

type Layered = ClientService<Channel>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        [name] => serve(name).await,
        [name, addr] => call(Service::parse(name)?, addr.parse().context("not an address")?).await,
        _ => bail!("usage: foreign health|flight|otlp|wrapped"),
    }
}

async fn serve(name: &str) -> anyhow::Result<()> {
    let service = Service::parse(name)?;
    let routes = service.routes()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let layer = ServerLayer::new().methods(service.methods()); // drop-in
    let (server, certificate) = match service {
        Service::Wrapped => wrapped::serve(layer, routes, listener)?,
        Service::Health | Service::Flight | Service::Otlp => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().layer(layer).add_routes(routes).serve_with_incoming(incoming); // drop-in
            (tokio::spawn(server), String::new())
        }
    };
    let before = Snapshot::of_process();
    let (name, program) = (name.to_owned(), std::env::current_exe()?);
    let client = move || {
        let mut client = std::process::Command::new(program);
        client.arg(name).arg(addr.to_string()).env(wrapped::CERTIFICATE, certificate).status()
    };
    let status = tokio::task::spawn_blocking(client).await??;
    print("server", &(Snapshot::of_process() - before))?;
    server.abort();
    if !status.success() {
        bail!("the client failed: {status}");
    }
    Ok(())
}

async fn call(service: Service, addr: SocketAddr) -> anyhow::Result<()> {
    let before = Snapshot::of_process();
    let endpoint = match service {
        Service::Wrapped => Endpoint::from_shared(format!("https://{addr}"))?.tls_config(wrapped::client_tls()?)?,
        Service::Health | Service::Flight | Service::Otlp => Endpoint::from_shared(format!("http://{addr}"))?,
    };
    let endpoint = endpoint.executor(TransportExecutor); // drop-in
    let channel = endpoint.connect().await?;
    service.drive(channel).await?;
    print("client", &(Snapshot::of_process() - before))
}

/// The table, its total and how much of it carries a stage, as lines of words that a test can read.
fn print(process: &str, counted: &Snapshot) -> anyhow::Result<()> {
    let total = counted.total();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{process} process")?;
    for row in counted.rows() {
        let (side, rpc) = (row.method.side.map_or("-", Side::name), row.method.path);
        let rpc = if rpc.is_empty() { "-" } else { rpc };
        let share = 100.0 * row.tally.bytes as f64 / total.bytes as f64;
        writeln!(
            out,
            "  {side:<6}  {rpc:<60}  {:<20}  {:>9} blocks  {:>12} bytes  {share:>5.1} %",
            row.stage, row.tally.blocks, row.tally.bytes
        )?;
    }
    let staged = total.bytes - counted.stage(Stage::Other).bytes;
    let share = 100.0 * staged as f64 / total.bytes as f64;
    writeln!(out, "  total  {} blocks  {} bytes  {share:.2} % with a stage\n", total.blocks, total.bytes)?;
    Ok(())
}
