//! A current-thread runtime and a listener a core: no connection's work moves between cores.
//!
//! The kernel spreads connections over the listeners (`SO_REUSEPORT`), by their addresses and not by load: for many
//! connections of about the same weight. A handler that blocks stops every connection of its core.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;

use futures_core::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;

/// Connections that wait to be accepted, of each core.
const BACKLOG: i32 = 1024;

/// A core's connections, with TCP_NODELAY set.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<TcpStream>> + Send>>;

/// Runs `serve` on `cores` threads (0 for as many as there are) until one of them ends, and returns what that gave. The
/// others are ended then, wherever they wait.
///
/// ```no_run
/// # async fn serve_service(incoming: alloc_ladder::steps::Incoming) -> std::io::Result<()> { Ok(()) }
/// # fn main() -> std::io::Result<()> {
/// alloc_ladder::steps::per_core("[::]:50051".parse().expect("an address"), 0, serve_service)
/// # }
/// ```
///
/// # Errors
/// When the address is taken or is no address of this machine; what `serve` gives.
pub fn per_core<S, F, T, E>(address: SocketAddr, cores: usize, serve: S) -> Result<T, E>
where
    S: Fn(Incoming) -> F + Clone + Send + 'static,
    F: Future<Output = Result<T, E>> + 'static,
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    per_core_on(listeners(address, cores)?, serve)
}

/// As [`per_core`], on [`listeners`] that are there: for a program that says where it listens before it serves.
///
/// # Errors
/// What `serve` gives, or when a thread cannot start.
pub fn per_core_on<S, F, T, E>(listeners: Vec<std::net::TcpListener>, serve: S) -> Result<T, E>
where
    S: Fn(Incoming) -> F + Clone + Send + 'static,
    F: Future<Output = Result<T, E>> + 'static,
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    let (send, ended) = mpsc::channel();
    let (running, stopping) = watch::channel(());
    let mut cores = Vec::new();
    for (core, listener) in listeners.into_iter().enumerate() {
        let (serve, send, mut stopping) = (serve.clone(), send.clone(), stopping.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    end = serve(incoming(listener)?) => end.map(Some),
                    // An error: what would send is gone.
                    _ = stopping.changed() => Ok(None),
                }
            })
        };
        // The first to end is heard; nobody listens any more to the others.
        let thread = std::thread::Builder::new().name(format!("core-{core}")).spawn(move || send.send(run()).ok());
        cores.push(thread?);
    }
    drop(send);
    let end = ended.recv();
    drop((running, stopping));
    // A thread that panicked has said so.
    cores.into_iter().for_each(|core| drop(core.join()));
    match end {
        Ok(Ok(Some(value))) => Ok(value),
        Ok(Err(error)) => Err(error),
        // Nothing was sent: every thread panicked.
        Ok(Ok(None)) | Err(_) => Err(io::Error::other("every core's thread panicked").into()),
    }
}

/// So many listeners (0 for as many as there are cores) on one port; where `address` names port 0, the system chooses it.
///
/// # Errors
/// When the address is taken or is no address of this machine.
pub fn listeners(address: SocketAddr, cores: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let cores = if cores == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { cores };
    let mut listeners = vec![listener(address)?];
    let address = listeners[0].local_addr()?;
    for _ in 1..cores {
        listeners.push(listener(address)?);
    }
    Ok(listeners)
}

/// A listener of a port that others share.
fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn incoming(listener: std::net::TcpListener) -> io::Result<Incoming> {
    let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
    // A connection that is gone already is told by its first read.
    Ok(Box::pin(incoming.map(|stream| stream.inspect(|stream| _ = stream.set_nodelay(true)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_listens_on_one_port_and_the_first_to_end_ends_it() {
        let (tell, told) = mpsc::channel();
        let serve = move |mut incoming: Incoming| {
            let tell = tell.clone();
            async move {
                tell.send(std::thread::current().name().map(str::to_owned)).expect("listened to");
                let stream = incoming.next().await.expect("a connection")?;
                assert!(stream.nodelay()?);
                Err::<(), io::Error>(io::Error::other(stream.local_addr()?.to_string()))
            }
        };
        let listening = listener(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listening.local_addr().expect("an address");
        drop(listening);
        let running = std::thread::spawn(move || per_core(address, 2, serve));
        let mut names: Vec<_> = (0..2).map(|_| told.recv().expect("told").expect("a name")).collect();
        names.sort();
        assert_eq!(names, ["core-0", "core-1"]);
        let _connection = std::net::TcpStream::connect(address).expect("listens");
        let ended = running.join().expect("no panic").expect_err("what `serve` gave");
        assert_eq!(ended.to_string(), address.to_string());
        assert!(std::net::TcpStream::connect(address).is_err(), "the other core has ended too");
    }

    #[test]
    fn an_address_that_is_not_this_machines_is_an_error() {
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(per_core(nowhere, 1, |_| async { Ok::<(), io::Error>(()) }).is_err());
    }
}
