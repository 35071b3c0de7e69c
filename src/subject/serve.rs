//! The server process: sockets, runtimes, and what stands between a connection and the service.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::{Connected, Server};
use tower::ServiceExt;
use tower_layer::Layer;

use super::body::Parts;
use super::codec::{AnyDecoder, AnyEncoder, Pair};
use super::deadline;
use super::http2::Settings;
use super::lean::{self, server::LeanMethod};
use super::service::{Handler, Ladder, grpc_response};
use super::user::UserRecord;
use super::user_codec::{WithUserCodec, server_codec};
use crate::listen::accept::accept_failed;
use crate::steps::AlignedIo;
use crate::subject::ladder::{Encode, Reads, Runtime, ServerStack, Socket, Tuning};
use crate::subject::scenario::Scenario;
use crate::tonic::{ServerLayer, StagedIo};
use crate::wire::grpc;

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
            Socket::Tcp => {
                let first = tcp_listener(bind, tuning.runtime == Runtime::PerCore)?;
                let address = first.local_addr()?;
                let mut listeners = vec![first];
                for _ in 1..runtimes(tuning.runtime) {
                    listeners.push(tcp_listener(address, true)?);
                }
                Ok(Listener::Tcp(listeners))
            }
            Socket::Unix => {
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

fn runtimes(runtime: Runtime) -> usize {
    match runtime {
        Runtime::CurrentThread | Runtime::MultiThread => 1,
        Runtime::PerCore => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn tcp_listener(address: SocketAddr, share_port: bool) -> anyhow::Result<std::net::TcpListener> {
    let listen = || -> std::io::Result<std::net::TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        Ok(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `done` resolves, on as many runtimes as the tuning says; returns what `done` gave.
///
/// # Errors
/// When a runtime cannot start or serving fails.
pub fn run<T: Send + 'static>(
    tuning: Tuning,
    settings: Option<Settings>,
    ladder: Ladder<impl Handler>,
    listener: Listener,
    done: impl Future<Output = T> + Send,
) -> anyhow::Result<T> {
    let mut builder = match tuning.runtime {
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        Runtime::CurrentThread | Runtime::PerCore => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().context("cannot start a runtime")?;
    match listener {
        Listener::Unix(listener, _path) => runtime.block_on(async {
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(UnixListener::from_std(listener)?);
            until(done, serve::<UnixStream>(tuning, settings, ladder, incoming)).await
        }),
        Listener::Tcp(mut listeners) => {
            let own = listeners.remove(0);
            let (running, ends) = watch::channel(());
            let mut cores = Vec::new();
            for listener in listeners {
                let ladder = ladder.clone();
                let mut ends = ends.clone();
                let core = std::thread::Builder::new().name("core".to_owned()).spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    let end = async move { ends.changed().await.map_or_else(drop, drop) };
                    runtime.block_on(until(end, on_this_runtime(tuning, settings, ladder, listener)))
                })?;
                cores.push(core);
            }
            let value = runtime.block_on(until(done, on_this_runtime(tuning, settings, ladder, own)));
            drop(running);
            let ended = cores
                .into_iter()
                .map(|core| core.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a core's thread panicked"))));
            // Every core is waited for, whichever fails.
            ended.fold(value, |value, ended| value.and_then(|value| ended.map(|()| value)))
        }
    }
}

/// Serves one of a [`Listener`]'s sockets on the runtime this is called in, until dropped.
///
/// # Errors
/// When serving fails.
pub async fn on_this_runtime(
    tuning: Tuning,
    settings: Option<Settings>,
    ladder: Ladder<impl Handler>,
    listener: std::net::TcpListener,
) -> anyhow::Result<()> {
    serve(tuning, settings, ladder, tcp_incoming(listener)?).await
}

fn tcp_incoming(
    listener: std::net::TcpListener,
) -> anyhow::Result<impl Stream<Item = std::io::Result<TcpStream>> + Unpin + Send + 'static> {
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(TcpListener::from_std(listener)?);
    Ok(incoming.map(|stream| stream.inspect(|stream| _ = stream.set_nodelay(true))))
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

async fn serve<IO>(
    tuning: Tuning,
    settings: Option<Settings>,
    ladder: Ladder<impl Handler>,
    incoming: impl Stream<Item = std::io::Result<IO>> + Unpin + 'static,
) -> anyhow::Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    match tuning.reads {
        Reads::Stock => serve_io(tuning, settings, ladder, incoming.map(|io| io.map(StagedIo::new))).await,
        Reads::Aligned => {
            let frame = settings.unwrap_or_default().max_frame_size as usize;
            let aligned =
                incoming.map(move |io| io.map(|io| StagedIo::new(AlignedIo::server(io).frame_bytes_max(frame))));
            serve_io(tuning, settings, ladder, aligned).await
        }
    }
}

async fn serve_io<IO>(
    tuning: Tuning,
    settings: Option<Settings>,
    ladder: Ladder<impl Handler>,
    incoming: impl Stream<Item = std::io::Result<IO>> + Unpin + 'static,
) -> anyhow::Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    if tuning.server == ServerStack::Lean {
        server_codec(&tuning, ServeLean { settings, ladder, incoming }).await;
        return Ok(());
    }
    let layer = ServerLayer::new().methods(Scenario::ALL.map(Scenario::path));
    if tuning.encode == Encode::OneFrame {
        return serve_hyper(settings, layer, ladder, incoming).await;
    }
    let mut server = Server::builder();
    if let Some(settings) = settings {
        server = server
            .max_frame_size(settings.max_frame_size)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window);
    }
    Ok(server.layer(layer).add_service(ladder).serve_with_incoming(incoming).await?)
}

/// `CreateUser` on h2 itself.
struct ServeLean<I, H> {
    settings: Option<Settings>,
    ladder: Ladder<H>,
    incoming: I,
}

impl<I, IO, H> WithUserCodec for ServeLean<I, H>
where
    H: Handler,
    I: Stream<Item = std::io::Result<IO>> + Unpin + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Pin<Box<dyn Future<Output = ()>>>;

    fn with<U, E, D>(self, Pair(encoder, decoder): Pair<E, D>) -> Self::Output
    where
        U: UserRecord + Sync,
        E: AnyEncoder<Item = U> + Clone + Send + Sync + 'static,
        D: AnyDecoder<Item = U> + Clone + Send + Sync + 'static,
    {
        let ServeLean { settings, ladder, incoming } = self;
        let handler = move |user: &mut U| {
            ladder.created(user);
            Ok(())
        };
        let method = LeanMethod { path: Scenario::Unary.path(), encoder, decoder, handler };
        Box::pin(lean::server::serve(settings, method, incoming))
    }
}

