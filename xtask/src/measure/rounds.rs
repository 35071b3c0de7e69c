//! Interleaved rounds: every contender once a round, in an order that is shuffled again each round.

use std::time::SystemTime;

/// A seed from the clock.
pub(crate) fn clock_seed() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Fisher and Yates's shuffle, on Steele, Lea and Flood's SplitMix64.
pub(crate) fn shuffle(order: &mut [usize], random: &mut u64) {
    for last in (1..order.len()).rev() {
        *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = *random;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        order.swap(last, (bits % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_orders_and_every_peer_in_each() {
        let (mut one, mut two) = (7, 7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut order = [0, 1, 2];
            shuffle(&mut order, &mut one);
            let mut again = [0, 1, 2];
            shuffle(&mut again, &mut two);
            assert_eq!(order, again);
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6, "every order of three comes up");
    }
}
