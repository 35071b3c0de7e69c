//! The unary ladder in one process, through the entry points of the `server` and `client` binaries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use alloc_ladder::Side;
use alloc_ladder::driver::instrument::Options;
use alloc_ladder::record::Measurement;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::http2;
use alloc_ladder::subject::ladder::{Step, StepSet, Tuning, ladder};
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Calls before the measured ones, and after them.
const WARMUP: u64 = 64;

/// Every step of the ladder, with the steps before it.
pub(crate) fn steps() -> impl Iterator<Item = (&'static Step, Tuning)> {
    ladder(Scenario::Unary).iter().map(|step| {
        let tuning = StepSet::UpTo(step.name.to_owned()).tuning(Scenario::Unary);
        (step, tuning.expect("a step of the ladder"))
    })
}

/// A server of one step on a thread of its own, and a client's runtime.
pub(crate) struct Running {
    tuning: Tuning,
    address: String,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(tuning: Tuning) -> Running {
        // The server's own window never opens.
        let never = Workload { warmup: u64::MAX / 4, messages: 1, ..Workload::default() };
        let (meter, _) = Meter::new(Side::Server, &never, 0, Options::default());
        let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.address().expect("a bound socket has an address");
        let settings = http2::settings(&tuning, &Workload::default());
        let ladder = Ladder::new(tuning, Arc::new(meter), 0);
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || drop(serve::run(tuning, settings, ladder, listener, stopped).expect("serves to the end"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Running { tuning, address, runtime, stop: Some(stop), server: Some(std::thread::spawn(serve)) }
    }

    /// Connects, warms up and makes so many calls, whose answers the client checks; what was measured of them.
    pub(crate) fn calls(&self, calls: u64) -> Measurement {
        let workload = Workload { messages: calls, warmup: WARMUP, ..Workload::default() };
        let (meter, measured) = Meter::new(Side::Client, &workload, 0, Options::default());
        let client = Client { tuning: self.tuning, workload, meter: Arc::new(meter) };
        let latency = self.runtime.block_on(client.run(Scenario::Unary, &self.address)).expect("every call succeeds");
        assert!(latency.is_some_and(|latency| latency.p50_ns > 0), "no call was timed");
        let measurement = measured.blocking_recv().expect("as many calls as were to be measured");
        assert_eq!(measurement.messages, calls);
        assert!(measurement.payload_bytes >= calls, "the answers were empty");
        measurement
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            assert!(server.join().is_ok() || std::thread::panicking(), "the server failed");
        }
    }
}
