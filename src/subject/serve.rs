//! The server process: sockets, runtimes, and what stands between a connection and the service.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Server;
use tower_layer::Layer;

use super::export::SwapExport;
use super::service::{Handler, Ladder};
use super::socket::{CountedIo, MaybeAligned, Socket, settle};
use super::swap::SwapUser;
use super::user::UnaryRecord;
use super::{http2, lean};
use crate::steps::{self, Http2, Pooled};
use crate::subject::ladder::{Codec, Glue, MessageSource, Reads, Runtime, ServerStack, Socket as SocketKind, Tuning};
use crate::subject::pb::owned::{Export, User};
use crate::subject::scenario::Rpc;
use crate::tonic::{ServerLayer, StagedIo};

/// What a server listens on, before it has a runtime.
#[derive(Debug)]
pub enum Listener {
    /// One per runtime, all on one port.
    Tcp(Vec<std::net::TcpListener>),
    /// One; its folder is removed when this is dropped.
    Unix(std::os::unix::net::UnixListener, UnixPath),
}

/// A socket file in a folder of its own, which only its owner may enter; both are removed when this is dropped.
#[derive(Debug)]
pub struct UnixPath {
    folder: PathBuf,
    socket: PathBuf,
}

impl UnixPath {
    fn create() -> anyhow::Result<UnixPath> {
        let folder = std::env::temp_dir().join(format!("alloc-ladder-{}", std::process::id()));
        // A folder of this name is left over from a process that was killed and had the same id.
        let _ = std::fs::remove_file(folder.join(UnixPath::SOCKET));
        let _ = std::fs::remove_dir(&folder);
        let create = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        create.with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(UnixPath { socket: folder.join(UnixPath::SOCKET), folder })
    }

    const SOCKET: &str = "server.sock";
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

impl Listener {
    /// Binds what the tuning asks for. `bind` may name port 0; a Unix socket lies in a folder of its own in the temporary one.
    ///
    /// # Errors
    /// When the address is in use or not of this machine; the message names it.
    pub fn bind(tuning: &Tuning, bind: SocketAddr) -> anyhow::Result<Listener> {
        match tuning.socket {
            SocketKind::Tcp => {
                let listeners = match tuning.runtime {
                    Runtime::PerCore => steps::listeners(bind, 0),
                    Runtime::CurrentThread | Runtime::MultiThread => tcp_listener(bind).map(|listener| vec![listener]),
                };
                Ok(Listener::Tcp(listeners.with_context(|| format!("cannot listen on {bind}"))?))
            }
            SocketKind::Unix => {
                let path = UnixPath::create()?;
                let listener = std::os::unix::net::UnixListener::bind(&path.socket)
                    .with_context(|| format!("cannot listen on {}", path.socket.display()))?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener, path))
            }
        }
    }

    /// Where clients connect to: `host:port` or a path.
    ///
    /// # Errors
    /// When the socket has no address any more.
    pub fn address(&self) -> anyhow::Result<String> {
        Ok(match self {
            Listener::Tcp(listeners) => listeners[0].local_addr()?.to_string(),
            Listener::Unix(_, path) => path.socket.display().to_string(),
        })
    }
}

fn tcp_listener(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `done` resolves, on as many runtimes as the tuning says; returns what `done` gave.
///
/// # Errors
/// When a runtime cannot start or serving fails.
pub fn run<T: Send + 'static>(
    tuning: Tuning,
    settings: Option<Http2>,
    ladder: Ladder<impl Handler>,
    listener: Listener,
    done: impl Future<Output = T> + Send + 'static,
) -> anyhow::Result<T> {
    let mut builder = match tuning.runtime {
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        Runtime::CurrentThread | Runtime::PerCore => tokio::runtime::Builder::new_current_thread(),
    };
    let mut runtime = || builder.enable_all().build().context("cannot start a runtime");
    match listener {
        Listener::Unix(listener, _path) => runtime()?.block_on(async {
            let incoming = UnixListenerStream::new(UnixListener::from_std(listener)?);
            let incoming = Box::pin(incoming.map(|stream| stream.map(Socket::Unix)));
            until(done, serve(tuning, settings, ladder, incoming)).await
        }),
        Listener::Tcp(listeners) if tuning.runtime == Runtime::PerCore => {
            // One of the cores waits for it.
            let done = Arc::new(Mutex::new(Some(done)));
            steps::per_core_on(listeners, move |incoming| {
                let (ladder, done) = (ladder.clone(), done.lock().unwrap_or_else(PoisonError::into_inner).take());
                async move {
                    let serving = serve(tuning, settings, ladder, settled(incoming));
                    match done {
                        Some(done) => until(done, serving).await,
                        None => until(pending(), serving).await,
                    }
                }
            })
        }
        Listener::Tcp(mut listeners) => {
            let listener = listeners.pop().expect("a listener has a socket for every runtime");
            runtime()?.block_on(until(done, on_this_runtime(tuning, settings, ladder, listener)))
        }
    }
}

