//! The endpoints' counterpart for those who have gRPC and no HTTP/1.

use tonic::{Request, Response, Status};

use super::profile::{self, NoProfile};
use super::reading::{Calls, Open, Reading, Row};
use super::token::Token;
use crate::alloc::aside::Aside;
use crate::method::{LATENCY_UNITS, Spread};
use crate::{Side, Stage, Tally};

use super::pb;
use super::pb::allocations_server::AllocationsServer;

/// The service `alloc_ladder.v1.Allocations`: `Server::builder().add_service(alloc_ladder::live::allocations())`.
///
/// It answers those who send the token of the environment ([`TOKEN`](super::TOKEN), [`TOKEN_FILE`](super::TOKEN_FILE)) as
/// `authorization: Bearer …`; where there is none, callers whose address is loopback. Others are `UNAUTHENTICATED`.
///
/// What it builds its answers from is charged to [`Stage::Instrument`] and in no figure of the process; the answer is, until
/// it is sent, and what the transport makes of a call is the call's.
pub fn allocations() -> AllocationsServer<Allocations> {
    // A token that cannot be read is one that nobody has.
    let guard = match Token::from_environment() {
        Ok(Some(token)) => Guard::Token(Box::new(token)),
        Ok(None) => Guard::Loopback,
        Err(_) => Guard::Nobody,
    };
    AllocationsServer::new(Allocations(guard))
}

/// As [`allocations`], for those who send this token.
pub fn allocations_with(token: Token) -> AllocationsServer<Allocations> {
    AllocationsServer::new(Allocations(Guard::Token(Box::new(token))))
}

/// As [`allocations`], for whoever can call the server: interceptors and the listener say who that is.
pub fn allocations_for_anybody() -> AllocationsServer<Allocations> {
    AllocationsServer::new(Allocations(Guard::Anybody))
}

/// The implementation behind [`allocations`].
#[derive(Clone, Debug)]
pub struct Allocations(Guard);

/// Who is answered.
#[derive(Clone, Debug)]
enum Guard {
    Token(Box<Token>),
    Loopback,
    Anybody,
    Nobody,
}

impl Allocations {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let is_admitted = match &self.0 {
            Guard::Token(token) => {
                token.admits(request.metadata().get_all("authorization").iter().map(|value| value.as_encoded_bytes()))
            }
            Guard::Loopback => request.remote_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
            Guard::Anybody => true,
            Guard::Nobody => false,
        };
        if is_admitted {
            return Ok(());
        }
        Err(Status::unauthenticated(match self.0 {
            Guard::Loopback => {
                "from elsewhere than loopback a token is needed: set ALLOC_LADDER_LIVE_TOKEN where the program starts, or \
                 add `allocations_for_anybody`"
            }
            Guard::Nobody => "the program's token cannot be read",
            Guard::Token(_) | Guard::Anybody => "send the token: authorization: Bearer TOKEN",
        }))
    }
}

#[tonic::async_trait]
impl pb::allocations_server::Allocations for Allocations {
    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<pb::SnapshotReply>, Status> {
        self.admit(&request)?;
        let _guard = Stage::Instrument.enter();
        let reading = Aside::new(Reading::take);
        let is_counted = reading.is_counted();
        let methods = reading.methods.iter().filter_map(|open| {
            let calls = reading.calls.iter().find(|calls| calls.method == open.method);
            (open.is_something() || calls.is_some()).then(|| method(open, calls, is_counted))
        });
        Ok(Response::new(pb::SnapshotReply {
            rows: reading.rows.iter().map(pb::Row::from).collect(),
            total: Some(reading.total.into()),
            live_bytes: reading.live_bytes,
            peak_bytes: reading.peak_bytes,
            peak_slack_bytes: reading.peak_slack_bytes,
            methods: methods.collect(),
        }))
    }

    async fn profile(&self, request: Request<pb::ProfileRequest>) -> Result<Response<pb::ProfileReply>, Status> {
        self.admit(&request)?;
        let pb::ProfileRequest { seconds, .. } = *request.get_ref();
        let kind = match request.get_ref().kind() {
            pb::Kind::Allocs => profile::Kind::Allocs,
            pb::Kind::Heap => profile::Kind::Heap,
        };
        if seconds > profile::SECONDS_MAX {
            return Err(Status::invalid_argument(format!("seconds must be at most {}", profile::SECONDS_MAX)));
        }
        match profile::take(kind, seconds, None).await {
            Ok(pprof) => {
                let _guard = Stage::Instrument.enter();
                Ok(Response::new(pb::ProfileReply { pprof: pprof.to_vec() }))
            }
            Err(busy @ NoProfile::Busy) => Err(Status::resource_exhausted(busy.message())),
            Err(failed @ NoProfile::Failed) => Err(Status::internal(failed.message())),
        }
    }
}

impl From<&Row> for pb::Row {
    fn from(row: &Row) -> pb::Row {
        pb::Row {
            side: row.method.side.map_or("", Side::name).to_owned(),
            rpc: row.method.path.to_owned(),
            stage: row.stage.name().to_owned(),
            tally: Some(row.tally.into()),
            sampled_live_bytes: row.live.map(|live| live.bytes),
            sampled_live_bytes_error: row.live.map(|live| live.bytes_error()),
        }
    }
}

/// What a method holds, and what the seams counted of it, if anything.
fn method(open: &Open, calls: Option<&Calls>, is_counted: bool) -> pb::Method {
    let counts = calls.map(|calls| calls.counts).unwrap_or_default();
    let spread = |of: fn(&Calls) -> &Spread, unit: fn(u64) -> u64| {
        let spread = calls.map(of).filter(|spread| spread.calls() > 0)?;
        let [p50, p95] = [0.5, 0.95].map(|share| spread.quantile(share).map_or(0, unit));
        Some(pb::Spread { p50, p95, max: unit(spread.max()), sum: unit(spread.sum()) })
    };
    let nanoseconds = |units: u64| (units as f64 / LATENCY_UNITS * 1e9).round() as u64;
    pb::Method {
        side: open.method.side.map_or("", Side::name).to_owned(),
        rpc: open.method.path.to_owned(),
        open_calls: open.calls,
        sampled_live_bytes: open.live.map(|live| live.bytes),
        sampled_live_bytes_error: open.live.map(|live| live.bytes_error()),
        largest_received_bytes: open.largest_received,
        calls: counts.calls,
        errors: counts.errors,
        messages_received: counts.messages_received,
        messages_sent: counts.messages_sent,
        payload_bytes_received: counts.payload_bytes_received,
        payload_bytes_sent: counts.payload_bytes_sent,
        blocks_per_call: spread(|calls| &calls.blocks, |blocks| blocks).filter(|_| is_counted),
        bytes_per_call: spread(|calls| &calls.bytes, |bytes| bytes).filter(|_| is_counted),
        latency: spread(|calls| &calls.latency, nanoseconds),
    }
}

impl From<Tally> for pb::Tally {
    fn from(tally: Tally) -> pb::Tally {
        let Tally { blocks, bytes, freed_blocks, freed_bytes, reallocs, realloc_old_bytes, realloc_new_bytes } = tally;
        pb::Tally { blocks, bytes, freed_blocks, freed_bytes, reallocs, realloc_old_bytes, realloc_new_bytes }
    }
}
