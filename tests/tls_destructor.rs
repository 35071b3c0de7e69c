//! What a thread allocates while it ends, after the allocator's own thread-local is gone, is still counted.
//!
//! A Rust thread-local cannot show it: destructors run in the reverse order of registration, and a thread's first
//! allocation, which registers the allocator's, comes before any code of ours. The C library's thread-specific data
//! is destroyed after all of them. Miri does not run those destructors in that order, so this test says nothing there.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(unsafe_code, reason = "pthread keys have no safe interface")]

use std::ffi::{c_int, c_uint, c_void};
use std::hint::black_box;
use std::ptr::without_provenance;
use std::sync::OnceLock;
use std::thread;

use alloc_ladder::{CountingAlloc, Snapshot, Stage};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

unsafe extern "C" {
    fn pthread_key_create(key: *mut c_uint, destructor: Option<unsafe extern "C" fn(*mut c_void)>) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
}

/// Whether the thread still had counters of its own when its data was destroyed.
static OWNED: OnceLock<bool> = OnceLock::new();

unsafe extern "C" fn destroyed_last(_: *mut c_void) {
    let _guard = Stage::Handler.enter();
    drop(black_box(vec![0u8; 4321]));
    let _ = OWNED.set(Snapshot::thread_is_counted());
}

#[test]
#[cfg_attr(miri, ignore = "Miri does not run the C library's destructors after std's")]
fn an_allocation_after_the_allocators_own_destructor_is_counted() {
    let before = Snapshot::of_process();
    let thread = thread::spawn(|| {
        let mut key = 0;
        // SAFETY: `key` outlives the call, the destructor ignores its argument, and the key is never deleted.
        assert_eq!(unsafe { pthread_key_create(&raw mut key, Some(destroyed_last)) }, 0);
        // SAFETY: the key was just created; a value other than null has its destructor run.
        assert_eq!(unsafe { pthread_setspecific(key, without_provenance(1)) }, 0);
        assert!(Snapshot::thread_is_counted());
    });
    thread.join().expect("the thread succeeds");
    let counted = (Snapshot::of_process() - before).stage(Stage::Handler);
    assert_eq!(OWNED.get(), Some(&false), "the destructor ran before the allocator's: the test shows nothing");
    assert_eq!((counted.blocks, counted.bytes), (1, 4321));
    assert_eq!((counted.freed_blocks, counted.freed_bytes), (1, 4321));
}