/// Serves one of a [`Listener`]'s sockets on the runtime this is called in, until dropped.
///
/// # Errors
/// When serving fails.
pub async fn on_this_runtime(
    tuning: Tuning,
    settings: Option<Http2>,
    ladder: Ladder<impl Handler>,
    listener: std::net::TcpListener,
) -> anyhow::Result<()> {
    serve(tuning, settings, ladder, tcp_incoming(listener)?).await
}

/// A listener's connections.
type Incoming = Pin<Box<dyn Stream<Item = std::io::Result<Socket>> + Send>>;

fn tcp_incoming(listener: std::net::TcpListener) -> std::io::Result<Incoming> {
    Ok(settled(TcpListenerStream::new(TcpListener::from_std(listener)?)))
}

/// The connections as the study has them. One that is gone already is told by its first read.
fn settled(incoming: impl Stream<Item = std::io::Result<TcpStream>> + Send + 'static) -> Incoming {
    Box::pin(incoming.map(|stream| stream.inspect(|stream| _ = settle(stream)).map(Socket::Tcp)))
}

async fn until<T>(
    done: impl Future<Output = T>,
    serving: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<T> {
    tokio::select! {
        value = done => Ok(value),
        served = serving => Err(served.err().unwrap_or_else(|| anyhow::anyhow!("the listener closed"))),
    }
}

async fn serve(
    tuning: Tuning,
    settings: Option<Http2>,
    ladder: Ladder<impl Handler>,
    incoming: Incoming,
) -> anyhow::Result<()> {
    let counted = incoming.map(|io| io.map(CountedIo::new));
    let secured = Box::pin(ladder.security().incoming(counted));
    let aligned = (tuning.reads == Reads::Aligned).then(|| settings.unwrap_or(Http2::SERVER));
    let incoming = secured.map(move |io| io.map(|io| StagedIo::new(MaybeAligned::server(io, aligned))));
    let layer = ServerLayer::new().methods(Rpc::ALL.map(Rpc::path));
    match (tuning.glue, tuning.server) {
        (Glue::Generated, ServerStack::Tonic) => {
            let server = http2::server(Server::builder(), &tuning, settings);
            server.layer(layer).add_service(ladder).serve_with_incoming(incoming).await?;
        }
        (Glue::Generated, ServerStack::Lean) => {
            steps::lean::serve(settings.unwrap_or(Http2::SERVER), incoming, layer.layer(ladder)).await;
        }
        (Glue::ByHand, _) => match (ladder.takes_exports(), tuning.codec, tuning.message) {
            (false, Codec::Prost, MessageSource::Fresh) => by_hand::<_, User>(settings, ladder, incoming).await,
            (false, Codec::Prost, MessageSource::Pooled) => {
                by_hand::<_, Pooled<User>>(settings, ladder, incoming).await
            }
            (false, Codec::Swapped, _) => by_hand::<_, SwapUser>(settings, ladder, incoming).await,
            (true, Codec::Prost, MessageSource::Fresh) => by_hand::<_, Export>(settings, ladder, incoming).await,
            (true, Codec::Prost, MessageSource::Pooled) => {
                by_hand::<_, Pooled<Export>>(settings, ladder, incoming).await
            }
            (true, Codec::Swapped, _) => by_hand::<_, SwapExport>(settings, ladder, incoming).await,
        },
    }
    Ok(())
}

/// `CreateUser` on h2 itself.
async fn by_hand<IO, U: UnaryRecord>(
    settings: Option<Http2>,
    ladder: Ladder<impl Handler>,
    incoming: impl Stream<Item = std::io::Result<IO>> + Unpin,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = move |user: &mut U| {
        ladder.created(user);
        Ok(())
    };
    lean::server::serve(settings, Rpc::CreateUser.path(), handler, incoming).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_unix_socket_lies_in_a_folder_of_its_own_that_goes_with_it() {
        let tuning = Tuning { socket: SocketKind::Unix, ..Tuning::default() };
        let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let socket = PathBuf::from(listener.address().expect("an address"));
        let folder = socket.parent().expect("a folder").to_owned();
        let mode = folder.metadata().expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else may enter");
        std::os::unix::net::UnixStream::connect(&socket).expect("listens");
        drop(listener);
        assert!(!folder.exists());
    }
}
