//! Where and with what a run is measured.

use std::path::Path;
use std::process::Command;

use alloc_ladder::record::Environment;

use crate::measure::build::Allocator;
use crate::store::layout::root;
use crate::store::place;

/// What can be told of this machine and checkout; what cannot is left empty.
pub(crate) fn environment(allocator: Allocator, profile: &str) -> Environment {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|value| value.trim_matches([' ', ':', '\t']));
    Environment {
        revision: output("git", &["rev-parse", "--short=12", "HEAD"]),
        dirty: !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        rustc: output("rustc", &["--version"]),
        profile: profile.to_owned(),
        allocator: allocator.name().to_owned(),
        cpu: cpu.unwrap_or_default().to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        command: command(),
        timing: None,
    }
}

/// What is known of a program that somebody else built: the machine, and how it was started. Of one that lies in the
/// workspace also the revision that was checked out when it was run.
pub(crate) fn of_program(command: String, program: &Path) -> Environment {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let is_ours = whole(program).starts_with(whole(&root()));
    let Environment { cpu, cores, kernel, revision, dirty, .. } = environment(Allocator::System, "");
    let (revision, dirty) = if is_ours { (revision, dirty) } else { (String::new(), false) };
    Environment { cpu, cores, kernel, revision, dirty, command, ..Environment::default() }
}

/// The command line as a reader would type it.
fn command() -> String {
    std::iter::once(place::command().to_owned()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(root()).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Now, as RFC 3339 in UTC and as the part of a run's name.
pub(crate) fn now() -> (String, String) {
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    (
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}"),
    )
}

/// Days since 1970-01-01 as year, month, day. Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }
}
