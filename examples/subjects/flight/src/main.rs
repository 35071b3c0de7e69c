//! `arrow-flight`: record batches uploaded with `DoPut` and downloaded with `DoGet`, 64 KiB each.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alloc_ladder::steps::{Http2, aligned};
use alloc_ladder::tonic::{ServerLayer, incoming};
use arrow_array::{Int64Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::{DataType, Field, Schema};
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[global_allocator]
static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();

/// Rows of a batch, which are 64 KiB.
const ROWS: usize = 8192;
/// What a batch encodes to: its rows, and what says what they are.
const ENCODED_BYTES: usize = 64 * 1024 + 256;

/// The same batch so many times: its column is shared, so that only the protocol allocates.
fn batches(count: usize) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let batch = RecordBatch::try_new(schema, vec![column]).expect("one column of the schema's type");
    stream::iter(std::iter::repeat_n(batch, count).map(Ok))
}

struct Flight;

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    /// The ticket says how many batches.
    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let count = std::str::from_utf8(&request.get_ref().ticket).ok().and_then(|count| count.parse().ok());
        let count = count.ok_or_else(|| Status::invalid_argument("the ticket is not a number"))?;
        let encoded = FlightDataEncoderBuilder::new().build(batches(count));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let incoming = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(incoming);
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        let result = PutResult { app_metadata: rows.to_le_bytes().to_vec().into() };
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("do_action"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let _driver = alloc_ladder::driver::install();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(address(port)?).await,
        ["serve", port, "--aligned"] => serve_aligned(address(port)?).await,
        ["load", port, batches] => load(address(port)?, batches.parse()?).await,
        _ => Err("flight serve PORT [--aligned], or flight load PORT BATCHES".into()),
    }
}

fn address(port: &str) -> Result<SocketAddr, Box<dyn Error>> {
    Ok((Ipv4Addr::LOCALHOST, port.parse()?).into())
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::builder().layer(ServerLayer::new());
    Ok(server.add_service(FlightServiceServer::new(Flight)).serve_with_incoming(incoming(address)?).await?)
}

/// The same with two of the library's steps.
async fn serve_aligned(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let http2 = Http2::for_messages(ENCODED_BYTES);
    let mut server = http2.server(Server::builder()).layer(ServerLayer::new());
    let incoming = aligned(incoming(address)?, http2);
    Ok(server.add_service(FlightServiceServer::new(Flight)).serve_with_incoming(incoming).await?)
}

/// Uploads half of the batches and downloads the other half.
async fn load(address: SocketAddr, all: usize) -> Result<(), Box<dyn Error>> {
    /// Batches of one call, so that a window holds calls of both methods.
    const CALL: usize = 50;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = FlightClient::new(channel);
    for _ in 0..all.div_ceil(2 * CALL) {
        let upload = FlightDataEncoderBuilder::new().build(batches(CALL));
        let results: Vec<PutResult> = client.do_put(upload).await?.try_collect().await?;
        assert_eq!(results[0].app_metadata[..], ((CALL * ROWS) as u64).to_le_bytes());
        let download = client.do_get(Ticket::new(CALL.to_string())).await?;
        let rows = download.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await?;
        assert_eq!(rows, CALL * ROWS);
    }
    Ok(())
}
