//! The colours of standalone graphs. A page has its own, for light and dark.

use alloc_ladder::Stage;

use super::Delta;
use crate::analyse::cpu::Spent;

/// The stage's colour, told apart by people who see red and green alike; black text reads on all of them.
pub(super) const fn stage_colour(stage: Stage) -> &'static str {
    match stage {
        Stage::Marshal => "#40b58c",
        Stage::ReceiveBuffer => "#f0a53a",
        Stage::MessageConstruction => "#62b4e5",
        Stage::Transport => "#d090b8",
        Stage::Handler => "#d9c948",
        Stage::Instrument => "#a9a2e3",
        Stage::Other => "#b3b9c1",
    }
}

/// The colour of what CPU time was spent on, as far apart as the stages'.
pub(super) const fn spent_colour(spent: Spent) -> &'static str {
    match spent {
        Spent::Allocator => "#f0a53a",
        Spent::Copy => "#62b4e5",
        Spent::Kernel => "#b3b9c1",
        Spent::Own => "#40b58c",
    }
}

/// Fill and text: blue for less, orange for more, the darker the larger the share.
pub(super) const fn delta_colours(delta: Delta) -> (&'static str, &'static str) {
    match delta {
        Delta::Gone => ("#123f8a", "#ffffff"),
        Delta::MuchLess => ("#2e6bd8", "#ffffff"),
        Delta::Less => ("#a3c1f0", "#000000"),
        Delta::Same => ("#e3e6ea", "#000000"),
        Delta::More => ("#f6b08f", "#000000"),
        Delta::MuchMore => ("#e0561f", "#000000"),
        Delta::New => ("#a63b05", "#ffffff"),
    }
}
