//! Connections to the study's own servers, over loopback: HTTP/2 and gRPC, damaged.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::Options;
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{Runtime, Socket, StepSet, Tuning, ladder};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::wire::http2::{DATA, FrameHeader, HEADER_BYTES, HEADERS, PREFACE, SETTINGS};

use super::readers::hold;
use super::requests::{connect, exchange};
use super::runner::{Outcome, Try};

/// After so many cases every server is asked for something good.
const HEALTH: u64 = 64;

/// A connection that is damaged in any way, and then half closed, ends within the deadline; no server panics; good calls
/// are answered all along. One server for stock tonic and one for the top of each ladder.
pub(super) fn connections() -> anyhow::Result<Try> {
    let mut servers = vec![(Scenario::Put, start(Scenario::Put, &StepSet::Baseline)?)];
    for scenario in Scenario::ALL {
        let top = ladder(scenario).last().map_or(StepSet::Baseline, |step| StepSet::UpTo(step.name.to_owned()));
        servers.push((scenario, start(scenario, &top)?));
    }
    let mut cases = 0;
    Ok(Box::new(move |input, rng| {
        cases += 1;
        if cases % HEALTH == 1 {
            servers.iter().try_for_each(|(scenario, address)| healthy(*scenario, *address))?;
        }
        let (_, address) = servers[rng.usize(..servers.len())];
        let answer = exchange(address, input, true, rng)?.unwrap_or_default();
        Ok(if has_headers(&answer) { Outcome::Accepted } else { Outcome::Refused })
    }))
}

/// A server that lives as long as the process.
fn start(scenario: Scenario, set: &StepSet) -> anyhow::Result<SocketAddr> {
    // One thread a server, and a socket that every client reaches.
    let tuning = Tuning { runtime: Runtime::CurrentThread, socket: Socket::Tcp, ..set.tuning(scenario)? };
    // The measured part never begins.
    let workload = Workload { warmup: u64::MAX >> 16, ..Workload::default() };
    let options = Options { messages: workload.messages, stacks_file: None };
    let (meter, measured) = Meter::new(Side::Server, &workload, 0, options);
    let service = Ladder::new(tuning, Arc::new(meter), 0);
    let listener = Listener::bind(&tuning, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.address()?.parse()?;
    let settings = http2::settings(&tuning, &Workload::default());
    std::thread::Builder::new().name("fuzz-server".to_owned()).spawn(move || {
        let _measured = measured;
        serve::run(tuning, settings, service, listener, std::future::pending::<()>())
    })?;
    Ok(address)
}

fn healthy(scenario: Scenario, address: SocketAddr) -> Result<(), String> {
    let mut socket = connect(address)?;
    socket.write_all(&call(scenario)).map_err(|error| format!("a good call cannot be sent: {error}"))?;
    let (mut answer, mut bytes) = (Vec::new(), [0; 16 * 1024]);
    while !has_headers(&answer) {
        let count =
            socket.read(&mut bytes).map_err(|error| format!("a good call to {scenario} has no answer: {error}"))?;
        hold!(count > 0, "a good call to {scenario} was not answered");
        answer.extend_from_slice(&bytes[..count]);
    }
    Ok(())
}

/// Whether there is an answer to some call.
fn has_headers(answer: &[u8]) -> bool {
    let mut rest = answer;
    while let Some(head) = rest.first_chunk::<HEADER_BYTES>() {
        let FrameHeader { kind, len, .. } = FrameHeader::read(head);
        if kind == HEADERS {
            return true;
        }
        let Some(behind) = rest.get(HEADER_BYTES + len..) else { return false };
        rest = behind;
    }
    false
}

/// One good call of a scenario, on a connection of its own.
pub(super) fn call(scenario: Scenario) -> Vec<u8> {
    let message: &[u8] = match scenario {
        // `Chunk { data: 40 bytes }`.
        Scenario::Put => &[&[0x0a, 40][..], &[7; 40]].concat(),
        // `GetRequest { messages: 3, chunk_size: 100 }`.
        Scenario::Get => &[0x08, 3, 0x10, 100],
        // `User { id: 1, name: "a", age: 2 }`.
        Scenario::Unary => &[0x08, 1, 0x12, 1, b'a', 0x18, 2],
    };
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, 4, 1, &headers(scenario.path(), &[])),
        frame(DATA, 1, 1, &body),
    ]
    .concat()
}

/// The headers of a call, none of them compressed: `:method: POST`, `:scheme: http`, and what gRPC asks for.
pub(super) fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let own = [(":path", path), (":authority", "a"), ("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in own.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            // Lengths below 127 are a byte.
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { len: payload.len(), kind, flags, stream }.write();
    [&header[..], payload].concat()
}