/// Serves on hyper itself, whose bodies may have any kind of data.
async fn serve_hyper<IO>(
    settings: Option<Settings>,
    layer: ServerLayer,
    ladder: Ladder<impl Handler>,
    mut incoming: impl Stream<Item = std::io::Result<IO>> + Unpin,
) -> anyhow::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if let Some(settings) = settings {
        builder
            .max_frame_size(settings.max_frame_size)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window);
    }
    let builder = Arc::new(builder);
    let service = layer.layer(tower::service_fn(move |request: Request<Body>| parts(ladder.clone(), request)));
    let service = TowerToHyperService::new(service.map_request(|request: Request<Incoming>| request.map(Body::new)));
    while let Some(io) = incoming.next().await {
        let Ok(io) = io else {
            accept_failed().await;
            continue;
        };
        let connection = builder.serve_connection(TokioIo::new(io), service.clone());
        // A connection's error is its peer's to notice.
        tokio::spawn(async move { connection.await.ok() });
    }
    Ok(())
}

async fn parts(
    ladder: Ladder<impl Handler>,
    request: Request<Body>,
) -> Result<Response<impl HttpBody<Data = Parts, Error = Status>>, Infallible> {
    let refuse = |status: Status| status.into_http::<Body>().map(|body| Reply::Tonic { body });
    let timeout = grpc::timeout(request.headers());
    if request.uri().path() == Scenario::Get.path() {
        return Ok(match deadline::within(timeout, ladder.get_parts(request)).await.and_then(|reply| reply) {
            Ok(body) => grpc_response(Reply::Parts { body }),
            Err(status) => refuse(status),
        });
    }
    match deadline::within(timeout, ladder.oneshot(request)).await {
        Ok(response) => Ok(response?.map(|body| Reply::Tonic { body })),
        Err(status) => Ok(refuse(status)),
    }
}

pin_project! {
    /// Either body, with data in parts.
    #[project = ReplyProjection]
    enum Reply<B> {
        Parts { #[pin] body: B },
        Tonic { #[pin] body: Body },
    }
}

impl<B: HttpBody<Data = Parts, Error = Status>> HttpBody for Reply<B> {
    type Data = Parts;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Parts>, Status>>> {
        match self.project() {
            ReplyProjection::Parts { body } => body.poll_frame(cx),
            ReplyProjection::Tonic { body } => body.poll_frame(cx).map_ok(|frame| frame.map_data(Parts::from)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Parts { body } => body.is_end_stream(),
            Reply::Tonic { body } => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_unix_socket_lies_in_a_folder_of_its_own_that_goes_with_it() {
        let tuning = Tuning { socket: Socket::Unix, ..Tuning::default() };
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
