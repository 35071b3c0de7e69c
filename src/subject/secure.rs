//! Connections under TLS, as rustls has it for tonic. Feature `tls`; without it, asking for TLS is an error.
//!
//! TLS is below everything else, so that every step goes with it, those too for which tonic's own TLS has no place. What is
//! measured is what encrypting costs: the server's certificate is made when it starts, and the client takes any.

#[cfg_attr(not(feature = "tls"), path = "secure/absent.rs")]
#[cfg_attr(feature = "tls", path = "secure/rustls.rs")]
mod tls;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use super::socket::either_io;
use crate::Stage;
use crate::stage::{Scope, Staged};

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// They are not.
    #[default]
    Plain,
    /// By TLS 1.3.
    Tls,
}

impl Security {
    /// TLS where that is asked for.
    pub const fn of(tls: bool) -> Security {
        if tls { Security::Tls } else { Security::Plain }
    }

    /// A client's end of a connection.
    ///
    /// # Errors
    /// When the server does not speak TLS, or this build does not.
    pub async fn connect<IO>(self, io: IO) -> io::Result<MaybeTls<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        Ok(match self {
            Security::Plain => MaybeTls::Plain(io),
            Security::Tls => MaybeTls::Tls(Box::new(shaking_hands(tls::connect(io)).await?)),
        })
    }

    /// A server's connections. Hands are shaken one after the other.
    pub fn incoming<IO>(
        self,
        incoming: impl Stream<Item = io::Result<IO>>,
    ) -> impl Stream<Item = io::Result<MaybeTls<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        incoming.then(move |io| async move {
            let io = io?;
            Ok(match self {
                Security::Plain => MaybeTls::Plain(io),
                Security::Tls => MaybeTls::Tls(Box::new(shaking_hands(tls::accept(io)).await?)),
            })
        })
    }
}

/// What rustls allocates for a connection is its transport's.
fn shaking_hands<F: Future>(hands: F) -> Staged<F> {
    Staged::new(Scope::new(crate::Method::NONE, Stage::Transport), hands)
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum MaybeTls<IO> {
    /// As it is.
    Plain(IO),
    /// Encrypted.
    Tls(Box<tls::TlsStream<IO>>),
}

either_io!(MaybeTls<IO>: Plain, Tls);

impl<IO: Connected> Connected for MaybeTls<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        match self {
            MaybeTls::Plain(io) => io.connect_info(),
            MaybeTls::Tls(io) => tls::below(io).connect_info(),
        }
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn both_ends_agree_and_the_wire_is_not_what_was_sent() {
        const SAID: &[u8] = b"nobody between the two reads this";
        let (client, middle) = duplex(64 * 1024);
        let (mut further, server) = duplex(64 * 1024);
        let relay = tokio::spawn(async move {
            let (mut seen, mut middle) = (Vec::new(), middle);
            let mut back = vec![0; 16 * 1024];
            let mut forth = vec![0; 16 * 1024];
            loop {
                tokio::select! {
                    read = middle.read(&mut forth) => match read {
                        Ok(0) | Err(_) => return seen,
                        Ok(read) => {
                            seen.extend_from_slice(&forth[..read]);
                            further.write_all(&forth[..read]).await.expect("the server reads");
                        }
                    },
                    read = further.read(&mut back) => match read {
                        Ok(0) | Err(_) => return seen,
                        Ok(read) => middle.write_all(&back[..read]).await.expect("the client reads"),
                    },
                }
            }
        });
        let serving = tokio::spawn(async move {
            let mut incoming = std::pin::pin!(Security::Tls.incoming(tokio_stream::once(Ok(server))));
            let mut io = incoming.next().await.expect("one connection").expect("a handshake");
            let mut heard = vec![0; SAID.len()];
            io.read_exact(&mut heard).await.expect("as much as was said");
            heard
        });
        let mut io = Security::Tls.connect(client).await.expect("a handshake");
        io.write_all(SAID).await.expect("the server reads");
        io.flush().await.expect("the server reads");
        assert_eq!(serving.await.expect("no panic"), SAID);
        drop(io);
        let seen = relay.await.expect("no panic");
        assert!(!seen.windows(SAID.len()).any(|bytes| bytes == SAID));
    }
}
