//! What `Alloc` records is exact, and no end of a process loses any of it.
//!
//! A recorder is a process's: each test runs this program again as a child that is recorded, and reads what it left.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![expect(unsafe_code, reason = "ends processes in every way, and calls an allocator directly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use alloc_ladder::recorder::Variable;
use alloc_ladder::recorder::layout::{self, header, module, peak, shard, slot};
use alloc_ladder::{Alloc, Method, Side, Snapshot, Stage};

#[global_allocator]
static ALLOC: Alloc<Reluctant> = Alloc::wrapping(Reluctant);

/// The system's allocator, which refuses to reallocate to one size.
struct Reluctant;

const REFUSED: usize = 77_777;

// SAFETY: every method hands its arguments to the same method of `System`, or returns null as it may.
unsafe impl GlobalAlloc for Reluctant {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if new_size == REFUSED {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// A size that nothing else allocates.
const SIZE: usize = 12_347;
const CHILD: &str = "RECORDER_TEST_CHILD";

/// One slot of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slot {
    blocks: u64,
    bytes: u64,
    freed_blocks: u64,
    freed_bytes: u64,
    temporary: u64,
    peak_bytes: u64,
    scope: u16,
    depth: u16,
}

struct Recording(Vec<u8>);

impl Recording {
    fn read(path: &Path) -> Recording {
        let mode = path.metadata().expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
        Recording(std::fs::read(path).expect("reads"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32(&self, at: usize) -> u32 {
        self.u64(at) as u32
    }

    fn slots(&self) -> Vec<Slot> {
        let slot = |index: usize| {
            let at = layout::SLOTS_AT + index * slot::SIZE;
            let number = |offset| self.u64(at + offset);
            let short = |offset| self.u32(at + offset) as u16;
            let changed = self.u32(at + slot::EPOCH) == self.u32(header::EPOCH);
            let live = number(slot::BYTES) - number(slot::FREED_BYTES);
            Slot {
                blocks: number(slot::BLOCKS),
                bytes: number(slot::BYTES),
                freed_blocks: number(slot::FREED_BLOCKS),
                freed_bytes: number(slot::FREED_BYTES),
                temporary: number(slot::TEMPORARY),
                peak_bytes: if changed { self.u64(layout::PEAKS_AT + index * peak::SIZE) } else { live },
                scope: short(slot::SCOPE),
                depth: short(slot::DEPTH),
            }
        };
        (0..self.u64(header::SLOTS) as usize).map(slot).collect()
    }

    /// The slots of blocks of one size.
    fn of(&self, size: usize) -> Vec<Slot> {
        self.slots().into_iter().filter(|slot| slot.blocks > 0 && slot.bytes == slot.blocks * size as u64).collect()
    }

    /// Blocks, bytes, freed blocks and freed bytes of all threads.
    fn totals(&self) -> [u64; 4] {
        [shard::BLOCKS, shard::BYTES, shard::FREED_BLOCKS, shard::FREED_BYTES].map(|field| {
            (0..layout::SHARDS).map(|index| self.u64(layout::SHARDS_AT + index * shard::SIZE + field)).sum()
        })
    }
}

/// Runs this program again, recorded, as the child `how`.
fn child(how: &str) -> (Output, Recording) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--exact", "child_of_a_test", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, how).env(Variable::Mode.name(), "stacks").env(Variable::Recordings.name(), folder.path());
    let output = command.output().expect("runs");
    let mut files = std::fs::read_dir(folder.path()).expect("reads").map(|entry| entry.expect("reads").path());
    let file = files.next().unwrap_or_else(|| panic!("no recording: {output:?}"));
    assert!(files.next().is_none(), "one process, one recording");
    (output, Recording::read(&file))
}

/// Not a test of its own: what the children do.
#[test]
fn child_of_a_test() {
    let Ok(how) = std::env::var(CHILD) else { return };
    match how.as_str() {
        "threads" => threads(),
        "scopes" => scopes(),
        "fork" => fork(),
        "errno" => errno(),
        "realloc" => reallocations(),
        "temporary" => temporary(),
        "peak" => peak_of_two_stacks(),
        "elsewhere" => freed_elsewhere(),
        how => {
            let kept: Vec<Vec<u8>> = (0..1000).map(|_| block()).collect();
            kept.into_iter().take(400).for_each(drop);
            // The other 600 live until the end, whatever it is.
            std::mem::forget((0..100).map(|_| block()).collect::<Vec<_>>());
            end(how);
        }
    }
    // The harness's own threads and ending are none of the child's.
    end("_exit");
}

#[inline(never)]
fn block() -> Vec<u8> {
    black_box(Vec::with_capacity(SIZE))
}

fn end(how: &str) {
    // SAFETY: ends this process, which nothing depends on.
    unsafe {
        match how {
            "exit" => std::process::exit(0),
            "_exit" => libc::_exit(0),
            "abort" => std::process::abort(),
            "SIGTERM" => libc::kill(libc::getpid(), libc::SIGTERM),
            "SIGSEGV" => {
                // The standard library's handler takes a first one for a stack overflow that may pass.
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::kill(libc::getpid(), libc::SIGSEGV)
            }
            "SIGKILL" => libc::kill(libc::getpid(), libc::SIGKILL),
            how => panic!("no such end: {how}"),
        };
        // The signal may be handled on another thread.
        loop {
            libc::pause();
        }
    }
}

#[test]
fn no_end_loses_anything() {
    let signals = [
        ("exit", None),
        ("_exit", None),
        ("abort", Some(libc::SIGABRT)),
        ("SIGTERM", Some(libc::SIGTERM)),
        ("SIGSEGV", Some(libc::SIGSEGV)),
        ("SIGKILL", Some(libc::SIGKILL)),
    ];
    for (how, signal) in signals {
        let (output, recording) = child(how);
        let status: ExitStatus = output.status;
        assert_eq!(status.signal(), signal, "{how}: {output:?}");
        let slots = recording.of(SIZE);
        let sum = |field: fn(&Slot) -> u64| slots.iter().map(field).sum::<u64>();
        assert_eq!(slots.len(), 2, "{how}: two lines call the function: {slots:?}");
        assert_eq!((sum(|slot| slot.blocks), sum(|slot| slot.bytes)), (1100, 1100 * SIZE as u64), "{how}");
        assert!(slots.iter().all(|slot| slot.depth > 5), "{how}: {slots:?}");
        // `take` drops the rest too.
        assert_eq!(sum(|slot| slot.freed_blocks), 1000, "{how}");
    }
}

/// Many more threads than shards, in lots, and some that allocate while they end.
fn threads() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            drop(block());
        }
    }
    thread_local!(static LATE: Late = const { Late });
    for _ in 0..THREADS / 100 {
        let lot: Vec<_> = (0..100)
            .map(|_| {
                std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
                    LATE.with(|_| ());
                    drop((block(), block()));
                })
            })
            .collect();
        for thread in lot {
            thread.expect("spawns").join().expect("ends");
        }
    }
}

