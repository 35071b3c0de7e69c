//! Which stage the current thread is working for.
//!
//! A [`Stage`] is entered by a [`StageGuard`] around synchronous code or by [`Staged`] around a future; the
//! innermost one wins. The allocator reads the current [`Scope`] on every allocation, so this module must not
//! allocate, lock or panic on [`current()`]; it knows nothing of tonic, tokio or of who counts.
//!
//! # Implementation
//! One const-initialised thread-local word holds the scope and one the open window: entering a stage is two
//! loads and two stores, and reading it is one load (`benches/overhead.rs` states the cost in nanoseconds). The feature
//! `unstaged` leaves all of it out: the service without seams, against which `cargo xtask cost` measures them.

mod current;
mod guard;
mod scope;
pub mod window;

use std::fmt;

#[cfg_attr(not(feature = "tonic"), allow(unused_imports, reason = "asked by the tonic seams"))]
pub(crate) use current::UNSTAGED;
pub use current::current;
pub use guard::{FutureExt, StageGuard, Staged};
pub use scope::{Method, Scope};

/// Where an allocation is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[repr(u8)]
pub enum Stage {
    /// Turning a message into bytes: the codec's encoder and the body it writes into.
    Marshal = 1,
    /// Memory that received bytes wait in: h2's read buffer and the buffer a message is gathered in.
    ReceiveBuffer = 2,
    /// Turning bytes into a message: the codec's decoder.
    MessageConstruction = 3,
    /// Connections, HTTP/2 frames, channel layers.
    Transport = 4,
    /// What runs for a call and is nobody's own code: the router, generated glue, metadata, the status. A seam cannot see
    /// all of its ends; what it cannot tell from the service's own code is [`Handler`](Stage::Handler).
    Dispatch = 7,
    /// The service's own code.
    Handler = 5,
    /// What measuring itself allocates.
    Instrument = 6,
    /// Everything no scope covers. Always shown, never hidden.
    Other = 0,
}

impl Stage {
    /// Every stage, in the order tables show them.
    pub const ALL: [Stage; 8] = [
        Stage::Marshal,
        Stage::ReceiveBuffer,
        Stage::MessageConstruction,
        Stage::Transport,
        Stage::Dispatch,
        Stage::Handler,
        Stage::Instrument,
        Stage::Other,
    ];

