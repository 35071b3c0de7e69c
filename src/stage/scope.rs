//! What a block is charged to, as numbers: a method's index and a stage, in one word.

use super::Stage;

/// A registered RPC method on one side: a small index, cheap to carry and to put in a thread-local word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(u8);

impl Method {
    /// No method: start-up, connections, background work.
    pub const NONE: Method = Method(0);
    /// Every method that came after the registry was full.
    pub const OVERFLOW: Method = Method(Method::MAX as u8 - 1);
    /// Calls of methods whose first answer has not come yet.
    pub const UNANSWERED: Method = Method(Method::MAX as u8 - 2);
    /// How many rows there are, [`NONE`](Method::NONE), [`UNANSWERED`](Method::UNANSWERED) and
    /// [`OVERFLOW`](Method::OVERFLOW) among them.
    pub const MAX: usize = 64;

    /// The method's row, below [`Method::MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn from_index(index: u8) -> Method {
        Method(index % Method::MAX as u8)
    }
}

/// A stage together with the RPC method it works for: the key of one row of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope(u16);

// Three bits of a scope are its stage.
const _: () = assert!(Stage::ALL.len() == 8);

impl Scope {
    /// No stage and no method: [`Stage::Other`] of [`Method::NONE`].
    pub const NONE: Scope = Scope(0);
    /// How many scopes there are: one for each of [`Stage::ALL`] a method.
    pub const COUNT: usize = Method::MAX * Scope::STAGE_SLOTS;
    pub(crate) const STAGE_SLOTS: usize = Stage::ALL.len();

    /// The scope of this stage and method.
    pub const fn new(method: Method, stage: Stage) -> Scope {
        Scope((method.index() as u16) << 3 | stage as u16)
    }

    /// The stage.
    pub const fn stage(self) -> Stage {
        Stage::from_bits(self.0)
    }

    /// The RPC method.
    pub const fn method(self) -> Method {
        Method::from_index((self.0 >> 3) as u8)
    }

    /// The same method in another stage.
    pub const fn with_stage(self, stage: Stage) -> Scope {
        Scope(self.0 & !7 | stage as u16)
    }

    /// The row of counters this scope writes, below [`Scope::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg_attr(
        not(any(feature = "sampled", feature = "tonic")),
        expect(dead_code, reason = "only tables store scopes as bits")
    )]
    pub(crate) const fn from_index(index: u16) -> Scope {
        Scope(index % Scope::COUNT as u16)
    }

    pub(super) const fn has_next_window(self) -> bool {
        self.0 & NEXT != 0
    }

    pub(super) const fn and_next_window(self) -> Scope {
        Scope(self.0 | NEXT)
    }

    pub(super) const fn without_next_window(self) -> Scope {
        Scope(self.0 & !NEXT)
    }

    /// Whether the current scope needs no second look: a guard is entered and no window for one allocation is open.
    #[inline]
    pub(super) const fn is_plain(self) -> bool {
        // One comparison: neither 0 nor above [`NEXT`].
        self.0.wrapping_sub(1) < NEXT - 1
    }
}

/// The bit of the current scope that says a window for one allocation is open; no scope has it.
pub(super) const NEXT: u16 = 1 << 15;