const THREADS: u64 = 10_000;

#[test]
fn ten_thousand_threads_are_counted_to_the_block() {
    let (_, recording) = child("threads");
    let slots = recording.of(SIZE);
    assert_eq!(slots.iter().map(|slot| slot.blocks).sum::<u64>(), 3 * THREADS, "{slots:?}");
    assert_eq!(slots.iter().map(|slot| slot.freed_blocks).sum::<u64>(), 3 * THREADS);
    let all = recording.slots();
    let sum = |field: fn(&Slot) -> u64| all.iter().map(field).sum::<u64>();
    let stacks = [sum(|s| s.blocks), sum(|s| s.bytes), sum(|s| s.freed_blocks), sum(|s| s.freed_bytes)];
    assert_eq!(recording.totals(), stacks, "what threads counted is what stacks counted");
    assert!(recording.u32(header::SHARDS) < 1000, "shards go from thread to thread");
}

fn scopes() {
    let put = Method::register(Side::Server, "/test.Recorder/Put");
    for stage in [Stage::Marshal, Stage::Handler] {
        let _guard = alloc_ladder::stage::Scope::new(put, stage).enter();
        for _ in 0..10 {
            drop(block());
        }
    }
    // The harness's threads allocate without a method.
    let snapshot = Snapshot::of_process();
    let (mut blocks, mut bytes) = (0, 0);
    for row in snapshot.rows().filter(|row| !row.method.path.is_empty()) {
        blocks += row.tally.blocks;
        bytes += row.tally.bytes;
    }
    write!(std::io::stderr(), "{blocks} {bytes}").expect("the test reads it");
}

