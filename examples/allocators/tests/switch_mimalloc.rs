//! The line that makes mimalloc a program's allocator, as the ladders' `switch` has it.

use std::hint::black_box;

#[rustfmt::skip]
#[global_allocator] static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
#[expect(unsafe_code, reason = "mimalloc is asked in C")]
fn the_line_makes_it_the_programs_allocator() {
    let block = black_box(vec![1u8; 1 << 20]);
    // SAFETY: the function looks at the address alone.
    assert!(unsafe { libmimalloc_sys::mi_is_in_heap_region(block.as_ptr().cast()) });
}
