//! gRPC's health check, asked of a server that is starting.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Endpoint;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(1);

const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Response {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Why a server is not ready.
pub(super) type NotReady = String;

/// Asks whether the service is there; the empty name is the whole server.
pub(super) fn check(address: SocketAddr, service: &str) -> Result<(), NotReady> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, ask(address, service)).await {
            Ok(answer) => answer,
            Err(_) => Err("its health check does not answer".to_owned()),
        }
    })
}

async fn ask(address: SocketAddr, service: &str) -> Result<(), NotReady> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("no connection to {address}: {error}"))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let request = tonic::Request::new(Request { service: service.to_owned() });
    let codec = tonic_prost::ProstCodec::<Request, Response>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    match client.unary(request, path, codec).await {
        Ok(response) if response.get_ref().status == SERVING => Ok(()),
        Ok(response) => Err(format!("its health check answers with status {}, not SERVING", response.get_ref().status)),
        Err(status) => Err(format!("its health check answers {:?}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_does_not_speak_grpc_is_not_ready() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        assert!(check(address, "").is_err(), "nobody answers");
        drop(socket);
        let error = check(address, "").expect_err("nobody listens");
        assert!(error.starts_with("no connection to 127.0.0.1"), "{error}");
    }
}
