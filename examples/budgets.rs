//! A budget in a test: a change that makes a call allocate more fails the build, not the pager.
//!
//! `cargo test --features transport --example budgets`; run as a program it checks the same once.

use alloc_ladder::assert::{Reach, measure_future_in};
use alloc_ladder::tonic::{ServerLayer, StagedCodec};
use alloc_ladder::{CountingAlloc, assert_allocs};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{HelloReply, HelloRequest};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[path = "support/greeter.rs"]
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#[rustfmt::skip]
mod greeter;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

type Codec<T, U> = StagedCodec<tonic_prost::ProstCodec<T, U>>;

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    type ChatStream = tokio_stream::Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: format!("Hello {}!", request.into_inner().name) }))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("not budgeted"))
    }
}

/// Client and server of one process, so the budget is for both sides of 100 calls.
async fn a_hundred_calls_stay_within_budget() -> anyhow::Result<()> {
    let incoming = alloc_ladder::tonic::incoming("127.0.0.1:0".parse()?)?;
    let addr = incoming.local_addr()?;
    let server = Server::builder().layer(ServerLayer::new()).add_service(GreeterServer::new(Hello));
    tokio::spawn(server.serve_with_incoming(incoming));
    let mut client = GreeterClient::new(Endpoint::from_shared(format!("http://{addr}"))?.connect().await?);
    let mut call = async || client.say_hello(HelloRequest { name: "tonic".to_owned() }).await;
    call().await?;
    let calls = async {
        for _ in 0..100 {
            call().await?;
        }
        Ok::<(), Status>(())
    };
    assert_allocs!(
        measure_future_in(Reach::Process, calls).await,
        blocks <= 12_000,
        bytes <= 6_000_000,
        // One string decoded on either side.
        blocks in MessageConstruction == 200,
    )?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    a_hundred_calls_stay_within_budget().await
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_hundred_calls_stay_within_budget() {
        super::a_hundred_calls_stay_within_budget().await.expect("the calls are answered");
    }
}
