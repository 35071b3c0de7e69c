//! The connection's socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use super::task;
use crate::Stage;

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
    #[derive(Debug)]
    pub struct StagedIo<IO> {
        #[pin]
        inner: IO,
        frames: Frames,
    }
}

impl<IO> StagedIo<IO> {
    /// Wraps a socket.
    pub fn new(inner: IO) -> Self {
        StagedIo { inner, frames: Frames::default() }
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
        task::mark(match buf.filled().get(before..) {
            Some(bytes) if !bytes.is_empty() => this.frames.pass(bytes, room),
            _ => Stage::Transport,
        });
        read
    }
}

impl<IO: AsyncWrite> AsyncWrite for StagedIo<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        task::mark(Stage::Transport);
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
        task::mark(Stage::Transport);
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
        self.inner.connect_info()
    }
}
