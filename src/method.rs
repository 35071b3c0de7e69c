//! Which RPC methods get rows of their own: a small, bounded registry of `(side, "/package.Service/Method")`.
//!
//! Names that come from the wire never stay by themselves: a method gets its row when the program registers it, or when
//! a call to it succeeded (see `tonic::ServerLayer` and `tonic::ClientLayer`). Until its first answer a call is charged to
//! a row that is only lent: with a success the row becomes the method's, with a failure all it holds goes to
//! [`Method::NONE`]. What does not fit shares one overflow row, so that the rows always sum to the total.

mod calls;
mod counted;
mod lending;
mod rows;
mod spread;

use std::fmt;

#[cfg(feature = "tonic")]
pub(crate) use calls::{OpenCall, Receiving};
#[cfg(feature = "tonic")]
pub(crate) use counted::{Direction, add_call, add_messages, add_seam};
#[cfg(feature = "tonic")]
pub(crate) use lending::Proposal;
pub(crate) use rows::{Standing, shown, standing};
#[cfg(feature = "tonic")]
pub(crate) use spread::add_figures;

#[cfg(feature = "driver")]
pub(crate) use counted::has_seam;
pub use counted::{CODE_NAMES, CODES, CallCounts, CallSnapshot};
pub use spread::{LATENCY_UNITS, PerCall, Spread};

pub use crate::stage::Method;

/// The client or the server of a connection; in the ladders always separate processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Side {
    /// The process or code that answers calls.
    Server,
    /// The process or code that makes calls.
    Client,
}

impl Side {
    /// Both sides, the server first, as tables show them.
    pub const ALL: [Side; 2] = [Side::Server, Side::Client];

