//! Allocates 100 blocks of 1,234 bytes in `make_block` and keeps half of them.
use std::hint::black_box;

#[inline(never)]
pub fn make_block() -> Vec<u8> {
    black_box(Vec::with_capacity(1234))
}

#[inline(never)]
fn middle() -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(100);
    for _ in 0..100 {
        kept.push(make_block());
    }
    kept.truncate(50);
    kept
}

fn main() {
    std::mem::forget(black_box(middle()));
}
