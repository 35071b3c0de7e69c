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
        Stage::Dispatch => "#b08a60",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of `#rrggbb`, as WCAG defines it.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("two hexadecimal digits")) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn every_stage_has_a_colour_of_its_own_that_pages_use_too_and_black_text_reads_on() {
        let css = include_str!("../page/page.css");
        let card = luminance("#181b20");
        for stage in Stage::ALL {
            let colour = stage_colour(stage);
            assert!(css.contains(&format!("  --{stage}: {colour};\n")), "{stage}");
            assert!(css.contains(&format!(".stage-{stage} {{ --stage: var(--{stage}); }}\n")), "{stage}");
            assert!((luminance(colour) + 0.05) / 0.05 >= 4.5, "{stage}: black text");
            assert!((luminance(colour) + 0.05) / (card + 0.05) >= 3.0, "{stage}: on a dark page");
            let alike = Stage::ALL.into_iter().filter(|other| stage_colour(*other) == colour);
            assert_eq!(alike.count(), 1, "{stage}");
        }
    }
}
