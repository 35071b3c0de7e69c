//! `Put` and `Get` over one connection, with the mechanism of each step chosen by the tuning.

use std::future::Future;

use anyhow::bail;
use http::HeaderMap;
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::Streaming;
use tonic::metadata::MetadataMap;

use super::codec::{ProstCodec, grpc};
use super::connect::{self, StagedChannel, StagedLean};
use super::lean::client::LeanClient;
use super::message::{Copied, Outgoing, Payload};
use super::secure::Security;
use crate::record::Compression;
use crate::steps::{self, Http2, Pooled};
use crate::subject::ladder::{ClientStack, Deframe, Encode, Glue, MessageSource, Payload as PayloadType, Tuning};
use crate::subject::pb::{bytes as pb_bytes, owned as pb_owned};
use crate::subject::scenario::{Rpc, Scenario};
use crate::tonic::StagedStream;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a client sends in a `Put`: the measured client counts it.
pub trait Upload {
    /// Headers of the call besides gRPC's own.
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The messages.
    fn outgoing<M: Outgoing>(&self) -> impl Stream<Item = M> + Send + 'static;
}

/// What a client asks for in a `Get`, and what it does with the messages: the measured client counts them.
pub trait Download {
    /// Headers of the call besides gRPC's own.
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The request.
    fn request(&self) -> pb_owned::GetRequest;

    /// One message has come; the next is received when this is done.
    fn received<M: Payload>(&mut self, message: M) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One connection to a server, and how calls go over it.
#[derive(Clone)]
pub struct Connection {
    pub(super) tuning: Tuning,
    pub(super) compress: Option<Compression>,
    pub(super) link: Link,
}

/// What calls are made over.
#[derive(Clone)]
pub(super) enum Link {
    Channel(StagedChannel),
    Lean(StagedLean),
    ByHand(LeanClient),
}

impl Connection {
    /// Connects to `address` (`host:port` or a Unix socket's path) for calls of `rpc`.
    ///
    /// # Errors
    /// When nobody answers; the message names the address.
    pub async fn open(
        tuning: Tuning,
        settings: Option<Http2>,
        address: (&str, Security),
        rpc: impl Into<Rpc>,
    ) -> anyhow::Result<Connection> {
        let rpc = rpc.into();
        let receives = rpc.client_receives();
        let link = match (tuning.glue, tuning.client) {
            (Glue::Generated, ClientStack::Channel) => {
                Link::Channel(connect::channel(&tuning, settings, address, receives).await?)
            }
            (Glue::Generated, ClientStack::Lean) => {
                Link::Lean(connect::lean(&tuning, settings, address, receives).await?)
            }
            (Glue::ByHand, _) => Link::ByHand(connect::by_hand(&tuning, settings, address, rpc.path()).await?),
        };
        Ok(Connection { tuning, compress: None, link })
    }

    /// Sends messages in this encoding, and takes them in it.
    pub fn compressed(mut self, compress: Option<Compression>) -> Connection {
        self.compress = compress;
        self
    }

    /// Makes a `Put` call; what the server answers.
    ///
    /// # Errors
    /// When the call fails: a [`tonic::Status`] where the server sent one.
    pub async fn put(self, upload: &impl Upload) -> anyhow::Result<pb_owned::PutSummary> {
        match self.link {
            Link::Channel(channel) => put(channel, (&self.tuning, self.compress), upload).await,
            Link::Lean(channel) => put(channel, (&self.tuning, self.compress), upload).await,
            Link::ByHand(_) => bail!("a client written by hand makes unary calls alone"),
        }
    }

    /// Makes a `Get` call and receives all its messages.
    ///
    /// # Errors
    /// When the call fails, a [`tonic::Status`] where the server sent one, or with what `download` makes of a message.
    pub async fn get(self, download: &mut (impl Download + Send)) -> anyhow::Result<()> {
        match self.link {
            Link::Channel(channel) => get(channel, (&self.tuning, self.compress), download).await,
            Link::Lean(channel) => get(channel, (&self.tuning, self.compress), download).await,
            Link::ByHand(_) => bail!("a client written by hand makes unary calls alone"),
        }
    }
}

/// How a call is made.
type How<'a> = (&'a Tuning, Option<Compression>);

