//! What the operating system charged this process: CPU time, peak memory, context switches.
//!
//! `getrusage` counts every thread of the process, also those that ended, in microseconds; it costs a few system calls
//! and allocates next to nothing, so it can be read inside a measured window. It knows nothing of what the process does.

use std::io::Read;
use std::ops::Sub;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::record::Usage;

/// What this process was charged since it started.
pub fn usage() -> Usage {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("RUSAGE_SELF and a valid pointer cannot fail");
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    Usage {
        user_us: count(usage.user_time().num_microseconds()),
        system_us: count(usage.system_time().num_microseconds()),
        rss_bytes_max: rss_bytes_max().unwrap_or(0),
        voluntary_switches: count(usage.voluntary_context_switches()),
        involuntary_switches: count(usage.involuntary_context_switches()),
    }
}

/// The peak resident set since this program started. Not `getrusage`'s, which Linux carries over from the process that
/// started this one: a large parent would make every child look as large. Zero where there is no `/proc`.
fn rss_bytes_max() -> Option<u64> {
    let mut status = [0; 4096];
    let mut file = std::fs::File::open("/proc/self/status").ok()?;
    let read = file.read(&mut status).ok()?;
    let line = status[..read].split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"VmHWM:"))?;
    let kib = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(std::str::from_utf8(kib).ok()?.parse::<u64>().ok()? * 1024)
}

impl Sub for Usage {
    type Output = Usage;

    /// What was charged between two readings, the later one first. Peak RSS is not subtracted: the later reading is kept.
    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
            rss_bytes_max: self.rss_bytes_max,
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_charged_and_the_peak_is_not_a_difference() {
        let before = usage();
        let mut sum = 0u64;
        while (usage() - before).cpu_ns() < 2_000_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let charged = usage() - before;
        assert!(charged.cpu_ns() >= 2_000_000);
        assert!(charged.rss_bytes_max > 100_000, "a process of {} bytes", charged.rss_bytes_max);
    }
}