#[test]
fn each_stack_carries_its_scope_and_the_counters_agree() {
    let (output, recording) = child("scopes");
    let mut scopes: Vec<(u16, u64)> = recording.of(SIZE).iter().map(|slot| (slot.scope, slot.blocks)).collect();
    scopes.sort_unstable();
    // One call, two stages of the method that was registered first.
    assert_eq!(scopes, [(1 << 3 | Stage::Marshal as u16, 10), (1 << 3 | Stage::Handler as u16, 10)]);
    let entry = layout::METHODS_AT + layout::method::SIZE;
    assert_eq!(recording.u32(entry), 1, "the server's side");
    let length = recording.u32(entry + layout::method::PATH_LEN) as usize;
    assert_eq!(&recording.0[entry + layout::method::PATH..][..length], b"/test.Recorder/Put");

    let counted = String::from_utf8_lossy(&output.stderr).into_owned();
    let of_method =
        |field: fn(&Slot) -> u64| recording.slots().iter().filter(|slot| slot.scope >> 3 == 1).map(field).sum::<u64>();
    assert_eq!(counted, format!("{} {}", of_method(|slot| slot.blocks), of_method(|slot| slot.bytes)));
}

fn fork() {
    let mut command = Command::new("/bin/true");
    // SAFETY: allocating between fork and exec is what is tested; no other thread holds the allocator's lock.
    unsafe {
        command.pre_exec(|| {
            drop(block());
            Ok(())
        });
    }
    assert!(command.status().expect("runs").success());
    drop(block());
}

#[test]
fn a_forked_child_writes_nothing_into_its_parents_recording() {
    let (output, recording) = child("fork");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(recording.of(SIZE).iter().map(|slot| slot.blocks).sum::<u64>(), 1);
    assert_eq!(recording.u64(header::FORKS), 1);
}

/// Every thread's first block sets something up; further stacks reserve memory.
fn errno() {
    let kept = std::thread::spawn(|| {
        // SAFETY: a word of the thread's own.
        unsafe { *libc::__errno_location() = 4242 };
        let kept: Vec<Vec<u8>> = (0..2000).map(|depth| deep(depth % 100)).collect();
        // SAFETY: as above.
        let errno = unsafe { *libc::__errno_location() };
        drop(kept);
        errno
    });
    assert_eq!(kept.join().expect("ends"), 4242);
}

#[inline(never)]
fn deep(levels: usize) -> Vec<u8> {
    black_box(if levels == 0 { block() } else { deep(levels - 1) })
}

#[test]
fn errno_stays_as_it_was() {
    let (output, recording) = child("errno");
    assert!(output.status.success(), "{output:?}");
    let slots = recording.of(SIZE);
    assert_eq!((slots.len(), slots.iter().map(|slot| slot.blocks).sum::<u64>()), (100, 2000));
}

fn reallocations() {
    let layout = Layout::array::<u8>(SIZE).expect("a layout");
    // SAFETY: the layout is not empty; a block that could not be moved is still its owner's.
    unsafe {
        let block = ALLOC.alloc(layout);
        assert!(ALLOC.realloc(block, layout, REFUSED).is_null());
        ALLOC.dealloc(block, layout);
        let block = ALLOC.alloc(layout);
        let grown = ALLOC.realloc(block, layout, 2 * SIZE);
        ALLOC.dealloc(grown, Layout::array::<u8>(2 * SIZE).expect("a layout"));
    }
}