    /// The side's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Server => "server",
            Side::Client => "client",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a [`Method`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodName {
    /// The side that registered it; `None` for [`Method::NONE`] and [`Method::OVERFLOW`].
    pub side: Option<Side>,
    /// The path as gRPC sends it, `/package.Service/Method`; empty for [`Method::NONE`].
    pub path: &'static str,
}

impl Method {
    /// The rows that one side leaves to the other and to what a program registers beforehand: room for a service of its
    /// own, such as health checking and reflection.
    #[cfg(feature = "tonic")]
    const LEFT: usize = 16;

    /// How many rows one side may have before it learns no more: a process that serves and calls keeps room for both.
    #[cfg(feature = "tonic")]
    pub(crate) const LEARNED: usize = Method::MAX - 3 - Method::LEFT;

    /// Bytes of the longest path that gets a row of its own; calls of longer ones share a row. A name is kept for good,
    /// and real ones are far shorter.
    pub const PATH_BYTES_MAX: usize = 256;

    /// The method's row for `path` on `side`, registering it if need be; [`OVERFLOW`](Method::OVERFLOW) when full.
    ///
    /// Registering allocates (once per method, never freed); looking up does not.
    pub fn register(side: Side, path: &str) -> Method {
        Method::find(side, path).unwrap_or_else(|| lending::register(side, path, Method::MAX))
    }

    /// Whether no further path of `side` can be learned: such calls are [`OVERFLOW`](Method::OVERFLOW)'s from their start.
    #[cfg(feature = "tonic")]
    pub(crate) fn is_full(side: Side) -> bool {
        rows::own(side) >= Method::LEARNED || rows::free().is_none()
    }

    /// The registered method for `path` on `side`. Does not allocate or lock.
    pub fn find(side: Side, path: &str) -> Option<Method> {
        let mut own = rows::with_names();
        own.find(|(_, name)| name.side == Some(side) && name.path == path).map(|(method, _)| method)
    }

    /// What the method stands for.
    pub fn name(self) -> MethodName {
        match self {
            Method::OVERFLOW => MethodName { side: None, path: "(more methods)" },
            Method::UNANSWERED => MethodName { side: None, path: "(not answered yet)" },
            _ => rows::name(self).unwrap_or(MethodName { side: None, path: "" }),
        }
    }

    /// The methods that have a row: [`NONE`](Method::NONE) first, to which calls belong whose path has none, and
    /// [`UNANSWERED`](Method::UNANSWERED) and [`OVERFLOW`](Method::OVERFLOW) last.
    pub fn rows() -> impl Iterator<Item = Method> {
        let own = rows::with_names().map(|(method, _)| method);
        [Method::NONE].into_iter().chain(own).chain([Method::UNANSWERED, Method::OVERFLOW])
    }

    /// How many methods have a row of their own, and [`NONE`](Method::NONE).
    pub fn registered() -> usize {
        1 + rows::with_names().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test: the registry is the process's.
    #[test]
    fn methods_are_bounded_and_found_again() {
        #[cfg(feature = "tonic")]
        {
            counts_move_with_a_name();
            let learn = |side, path: &str| Proposal::of(side, path).map(|proposal| proposal.accept());
            for index in 0..2 * Method::MAX {
                learn(Side::Client, &format!("/learned.Service/M{index}"));
            }
            let own = Method::rows().filter(|method| method.name().side == Some(Side::Client)).count();
            assert_eq!(own, Method::LEARNED, "one side leaves the other room");
            assert!(Method::is_full(Side::Client) && !Method::is_full(Side::Server));
            assert_eq!(learn(Side::Client, "/learned.Service/One"), None);
            let learned = learn(Side::Server, "/learned.Service/M0").expect("the other side has room");
            assert_eq!(learned.name(), MethodName { side: Some(Side::Server), path: "/learned.Service/M0" });
        }

        let first = Method::register(Side::Server, "/a.B/C");
        assert_eq!(Method::register(Side::Server, "/a.B/C"), first);
        assert_ne!(Method::register(Side::Client, "/a.B/C"), first);
        assert_eq!(first.name(), MethodName { side: Some(Side::Server), path: "/a.B/C" });
        for index in 0..2 * Method::MAX {
            Method::register(Side::Server, &format!("/flood.Service/M{index}"));
        }
        assert_eq!(Method::register(Side::Server, "/one.Too/Many"), Method::OVERFLOW);
        assert_eq!(Method::find(Side::Server, "/one.Too/Many"), None);
        assert_eq!(Method::registered(), Method::MAX - 2, "all but the two shared rows");
        assert_eq!(Method::NONE.name().path, "");
    }

    /// What is counted before a name moves with it, and what fails is nobody's.
    #[cfg(feature = "tonic")]
    fn counts_move_with_a_name() {
        const PATH: &str = "/counted.Test/Lent";
        let nobodys = || Method::NONE.call_counts();
        let before = nobodys();
        let failing = Proposal::of(Side::Client, PATH).expect("a row is free");
        let lent = failing.method();
        add_messages(lent, Direction::Sent, 1, 10);
        add_call(lent, 12);
        add_figures(lent, std::time::Duration::from_secs(1), Some((9, 9)));
        assert!(Method::UNANSWERED.messages_sent() >= 1);
        drop(failing);
        let after = nobodys();
        assert!(after.errors > before.errors && after.messages_sent > before.messages_sent);

        let snapshot = CallSnapshot::of_process();
        let proposal = Proposal::of(Side::Client, PATH).expect("a row is free");
        let lent = proposal.method();
        add_messages(lent, Direction::Sent, 3, 30);
        let unnamed = CallSnapshot::of_process();
        let method = proposal.accept();
        add_call(method, 0);
        add_figures(method, std::time::Duration::ZERO, Some((2, 64)));
        let own = method.call_counts();
        assert_eq!((own.calls, own.errors, own.messages_sent, own.payload_bytes_sent), (1, 0, 3, 30));
        let blocks = method.per_call(PerCall::Blocks);
        assert_eq!((blocks.calls(), blocks.sum(), blocks.max()), (1, 2, 2));
        assert!(nobodys().errors >= after.errors, "what failed stays nobody's");
        assert!(Method::NONE.per_call(PerCall::Blocks).max() >= 9);
        let between = |later: CallSnapshot| {
            let difference = later - snapshot.clone();
            difference.rows().find(|(name, _)| name.path == PATH).map(|(_, counts)| counts.messages_sent)
        };
        assert_eq!(between(unnamed), Some(3), "a snapshot from before knows the name now");
        assert_eq!(between(CallSnapshot::of_process()), Some(3));
    }
}
