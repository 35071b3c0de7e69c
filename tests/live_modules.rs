//! What a profile says of where its addresses lie: of this program, whose functions have names.
#![cfg(all(feature = "live", target_os = "linux"))]

#[path = "support/http.rs"]
mod http;

use std::hint::black_box;

use alloc_ladder::CountingAlloc;
use alloc_ladder::sampled::SampledAlloc;
use alloc_ladder::wire::pprof::Profile;

#[global_allocator]
static ALLOC: Own<SampledAlloc<CountingAlloc>> = Own(SampledAlloc::every(4096, CountingAlloc::new()));

/// A program's own allocator around ours.
struct Own<A>(A);

// SAFETY: every method hands its arguments to the same method of the inner allocator, and returns its result.
#[allow(unsafe_code, reason = "an allocator")]
unsafe impl<A: std::alloc::GlobalAlloc> std::alloc::GlobalAlloc for Own<A> {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: as above.
        note(|| unsafe { self.0.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: std::alloc::Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        note(|| unsafe { self.0.realloc(block, layout, size) })
    }
}

#[inline(never)]
fn note<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn the_culprit() -> Vec<u8> {
    black_box(Vec::with_capacity(1 << 20))
}

#[test]
fn addresses_lie_in_modules_and_the_allocators_frames_are_left_out() {
    let block = the_culprit();
    let live = alloc_ladder::serve("127.0.0.1:0").expect("serves");
    let profile = Profile::read(&http::get(live.addr(), "/debug/pprof/heap").body).expect("a profile");
    let program = std::env::current_exe().expect("this test has a file");
    let own = &profile.mapping[0];
    assert_eq!(profile.string(own.filename), program.to_str().expect("UTF-8"));
    assert!(own.has_functions && own.has_line_numbers && own.memory_limit - own.memory_start < 1 << 32, "{own:?}");
    let id = profile.string(own.build_id);
    assert!(id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for location in profile.location.iter().filter(|location| location.mapping_id != 0) {
        let mapping = profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id).expect("a mapping");
        assert!((mapping.memory_start..mapping.memory_limit).contains(&location.address), "{location:?} {mapping:?}");
    }
    let name = |id: u64| profile.string(profile.function[id as usize - 1].name);
    assert!(profile.function.iter().all(|function| !profile.string(function.name).starts_with("0x")));
    let leaf = |sample: &alloc_ladder::wire::pprof::Sample| {
        let location = &profile.location[*sample.location_id.first()? as usize - 1];
        Some(name(location.line.first()?.function_id))
    };
    // One block of a mebibyte, whose stack begins where it was asked for.
    let sample = profile.sample.iter().find(|sample| sample.value[3] == 1 << 20).expect("the block");
    let leaf_of_block = leaf(sample).expect("a name");
    assert!(!leaf_of_block.contains("GlobalAlloc") && !leaf_of_block.contains("note"), "{leaf_of_block}");
    let stack: Vec<&str> = sample
        .location_id
        .iter()
        .flat_map(|id| profile.location[*id as usize - 1].line.iter().map(|line| name(line.function_id)))
        .collect();
    assert!(stack.iter().any(|name| name.ends_with("the_culprit")), "{stack:#?}");
    assert!(stack.iter().all(|name| !name.contains("as core::alloc::global::GlobalAlloc>")), "{stack:#?}");
    drop(block);
    live.stop();
}
