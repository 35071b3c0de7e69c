//! What the lean pair keeps of tonic's: backpressure, graceful shutdown, connect info, interceptors, cancellation.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloc_ladder::steps::{Http2, LeanChannel, lean};
use generated::steps::pb::GetRequest;
use generated::steps::pb::toy_client::ToyClient;
use generated::steps::pb::toy_server::ToyServer;
use generated::steps::{Handler, chunk, user};
use support::block_on;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Status};

/// A lean server in a task, with an interceptor that turns away who says so and wants to know who calls.
struct Serving {
    client: ToyClient<LeanChannel>,
    messages: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Serving {
    async fn start() -> Serving {
        let messages = Arc::new(AtomicU64::new(0));
        let tick = {
            let messages = Arc::clone(&messages);
            Arc::new(move || _ = messages.fetch_add(1, Ordering::SeqCst))
        };
        let intercept = |request: Request<()>| {
            if request.metadata().contains_key("x-refused") || request.remote_addr().is_none() {
                return Err(Status::permission_denied("not you"));
            }
            Ok(request)
        };
        let service = ToyServer::with_interceptor(Handler { tick }, intercept);
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port").with_nodelay(Some(true));
        let address = incoming.local_addr().expect("an address").to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let ended = tokio::spawn(lean::serve_with_shutdown(Http2::SERVER, incoming, service, stopped));
        let channel = LeanChannel::connect(&address, Http2::CLIENT).await.expect("it listens");
        Serving { client: ToyClient::new(channel), messages, stop, ended }
    }

    fn messages(&self) -> u64 {
        self.messages.load(Ordering::SeqCst)
    }
}

#[test]
fn a_slow_reader_stops_its_sender() {
    block_on(async {
        let mut serving = Serving::start().await;
        // A window of 2 MiB, and what lies ready to be sent.
        let ahead = 64;
        let request = GetRequest { messages: 1_000_000, chunk_size: 65_536 };
        let mut chunks = serving.client.get(request).await.expect("begins").into_inner();
        for read in [1u64, 500] {
            for _ in 0..read {
                chunks.message().await.expect("goes well").expect("a message");
            }
            // Other calls of the connection go on, and give the stream all the time it may want.
            let before = serving.messages();
            for _ in 0..20 {
                serving.client.hello(user("Ada")).await.expect("answers");
            }
            assert!(serving.messages() - 20 <= before + ahead, "{before}, then {}", serving.messages());
        }
        assert!(serving.messages() < 501 + 40 + 2 * ahead, "{} messages made", serving.messages());
        drop(chunks);
        drop(serving.stop);
        drop(serving.client);
        serving.ended.await.expect("no panic");
    });
}

#[test]
fn shutdown_lets_calls_end_and_takes_no_more() {
    block_on(async {
        let mut serving = Serving::start().await;
        let (send, receive) = mpsc::channel(1);
        let mut replies = serving.client.chat(ReceiverStream::new(receive)).await.expect("begins").into_inner();
        send.send(chunk(10, 1)).await.expect("listened to");
        assert_eq!(replies.message().await.expect("goes well").expect("a reply").data.len(), 10);
        drop(serving.stop);
        // The connection says that it takes no more; what had begun goes on.
        send.send(chunk(20, 2)).await.expect("listened to");
        assert_eq!(replies.message().await.expect("goes well").expect("a reply").data.len(), 20);
        drop(send);
        assert!(replies.message().await.expect("ends well").is_none());
        serving.ended.await.expect("no panic");
        let status = serving.client.hello(user("late")).await.expect_err("nobody serves");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    });
}

#[test]
fn an_interceptor_sees_the_caller_and_can_refuse() {
    block_on(async {
        let mut serving = Serving::start().await;
        serving.client.hello(user("Ada")).await.expect("its address is known");
        let mut request = Request::new(user("Ada"));
        request.metadata_mut().insert("x-refused", "1".parse().expect("a value"));
        let status = serving.client.hello(request).await.expect_err("refused");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not you"));
    });
}

#[test]
fn a_call_that_is_dropped_ends_its_request() {
    block_on(async {
        let mut serving = Serving::start().await;
        let (send, receive) = mpsc::channel(1);
        let mut replies = serving.client.chat(ReceiverStream::new(receive)).await.expect("begins").into_inner();
        send.send(chunk(10, 1)).await.expect("listened to");
        replies.message().await.expect("goes well").expect("a reply");
        drop(replies);
        // The request's stream is dropped with the call.
        send.closed().await;
        serving.client.hello(user("Ada")).await.expect("the connection goes on");
    });
}

#[test]
fn a_cancellation_handle_ends_its_request() {
    block_on(async {
        let mut serving = Serving::start().await;
        let (send, receive) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(receive));
        let handle = request.cancellation_handle();
        let mut replies = serving.client.chat(request).await.expect("begins").into_inner();
        send.send(chunk(10, 1)).await.expect("listened to");
        replies.message().await.expect("goes well").expect("a reply");
        handle.cancel();
        send.closed().await;
        serving.client.hello(user("Ada")).await.expect("the connection goes on");
    });
}
