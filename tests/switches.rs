//! Every step's `switch` is a line that compiles where a service would write it.

#![cfg(all(feature = "subject", feature = "build"))]

use std::net::SocketAddr;

use alloc_ladder::steps::{Http2, LeanChannel, aligned, lean, per_core};
use alloc_ladder::subject::ladder::every_step;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::subject::service::Ladder;
use prost::Message;
use tokio::net::{TcpStream, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::codec::{BufferSettings, EncodeBuf};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// In build.rs.
#[rustfmt::skip]
#[expect(dead_code, reason = "compiled, and compared with the ladder")]
fn build() {
    drop(
alloc_ladder::build::generator(tonic_prost_build::configure()).pooled(".package.Message")
    );
    drop(
alloc_ladder::build::generator(tonic_prost_build::configure()).encoded(".package.Message")
    );
prost_build::Config::new().bytes(["."])
    ;
prost_build::Config::new().extern_path(".package.Message", "crate::View")
    ;
}

/// In an encoder of the service's own.
#[rustfmt::skip]
#[expect(dead_code, reason = "compiled, and compared with the ladder")]
fn encode(item: &impl Message, dst: &mut EncodeBuf<'_>) -> BufferSettings {
dst.reserve(item.encoded_len());
    item.encode(dst).expect("a growing buffer");
BufferSettings::new(256, 32 * 1024)
}

/// In a client's `main`.
#[rustfmt::skip]
#[expect(dead_code, reason = "compiled, and compared with the ladder")]
async fn client(endpoint: Endpoint, address: &str, encoded_len: usize, http2: Http2) -> Result {
    let endpoint =
endpoint.http2_adaptive_window(true)
    ;
    let endpoint =
Http2::for_messages(encoded_len).endpoint(endpoint)
    ;
    let _channel =
alloc_ladder::steps::connect(endpoint, http2).await?
    ;
    let _channel =
LeanChannel::connect(address, http2).await?
    ;
    Ok(())
}

/// In a server's `main`.
#[rustfmt::skip]
#[expect(dead_code, reason = "compiled, and compared with the ladder")]
async fn server(service: Ladder, address: SocketAddr, encoded_len: usize, http2: Http2, io: TcpStream) -> Result {
    let served = service.clone();
    {
        let service = served.clone();
Server::builder().add_service(service).serve(address).await?
    }
    let _adaptive =
Server::builder().http2_adaptive_window(Some(true))
    ;
    let incoming = || TcpIncoming::bind(address);
    let server =
Http2::for_messages(encoded_len).server(Server::builder())
    ;
    {
        let (mut server, incoming) = (server, incoming()?);
        server.add_service(served.clone())
.serve_with_incoming(aligned(incoming, http2)).await?
    }
    {
        let listener = UnixListener::bind("socket")?;
        Server::builder().add_service(served)
.serve_with_incoming(UnixListenerStream::new(listener)).await?
    }
    let _connection: h2::server::Connection<_, bytes::Bytes> =
h2::server::handshake(io).await?
    ;
    let (incoming, service) = (incoming()?, tonic::service::Routes::new(service));
lean::serve(http2, incoming, service).await;
    Ok(())
}

#[rustfmt::skip]
#[expect(dead_code, reason = "compiled, and compared with the ladder")]
fn cores(address: SocketAddr) -> Result {
    let serve = |_incoming| async { Ok::<(), std::io::Error>(()) };
per_core(address, 0, serve)?
    ;
    Ok(())
}

#[test]
fn every_switch_is_a_line_that_compiles() {
    let lines = include_str!("switches.rs");
    let allocators = [
        include_str!("../examples/allocators/tests/switch_jemalloc.rs"),
        include_str!("../examples/allocators/tests/switch_mimalloc.rs"),
    ]
    .concat();
    let manifest = include_str!("../crates/tonic/Cargo.toml");
    let name = |text: &str| text.lines().find_map(|line| line.strip_prefix("name = ")).map(str::to_owned);
    for scenario in Scenario::ALL {
        for step in every_step(scenario) {
            match step.switch.strip_prefix("tonic = { package = ") {
                // The line of examples/renamed, which CI builds and runs by a path.
                Some(rest) => {
                    let (package, rest) = rest.split_once(',').expect("a version follows");
                    assert_eq!(Some(package), name(manifest).as_deref());
                    let version = rest.trim_matches(|letter: char| letter != '.' && !letter.is_ascii_digit());
                    assert!(env!("CARGO_PKG_VERSION").starts_with(version), "{version}");
                }
                None => {
                    let is_allocator = step.switch.starts_with("#[global_allocator]");
                    let lines = if is_allocator { allocators.as_str() } else { lines };
                    let found = lines.lines().filter(|line| *line == step.switch).count();
                    assert_eq!(found, 1, "{scenario} {}: `{}`", step.name, step.switch);
                }
            }
        }
    }
}
