//! What leaves [`AlignedIo`] is what came in, whichever way it comes in and is read, but for filler frames.

#![cfg(feature = "subject")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use alloc_ladder::steps::AlignedIo;
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

const HEADER_BYTES: usize = 9;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const FILLER: u8 = 0xFF;
const FRAME_BYTES_MAX: usize = 256 * 1024;

/// What the inner reader does at one poll.
#[derive(Clone, Copy, Debug)]
enum Deliver {
    Bytes(usize),
    Pending,
}

/// An inner reader that follows a script, over and over, until its bytes are gone.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    script: Vec<Deliver>,
    polls: usize,
    /// The waker of a poll that was answered with `Pending`.
    waiting: Option<Waker>,
    /// Given once, in place of the byte at this position.
    error: Option<(usize, io::ErrorKind)>,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let deliver = self.script[self.polls % self.script.len()];
        self.polls += 1;
        assert!(self.waiting.is_none(), "polled again before it was ready, though nobody woke it");
        assert!(buf.remaining() > 0, "asked for nothing");
        let stop = match self.error {
            Some((at, kind)) if at == self.at => {
                self.error = None;
                return Poll::Ready(Err(kind.into()));
            }
            Some((at, _)) => at,
            None => self.bytes.len(),
        };
        match deliver {
            Deliver::Pending => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Deliver::Bytes(most) => {
                let count = most.min(buf.remaining()).min(stop - self.at);
                buf.put_slice(&self.bytes[self.at..self.at + count]);
                self.at += count;
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Lets the test see `Script` while `AlignedIo` owns it.
#[derive(Clone)]
struct Shared(Arc<std::sync::Mutex<Script>>);

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock().expect("no panic")).poll_read(cx, buf)
    }
}

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Outcome {
    bytes: Vec<u8>,
    error: Option<io::ErrorKind>,
}

/// Reads to the end with buffers of these sizes, over and over, and checks every poll on the way.
fn read(
    server: bool,
    input: Vec<u8>,
    script: Vec<Deliver>,
    sizes: &[usize],
    error: Option<(usize, io::ErrorKind)>,
) -> Outcome {
    let data_frames = frames(&input, server).iter().filter(|frame| frame.kind == Some(DATA)).count();
    let total = input.len();
    let inner = Script { bytes: input, at: 0, script, polls: 0, waiting: None, error };
    let inner = Shared(Arc::new(std::sync::Mutex::new(inner)));
    let mut io = if server { AlignedIo::server(inner.clone()) } else { AlignedIo::client(inner.clone()) }
        .frame_bytes_max(FRAME_BYTES_MAX);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    let mut bytes = Vec::new();
    let (mut yields, mut pendings) = (0, 0);
    let mut memory = vec![0u8; sizes.iter().copied().max().expect("a size")];
    for index in 0.. {
        let mut buf = ReadBuf::new(&mut memory[..sizes[index % sizes.len()]]);
        let woken = wakes.0.load(Ordering::Relaxed);
        match Pin::new(&mut io).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                bytes.extend_from_slice(buf.filled());
                if buf.filled().is_empty() {
                    assert_eq!(inner.0.lock().expect("no panic").at, total, "an end before the end");
                    break;
                }
            }
            Poll::Ready(Err(error)) => return Outcome { bytes, error: Some(error.kind()) },
            Poll::Pending => {
                assert!(buf.filled().is_empty(), "bytes were given with `Pending`: they would be lost");
                if wakes.0.load(Ordering::Relaxed) > woken {
                    yields += 1;
                } else {
                    let waiting = inner.0.lock().expect("no panic").waiting.take();
                    waiting.expect("pending, and nobody will wake the reader").wake();
                    assert!(wakes.0.load(Ordering::Relaxed) > woken, "another waker was registered");
                    pendings += 1;
                }
            }
        }
        // A poll that gave bytes may have left the inner reader waiting; the next poll asks again.
        inner.0.lock().expect("no panic").waiting = None;
    }
    assert!(yields <= data_frames, "{yields} yields for {data_frames} DATA frames");
    let polls = inner.0.lock().expect("no panic").polls;
    assert!(polls <= 2 * (total + pendings) + 4, "{polls} inner polls for {total} bytes and {pendings} waits");
    Outcome { bytes, error: None }
}

#[derive(Debug, PartialEq)]
struct FramePart<'a> {
    /// `None` for the preface and for what is shorter than a header.
    kind: Option<u8>,
    bytes: &'a [u8],
}

