//! A health service that keeps the id of every request, as services do for their logs, and what makes its calls.
//!
//! The id is a header value of 36 bytes. Beside it each request brings a token of 207 bytes, which nobody keeps. What a
//! kept id pins in memory depends on the version of h2: that is what the steps of `alloc-ladder.toml` are.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use alloc_ladder::tonic::ServerLayer;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::InterceptorLayer;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[global_allocator]
static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();

/// The ids of all requests so far.
static KEPT: Mutex<Vec<MetadataValue<Ascii>>> = Mutex::new(Vec::new());

/// Bytes of the header value that the service keeps.
const ID_BYTES: usize = 36;
/// Bytes of the header value beside it.
const TOKEN_BYTES: usize = 207;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let _driver = alloc_ladder::driver::install();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(address(port)?).await,
        ["load", port, calls] => load(address(port)?, calls.parse()?).await,
        _ => Err("h2-923 serve PORT, or h2-923 load PORT CALLS".into()),
    }
}

fn address(port: &str) -> Result<SocketAddr, Box<dyn Error>> {
    Ok((Ipv4Addr::LOCALHOST, port.parse()?).into())
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let mut server = Server::builder().layer(ServerLayer::new()).layer(InterceptorLayer::new(keep_id));
    Ok(server.add_service(health).serve(address).await?)
}

/// Keeps the request's id.
fn keep_id(request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(id) = request.metadata().get("x-request-id") {
        KEPT.lock().map_err(|_| Status::internal("a request panicked"))?.push(id.clone());
    }
    Ok(request)
}

/// Makes so many calls, one after the other, each with an id and a token of its own.
async fn load(address: SocketAddr, calls: u64) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    for call in 0..calls {
        let mut request = Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert("x-request-id", format!("{call:0ID_BYTES$}").parse()?);
        request.metadata_mut().insert("x-token", format!("{call:0TOKEN_BYTES$}").parse()?);
        client.check(request).await?;
    }
    Ok(())
}
