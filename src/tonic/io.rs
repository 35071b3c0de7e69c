//! The connection's socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
#[cfg(feature = "transport")]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use super::task;
use crate::Stage;

/// Some socket was handed over after a handshake: the process has a server with TLS.
#[cfg(feature = "transport")]
static UNDER_TLS: AtomicBool = AtomicBool::new(false);

/// Which tasks a socket has been seen in.
#[derive(Debug, Default)]
struct Tasks {
    /// It comes from a listener of ours, which says when the next one is accepted.
    #[cfg(feature = "transport")]
    accepted: bool,
    /// It was read or written to.
    #[cfg(feature = "transport")]
    used: bool,
    /// Where it was last read or written to, if that is in the table.
    #[cfg(feature = "transport")]
    last: Option<u64>,
    /// The task that was taken for its connection's before anything ran in it; 0 for none.
    #[cfg(feature = "transport")]
    guessed: AtomicU64,
}

#[cfg(feature = "transport")]
impl Tasks {
    /// The connection is about to be given a task, and TLS stands between its buffers and the socket.
    fn hand_over(&self) {
        if !self.used {
            // No handshake: the socket is asked for its vectored writes first of all.
            return;
        }
        if let Some(handshake) = self.last.filter(|last| task::current_id() != Some(*last)) {
            task::end(handshake);
        }
        UNDER_TLS.store(true, Ordering::Relaxed);
        if self.accepted {
            task::accepting();
        }
        self.guess();
    }

    /// The task that this thread spawns next is taken for the socket's, until the socket is used.
    fn guess(&self) {
        if let Some(next) = task::guess_next() {
            task::forget_guess(self.guessed.swap(next, Ordering::Relaxed));
        }
    }

    fn forget_guess(&mut self) {
        let guessed = std::mem::take(self.guessed.get_mut());
        if guessed != 0 {
            task::forget_guess(guessed);
        }
    }
}

#[cfg(feature = "transport")]
impl Drop for Tasks {
    fn drop(&mut self) {
        self.forget_guess();
    }
}

impl Tasks {
    /// The running task is the connection's, and goes on in `stage`.
    fn mark(&mut self, stage: Stage) {
        let task = task::mark(stage);
        #[cfg(feature = "transport")]
        {
            (self.used, self.last) = (true, task);
            // If the guess was right, it is none any more.
            self.forget_guess();
        }
        #[cfg(not(feature = "transport"))]
        let _ = task;
    }
}

pin_project! {
    /// A socket that tells what its connection does with what it reads.
    ///
    /// h2 grows its read buffer around `poll_read`, outside any hook. So what the connection's task allocates from a
    /// read that brought bytes until the next read, write or call is charged to [`Stage::ReceiveBuffer`], the rest to
    /// [`Stage::Transport`]: when a read finds nothing, the room for the next one has already been made.
    ///
    /// Decoding headers falls between two reads too, and is transport. The frames' own headers are looked at as they
    /// pass: a read that completes a HEADERS frame, and leaves room in the buffer for the rest of the frame it ends in,
    /// is followed by [`Stage::Transport`]. One read that brings headers and needs room can only be charged to one of
    /// them. Where what passes is not HTTP/2 (under TLS, say), every read is followed by [`Stage::ReceiveBuffer`].
    ///
    /// Under TLS, h2 makes a connection's buffers before anything below it is asked: some 32 kB. tonic asks the socket who it
    /// is connected to right before it spawns the connection's task, so that task's number is guessed then, and the guess is
    /// taken back if it was wrong. The `incoming` of this module does the same for the handshake's task.
    #[derive(Debug)]
    pub struct StagedIo<IO> {
        #[pin]
        inner: IO,
        frames: Frames,
        tasks: Tasks,
    }
}

impl<IO> StagedIo<IO> {
    /// Wraps a socket.
    pub fn new(inner: IO) -> Self {
        StagedIo { inner, frames: Frames::default(), tasks: Tasks::default() }
    }

    /// Wraps a socket that a server has accepted and handles at once.
    #[cfg(feature = "transport")]
    pub(super) fn accepted(inner: IO) -> Self {
        let mut accepted = StagedIo::new(inner);
        accepted.tasks.accepted = true;
        if UNDER_TLS.load(Ordering::Relaxed) {
            // tonic spawns the handshake's task next, where rustls makes its buffers before it asks for the socket.
            accepted.tasks.guess();
        }
        accepted
    }

    /// The socket.
    pub fn get_ref(&self) -> &IO {
        &self.inner
    }

    /// The socket, to be read or written to beside the connection.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.inner
    }

    /// The socket back.
    pub fn into_inner(self) -> IO {
        self.inner
    }
}

impl<IO: AsyncRead> AsyncRead for StagedIo<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = {
            let _guard = Stage::Transport.enter();
            this.inner.poll_read(cx, buf)
        };
        let room = buf.remaining();
        this.tasks.mark(match buf.filled().get(before..) {
            Some(bytes) if !bytes.is_empty() => this.frames.pass(bytes, room),
            _ => Stage::Transport,
        });
        read
    }
}

impl<IO: AsyncWrite> AsyncWrite for StagedIo<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.tasks.mark(Stage::Transport);
        this.inner.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.tasks.mark(Stage::Transport);
        this.inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        // h2 asks this first of all, in the connection's task, and then makes its buffers: some 30 kB a connection.
        task::mark(Stage::Transport);
        self.inner.is_write_vectored()
    }
}

/// Feature `transport`.
#[cfg(feature = "transport")]
impl<IO: tonic::transport::server::Connected> tonic::transport::server::Connected for StagedIo<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        // tonic asks right before it spawns the connection's task.
        self.tasks.hand_over();
        self.inner.connect_info()
    }
}
