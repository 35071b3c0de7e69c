//! What is live, by the row that allocated it, and how many calls are open: what one of them holds.
//!
//! The counters cannot say it: they book a release where it happens, and a connection's buffers are released by the
//! call that reads them. Samples remember who allocated.

use crate::method::MethodName;
use crate::sampled::{Estimate, Profile};
use crate::{Method, Stage};

/// Live memory of one row.
pub(super) struct Held {
    pub(super) method: MethodName,
    pub(super) stage: Stage,
    pub(super) live: Estimate,
}

/// A method that has calls open, or memory that is still live.
pub(super) struct Open {
    pub(super) method: MethodName,
    pub(super) calls: u64,
    /// What the method's rows allocated and nobody freed; `None` without the sampler.
    pub(super) live: Option<Estimate>,
}

impl Open {
    /// Live bytes for each open call; `None` where no call is open.
    pub(super) fn bytes_per_call(&self) -> Option<f64> {
        let live = self.live.filter(|_| self.calls > 0)?;
        Some(live.bytes / self.calls as f64)
    }
}

/// The rows that allocated what is live; empty without the sampler.
pub(super) fn held(profile: &Profile) -> Vec<Held> {
    let mut rows: Vec<Held> = Vec::new();
    for stack in &profile.stacks {
        let (method, stage) = (stack.scope.method().name(), stack.scope.stage());
        match rows.iter_mut().find(|row| row.method == method && row.stage == stage) {
            Some(row) => row.live = row.live + stack.live,
            None => rows.push(Held { method, stage, live: stack.live }),
        }
    }
    rows
}

/// The methods there is something to say about.
pub(super) fn methods(profile: &Profile) -> Vec<Open> {
    let of = |method: Method| {
        let own = profile.stacks.iter().filter(|stack| stack.scope.method() == method);
        let live: Estimate = own.map(|stack| stack.live).sum();
        Open { method: method.name(), calls: method.open_calls(), live: (profile.every_bytes > 0).then_some(live) }
    };
    let something = |open: &Open| open.calls > 0 || open.live.is_some_and(|live| live.samples > 0);
    Method::rows().map(of).filter(something).collect()
}
