//! `etcd-client` as the program that is measured: it puts keys and gets them again. The etcd is Debian's, and to the file
//! of steps it is the load.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use alloc_ladder::Stage;
use alloc_ladder::stage::FutureExt;
use alloc_ladder::steps::{Http2, LeanChannel};
use alloc_ladder::tonic::{ClientLayer, TransportExecutor};
use etcd_client::{Channel, Client};
use tonic::transport::Endpoint;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

#[global_allocator]
static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let _driver = alloc_ladder::driver::install();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (port, calls, is_lean) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [port, calls] => (port, calls, false),
        [port, calls, "--lean"] => (port, calls, true),
        _ => return Err("etcd-keys PORT CALLS [--lean]".into()),
    };
    let address = format!("127.0.0.1:{port}");
    writeln!(std::io::stdout(), "waiting for etcd")?;
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let channel = if is_lean { lean(&address).await? } else { stock(&address).await? };
    let mut client = Client::from_channel(Channel::Custom(channel), None).await?;
    for key in 0..calls.parse::<u64>()?.div_ceil(2) {
        let key = format!("key/{}", key % 1000);
        client.put(key.clone(), "value", None).staged(Stage::Dispatch).await?;
        let answer = client.get(key, None).staged(Stage::Dispatch).await?;
        assert_eq!(answer.kvs()[0].value(), b"value");
    }
    Ok(())
}

type Boxed = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    Box<dyn Error + Send + Sync>,
>;

/// tonic's channel.
async fn stock(address: &str) -> Result<Boxed, Box<dyn Error>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.executor(TransportExecutor);
    let channel = endpoint.connect().staged(Stage::Transport).await?;
    Ok(BoxCloneSyncService::new(ServiceBuilder::new().layer(ClientLayer.boxed()).service(channel)))
}

/// The library's channel of one connection.
async fn lean(address: &str) -> Result<Boxed, Box<dyn Error>> {
    let channel = LeanChannel::connect(address, Http2::CLIENT).await?;
    Ok(BoxCloneSyncService::new(ServiceBuilder::new().layer(ClientLayer.boxed()).service(channel)))
}
