//! `arrow-flight`: record batches uploaded with `DoPut` and downloaded with `DoGet`.

use std::sync::Arc;

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
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::Layered;

pub(crate) const METHODS: &[&str] =
    &["/arrow.flight.protocol.FlightService/DoPut", "/arrow.flight.protocol.FlightService/DoGet"];
const BATCHES: usize = 400;
/// 64 KiB a column.
const ROWS: usize = 8192;

/// The same batch over and over: its columns are shared, so only the protocol allocates.
fn batches() -> impl stream::Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let batch = RecordBatch::try_new(schema, vec![column]).expect("one column of the schema's type");
    stream::iter(std::iter::repeat_n(batch, BATCHES).map(Ok))
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

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let encoded = FlightDataEncoderBuilder::new().build(batches());
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

pub(crate) fn routes() -> Routes {
    Routes::new(FlightServiceServer::new(Flight))
}

pub(crate) async fn drive(channel: Layered) -> anyhow::Result<()> {
    let mut client = FlightClient::new(channel);
    let upload = FlightDataEncoderBuilder::new().build(batches());
    let results: Vec<PutResult> = client.do_put(upload).await?.try_collect().await?;
    let rows = ((BATCHES * ROWS) as u64).to_le_bytes();
    anyhow::ensure!(results.len() == 1 && results[0].app_metadata[..] == rows, "{results:?}");
    let download = client.do_get(Ticket::default()).await?;
    let rows = download.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await?;
    anyhow::ensure!(rows == BATCHES * ROWS, "{rows} rows");
    Ok(())
}
