// A caller as anybody writes it, included beside each kind of generated code: it knows no step of this crate's.

use pb::toy_client::ToyClient;
use tonic::codegen::{Body as HttpBody, Bytes as Data, StdError};

/// A chunk of `size` equal bytes.
pub fn chunk(size: usize, byte: u8) -> pb::Chunk {
    let mut chunk = pb::Chunk::default();
    chunk.data = vec![byte; size].into();
    chunk
}

/// A user with this name and everything else that makes one.
pub fn user(name: &str) -> pb::User {
    let mut user = pb::User::default();
    user.name = name.to_owned();
    user.age = 36;
    user.paid_plan = true;
    user.email = "ada@example.com".to_owned();
    user.subscriptions = ["analytical", "engine", "notes"].map(str::to_owned).to_vec();
    user
}

/// What came of a call, as text.
fn told<M>(answer: &Result<M, Status>, good: impl FnOnce(&M) -> String) -> String {
    match answer {
        Ok(message) => good(message),
        Err(status) => {
            let reason = status.metadata().get("x-reason");
            format!("{:?} {reason:?} {:?}", status.code(), String::from_utf8_lossy(status.details()))
        }
    }
}

/// Every kind of call, with messages of these sizes, good and bad, and what came of each.
pub async fn transcript<T>(mut client: ToyClient<T>, sizes: &[usize]) -> Vec<String>
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Data> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut lines = Vec::new();
    for name in ["Ada Lovelace", "", "nobody", "panic"] {
        let mut request = Request::new(user(name));
        request.metadata_mut().insert("x-trace", "7".parse().expect("a value"));
        let answer = client.hello(request).await;
        lines.push(format!("hello {name}: {}", told(&answer, |response| {
            let user = response.get_ref();
            format!("{} {} {} {:?}", user.id, user.status, user.name, response.metadata().get("x-trace"))
        })));
    }
    let mut request = Request::new(user("never"));
    request.set_timeout(std::time::Duration::from_millis(50));
    lines.push(format!("a deadline: {}", told(&client.hello(request).await, |_| "answered".to_owned())));
    for &size in sizes {
        let chunks = (0..3).map(move |byte| chunk(size, byte));
        let answer = client.put(tokio_stream::iter(chunks)).await;
        lines.push(format!("put {size}: {}", told(&answer, |response| {
            format!("{} messages, {} bytes", response.get_ref().messages, response.get_ref().bytes)
        })));
        let answer = client.get(pb::GetRequest { messages: 3, chunk_size: size as u64 }).await;
        lines.push(format!("get {size}: {}", read(answer).await));
        let chunks = (0..3).map(move |byte| chunk(size, byte));
        let answer = client.chat(tokio_stream::iter(chunks)).await;
        lines.push(format!("chat {size}: {}", read(answer).await));
    }
    let chunks = [chunk(10, 1), chunk(70_000, 2), chunk(0, 3), chunk(10, 4)];
    lines.push(format!("a failure after messages: {}", read(client.chat(tokio_stream::iter(chunks)).await).await));
    let mut limited = client.clone().max_encoding_message_size(1000);
    let answer = limited.put(tokio_stream::iter([chunk(10, 1), chunk(5000, 2)])).await;
    lines.push(format!("too long to send: {}", told(&answer, |_| "sent".to_owned())));
    let mut limited = client.clone().max_decoding_message_size(1000);
    let answer = limited.get(pb::GetRequest { messages: 2, chunk_size: 5000 }).await;
    lines.push(format!("too long to receive: {}", read(answer).await));
    // A call that is given up leaves the connection as it was.
    let mut given_up = client.get(pb::GetRequest { messages: 1000, chunk_size: 65_536 }).await.expect("begins").into_inner();
    lines.push(format!("given up: {:?}", given_up.message().await.map(|chunk| chunk.is_some()).map_err(|status| status.code())));
    drop(given_up);
    let answer = client.hello(user("after")).await;
    lines.push(format!("after: {}", told(&answer, |response| response.get_ref().name.clone())));
    lines
}

/// Reads a stream to its end.
async fn read(answer: Result<Response<Streaming<pb::Chunk>>, Status>) -> String {
    let mut chunks = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return told(&Err::<(), _>(status), |()| String::new()),
    };
    let mut seen = Vec::new();
    loop {
        match chunks.message().await {
            Ok(Some(chunk)) => {
                let first = chunk.data.first().copied();
                assert!(chunk.data[..] == vec![first.unwrap_or(0); chunk.data.len()][..], "another message's bytes");
                seen.push((chunk.data.len(), first));
            }
            Ok(None) => {
                let trailers = chunks.trailers().await.expect("the stream has ended well");
                return format!("{seen:?}, trailers {}", trailers.is_some_and(|trailers| !trailers.is_empty()));
            }
            Err(status) => return format!("{seen:?}, then {}", told(&Err::<(), _>(status), |()| String::new())),
        }
    }
}
