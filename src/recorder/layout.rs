//! Where everything lies in a recording: fixed areas of one file, little-endian, read by offset.
//!
//! The file is as long as all areas together and sparse: only what is used takes memory. Every number in it is an
//! atomic of the recorded process, so that a copy made at any moment is a valid recording; counters that belong together
//! may then differ by what was under way. Areas hold, in this order: a [`header`], the [modules](module): the executable
//! and those whose code was seen on a stack, the names of [methods](method), [shards](shard) of totals, the distinct stacks in [slots](slot),
//! what each had live at the [peak], and the addresses of their frames.

/// The first bytes of a recording.
pub const MAGIC: [u8; 8] = *b"allocldr";
/// The version of the format.
pub const VERSION: u32 = 1;

/// Modules that can be named.
pub const MODULES: usize = 256;
/// RPC methods that can be named.
pub const METHODS: usize = 64;
/// Threads that can have totals of their own at once. Shard 0 is everybody else's.
pub const SHARDS: usize = 1024;
/// Distinct stacks that can be told apart.
pub const SLOTS: usize = 1 << 18;
/// Frames of all distinct stacks together.
pub const FRAMES: usize = 1 << 24;
/// Frames of one stack, the innermost: a deeper one is cut, and counted in [`header::CUT`].
pub const DEPTH: usize = 192;

/// Where the modules begin.
pub const MODULES_AT: usize = header::SIZE;
/// Where the methods begin.
pub const METHODS_AT: usize = MODULES_AT + MODULES * module::SIZE;
/// Where the shards begin.
pub const SHARDS_AT: usize = METHODS_AT + METHODS * method::SIZE;
/// Where the slots begin.
pub const SLOTS_AT: usize = SHARDS_AT + SHARDS * shard::SIZE;
/// Where what was live at the peak begins, an entry a slot.
pub const PEAKS_AT: usize = SLOTS_AT + SLOTS * slot::SIZE;
/// Where the frames begin, eight bytes each.
pub const FRAMES_AT: usize = PEAKS_AT + SLOTS * peak::SIZE;
/// The length of the whole file.
pub const SIZE: usize = FRAMES_AT + FRAMES * 8;

/// Offsets in the header.
pub mod header {
    /// Bytes of the header.
    pub const SIZE: usize = 4096;
    /// [`super::MAGIC`], written last.
    pub const MAGIC: usize = 0;
    /// `u32`: [`super::VERSION`].
    pub const VERSION: usize = 8;
    /// `u32`: the machine, as ELF numbers it (62 is x86-64, 183 is aarch64).
    pub const MACHINE: usize = 12;
    /// `u32`: the process.
    pub const PROCESS: usize = 16;
    /// `u32`: 1 for the program's own allocator, 2 for the preload library.
    pub const DOOR: usize = 20;
    /// `u64`: when recording began, nanoseconds since 1970.
    pub const BEGAN: usize = 24;
    /// `u64`: the same moment by the monotonic clock, nanoseconds.
    pub const BEGAN_MONOTONIC: usize = 32;
    /// `u64`, twice: where the recorder's own code lies, if in a module of its own.
    pub const OWN: usize = 40;

    /// `u32`: modules named so far.
    pub const MODULES: usize = 64;
    /// `u32`: shards in use so far.
    pub const SHARDS: usize = 68;
    /// `u64`: slots in use.
    pub const SLOTS: usize = 72;
    /// `u64`: frames in use.
    pub const FRAMES: usize = 80;

    /// `u64`: blocks whose stack found no room.
    pub const HOMELESS_BLOCKS: usize = 128;
    /// `u64`: bytes of those.
    pub const HOMELESS_BYTES: usize = 136;
    /// `u64`: stacks cut at [`super::DEPTH`] frames.
    pub const CUT: usize = 144;
    /// `u64`: stacks that were walked on a stack other than the thread's, and so not at all.
    pub const FOREIGN: usize = 152;
    /// `u64`: blocks allocated by a signal handler while the recorder was at work on that thread, and so not recorded.
    pub const REENTERED: usize = 160;
    /// `u64`: blocks too far up in memory, or for which no memory was left, to be known again when they are freed.
    pub const UNTRACKED: usize = 168;
    /// `u64`: children forked.
    pub const FORKS: usize = 176;
    /// `u64`: blocks allocated by the C library's functions before recording began.
    pub const EARLY: usize = 184;