#[test]
fn a_block_that_cannot_grow_stays_live_and_one_that_grows_is_a_new_block() {
    let (output, recording) = child("realloc");
    assert!(output.status.success(), "{output:?}");
    let slots = recording.of(SIZE);
    assert_eq!(slots.iter().map(|slot| (slot.blocks, slot.freed_blocks)).collect::<Vec<_>>(), [(1, 1), (1, 1)]);
    assert_eq!(slots[1].temporary, 0, "a block that grew was not given up");
    let grown = recording.of(2 * SIZE);
    assert_eq!((grown[0].blocks, grown[0].freed_blocks), (1, 1));
    assert!(recording.of(REFUSED).is_empty());
}

fn temporary() {
    for _ in 0..10 {
        drop(block());
    }
    for _ in 0..10 {
        let first = block();
        drop((black_box(first), block()));
    }
}

#[test]
fn a_block_is_temporary_that_is_freed_before_the_next_is_allocated() {
    let (_, recording) = child("temporary");
    let slots = recording.of(SIZE);
    let temporary: Vec<(u64, u64)> = slots.iter().map(|slot| (slot.blocks, slot.temporary)).collect();
    // Of the pairs the first is freed first, when the second was allocated last.
    assert_eq!(temporary, [(10, 10), (10, 0), (10, 10)]);
}

const KEPT: usize = 1_000_003;

fn peak_of_two_stacks() {
    // 100 blocks of one stack at the peak, and one of another that is freed before more come.
    let other: Vec<u8> = black_box(Vec::with_capacity(KEPT));
    let blocks: Vec<Vec<u8>> = (0..100).map(|_| block()).collect();
    drop(other);
    drop(blocks);
    let fewer: Vec<Vec<u8>> = (0..50).map(|_| block()).collect();
    drop(fewer);
}

#[test]
fn what_each_stack_had_live_at_the_peak_is_known() {
    let (_, recording) = child("peak");
    let slots = recording.of(SIZE);
    assert_eq!(slots.iter().map(|slot| slot.blocks).collect::<Vec<_>>(), [100, 50]);
    // Threads tell a thousandth of the peak late: here no more than the last block.
    assert!(slots[0].peak_bytes >= 99 * SIZE as u64, "{slots:?}");
    assert_eq!(slots[1].peak_bytes, 0);
    assert_eq!(recording.of(KEPT)[0].peak_bytes, KEPT as u64);
    let at_peak: u64 = recording.slots().iter().map(|slot| slot.peak_bytes).sum();
    let peak = recording.u64(header::PEAK);
    assert!(at_peak.abs_diff(peak) <= peak / 100, "{at_peak} of {peak}");
}

fn freed_elsewhere() {
    let blocks: Vec<Vec<u8>> = (0..100).map(|_| block()).collect();
    std::thread::spawn(move || drop(blocks)).join().expect("ends");
}

#[test]
fn a_block_freed_on_another_thread_is_its_stacks() {
    let (_, recording) = child("elsewhere");
    let [slot] = recording.of(SIZE)[..] else { panic!("one stack") };
    assert_eq!((slot.blocks, slot.freed_blocks, slot.freed_bytes), (100, 100, 100 * SIZE as u64));
}

#[test]
fn the_executable_is_the_first_module() {
    let (_, recording) = child("_exit");
    let length = recording.u32(layout::MODULES_AT + module::PATH_LEN) as usize;
    let path = String::from_utf8_lossy(&recording.0[layout::MODULES_AT + module::PATH..][..length]).into_owned();
    assert_eq!(Path::new(&path), std::env::current_exe().expect("a path").canonicalize().expect("is there"));
    assert_eq!(&recording.0[..8], layout::MAGIC);
    assert!(recording.u64(header::PROCESS) as u32 != std::process::id());
}