async fn put<T>(channel: T, how: How<'_>, upload: &impl Upload) -> anyhow::Result<pb_owned::PutSummary>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    match (how.0.payload, how.0.encode) {
        (PayloadType::Vec, Encode::Stock | Encode::Sized) => {
            put_stock::<pb_owned::Chunk, _>(channel, how, upload).await
        }
        (PayloadType::Bytes, Encode::Stock | Encode::Sized) => {
            put_stock::<pb_bytes::Chunk, _>(channel, how, upload).await
        }
        (PayloadType::Vec, Encode::Pooled | Encode::ZeroCopy) => {
            put_with::<pb_owned::Chunk, _>(channel, how, upload).await
        }
        (PayloadType::Bytes, Encode::Pooled) => put_with::<Copied<pb_bytes::Chunk>, _>(channel, how, upload).await,
        (PayloadType::Bytes, Encode::ZeroCopy) => put_with::<pb_bytes::Chunk, _>(channel, how, upload).await,
    }
}

/// On tonic's body.
async fn put_stock<M, T>(
    channel: T,
    (tuning, compress): How<'_>,
    upload: &impl Upload,
) -> anyhow::Result<pb_owned::PutSummary>
where
    M: Outgoing,
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let mut grpc = grpc!(tonic::client::Grpc::new(channel), compress);
    grpc.ready().await.map_err(unready)?;
    let request = with_headers(upload.headers(), StagedStream::new(upload.outgoing::<M>()));
    let codec = ProstCodec::of_stream(tuning);
    Ok(grpc.client_streaming(request, path(Scenario::Put), codec).await?.into_inner())
}

/// On the steps' body.
async fn put_with<M, T>(
    channel: T,
    (_, compress): How<'_>,
    upload: &impl Upload,
) -> anyhow::Result<pb_owned::PutSummary>
where
    M: Outgoing,
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let mut grpc = grpc!(steps::client::Grpc::new(channel), compress);
    grpc.ready().await.map_err(unready)?;
    let request = with_headers(upload.headers(), upload.outgoing::<M>());
    Ok(grpc.client_streaming(request, path(Scenario::Put), ProstCodec::stock()).await?.into_inner())
}

async fn get<T>(channel: T, how: How<'_>, download: &mut (impl Download + Send)) -> anyhow::Result<()>
where
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    match (how.0.message, how.0.payload) {
        // There is nothing to recycle: its payload is a slice of what was received.
        (_, PayloadType::Bytes) => get_with::<pb_bytes::Chunk, _>(channel, how, download).await,
        (MessageSource::Fresh, PayloadType::Vec) => get_with::<pb_owned::Chunk, _>(channel, how, download).await,
        (MessageSource::Pooled, PayloadType::Vec) => {
            get_with::<Pooled<pb_owned::Chunk>, _>(channel, how, download).await
        }
    }
}

async fn get_with<M, T>(
    channel: T,
    (tuning, compress): How<'_>,
    download: &mut (impl Download + Send),
) -> anyhow::Result<()>
where
    M: Payload,
    T: GrpcService<Body>,
    T::ResponseBody: HttpBody + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<BoxError>,
{
    let request = with_headers(download.headers(), download.request());
    let codec = ProstCodec::<pb_owned::GetRequest, M>::stock();
    let mut messages: Streaming<M> = match tuning.deframe {
        Deframe::Contiguous => {
            let mut grpc = grpc!(tonic::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path(Scenario::Get), codec).await?.into_inner()
        }
        Deframe::Rope => {
            let mut grpc = grpc!(steps::client::Grpc::new(channel), compress);
            grpc.ready().await.map_err(unready)?;
            grpc.server_streaming(request, path(Scenario::Get), codec).await?.into_inner()
        }
    };
    while let Some(message) = messages.message().await? {
        download.received(message).await?;
    }
    Ok(())
}

fn path(scenario: Scenario) -> PathAndQuery {
    PathAndQuery::from_static(scenario.path())
}

pub(super) fn unready(error: impl Into<BoxError>) -> anyhow::Error {
    anyhow::anyhow!(error.into())
}

/// A request to a client.
pub(super) fn with_headers<T>(headers: HeaderMap, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}