    /// `i64`: live bytes, but for what threads have not told yet.
    pub const LIVE: usize = 192;
    /// `i64`: the most live bytes.
    pub const PEAK: usize = 200;
    /// `u64`: when that was, by the monotonic clock, nanoseconds.
    pub const PEAK_MONOTONIC: usize = 208;
    /// `u32`: how often the peak rose; [`super::slot::EPOCH`] refers to it.
    pub const EPOCH: usize = 256;
}

/// Offsets in a module's entry.
pub mod module {
    /// Bytes of an entry.
    pub const SIZE: usize = 512;
    /// `u64`: what is added to the addresses in the file.
    pub const BASE: usize = 0;
    /// `u64`: the first address of its segments.
    pub const LOW: usize = 8;
    /// `u64`: the address behind its segments.
    pub const HIGH: usize = 16;
    /// `u32`: bytes of the build id, 0 for none.
    pub const BUILD_ID_LEN: usize = 24;
    /// `u32`: bytes of the path; written last, 0 until then.
    pub const PATH_LEN: usize = 28;
    /// The build id.
    pub const BUILD_ID: usize = 32;
    /// The most bytes of a build id that are kept.
    pub const BUILD_ID_MAX: usize = 32;
    /// The path.
    pub const PATH: usize = 64;
    /// The most bytes of a path that are kept.
    pub const PATH_MAX: usize = SIZE - PATH;
}

/// Offsets in a method's entry.
pub mod method {
    /// Bytes of an entry.
    pub const SIZE: usize = 256;
    /// `u32`: 0 for no name, 1 for the server's side, 2 for the client's; written last.
    pub const SIDE: usize = 0;
    /// `u32`: bytes of the path.
    pub const PATH_LEN: usize = 4;
    /// The path.
    pub const PATH: usize = 8;
    /// The most bytes of a path that are kept.
    pub const PATH_MAX: usize = SIZE - PATH;
}

/// Offsets in a shard.
pub mod shard {
    /// Bytes of a shard.
    pub const SIZE: usize = 64;
    /// `u64`: blocks allocated.
    pub const BLOCKS: usize = 0;
    /// `u64`: bytes allocated.
    pub const BYTES: usize = 8;
    /// `u64`: recorded blocks freed.
    pub const FREED_BLOCKS: usize = 16;
    /// `u64`: recorded bytes freed.
    pub const FREED_BYTES: usize = 24;
    /// `u64`: blocks that were reallocations.
    pub const REALLOCS: usize = 32;
}

/// Offsets in a slot.
pub mod slot {
    /// Bytes of a slot.
    pub const SIZE: usize = 64;
    /// `u64`: the hash of the stack and its scope; 0 in a slot that is not in use.
    pub const KEY: usize = 0;
    /// `u64`: blocks allocated.
    pub const BLOCKS: usize = 8;
    /// `u64`: bytes allocated.
    pub const BYTES: usize = 16;
    /// `u64`: those of the blocks that were freed, on whatever thread.
    pub const FREED_BLOCKS: usize = 24;
    /// `u64`: bytes of those.
    pub const FREED_BYTES: usize = 32;
    /// `u64`: those that were freed before their thread allocated again.
    pub const TEMPORARY: usize = 40;
    /// `u32`: where the stack's frames begin, leaf first.
    pub const AT: usize = 48;
    /// `u16`: how many there are.
    pub const DEPTH: usize = 52;
    /// `u16`: the scope's index; 0 where the recorder knows no scopes.
    pub const SCOPE: usize = 54;
    /// `u32`: the epoch of the peak that [`super::peak`] is about. Where it is older than the header's, the slot has
    /// not changed since the peak, and what is live is what was live then.
    pub const EPOCH: usize = 56;
}

/// Offsets in what a slot had live at the peak.
pub mod peak {
    /// Bytes of an entry.
    pub const SIZE: usize = 16;
    /// `u64`: bytes.
    pub const BYTES: usize = 0;
    /// `u64`: blocks.
    pub const BLOCKS: usize = 8;
}
