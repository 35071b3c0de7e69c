// A handler as anybody writes it, included beside each kind of generated code: it knows no step of this crate's.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Is told of every message that goes by.
pub type Tick = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
pub struct Handler {
    pub tick: Tick,
}

#[tonic::async_trait]
impl pb::toy_server::Toy for Handler {
    async fn hello(&self, request: Request<pb::User>) -> Result<Response<pb::User>, Status> {
        let trace = request.metadata().get("x-trace").cloned();
        let mut user = request.into_inner();
        match user.name.as_str() {
            "nobody" => {
                let mut status = Status::with_details(tonic::Code::NotFound, "nobody is called that", "why".into());
                status.metadata_mut().insert("x-reason", "none".parse().expect("a value"));
                return Err(status);
            }
            "panic" => panic!("asked to"),
            "never" => std::future::pending().await,
            _ => {}
        }
        user.id = 7;
        user.created_at = 1_700_000_000;
        user.status.clear();
        user.status.push_str("active");
        (self.tick)();
        let mut response = Response::new(user);
        if let Some(trace) = trace {
            response.metadata_mut().insert("x-trace", trace);
        }
        Ok(response)
    }

    async fn put(&self, request: Request<Streaming<pb::Chunk>>) -> Result<Response<pb::Summary>, Status> {
        let mut chunks = request.into_inner();
        let mut summary = pb::Summary::default();
        while let Some(chunk) = chunks.message().await? {
            summary.messages += 1;
            summary.bytes += chunk.data.len() as u64;
            drop(chunk);
            (self.tick)();
        }
        Ok(Response::new(summary))
    }

    type GetStream = Pin<Box<dyn Stream<Item = Result<pb::Chunk, Status>> + Send>>;

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let payload = bytes::Bytes::from(vec![0xA5; request.chunk_size as usize]);
        let (mut left, tick) = (request.messages, self.tick.clone());
        let chunks = std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let mut chunk = pb::Chunk::default();
            chunk.data = payload.clone().into();
            tick();
            Some(Ok(chunk))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    type ChatStream = Pin<Box<dyn Stream<Item = Result<pb::Chunk, Status>> + Send>>;

    /// Answers each message with itself; an empty one with a failure.
    async fn chat(&self, request: Request<Streaming<pb::Chunk>>) -> Result<Response<Self::ChatStream>, Status> {
        let tick = self.tick.clone();
        let replies = request.into_inner().map(move |chunk| {
            let chunk = chunk?;
            tick();
            if chunk.data.is_empty() { Err(Status::data_loss("an empty chunk")) } else { Ok(chunk) }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
