//! The client's half.

use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::Streaming;

use crate::record::Compression;
use crate::steps;
use crate::subject::calls::{BoxError, unready};
use crate::subject::codec::{ProstCodec, grpc};
use crate::subject::ladder::{Deframe, Tuning};
use crate::subject::pb::owned::{Export, GetRequest};
use crate::subject::scenario::Rpc;

/// Subscribes: makes a `Get` call for exports and gives each to `received`.
pub(in crate::subject) async fn subscribe<T>(
    channel: T,
    (tuning, compress): (&Tuning, Option<Compression>),
    messages: u64,
    mut received: impl FnMut(Export) -> anyhow::Result<()>,
) -> anyhow::Result<()>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let request = tonic::Request::new(GetRequest { messages, chunk_size: 0 });
    let path = PathAndQuery::from_static(Rpc::Get.path());
    let codec = ProstCodec::<GetRequest, Export>::stock();
    let mut exports: Streaming<Export> = match tuning.deframe {
        Deframe::Contiguous => {
            let mut grpc = grpc!(tonic::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
        Deframe::Rope => {
            let mut grpc = grpc!(steps::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path, codec).await?.into_inner()
        }
    };
    while let Some(export) = exports.message().await? {
        received(export)?;
    }
    Ok(())
}
