//! The study's sockets, which count their reads and writes.
//!
//! Counted where tokio's socket is: below TLS, aligned reads and the seams. A read or write that moved bytes was one system
//! call. One that had to wait may have been one or none, because tokio knows of many sockets that there is nothing to read
//! before it asks the kernel; these are left out. Counting costs two atomic additions at most a call, of the one thread that
//! a process of the study mostly has.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::record::SocketCalls;

static READS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

/// What the process's sockets did so far.
pub fn calls() -> SocketCalls {
    SocketCalls { reads: READS.load(Ordering::Relaxed), writes: WRITES.load(Ordering::Relaxed) }
}

pin_project! {
    /// A socket whose reads and writes are counted.
    #[derive(Debug)]
    pub struct CountedIo<IO> {
        #[pin]
        inner: IO,
    }
}

impl<IO> CountedIo<IO> {
    /// Counts what goes through `inner`.
    pub fn new(inner: IO) -> Self {
        CountedIo { inner }
    }
}

impl<IO: AsyncRead> AsyncRead for CountedIo<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.project().inner.poll_read(cx, buf);
        if buf.filled().len() > before {
            READS.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<IO: AsyncWrite> AsyncWrite for CountedIo<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        counted(self.project().inner.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        counted(self.project().inner.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}

fn counted(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(1..)) = written {
        WRITES.fetch_add(1, Ordering::Relaxed);
    }
    written
}

impl<IO: Connected> Connected for CountedIo<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_moves_bytes_is_counted() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = CountedIo::new(near);
        let before = calls();
        // Three writes of at most eight bytes.
        let received = tokio::spawn(async move {
            let mut received = [0; 20];
            far.read_exact(&mut received).await.expect("twenty bytes");
            far.write_all(b"four").await.expect("room");
            far
        });
        near.write_all(&[7; 20]).await.expect("read by the other end");
        let mut answer = [0; 4];
        near.read_exact(&mut answer).await.expect("four bytes");
        drop(received.await.expect("no panic"));
        assert_eq!(near.read(&mut answer).await.expect("the end"), 0);
        // Nothing else of this process's tests counts.
        let after = calls();
        assert_eq!((after.reads - before.reads, after.writes - before.writes), (1, 3));
    }
}
