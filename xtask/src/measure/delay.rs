//! A round trip between client and server: a relay between the two that passes on each byte when half of it is over.
//!
//! It reads whatever it is sent at once, so that the only limit is what the two let each other send ahead: a link of any
//! bandwidth that is so long. It runs in this process, whose CPU time no record has, and needs neither root nor a kernel with
//! netem. What is late is as late as the kernel wakes a thread, some 0.1 ms.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use alloc_ladder::record::Measurement;
use alloc_ladder::subject::case::Case;
use anyhow::Context;

use crate::measure::case::Host;
use crate::measure::pair::Serving;

/// What the relay reads at once: no message of a default run is cut.
const READ_BYTES: usize = 256 * 1024;

/// A host whose servers are so far away.
pub(crate) struct Far<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) round_trip: Duration,
}

impl Host for Far<'_> {
    fn start(&self, case: &Case, timeout: Duration) -> anyhow::Result<Box<dyn Serving + '_>> {
        let server = self.host.start(case, timeout)?;
        Ok(Box::new(FarServer { server, round_trip: self.round_trip, relay: None }))
    }
}

struct FarServer<'a> {
    server: Box<dyn Serving + 'a>,
    round_trip: Duration,
    relay: Option<Relay>,
}

impl Serving for FarServer<'_> {
    fn address(&mut self, until: Instant) -> anyhow::Result<String> {
        let relay = Relay::to(self.server.address(until)?.parse()?, self.round_trip / 2)?;
        let address = relay.address.to_string();
        self.relay = Some(relay);
        Ok(address)
    }

    fn record(&mut self, until: Instant) -> anyhow::Result<Measurement> {
        self.server.record(until)
    }

    fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.server.last_words(error)
    }

    fn let_go(self: Box<Self>, until: Instant) -> anyhow::Result<()> {
        self.server.let_go(until)
    }
}

/// Listens until it is dropped. A connection it has taken ends with its ends.
struct Relay {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Relay {
    fn to(server: SocketAddr, delay: Duration) -> anyhow::Result<Relay> {
        let listener = TcpListener::bind((server.ip(), 0)).context("no port for a relay")?;
        let relay = Relay { address: listener.local_addr()?, over: Arc::default() };
        let over = Arc::clone(&relay.over);
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                // An end that cannot be reached is closed to the other too.
                let Ok(client) = client else { continue };
                let _ = TcpStream::connect(server).and_then(|server| join(client, server, delay));
            }
        });
        Ok(relay)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread that waits for clients.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, server: TcpStream, delay: Duration) -> std::io::Result<()> {
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        to.set_nodelay(true)?;
        let (late, due) = channel();
        thread::spawn(move || read(from, &late, delay));
        thread::spawn(move || write(to, &due));
    }
    Ok(())
}

/// Passes on what is read with the time at which it is due, until there is no more or nobody to pass it to.
fn read(mut from: TcpStream, late: &Sender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if late.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    for (at, bytes) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_later_and_whole() {
        let far = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = Relay::to(far.local_addr().expect("bound"), Duration::from_millis(20)).expect("a free port");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|index| index as u8).collect();
        let expected = sent.clone();
        let server = thread::spawn(move || {
            let (mut server, _) = far.accept().expect("a client");
            let mut first = [0];
            server.read_exact(&mut first).expect("a byte");
            server.write_all(&first).expect("the client reads");
            let mut received = Vec::new();
            server.read_to_end(&mut received).expect("the client ends");
            received
        });
        let mut client = TcpStream::connect(relay.address).expect("the relay listens");
        let began = Instant::now();
        client.write_all(&[7]).expect("the relay reads");
        let mut back = [0];
        client.read_exact(&mut back).expect("a byte");
        assert!(began.elapsed() >= Duration::from_millis(40), "there and back");
        assert_eq!(back, [7]);
        client.write_all(&sent).expect("the relay reads");
        drop(client);
        assert!(server.join().expect("no panic") == expected);
    }
}
