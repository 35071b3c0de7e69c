//! Servers and connections of every kind.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::sync::Arc;

use alloc_ladder::steps::{Http2, LeanChannel, aligned, lean};
use generated::{over, pooled, steps, stock};
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// Generated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Stock,
    Steps,
    Pooled,
    /// A server over another crate's trait; a client of this kind is tonic's.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tonic,
    /// tonic's, with settings for 64 KiB messages and aligned reads.
    Aligned,
    Lean,
}

/// What a call is made of.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    pub server: Code,
    pub serving: Transport,
    pub client: Code,
    pub calling: Transport,
}

impl Pairing {
    pub const STOCK: Pairing =
        Pairing { server: Code::Stock, serving: Transport::Tonic, client: Code::Stock, calling: Transport::Tonic };

    /// Every kind of generated code with every other, and every transport with every other.
    pub fn all() -> Vec<Pairing> {
        let mut all = Vec::new();
        for server in [Code::Stock, Code::Steps, Code::Pooled, Code::Over] {
            for client in [Code::Stock, Code::Steps, Code::Pooled] {
                all.push(Pairing { server, client, ..Pairing::STOCK });
            }
        }
        for serving in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
            for calling in [Transport::Tonic, Transport::Aligned, Transport::Lean] {
                all.push(Pairing { server: Code::Steps, serving, client: Code::Steps, calling });
                all.push(Pairing { serving, calling, ..Pairing::STOCK });
            }
        }
        all
    }
}

/// A server on a thread of its own, until it is dropped.
pub struct Serving {
    pub address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    pub fn start(code: Code, transport: Transport, compression: Option<CompressionEncoding>) -> Serving {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let incoming =
                    TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
                tell.send(incoming.local_addr().expect("an address").to_string()).expect("listened to");
                macro_rules! serve {
                    ($server:expr) => {{
                        let mut service = $server;
                        if let Some(encoding) = compression {
                            service = service.accept_compressed(encoding).send_compressed(encoding);
                        }
                        serve(transport, incoming, tonic::service::Routes::new(service), stopped).await
                    }};
                }
                let tick: stock::Tick = Arc::new(|| {});
                match code {
                    Code::Stock => serve!(stock::pb::toy_server::ToyServer::new(stock::Handler { tick })),
                    Code::Steps => serve!(steps::pb::toy_server::ToyServer::new(steps::Handler { tick })),
                    Code::Pooled => serve!(pooled::pb::toy_server::ToyServer::new(pooled::Handler { tick })),
                    Code::Over => serve!(over::pb::toy_server::ToyServer::new(stock::Handler { tick })),
                }
            });
        });
        Serving { address: told.recv().expect("the server listens"), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("until it is dropped").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

/// Serves in tasks, as a service does: what `block_on` is given is polled seldom.
async fn serve(
    transport: Transport,
    incoming: TcpIncoming,
    routes: tonic::service::Routes,
    stopped: oneshot::Receiver<()>,
) {
    let http2 = http2(transport, Http2::SERVER);
    let stopped = async move { drop(stopped.await) };
    let task = match transport {
        Transport::Tonic => tokio::spawn(async move {
            Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await.expect("serves");
        }),
        Transport::Aligned => tokio::spawn(async move {
            let server = http2.server(Server::builder()).add_routes(routes);
            server.serve_with_incoming_shutdown(aligned(incoming, http2), stopped).await.expect("serves");
        }),
        Transport::Lean => tokio::spawn(lean::serve_with_shutdown(http2, incoming, routes, stopped)),
    };
    task.await.expect("no panic");
}

pub fn http2(transport: Transport, stock: Http2) -> Http2 {
    match transport {
        Transport::Tonic | Transport::Lean => stock,
        Transport::Aligned => Http2::for_messages(65_540),
    }
}

pub enum Connection {
    Channel(Channel),
    Lean(LeanChannel),
}

pub async fn connect(transport: Transport, address: &str) -> Connection {
    let endpoint = || Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    match transport {
        Transport::Tonic => Connection::Channel(endpoint().connect().await.expect("the server listens")),
        Transport::Aligned => {
            let channel = alloc_ladder::steps::connect(endpoint(), http2(transport, Http2::CLIENT)).await;
            Connection::Channel(channel.expect("the server listens"))
        }
        Transport::Lean => Connection::Lean(
            LeanChannel::connect(address, http2(transport, Http2::CLIENT)).await.expect("the server listens"),
        ),
    }
}

/// Runs a future in a task of a runtime of this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
