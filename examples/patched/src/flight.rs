//! arrow-flight's own server and client, with messages coded beforehand or by arrow as they go.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::{DataType, Field, Schema};
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::{Call, MESSAGES, Tick};

/// 64 KiB a column.
const ROWS: usize = 8192;

/// One column of 64 KiB.
fn batch() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    RecordBatch::try_new(schema, vec![column]).expect("one column of the schema's type")
}

/// The same batch over and over: its columns are shared.
fn batches(tick: Tick) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let batches = std::iter::repeat_n(batch(), MESSAGES as usize);
    stream::iter(batches.map(move |batch| {
        tick();
        Ok(batch)
    }))
}

/// A message of one batch, as arrow codes it.
fn message() -> FlightData {
    let coded = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch())]));
    let coded: Vec<FlightData> = futures::executor::block_on(coded.try_collect()).expect("a batch can be coded");
    coded.into_iter().last().expect("behind the schema")
}

/// What it encodes to.
pub(crate) fn message_bytes() -> usize {
    message().encoded_len()
}

fn messages(tick: Tick) -> impl Iterator<Item = FlightData> + Send + 'static {
    let message = message();
    (0..MESSAGES).map(move |_| {
        tick();
        message.clone()
    })
}

struct Flight {
    call: Call,
    tick: Tick,
}

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
        let tick = Arc::clone(&self.tick);
        Ok(Response::new(match self.call {
            Call::GetBatches => FlightDataEncoderBuilder::new().build(batches(tick)).map_err(Status::from).boxed(),
            _ => stream::iter(messages(tick)).map(Ok).boxed(),
        }))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let mut incoming = request.into_inner();
        let mut rows = 0u64;
        if self.call == Call::PutBatches {
            let incoming = incoming.map_err(FlightError::from);
            let mut batches = FlightRecordBatchStream::new_from_flight_data(incoming);
            while let Some(batch) = batches.try_next().await? {
                rows += batch.num_rows() as u64;
                drop(batch);
                (self.tick)();
            }
        } else {
            while let Some(message) = incoming.message().await? {
                rows += message.data_body.len() as u64 / 8;
                drop(message);
                (self.tick)();
            }
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

pub(crate) fn routes(call: Call, tick: Tick) -> Routes {
    Routes::new(FlightServiceServer::new(Flight { call, tick }))
}

pub(crate) async fn drive(call: Call, channel: Channel, tick: Tick) -> anyhow::Result<()> {
    let rows = match call {
        Call::Put => {
            let mut client = FlightServiceClient::new(channel);
            let results: Vec<PutResult> =
                client.do_put(stream::iter(messages(tick))).await?.into_inner().try_collect().await?;
            sum(&results)?
        }
        Call::PutBatches => {
            let upload = FlightDataEncoderBuilder::new().build(batches(tick));
            let results: Vec<PutResult> = FlightClient::new(channel).do_put(upload).await?.try_collect().await?;
            sum(&results)?
        }
        Call::GetBatches => {
            let mut download = FlightClient::new(channel).do_get(Ticket::default()).await?;
            let mut rows = 0;
            while let Some(batch) = download.try_next().await? {
                rows += batch.num_rows() as u64;
                drop(batch);
                tick();
            }
            rows
        }
        _ => {
            let mut download = FlightServiceClient::new(channel).do_get(Ticket::default()).await?.into_inner();
            let mut rows = 0;
            while let Some(message) = download.message().await? {
                rows += message.data_body.len() as u64 / 8;
                drop(message);
                tick();
            }
            rows
        }
    };
    anyhow::ensure!(rows == MESSAGES * ROWS as u64, "{rows} rows");
    Ok(())
}

/// How many rows the server says that it got.
fn sum(results: &[PutResult]) -> anyhow::Result<u64> {
    anyhow::ensure!(results.len() == 1, "{results:?}");
    Ok(u64::from_le_bytes(results[0].app_metadata[..].try_into()?))
}
