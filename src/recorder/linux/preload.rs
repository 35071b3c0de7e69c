//! The C library's allocating functions, recorded: what [`preload!`](crate::preload) exports.
//!
//! They call glibc's own functions by the names under which it exports them besides (`__libc_malloc`), so that nothing
//! is looked up, and nothing is called before the dynamic linker has bound it.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use super::current;
use super::file::{errno, set_errno};
use super::hooks::{block_allocated, count_freed, finish_reallocation, forget};
use super::live::Sizes;
use super::{Door, Kept, modules};
use crate::recorder::Variable;

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut u8;
    fn __libc_calloc(count: usize, size: usize) -> *mut u8;
    fn __libc_realloc(block: *mut u8, size: usize) -> *mut u8;
    fn __libc_free(block: *mut u8);
    fn __libc_memalign(alignment: usize, size: usize) -> *mut u8;
    fn __libc_valloc(size: usize) -> *mut u8;
    fn __libc_pvalloc(size: usize) -> *mut u8;
}

/// Blocks allocated before recording began.
static EARLY: AtomicU64 = AtomicU64::new(0);

/// Begins to record, if this is a program that is to be recorded.
pub fn start() {
    if wanted()
        && super::start(Door::Preload, Kept::InFile)
        && let Some(recording) = current::recording()
    {
        recording.header.missed.early.store(EARLY.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Whether the list of programs names this one; without a list every program is recorded that is not a [tool](TOOLS).
fn wanted() -> bool {
    let mut path = [0; 4096];
    let length = modules::own_path(&mut path);
    match Variable::Programs.value() {
        Some(list) => is_listed(list.to_bytes(), &path[..length]),
        None => !TOOLS.contains(&file_name(&path[..length])),
    }
}

/// What `cargo run` starts besides the program.
const TOOLS: [&[u8]; 9] =
    [b"cargo", b"rustc", b"rustup", b"rustdoc", b"build-script-build", b"cc", b"collect2", b"ld", b"rust-lld"];

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a list, separated by `:`, names the program by its path or by its file name.
fn is_listed(list: &[u8], path: &[u8]) -> bool {
    let name = file_name(path);
    list.split(|byte| *byte == b':').any(|wanted| !wanted.is_empty() && (wanted == path || wanted == name))
}

#[inline(always)]
fn allocated(block: *mut u8, size: usize) -> *mut u8 {
    if current::recording().is_none() {
        EARLY.fetch_add(1, Ordering::Relaxed);
    }
    block_allocated(block, size, 0, Sizes::Kept);
    block
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn malloc(size: usize) -> *mut u8 {
    // SAFETY: the caller keeps the contract.
    allocated(unsafe { __libc_malloc(size) }, size)
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn calloc(count: usize, size: usize) -> *mut u8 {
    // SAFETY: the caller keeps the contract. A product that overflows gives no block.
    allocated(unsafe { __libc_calloc(count, size) }, count.wrapping_mul(size))
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    // Before the block can be handed to another thread.
    let known = if block.is_null() { None } else { forget(block, 0, Sizes::Kept) };
    // SAFETY: the caller keeps the contract.
    let moved = unsafe { __libc_realloc(block, size) };
    if moved.is_null() && size == 0 {
        // glibc frees a block that is reallocated to nothing.
        if let Some(known) = known {
            count_freed(block, known, false);
        }
        return moved;
    }
    finish_reallocation(known, block, moved, size, 0, Sizes::Kept);
    moved
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn reallocarray(block: *mut u8, count: usize, size: usize) -> *mut u8 {
    let Some(bytes) = count.checked_mul(size) else {
        set_errno(libc::ENOMEM);
        return std::ptr::null_mut();
    };
    // SAFETY: the caller keeps the contract.
    unsafe { realloc(block, bytes) }
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    if !block.is_null()
        && let Some(known) = forget(block, 0, Sizes::Kept)
    {
        count_freed(block, known, false);
    }
    // SAFETY: the caller keeps the contract.
    unsafe { __libc_free(block) }
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn memalign(alignment: usize, size: usize) -> *mut u8 {
    // SAFETY: the caller keeps the contract.
    allocated(unsafe { __libc_memalign(alignment, size) }, size)
}

/// As in C: `errno` stays as it was.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let errno = errno();
    // SAFETY: the caller keeps the contract.
    let block = unsafe { memalign(alignment, size) };
    set_errno(errno);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's pointer.
    unsafe { *out = block.cast() };
    0
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn valloc(size: usize) -> *mut u8 {
    // SAFETY: the caller keeps the contract.
    allocated(unsafe { __libc_valloc(size) }, size)
}

/// As in C.
///
/// # Safety
/// As in C.
#[inline(always)]
pub unsafe fn pvalloc(size: usize) -> *mut u8 {
    // SAFETY: the caller keeps the contract.
    allocated(unsafe { __libc_pvalloc(size) }, size)
}

/// Exports the C library's allocating functions, recorded, from the crate that says it: a shared library for
/// `LD_PRELOAD`, and nothing else. The functions exist only there, so that no program that depends on this crate can come
/// to export `malloc` by it.
#[doc(hidden)]
#[macro_export]
macro_rules! preload {
    () => {
        $crate::preload! { @export
            malloc(size: usize) -> *mut u8;
            calloc(count: usize, size: usize) -> *mut u8;
            realloc(block: *mut u8, size: usize) -> *mut u8;
            reallocarray(block: *mut u8, count: usize, size: usize) -> *mut u8;
            free(block: *mut u8) -> ();
            memalign(alignment: usize, size: usize) -> *mut u8;
            posix_memalign(out: *mut *mut ::core::ffi::c_void, alignment: usize, size: usize) -> ::core::ffi::c_int;
            valloc(size: usize) -> *mut u8;
            pvalloc(size: usize) -> *mut u8;
        }

        /// As `memalign`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut u8 {
            unsafe { $crate::recorder::preload::memalign(alignment, size) }
        }

        /// As `free`: C23's, which tell the size.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn free_sized(block: *mut u8, _size: usize) {
            unsafe { $crate::recorder::preload::free(block) }
        }

        /// As `free`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn free_aligned_sized(block: *mut u8, _alignment: usize, _size: usize) {
            unsafe { $crate::recorder::preload::free(block) }
        }

        /// A program that records itself asks for this.
        #[unsafe(no_mangle)]
        pub extern "C" fn alloc_ladder_preload_yield() {
            $crate::recorder::yield_to_program();
        }

        extern "C" fn start() {
            $crate::recorder::preload::start();
        }

        #[used]
        #[unsafe(link_section = ".init_array")]
        static START: extern "C" fn() = start;
    };
    (@export $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[doc = "As in C, recorded."]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            unsafe { $crate::recorder::preload::$name($($argument),*) }
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_file_or_path() {
        let path = b"/srv/target/release/service";
        for list in ["service", "other:service", "/srv/target/release/service:", ":service"] {
            assert!(is_listed(list.as_bytes(), path), "{list}");
        }
        for list in ["", ":", "servic", "release", "release/service", "/srv/target/release"] {
            assert!(!is_listed(list.as_bytes(), path), "{list}");
        }
    }
}