    /// The stage's one name: kebab-case, the same in JSON, flags, folders and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Marshal => "marshal",
            Stage::ReceiveBuffer => "receive-buffer",
            Stage::MessageConstruction => "message-construction",
            Stage::Transport => "transport",
            Stage::Dispatch => "dispatch",
            Stage::Handler => "handler",
            Stage::Instrument => "instrument",
            Stage::Other => "other",
        }
    }

    /// The stage with this [`name`](Stage::name).
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.name() == name)
    }

    const fn from_bits(bits: u16) -> Stage {
        match bits & 7 {
            1 => Stage::Marshal,
            2 => Stage::ReceiveBuffer,
            3 => Stage::MessageConstruction,
            4 => Stage::Transport,
            5 => Stage::Handler,
            6 => Stage::Instrument,
            7 => Stage::Dispatch,
            _ => Stage::Other,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::current::AGAIN;
    use super::window::*;
    use super::*;

    #[test]
    fn every_stage_has_one_name_and_one_row() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
            assert_eq!(Stage::from_bits(stage as u16), stage);
        }
    }

    #[test]
    fn the_innermost_guard_wins_and_the_outer_returns() {
        assert_eq!(current(), Scope::NONE);
        let outer = Stage::Handler.enter();
        {
            let _inner = Stage::Marshal.enter();
            assert_eq!(current().stage(), Stage::Marshal);
        }
        assert_eq!(current().stage(), Stage::Handler);
        drop(outer);
        assert_eq!(current(), Scope::NONE);
    }

    #[test]
    fn a_window_ends_with_the_guard_around_it() {
        {
            let _handler = Stage::Handler.enter();
            open_window(Stage::ReceiveBuffer);
            open_window(Stage::Marshal);
            assert_eq!(current().stage(), Stage::Marshal);
            assert_eq!(close_window(), Some(Stage::Marshal));
            assert_eq!(current().stage(), Stage::Handler);
            assert_eq!(close_window(), None);
            open_window(Stage::ReceiveBuffer);
        }
        assert_eq!(current(), Scope::NONE);
        assert_eq!(close_window(), None);
    }

    #[test]
    fn a_window_for_one_allocation_is_about_that_one_alone() {
        let _handler = Stage::Handler.enter();
        open_window_for_next(Stage::Marshal);
        assert_eq!(current().stage(), Stage::Handler);
        assert_eq!(current_for(8192).stage(), Stage::Marshal);
        assert_eq!(current_for(8192).stage(), Stage::Marshal, "asked again by an allocator around the first");
        assert_eq!(current_for(8191).stage(), Stage::Handler);
        {
            let _inner = Stage::Transport.enter();
            assert_eq!(current_for(8192).stage(), Stage::Transport);
        }
        assert_eq!(current_for(8192).stage(), Stage::Marshal);
        open_window(Stage::ReceiveBuffer);
        assert_eq!(current_for(8192).stage(), Stage::ReceiveBuffer);
        assert_eq!(close_window(), Some(Stage::ReceiveBuffer));
        assert_eq!(current_for(8192).stage(), Stage::Handler);
        open_window_for_next(Stage::Marshal);
        assert_eq!(close_window(), None);
        assert_eq!(current_for(8192).stage(), Stage::Handler);
    }

    #[test]
    fn a_window_for_one_allocation_opens_without_a_guard_too() {
        open_window_for_next(Stage::Marshal);
        assert!(!guarded());
        assert_eq!(current_for(64).stage(), Stage::Marshal);
        assert_eq!(current_for(65), Scope::NONE);
        close_window();
        assert_eq!(current_for(64), Scope::NONE);
    }

    #[test]
    fn a_window_for_one_allocation_ends_by_itself() {
        open_window_for_next(Stage::ReceiveBuffer);
        let charged = (0..100).filter(|_| current_for(8192).stage() == Stage::ReceiveBuffer).count();
        assert_eq!(charged, 1 + AGAIN as usize);
        close_window();
    }

    #[test]
    fn a_guard_goes_on_in_another_stage_and_whatever_is_inside_returns_there() {
        let method = Method::from_index(3);
        let before = current();
        let dispatch = Scope::new(method, Stage::Dispatch);
        let handler = Scope::new(method, Stage::Handler);
        {
            let _call = dispatch.enter();
            go_on(Stage::Handler, Stage::Dispatch);
            assert_eq!(current(), dispatch, "only from the stage it names");
            {
                let _inner = Stage::Marshal.enter();
                go_on(Stage::Dispatch, Stage::Handler);
                assert_eq!(current().stage(), Stage::Marshal);
            }
            assert_eq!(current(), dispatch, "a guard inside is somebody else's");
            open_window_for_next(Stage::ReceiveBuffer);
            go_on(Stage::Dispatch, Stage::Handler);
            assert_eq!((current(), outside_window()), (handler, handler));
            assert_eq!(current_for(64).stage(), Stage::ReceiveBuffer, "the window stays open");
            open_window(Stage::Marshal);
            go_on(Stage::Handler, Stage::Dispatch);
            assert_eq!((current().stage(), outside_window()), (Stage::Marshal, dispatch));
            close_window();
            assert_eq!(current(), dispatch);
        }
        assert_eq!(current(), before);
        go_on(Stage::Other, Stage::Handler);
        assert_eq!(current(), before, "without a guard there is nothing that would end it");
    }

    #[test]
    fn an_open_window_is_no_guard() {
        open_window(Stage::ReceiveBuffer);
        assert!(!guarded());
        let _handler = Stage::Handler.enter();
        assert!(guarded());
        open_window(Stage::ReceiveBuffer);
        assert!(guarded());
    }

    #[test]
    fn a_guard_inside_a_window_returns_to_the_window() {
        let _handler = Stage::Handler.enter();
        open_window(Stage::ReceiveBuffer);
        drop(Stage::Instrument.enter());
        assert_eq!(current().stage(), Stage::ReceiveBuffer);
        assert_eq!(close_window(), Some(Stage::ReceiveBuffer));
    }
}