/// The frames of a byte stream; the last may be cut short.
fn frames(mut bytes: &[u8], server: bool) -> Vec<FramePart<'_>> {
    let mut frames = Vec::new();
    if server {
        let (preface, rest) = bytes.split_at(PREFACE.len().min(bytes.len()));
        frames.push(FramePart { kind: None, bytes: preface });
        bytes = rest;
    }
    while !bytes.is_empty() {
        let whole = match bytes {
            [a, b, c, kind, _, _, _, _, _, ..] => Some((u32::from_be_bytes([0, *a, *b, *c]) as usize, *kind)),
            _ => None,
        };
        let len = whole.map_or(bytes.len(), |(len, _)| (HEADER_BYTES + len).min(bytes.len()));
        let (frame, rest) = bytes.split_at(len);
        frames.push(FramePart { kind: whole.map(|(_, kind)| kind), bytes: frame });
        bytes = rest;
    }
    frames
}

/// Checks that `output` is `input` with nothing but fillers put in, each before DATA or another filler.
fn assert_passed(input: &[u8], output: &[u8], server: bool) -> usize {
    let mut fillers = 0;
    let mut expected = frames(input, server).into_iter();
    let mut before_data = false;
    for frame in frames(output, server) {
        if frame.kind == Some(FILLER) {
            assert!(frame.bytes[4..].iter().all(|byte| *byte == 0), "a filler has flags, a stream or content");
            assert!(
                frame.bytes.len() - HEADER_BYTES <= FRAME_BYTES_MAX,
                "a filler above the frame size that was announced"
            );
            fillers += frame.bytes.len();
            before_data = true;
            continue;
        }
        assert!(!before_data || frame.kind == Some(DATA), "a filler stands before a frame of type {:?}", frame.kind);
        before_data = false;
        let expected = expected.next().expect("no more frames than came in");
        assert!(
            frame == expected,
            "a frame of {} bytes came out of one of {}",
            frame.bytes.len(),
            expected.bytes.len()
        );
    }
    assert!(expected.next().is_none(), "frames are missing");
    fillers
}

fn frame(kind: u8, flags: u8, len: usize, seed: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + len);
    frame.extend(&(len as u32).to_be_bytes()[1..]);
    frame.extend([kind, flags, 0, 0, 0, seed]);
    frame.extend((0..len).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)));
    frame
}

/// A frame of any type, or a header block of HEADERS and CONTINUATION.
fn some_frames(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        2 => 0..20usize.min(longest),
        3 => 0..longest,
        // Around the sizes at which the code decides.
        2 => prop::sample::select(vec![0, 1, 8, 9, 8165, 8174, 8183, 8192, 16_384, 32_767, 32_768, 65_518, 65_527, 65_536])
            .prop_map(move |len: usize| len.min(longest)),
    ]
    .boxed();
    prop_oneof![
        4 => (len.clone(), any::<u8>()).prop_map(|(len, seed)| frame(DATA, 0, len, seed)),
        2 => (1..FILLER, any::<u8>(), len.clone(), any::<u8>())
            .prop_map(|(kind, flags, len, seed)| frame(kind, flags, len, seed)),
        1 => (prop::collection::vec(len, 1..4), any::<u8>()).prop_map(|(lens, seed)| {
            let last = lens.len() - 1;
            let block = |(index, len)| frame(if index == 0 { 1 } else { 9 }, if index == last { 4 } else { 0 }, len, seed);
            lens.into_iter().enumerate().flat_map(block).collect()
        }),
    ]
}

fn scripts() -> impl Strategy<Value = Vec<Deliver>> {
    let deliver = prop_oneof![
        1 => Just(Deliver::Pending),
        2 => (1usize..40).prop_map(Deliver::Bytes),
        3 => (1usize..150_000).prop_map(Deliver::Bytes),
        2 => Just(Deliver::Bytes(usize::MAX)),
    ];
    prop::collection::vec(deliver, 1..12).prop_map(|mut script| {
        // A script that never delivers would never end.
        script.push(Deliver::Bytes(usize::MAX));
        script
    })
}

fn sizes(longest: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..30, 1usize..longest, Just(longest), Just(8192)], 1..8)
}

/// A connection of these frames, begun as HTTP/2 begins: with settings, behind the preface where a server reads.
fn input(server: bool, parts: &[Vec<u8>]) -> Vec<u8> {
    let preface = if server { PREFACE } else { &[] };
    let settings = frame(SETTINGS, 0, 6, 0);
    preface.iter().copied().chain(settings).chain(parts.iter().flatten().copied()).collect()
}

