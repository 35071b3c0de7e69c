//! How often a connection yields before it reads on, while the handler may still hold what was read last.
//!
//! On a runtime of one thread once is enough: the handler runs before the connection does again. On several threads another
//! worker may take up the connection at once, and h2 then replaces its buffer. Whether it did shows in where its room lies:
//! a block that was taken back has it where the last frame lay, or before. After a loss the connection yields twice as often
//! before a frame, up to [`YIELDS_MAX`] times; where that is in vain more than once in nine frames, because the handler keeps
//! its messages or works on them for long, once again for the next [`FRAMES`] frames.

const YIELDS_MAX: u32 = 32;
const FRAMES: u32 = 256;
/// What a loss adds in spite of the most yields, and a frame without one takes off, until the most is in vain.
const VAIN: u32 = 8;
const VAIN_MAX: u32 = 64;

/// What one connection has learnt.
#[derive(Debug)]
pub(super) struct Patience {
    /// Before a frame, at most.
    yields: u32,
    /// Before this frame, until now.
    yielded: u32,
    /// Frames since `yields` was changed.
    frames: u32,
    /// How much in vain the most is; at [`VAIN_MAX`], losses count no more until `frames` have passed.
    vain: u32,
    /// Where h2's room began behind the last header that went over alone.
    header_at: usize,
}

impl Patience {
    pub(super) const NEW: Patience = Patience { yields: 1, yielded: 0, frames: 0, vain: 0, header_at: 0 };

    /// Whether to yield once more before the next frame.
    pub(super) fn yields(&mut self) -> bool {
        let more = self.yielded < self.yields;
        self.yielded = if more { self.yielded + 1 } else { 0 };
        more
    }

    /// A header went over alone, so that h2 makes room: `at` is the address of the room that is left behind it.
    pub(super) fn header(&mut self, at: usize) {
        self.header_at = at;
    }

    /// The address of the room that h2 made, in a block that is at most `block` bytes long if it is the same.
    pub(super) fn reserved(&mut self, at: usize, block: usize) {
        let kept = (self.header_at.saturating_sub(block)..=self.header_at).contains(&at);
        self.frames += 1;
        if kept || self.vain >= VAIN_MAX {
            if self.frames >= FRAMES {
                (self.yields, self.frames, self.vain) = ((self.yields / 2).max(1), 0, 0);
            } else if kept && self.vain < VAIN_MAX {
                self.vain = self.vain.saturating_sub(1);
            }
            return;
        }
        if self.yields == YIELDS_MAX {
            self.vain += VAIN;
        }
        self.yields = if self.vain >= VAIN_MAX { 1 } else { (2 * self.yields).min(YIELDS_MAX) };
        self.frames = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 100_000;

    impl Patience {
        /// How often it yields before a frame whose block is kept or lost.
        fn frame(&mut self, kept: bool) -> u32 {
            let mut yields = 0;
            while self.yields() {
                yields += 1;
            }
            self.header(500_000);
            self.reserved(if kept { 430_000 } else { 700_000 }, BLOCK);
            yields
        }
    }

    #[test]
    fn one_thread_that_loses_nothing_yields_once() {
        let mut patience = Patience::NEW;
        assert!((0..1000).all(|_| patience.frame(true) == 1));
    }

    #[test]
    fn losses_make_it_wait_longer_and_it_forgets_them() {
        let mut patience = Patience::NEW;
        let yields: Vec<u32> = (0..4).map(|_| patience.frame(false)).collect();
        assert_eq!(yields, [1, 2, 4, 8]);
        for _ in 0..FRAMES {
            assert_eq!(patience.frame(true), 16);
        }
        assert_eq!(patience.frame(true), 8);
    }

    #[test]
    fn waiting_in_vain_is_given_up_for_a_while() {
        let mut patience = Patience::NEW;
        let yields: Vec<u32> = (0..6).map(|_| patience.frame(false)).collect();
        assert_eq!(yields, [1, 2, 4, 8, 16, YIELDS_MAX]);
        for _ in 1..VAIN_MAX / VAIN {
            assert_eq!(patience.frame(false), YIELDS_MAX);
        }
        for _ in 0..FRAMES {
            assert_eq!(patience.frame(false), 1);
        }
        assert_eq!(patience.frame(false), 1);
        assert_eq!(patience.frame(false), 2);
    }

    #[test]
    fn a_block_that_was_taken_back_has_its_room_at_its_beginning() {
        for (at, kept) in [(500_000, true), (500_001, false), (400_000, true), (399_999, false)] {
            let mut patience = Patience::NEW;
            patience.header(500_000);
            patience.reserved(at, BLOCK);
            assert_eq!(patience.frame(true), if kept { 1 } else { 2 }, "{at}");
        }
    }
}
