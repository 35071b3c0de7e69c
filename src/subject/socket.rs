//! The study's sockets, which count their reads and writes.
//!
//! There is one type of connection, whatever carries it and whatever stands around it: what is built for a type of
//! connection, from h2 to the handlers, is compiled once.
//!
//! Counted where tokio's socket is: below TLS, aligned reads and the seams. A read or write that moved bytes was one system
//! call. One that had to wait may have been one or none, because tokio knows of many sockets that there is nothing to read
//! before it asks the kernel; these are left out. Counting costs two atomic additions at most a call, of the one thread that
//! a process of the study mostly has.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::record::SocketCalls;
use crate::steps::{AlignedIo, Http2};
use crate::subject::scenario::CONGESTION;

static READS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

/// What the process's sockets did so far.
pub fn calls() -> SocketCalls {
    SocketCalls { reads: READS.load(Ordering::Relaxed), writes: WRITES.load(Ordering::Relaxed) }
}

/// Makes a TCP connection one like all others of the study, on whichever machine: nothing waits for more to send, and what is
/// sent goes as [`CONGESTION`] says, where the kernel lets this process choose.
///
/// # Errors
/// When the connection is gone.
pub fn settle(stream: &impl AsFd) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_congestion(CONGESTION.as_bytes());
    socket.set_tcp_nodelay(true)
}

/// Reads and writes whichever of an enum's two there is.
macro_rules! either_io {
    ($either:ident $(<$io:ident>)?: $left:ident, $right:ident) => {
        impl $(<$io: AsyncRead + AsyncWrite + Unpin>)? AsyncRead for $either $(<$io>)? {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $either::$left(io) => Pin::new(io).poll_read(cx, buf),
                    $either::$right(io) => Pin::new(io).poll_read(cx, buf),
                }
            }
        }

        impl $(<$io: AsyncRead + AsyncWrite + Unpin>)? AsyncWrite for $either $(<$io>)? {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $either::$left(io) => Pin::new(io).poll_write(cx, buf),
                    $either::$right(io) => Pin::new(io).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $either::$left(io) => Pin::new(io).poll_write_vectored(cx, bufs),
                    $either::$right(io) => Pin::new(io).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $either::$left(io) => io.is_write_vectored(),
                    $either::$right(io) => io.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $either::$left(io) => Pin::new(io).poll_flush(cx),
                    $either::$right(io) => Pin::new(io).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $either::$left(io) => Pin::new(io).poll_shutdown(cx),
                    $either::$right(io) => Pin::new(io).poll_shutdown(cx),
                }
            }
        }
    };
}
pub(super) use either_io;

/// What carries a connection.
#[derive(Debug)]
pub enum Socket {
    /// As [`settle`] leaves it.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connects to a server's port.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn tcp(address: &str) -> io::Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        settle(&stream)?;
        Ok(Socket::Tcp(stream))
    }

    /// Connects to a server's socket file.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn unix(path: impl AsRef<Path>) -> io::Result<Socket> {
        Ok(Socket::Unix(UnixStream::connect(path).await?))
    }
}

either_io!(Socket: Tcp, Unix);

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Socket::Tcp(stream) => stream.connect_info(),
            // It has no addresses.
            Socket::Unix(_) => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

/// A connection whose reads end where HTTP/2 frames end, or as it is.
#[derive(Debug)]
pub enum MaybeAligned<IO> {
    /// The step.
    Aligned(AlignedIo<IO>),
    /// As it is.
    Stock(IO),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> MaybeAligned<IO> {
    /// A server's connection; aligned where the server announces these settings.
    pub fn server(io: IO, aligned: Option<Http2>) -> Self {
        MaybeAligned::of(io, aligned, AlignedIo::server)
    }

    /// A client's connection; aligned where the client announces these settings.
    pub fn client(io: IO, aligned: Option<Http2>) -> Self {
        MaybeAligned::of(io, aligned, AlignedIo::client)
    }

    fn of(io: IO, aligned: Option<Http2>, end: impl FnOnce(IO) -> AlignedIo<IO>) -> Self {
        match aligned {
            Some(announced) => MaybeAligned::Aligned(end(io).frame_bytes_max(announced.max_frame_size as usize)),
            None => MaybeAligned::Stock(io),
        }
    }
}

either_io!(MaybeAligned<IO>: Aligned, Stock);

impl<IO: AsyncRead + Connected> Connected for MaybeAligned<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        match self {
            MaybeAligned::Aligned(io) => io.connect_info(),
            MaybeAligned::Stock(io) => io.connect_info(),
        }
    }
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
