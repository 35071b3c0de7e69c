//! Raw TCP: what the payload costs when nothing but the socket carries it.
//!
//! The sink reads into one buffer and throws the bytes away; the source writes one buffer over and over. The sink
//! answers with the number of bytes it counted, eight of them, big-endian, so that the sender can check it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::outcome::{PeerError, check};
use super::pace::Pace;
use super::window::Window;
use super::{Direction, Traffic};
use crate::Side;
use crate::record::Measurement;
use crate::subject::socket::settle;

/// How much a sink reads at once. PERF: every doubling from 16 KiB saves system calls and some of the cost, with ever
/// less to gain; the sink is to be a limit, so it takes what a receiver would at most set aside for a connection.
const READ_BUFFER_BYTES: usize = 256 * 1024;

pub(super) fn serve_std(
    address: SocketAddr,
    direction: Direction,
    traffic: Traffic,
    announce: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> Result<Measurement, PeerError> {
    let listener = TcpListener::bind(address).map_err(|source| PeerError::Bind { address, source })?;
    announce(listener.local_addr()?).map_err(PeerError::Announce)?;
    let (stream, _) = listener.accept()?;
    settle(&stream)?;
    match direction {
        Direction::Put => sink_std(stream, Side::Server, traffic, None),
        Direction::Get => source_std(stream, Side::Server, traffic, None),
    }
}

pub(super) fn connect_std(
    address: SocketAddr,
    direction: Direction,
    traffic: Traffic,
    pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let stream = TcpStream::connect(address).map_err(|source| PeerError::Connect { address, source })?;
    settle(&stream)?;
    match direction {
        Direction::Put => source_std(stream, Side::Client, traffic, pace),
        Direction::Get => sink_std(stream, Side::Client, traffic, pace),
    }
}

fn sink_std(
    mut stream: TcpStream,
    side: Side,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut window = Window::new(side, traffic);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        window.advance(read);
        if let Some(pace) = &mut pace {
            pace.wait_blocking(read);
        }
    }
    stream.write_all(&window.position().to_be_bytes())?;
    check(window, traffic)
}

fn source_std(
    mut stream: TcpStream,
    side: Side,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let chunk = vec![0; traffic.chunk];
    let mut window = Window::new(side, traffic);
    while window.position() < traffic.bytes_total() {
        if let Some(pace) = &mut pace {
            pace.wait_blocking(chunk.len());
        }
        stream.write_all(&chunk)?;
        window.advance(chunk.len());
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    received_all(received, traffic)?;
    check(window, traffic)
}

pub(super) async fn serve_tokio(
    stream: tokio::net::TcpStream,
    direction: Direction,
    traffic: Traffic,
) -> Result<Measurement, PeerError> {
    match direction {
        Direction::Put => sink(stream, Side::Server, traffic, None).await,
        Direction::Get => source(stream, Side::Server, traffic, None).await,
    }
}

pub(super) async fn connect_tokio(
    stream: tokio::net::TcpStream,
    direction: Direction,
    traffic: Traffic,
    pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    match direction {
        Direction::Put => source(stream, Side::Client, traffic, pace).await,
        Direction::Get => sink(stream, Side::Client, traffic, pace).await,
    }
}

async fn sink(
    mut stream: tokio::net::TcpStream,
    side: Side,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut window = Window::new(side, traffic);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        window.advance(read);
        if let Some(pace) = &mut pace {
            pace.wait(read).await;
        }
    }
    stream.write_all(&window.position().to_be_bytes()).await?;
    check(window, traffic)
}

async fn source(
    mut stream: tokio::net::TcpStream,
    side: Side,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let chunk = vec![0; traffic.chunk];
    let mut window = Window::new(side, traffic);
    while window.position() < traffic.bytes_total() {
        if let Some(pace) = &mut pace {
            pace.wait(chunk.len()).await;
        }
        stream.write_all(&chunk).await?;
        window.advance(chunk.len());
    }
    stream.shutdown().await?;
    let mut received = [0; 8];
    stream.read_exact(&mut received).await?;
    received_all(received, traffic)?;
    check(window, traffic)
}

fn received_all(received: [u8; 8], traffic: Traffic) -> Result<(), PeerError> {
    let received = u64::from_be_bytes(received);
    if received == traffic.bytes_total() {
        Ok(())
    } else {
        Err(PeerError::Short { expected: traffic.bytes_total(), received })
    }
}
