//! The endpoints' counterpart for those who have gRPC and no HTTP/1.

use tonic::{Request, Response, Status};

use super::profile::{self, NoProfile};
use super::reading::{Open, Reading, Row};
use crate::alloc::aside::Aside;
use crate::{Side, Stage, Tally};

use super::pb;
use super::pb::allocations_server::AllocationsServer;

/// The service `alloc_ladder.v1.Allocations`: `Server::builder().add_service(alloc_ladder::live::allocations())`.
///
/// Whoever can call the server can read it, as with [`Builder::allow_remote`](super::Builder::allow_remote). What it
/// builds its answers from is charged to [`Stage::Instrument`] and in no figure of the process; the answer is, until it
/// is sent, and what the transport makes of a call is the call's.
pub fn allocations() -> AllocationsServer<Allocations> {
    AllocationsServer::new(Allocations(()))
}

/// The implementation behind [`allocations`].
#[derive(Clone, Copy, Debug)]
pub struct Allocations(());

#[tonic::async_trait]
impl pb::allocations_server::Allocations for Allocations {
    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<pb::SnapshotReply>, Status> {
        let _guard = Stage::Instrument.enter();
        let reading = Aside::new(Reading::take);
        let methods = reading.methods.iter().filter(|open| open.is_something());
        Ok(Response::new(pb::SnapshotReply {
            rows: reading.rows.iter().map(pb::Row::from).collect(),
            total: Some(reading.total.into()),
            live_bytes: reading.live_bytes,
            peak_bytes: reading.peak_bytes,
            peak_slack_bytes: reading.peak_slack_bytes,
            methods: methods.map(pb::Method::from).collect(),
        }))
    }

    async fn profile(&self, request: Request<pb::ProfileRequest>) -> Result<Response<pb::ProfileReply>, Status> {
        let pb::ProfileRequest { seconds, .. } = *request.get_ref();
        let kind = match request.get_ref().kind() {
            pb::Kind::Allocs => profile::Kind::Allocs,
            pb::Kind::Heap => profile::Kind::Heap,
        };
        if seconds > profile::SECONDS_MAX {
            return Err(Status::invalid_argument(format!("seconds must be at most {}", profile::SECONDS_MAX)));
        }
        match profile::take(kind, seconds).await {
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

impl From<&Open> for pb::Method {
    fn from(open: &Open) -> pb::Method {
        pb::Method {
            side: open.method.side.map_or("", Side::name).to_owned(),
            rpc: open.method.path.to_owned(),
            open_calls: open.calls,
            sampled_live_bytes: open.live.map(|live| live.bytes),
            sampled_live_bytes_error: open.live.map(|live| live.bytes_error()),
            largest_received_bytes: open.largest_received,
        }
    }
}

impl From<Tally> for pb::Tally {
    fn from(tally: Tally) -> pb::Tally {
        let Tally { blocks, bytes, freed_blocks, freed_bytes, reallocs, realloc_old_bytes, realloc_new_bytes } = tally;
        pb::Tally { blocks, bytes, freed_blocks, freed_bytes, reallocs, realloc_old_bytes, realloc_new_bytes }
    }
}