/// Bytes that do not begin as HTTP/2, with frames in them that would be aligned if they did.
fn foreign() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    let begins = prop_oneof![
        text("POST /a.B/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 200000\r\n\r\n"),
        text("PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"),
        text("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"),
        text("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"),
        text("SSH-2.0-OpenSSH_9.6\r\n"),
        text("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"),
        // A TLS client's and server's hello.
        Just([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3].to_vec()),
        Just([0x16, 3, 3, 0, 0x7A, 2, 0, 0, 0x76, 3, 3].to_vec()),
        // A length, zeroes: DATA, were it HTTP/2.
        (0usize..60_000).prop_map(|len| frame(DATA, 0, len, 1)),
        // Settings of another stream, or of no whole number of settings.
        Just(frame(SETTINGS, 0, 6, 1)),
        Just(frame(SETTINGS, 0, 7, 0)),
        prop::collection::vec(any::<u8>(), 0..100),
    ];
    let rest =
        prop::collection::vec(prop_oneof![some_frames(60_000), prop::collection::vec(any::<u8>(), 0..9000)], 0..6);
    (begins, rest).prop_map(|(begins, rest)| begins.into_iter().chain(rest.into_iter().flatten()).collect())
}

/// Whether bytes are a connection's first ones after all: random ones may be.
fn begins_as_http2(server: bool, bytes: &[u8]) -> bool {
    let rest = if server { bytes.strip_prefix(PREFACE) } else { Some(bytes) };
    rest.is_some_and(|rest| matches!(rest, [_, _, _, SETTINGS, _, 0 | 0x80, 0, 0, 0, ..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_frames_any_reads_any_buffers(
        server: bool,
        parts in prop::collection::vec(some_frames(100 * 1024), 0..10),
        script in scripts(),
        sizes in sizes(200 * 1024),
    ) {
        let input = input(server, &parts);
        let outcome = read(server, input.clone(), script, &sizes, None);
        let fillers = assert_passed(&input, &outcome.bytes, server);
        let most = 8 * FRAME_BYTES_MAX + input.len() / 16;
        prop_assert!(fillers <= most, "{} bytes of fillers for {}", fillers, input.len());
    }

    #[test]
    fn one_byte_at_a_time(
        server: bool,
        parts in prop::collection::vec(some_frames(3000), 0..6),
        slow_reader: bool,
    ) {
        let input = input(server, &parts);
        let (script, sizes) = if slow_reader {
            (vec![Deliver::Bytes(usize::MAX)], [1])
        } else {
            (vec![Deliver::Pending, Deliver::Bytes(1)], [200 * 1024])
        };
        let outcome = read(server, input.clone(), script, &sizes, None);
        assert_passed(&input, &outcome.bytes, server);
    }

    #[test]
    fn what_is_not_http2_passes_untouched(
        server: bool,
        preface: bool,
        foreign in foreign(),
        script in scripts(),
        sizes in sizes(200 * 1024),
    ) {
        // Behind a preface too: what follows it may still be no HTTP/2.
        let preface = if server && preface { PREFACE } else { &[] };
        let input: Vec<u8> = preface.iter().copied().chain(foreign).collect();
        prop_assume!(!begins_as_http2(server, &input));
        let outcome = read(server, input.clone(), script, &sizes, None);
        prop_assert!(outcome.bytes == input, "{} bytes came of {}", outcome.bytes.len(), input.len());
    }

    /// An end or an error anywhere: in the preface, a header, a payload, between frames.
    #[test]
    fn what_came_before_an_end_or_an_error_passes(
        server: bool,
        parts in prop::collection::vec(some_frames(40 * 1024), 1..5),
        cut in any::<prop::sample::Index>(),
        near in 0usize..40,
        fails: bool,
        script in scripts(),
        sizes in sizes(100 * 1024),
    ) {
        let whole = input(server, &parts);
        // Half of the cuts lie in or near the preface and the first header.
        let cut = if near < 36 { near.min(whole.len()) } else { cut.index(whole.len() + 1) };
        if fails {
            let outcome = read(server, whole.clone(), script, &sizes, Some((cut, io::ErrorKind::ConnectionReset)));
            prop_assert_eq!(outcome.error, Some(io::ErrorKind::ConnectionReset), "the error was lost");
            assert_passed(&whole[..cut], &outcome.bytes, server);
        } else {
            let outcome = read(server, whole[..cut].to_vec(), script, &sizes, None);
            assert_passed(&whole[..cut], &outcome.bytes, server);
        }
    }
}

/// h2's own server and client with aligned reads on both sides: the server sends back what it receives.
mod h2_itself {
    use super::*;
    use bytes::Bytes;
    use tokio::io::{AsyncWrite, duplex};

    const FRAME_BYTES_MAX: u32 = 100_000;

    async fn echo(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let io = AlignedIo::server(io).frame_bytes_max(FRAME_BYTES_MAX as usize);
        let mut connection = h2::server::Builder::new()
            .max_frame_size(FRAME_BYTES_MAX)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake::<_, Bytes>(io)
            .await
            .expect("a preface");
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.expect("the client keeps to the protocol");
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut reply = respond.send_response(http::Response::new(()), false).expect("a response");
                while let Some(data) = body.data().await {
                    let Ok(data) = data else { return };
                    body.flow_control().release_capacity(data.len()).expect("no more than came");
                    // The receiver may have reset the stream.
                    if reply.send_data(data, false).is_err() {
                        return;
                    }
                }
                let _ = reply.send_data(Bytes::new(), true);
            });
        }
    }

    fn content(stream: usize, len: usize) -> Bytes {
        (0..len).map(|at| (at * 3 + at / 256 + stream * 13) as u8).collect()
    }

    /// Sends `content` and receives it back; a stream that is to be reset is reset when half of it came back.
    async fn exchange(client: h2::client::SendRequest<Bytes>, stream: usize, len: usize, reset: bool) {
        let sent = content(stream, len);
        let request = http::Request::post("http://h2.invalid/echo").body(()).expect("a request");
        let (response, mut send) = client.ready().await.expect("ready").send_request(request, false).expect("sent");
        // Long messages in pieces above and below the frame size.
        for (index, piece) in sent.chunks(70_000 + stream % 3 * 40_000).enumerate() {
            let last = (index + 1) * (70_000 + stream % 3 * 40_000) >= len;
            send.send_data(sent.slice_ref(piece), last && !reset).expect("the stream is open");
        }
        if len == 0 {
            send.send_data(Bytes::new(), true).expect("the stream is open");
        }
        let mut body = response.await.expect("a response").into_body();
        let mut received = Vec::new();
        while received.len() < len {
            let Some(data) = body.data().await else { break };
            let data = data.expect("the connection lives");
            body.flow_control().release_capacity(data.len()).expect("no more than came");
            received.extend_from_slice(&data);
            if reset && received.len() >= len / 2 {
                send.send_reset(h2::Reason::CANCEL);
                assert!(sent.starts_with(&received), "stream {stream}");
                return;
            }
        }
        assert!(sent == received, "stream {stream}: {} of {len} bytes came back", received.len());
    }

    async fn exchanges(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let io = AlignedIo::client(io).frame_bytes_max(FRAME_BYTES_MAX as usize);
        let (client, connection) = h2::client::Builder::new()
            .max_frame_size(FRAME_BYTES_MAX)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake::<_, Bytes>(io)
            .await
            .expect("a server");
        tokio::spawn(connection);
        let mut streams = tokio::task::JoinSet::new();
        let lens = [0, 1, 9, 16_384, 70_001, 300_000, 8192, 65_545, 65_545, 65_545];
        for (stream, len) in lens.into_iter().cycle().take(30).enumerate() {
            let client = client.clone();
            streams.spawn(exchange(client, stream, len, stream % 7 == 5 && len > 1));
        }
        while let Some(stream) = streams.join_next().await {
            stream.expect("no panic");
        }
    }

    fn within_a_minute(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limited = async { tokio::time::timeout(std::time::Duration::from_secs(60), work).await };
        runtime.block_on(limited).expect("nothing hangs");
    }

    /// Not of a few bytes: there h2 waits for room to write on both sides and reads on neither, with any reader.
    #[test]
    fn over_pipes_of_any_capacity() {
        for capacity in [100, 3000, 20_000, 1 << 20] {
            within_a_minute(async {
                let (client, server) = duplex(capacity);
                tokio::spawn(echo(server));
                exchanges(client).await;
            });
        }
    }

    #[test]
    fn over_tcp() {
        within_a_minute(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            tokio::spawn(async move { echo(listener.accept().await.expect("a client").0).await });
            exchanges(tokio::net::TcpStream::connect(address).await.expect("it listens")).await;
        });
    }
}
