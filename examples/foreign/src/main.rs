//! alloc-ladder dropped into services nobody here wrote: who allocates, by RPC method and stage.
//!
//! `foreign health|flight|otlp|wrapped|shared|web|many` starts the service in this process and its client in another, then prints what each
//! allocated while the client ran. Lines marked `drop-in` are all that alloc-ladder needs.

#[cfg(feature = "etcd")]
mod etcd;
mod flight;
mod health;
mod many;
mod otlp;
mod shared;
mod table;
mod web;
mod wrapped;

use std::net::SocketAddr;

use alloc_ladder::alloc::Mode;
use alloc_ladder::tonic::{ClientLayer, ClientService, ServerLayer, TransportExecutor};
use alloc_ladder::{Alloc, Snapshot};
use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

#[global_allocator]
static ALLOC: Alloc = Alloc::new().unless_asked(Mode::Count); // drop-in

/// The services to choose from.
#[derive(Clone, Copy)]
enum Service {
    Health,
    Flight,
    Otlp,
    Wrapped,
    Shared,
    Web,
    Many,
}

impl Service {
    fn parse(name: &str) -> anyhow::Result<Service> {
        Ok(match name {
            "health" => Service::Health,
            "flight" => Service::Flight,
            "otlp" => Service::Otlp,
            "wrapped" => Service::Wrapped,
            "shared" => Service::Shared,
            "web" => Service::Web,
            "many" => Service::Many,
            _ => bail!("`{name}` is none of health, flight, otlp, wrapped, shared, web, many"),
        })
    }

    /// Serves in a task of its own; returns the certificate that the client must trust, as PEM, or nothing.
    fn serve(
        self,
        layer: ServerLayer,
        listener: TcpListener,
    ) -> anyhow::Result<(JoinHandle<anyhow::Result<()>>, String)> {
        let routes = match self {
            Service::Health => health::routes()?,
            Service::Flight => flight::routes(),
            Service::Otlp => otlp::routes(),
            Service::Wrapped => return wrapped::serve(layer, wrapped::routes(), listener),
            Service::Shared => return Ok((shared::serve(layer, listener), String::new())),
            Service::Web => return Ok((web::serve(layer, listener), String::new())),
            Service::Many => return Ok((many::serve(layer, listener), String::new())),
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().layer(layer).add_routes(routes).serve_with_incoming(incoming); // drop-in
        Ok((tokio::spawn(async { Ok(server.await?) }), String::new()))
    }

    /// Rows from the first call on. Without them a method gets its row once it has answered a call, which is too late
    /// for one that is called once and streams.
    fn methods(self) -> impl Iterator<Item = &'static str> {
        match self {
            Service::Health => health::METHODS,
            Service::Flight => flight::METHODS,
            Service::Otlp => otlp::METHODS,
            Service::Wrapped => wrapped::METHODS,
            Service::Shared => shared::METHODS,
            Service::Web => web::METHODS,
            Service::Many => many::METHODS,
        }
        .iter()
        .copied()
    }

    async fn drive(self, addr: SocketAddr) -> anyhow::Result<()> {
        let endpoint = match self {
            // These make their connections themselves.
            Service::Web => return web::drive(addr).await,
            Service::Many => return many::drive(addr).await,
            Service::Wrapped => Endpoint::from_shared(format!("https://{addr}"))?.tls_config(wrapped::client_tls()?)?,
            _ => Endpoint::from_shared(format!("http://{addr}"))?,
        };
        let endpoint = endpoint.executor(TransportExecutor); // drop-in
        let channel = endpoint.connect().await?;
        let layer = ClientLayer.methods(self.methods());
        let layered = tower::ServiceBuilder::new().layer(layer).service(channel.clone()); // drop-in
        match self {
            Service::Health => health::drive(layered).await,
            Service::Flight => flight::drive(layered).await,
            // The exporter takes a bare channel: its calls have stages, but no rows of their own.
            Service::Otlp => otlp::drive(channel).await,
            Service::Wrapped => wrapped::drive(layered).await,
            Service::Shared => shared::drive(layered).await,
            Service::Web | Service::Many => Ok(()),
        }
    }
}

type Layered = ClientService<Channel>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        #[cfg(feature = "etcd")]
        ["etcd"] => etcd::run().await,
        [name] => serve(name).await,
        [name, addr] => call(Service::parse(name)?, addr.parse().context("not an address")?).await,
        _ => bail!("usage: foreign health|flight|otlp|wrapped|shared|web|many"),
    }
}

async fn serve(name: &str) -> anyhow::Result<()> {
    let service = Service::parse(name)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let layer = ServerLayer::new().methods(service.methods()); // drop-in
    let (server, certificate) = service.serve(layer, listener)?;
    let before = Snapshot::of_process();
    let (name, program) = (name.to_owned(), std::env::current_exe()?);
    let client = move || {
        let mut client = std::process::Command::new(program);
        client.arg(name).arg(addr.to_string()).env(wrapped::CERTIFICATE, certificate).status()
    };
    let status = tokio::task::spawn_blocking(client).await??;
    table::print("server", &(Snapshot::of_process() - before))?;
    server.abort();
    if !status.success() {
        bail!("the client failed: {status}");
    }
    Ok(())
}

async fn call(service: Service, addr: SocketAddr) -> anyhow::Result<()> {
    let before = Snapshot::of_process();
    service.drive(addr).await?;
    table::print("client", &(Snapshot::of_process() - before))
}
