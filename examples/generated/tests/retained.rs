//! What a stream that waits holds, after one large message and then short ones, and how much less that is than with tonic.

#![allow(clippy::print_stdout, reason = "the figures, for whoever asks with --nocapture")]

mod support;

use std::time::{Duration, Instant};

use alloc_ladder::steps::ring;
use alloc_ladder::{CountingAlloc, Snapshot};
use generated::{steps, stock};
use support::{Code, Connection, Serving, Transport, block_on, connect};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const LARGE: usize = 1 << 20;

/// A stream's own, on both sides: h2's and hyper's state, tasks, headers.
const STREAM: u64 = 24 * 1024;

/// Bytes that both sides hold for the open streams, once that is at most `enough`, or has not become so.
fn held(code: Code, connections: usize, streams: usize, sizes: &[usize], enough: u64) -> u64 {
    let serving = Serving::start(code, Transport::Tonic, None);
    block_on(async {
        macro_rules! held {
            ($module:ident) => {{
                let mut clients = Vec::new();
                for _ in 0..connections {
                    let Connection::Channel(channel) = connect(Transport::Tonic, &serving.address).await else {
                        unreachable!("tonic's channel was asked for")
                    };
                    let mut client = $module::pb::toy_client::ToyClient::new(channel);
                    client.hello($module::user("first")).await.expect("answers");
                    clients.push(client);
                }
                let before = Snapshot::live_bytes();
                let mut open = Vec::new();
                for client in &mut clients {
                    for _ in 0..streams {
                        let (send, receive) = mpsc::channel(1);
                        let mut replies = client.chat(ReceiverStream::new(receive)).await.expect("begins").into_inner();
                        for size in sizes {
                            send.send($module::chunk(*size, 1)).await.expect("is read");
                            let reply = replies.message().await.expect("goes well").expect("a reply");
                            assert_eq!(reply.data.len(), *size);
                        }
                        open.push((send, replies));
                    }
                }
                let began = Instant::now();
                loop {
                    let held = Snapshot::live_bytes().saturating_sub(before);
                    if held <= enough || began.elapsed() > Duration::from_secs(5) {
                        break held;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }};
        }
        match code {
            Code::Stock => held!(stock),
            _ => held!(steps),
        }
    })
}

#[test]
fn a_stream_that_waits_holds_no_large_buffer() {
    let sizes = [LARGE, 10, 20, 30];
    // Buffers of either side grow to the message, and stay.
    let stock = held(Code::Stock, 1, 64, &sizes, 0);
    assert!(stock >= 64 * 2 * LARGE as u64, "{stock}");
    // The two threads' rings are for all their streams, however many those are.
    let rings = 2 * ring::BYTES_MAX as u64;
    for streams in [64, 128] {
        let most = rings + streams as u64 * STREAM;
        let held = held(Code::Steps, 1, streams, &sizes, most);
        println!("{streams} streams after a message of 1 MiB: {held} bytes; 64 with tonic: {stock}");
        assert!(held <= most, "{held}");
    }
    // hyper takes 200 streams a connection.
    let most = rings + 10_000 * STREAM;
    let many = held(Code::Steps, 50, 200, &[10, 20], most);
    println!("10,000 streams after short messages: {many} bytes");
    assert!(many <= most, "{many}");
}
