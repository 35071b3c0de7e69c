//! What the process holds of the machine's memory, beside what its program holds of the allocator.
//!
//! A heap that is flat under a resident set that is not: the difference is memory the allocator keeps, or code, stacks
//! and maps, which no counting allocator sees. The kernel and the allocators say which.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc;
#[cfg(feature = "jemalloc")]
mod jemalloc;
#[cfg(feature = "mimalloc")]
mod mimalloc;

/// The process's memory as the kernel and the allocators count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Absent where the kernel does not say (other systems than Linux).
    pub(super) resident: Option<Resident>,
    /// One an allocator whose figures can be read.
    pub(super) allocators: Vec<Allocator>,
}

/// The part of the process's memory that is in the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) bytes: u64,
    /// The most of them so far.
    pub(super) peak_bytes: u64,
    /// Heaps, stacks, maps without a file.
    pub(super) anonymous: u64,
    /// Code and mapped files.
    pub(super) file: u64,
    /// Memory shared with other processes.
    pub(super) shared: u64,
}

/// What an allocator says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocator {
    pub(super) name: &'static str,
    /// Bytes handed out to the program, C libraries among it.
    pub(super) in_use: u64,
    /// Bytes that are free and not given back to the system.
    pub(super) kept: u64,
    /// Read before the program allocated or freed much of what it did.
    pub(super) is_old: bool,
    /// How to have less of them.
    advice: &'static str,
}

impl Memory {
    /// Reads both. `live_bytes` is what the program holds, for an allocator that only knows what it took.
    pub(super) fn read(live_bytes: u64) -> Memory {
        let mut allocators = Vec::new();
        #[cfg(feature = "jemalloc")]
        allocators.extend(jemalloc::read(live_bytes));
        #[cfg(feature = "mimalloc")]
        allocators.extend(mimalloc::read(live_bytes));
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        allocators.extend(glibc::read(live_bytes));
        let _ = live_bytes;
        Memory { resident: Resident::read(), allocators }
    }

    /// Where the memory is that is resident and not live, and what to do; `None` where that is little.
    pub(super) fn gap(&self, live_bytes: u64) -> Option<String> {
        let resident = self.resident?;
        if self.allocators.iter().any(|allocator| allocator.is_old) {
            // Figures of two moments have no difference.
            return None;
        }
        let gap = resident.bytes.saturating_sub(live_bytes);
        if gap < GAP_MIN || gap < resident.bytes / 4 {
            return None;
        }
        let keeper = self.allocators.iter().max_by_key(|allocator| allocator.kept);
        // Free memory of an allocator that the system took back is not resident.
        let kept = keeper.map_or(0, |keeper| keeper.kept).min(resident.anonymous).min(gap);
        let rest = resident.anonymous.saturating_sub(live_bytes).saturating_sub(kept);
        let (words, bytes) = [
            ("hold code and mapped files", resident.file),
            ("are shared with other processes", resident.shared),
            ("are stacks, maps and memory of C libraries, which the counting allocator does not see", rest),
        ]
        .into_iter()
        .max_by_key(|(_, bytes)| *bytes)?;
        let reason = match keeper {
            Some(keeper) if kept >= bytes => {
                format!("{} keeps {} free: {}", keeper.name, megabytes(kept), keeper.advice)
            }
            _ => format!("{} {words}", megabytes(bytes)),
        };
        Some(format!("{} resident, {} live: {reason}", megabytes(resident.bytes), megabytes(live_bytes)))
    }
}

/// A smaller difference is what any program has.
const GAP_MIN: u64 = 16 << 20;

fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 10.0 { format!("{megabytes:.1} MB") } else { format!("{megabytes:.0} MB") }
}

impl Resident {
    fn read() -> Option<Resident> {
        Resident::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    /// Of the kernel's `status`: lines such as `VmRSS:\t  834220 kB`.
    fn parse(status: &str) -> Option<Resident> {
        let bytes = |name: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        let resident = bytes("VmRSS")?;
        Some(Resident {
            bytes: resident,
            // The kernel notes the peak now and then: it may lie behind what is resident now.
            peak_bytes: bytes("VmHWM")?.max(resident),
            anonymous: bytes("RssAnon").unwrap_or(0),
            file: bytes("RssFile").unwrap_or(0),
            shared: bytes("RssShmem").unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn memory(resident: Resident, kept: u64) -> Memory {
        let glibc = Allocator { name: "glibc", in_use: MB, kept, is_old: false, advice: "malloc_trim" };
        Memory { resident: Some(resident), allocators: vec![glibc] }
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let status = "Name:\tservice\nVmHWM:\t  900000 kB\nVmRSS:\t  834220 kB\nRssAnon:\t  830000 kB\n\
                      RssFile:\t    4220 kB\nRssShmem:\t       0 kB\n";
        let resident = Resident::parse(status).expect("figures");
        assert_eq!((resident.bytes, resident.peak_bytes), (834_220 * 1024, 900_000 * 1024));
        assert_eq!((resident.anonymous, resident.file, resident.shared), (830_000 * 1024, 4220 * 1024, 0));
        for broken in ["", "VmRSS:", "VmRSS:\t x kB\nVmHWM:\t 1 kB", "VmRSS:\t 18446744073709551616 kB"] {
            assert_eq!(Resident::parse(broken), None, "{broken}");
        }
        #[cfg(target_os = "linux")]
        assert!(Resident::read().is_some_and(|resident| resident.bytes > 0 && resident.peak_bytes >= resident.bytes));
    }

    #[test]
    fn the_largest_part_of_the_gap_is_named() {
        let anonymous = Resident { bytes: 834 * MB, anonymous: 830 * MB, file: 4 * MB, ..Resident::default() };
        assert_eq!(
            memory(anonymous, 829 * MB).gap(MB / 10).as_deref(),
            Some("834 MB resident, 0.1 MB live: glibc keeps 829 MB free: malloc_trim")
        );
        let stacks = memory(anonymous, MB).gap(MB / 10).expect("a gap");
        assert!(stacks.contains("829 MB are stacks, maps and memory of C libraries"), "{stacks}");
        let code = Resident { bytes: 90 * MB, anonymous: 10 * MB, file: 80 * MB, ..Resident::default() };
        let code = memory(code, 5 * MB).gap(2 * MB).expect("a gap");
        assert!(code.contains("80 MB hold code and mapped files"), "{code}");
        // What the allocator kept a while ago says nothing of now.
        let mut old = memory(anonymous, MB);
        old.allocators[0].is_old = true;
        assert_eq!(old.gap(MB / 10), None);
        // All of it is live, or nearly.
        assert_eq!(memory(anonymous, 2 * MB).gap(820 * MB), None);
        let small = Resident { bytes: 12 * MB, anonymous: 8 * MB, file: 4 * MB, ..Resident::default() };
        assert_eq!(memory(small, MB).gap(MB), None);
        assert_eq!(Memory::default().gap(MB), None);
    }
}
