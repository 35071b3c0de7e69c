//! An HTTP/1 server for a handful of readers: bounded in connections, bytes and time whatever its clients do.
//!
//! A connection carries one request. Its head must be whole within [`Limits::head_time`], and the connection ends
//! after [`Limits::connection_time`], to which the answer may add. When as many connections are open as may be, a new
//! one takes the place of the oldest whose head is not whole, else of the oldest whose client does not read its
//! answer; a request that is being answered keeps its place. So a whole request never waits for one that is not.
//!
//! While an answer is being made, what the client sends behind its request is read and thrown away, and where the
//! client closes, the answer is abandoned. hyper alone looks for that only while nothing unread lies before it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// What bounds the clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// The largest request line and headers together.
    pub head_bytes: usize,
    /// How long a client may take to send them.
    pub head_time: Duration,
    /// How long a connection lives, besides what [`Allowance::extend`] adds.
    pub connection_time: Duration,
}

/// More time for a connection whose answer takes its time.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Progress>);

impl Allowance {
    /// Lets the connection live so many seconds longer.
    pub fn extend(&self, seconds: u32) {
        self.0.seconds.fetch_add(u64::from(seconds), Ordering::Relaxed);
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Answers until it is dropped; with it end the connections that are open.
pub async fn serve<A, F>(listener: TcpListener, limits: Limits, answer: A)
where
    A: Fn(Request<()>, Allowance) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Bytes>> + Send + 'static,
{
    // Clients that come at once are queued, and none is told to try again in a second; where the system refuses, the
    // queue has the length it had.
    let _ = socket2::SockRef::from(&listener).listen(BACKLOG);
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<(Arc<Progress>, AbortHandle)> = VecDeque::new();
    let mut unseen = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // A panic was reported by its thread; the other connections go on.
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file descriptors, or a client that went away: neither is a reason to stop answering.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|(_, task)| !task.is_finished());
        if open.len() >= limits.connections && !make_room(&mut open) {
            continue;
        }
        let progress = Arc::new(Progress::default());
        let task = tasks.spawn(connection(socket, limits, Arc::clone(&progress), answer.clone()));
        open.push_back((progress, task));
        // A connection is looked at before newer ones may take its place: its request may lie there whole.
        unseen += 1;
        if unseen >= limits.connections / 4 {
            unseen = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Ends the connection that has the least claim to its place; false where all are being answered.
fn make_room(open: &mut VecDeque<(Arc<Progress>, AbortHandle)>) -> bool {
    let oldest = |state| open.iter().position(|(progress, _)| progress.state() == state);
    let Some(index) = oldest(State::Head).or_else(|| oldest(State::Writing)) else { return false };
    if let Some((_, task)) = open.remove(index) {
        task.abort();
    }
    true
}

/// How far a connection's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// The head is not whole.
    Head,
    /// The answer is being made.
    Answering,
    /// The answer is on its way.
    Writing,
}

#[derive(Debug, Default)]
struct Progress {
    state: AtomicU8,
    /// Added to the time the connection may live.
    seconds: AtomicU64,
}

impl Progress {
    fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Head,
            1 => State::Answering,
            _ => State::Writing,
        }
    }

    fn reach(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// One request and its answer, within the time it is given.
async fn connection<A, F>(socket: TcpStream, limits: Limits, progress: Arc<Progress>, answer: A)
where
    A: Fn(Request<()>, Allowance) -> F,
    F: Future<Output = Response<Bytes>>,
{
    let began = Instant::now();
    let socket = Arc::new(socket);
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        progress.reach(State::Answering);
        // A body is not read.
        let answer = answer(request.map(drop), Allowance(Arc::clone(&progress)));
        let progress = Arc::clone(&progress);
        async move {
            let response = answer.await;
            progress.reach(State::Writing);
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let io = TokioIo::new(Socket { socket: Arc::clone(&socket), progress: Arc::clone(&progress) });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(limits.head_bytes)
        .serve_connection(io, service);
    tokio::select! {
        // In this order: the others look at how far the first has come.
        biased;
        // Garbage, an aborted scrape, a reset: the client's business, and it is gone.
        _ = connection => {}
        () = gone(&socket, &progress) => {}
        () = out_of_time(began, limits, &progress) => {}
    }
}

async fn out_of_time(began: Instant, limits: Limits, progress: &Progress) {
    let end = || match progress.state() {
        State::Head => began + limits.head_time,
        _ => began + limits.connection_time + Duration::from_secs(progress.seconds.load(Ordering::Relaxed)),
    };
    loop {
        let until = end();
        tokio::time::sleep_until(until).await;
        if until >= end() {
            return;
        }
    }
}

/// Bytes thrown away at a time, and how often before others have their turn.
const SCRATCH: usize = 4096;
const READS: usize = 16;

/// Throws away what the client sends behind its request; ready when it closes before there is an answer.
async fn gone(socket: &TcpStream, progress: &Progress) {
    poll_fn(|context| {
        // Polled after hyper by the same task, so it notices when the head is whole.
        if progress.state() == State::Head {
            return Poll::Pending;
        }
        let mut scratch = [0; SCRATCH];
        for _ in 0..READS {
            match ready!(poll_read(socket, context, &mut scratch)) {
                Ok(1..) => {}
                Ok(0) | Err(_) if progress.state() == State::Answering => return Poll::Ready(()),
                // Whoever closes its own direction may still read the answer; if not, writing it fails.
                Ok(0) | Err(_) => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn poll_read(socket: &TcpStream, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(context))?;
        match socket.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// hyper's view of the socket: it reads the head, and nothing behind it.
struct Socket {
    socket: Arc<TcpStream>,
    progress: Arc<Progress>,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.progress.state() != State::Head {
            // `gone` reads, and wakes the same task.
            return Poll::Pending;
        }
        let read = ready!(poll_read(&self.socket, context, into.initialize_unfilled()))?;
        into.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}
