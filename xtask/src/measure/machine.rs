//! What else the machine does while times are taken: whether they could be trusted at all.

use alloc_ladder::record::Timing;

/// Above this share of the machine's time, what others do is why intervals are wide.
const OTHERS: f64 = 0.1;
/// The same of what the hypervisor took away.
const STOLEN: f64 = 0.02;

/// How the congestion controls are called under which equal connections differ, even on loopback: BBR in its versions.
const PACES: &str = "bbr";

/// A look at the machine, and what it was like then.
#[derive(Debug)]
pub(crate) struct Watch(Option<Ticks>);

/// Clock ticks since the machine and this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// Of all cores together.
    all: u64,
    /// In programs and the kernel for them; interrupts are nobody's.
    used: u64,
    stolen: u64,
    /// Of this process and the children it has waited for.
    own: u64,
}

impl Watch {
    /// Looks for the first time, and writes down what does not change.
    pub(crate) fn begin(timing: &mut Timing) -> Watch {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        timing.governor =
            read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|text| text.trim().to_owned());
        timing.load_average =
            read("/proc/loadavg").and_then(|text| text.split_whitespace().next().and_then(|load| load.parse().ok()));
        Watch(Ticks::now())
    }

    /// Writes down what was taken since, as shares of the machine's time.
    pub(crate) fn note(&self, timing: &mut Timing) {
        let Some((before, now)) = self.0.zip(Ticks::now()) else { return };
        let (others, stolen) = before.until(now);
        timing.others_share = Some(others);
        timing.steal_share = Some(stolen);
    }
}

/// The congestion control that connections have: the one that is asked for where the kernel lets this user choose it, and the
/// kernel's own. `None` where it does not say.
pub(crate) fn congestion(asked: Option<&str>) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{name}_congestion_control")).ok();
    let choice = if rustix::process::geteuid().is_root() { "available" } else { "allowed" };
    let has = |asked: &&str| read(choice).is_some_and(|names| names.split_whitespace().any(|name| name == *asked));
    match asked.filter(has) {
        Some(asked) => Some(asked.to_owned()),
        None => {
            let own = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()?;
            Some(own.trim().to_owned())
        }
    }
}

/// What is to be said of a machine that others used or that paces connections; `None` of another.
pub(crate) fn warning(timing: &Timing) -> Option<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let others = timing.others_share.filter(|share| *share > OTHERS);
    let stolen = timing.steal_share.filter(|share| *share > STOLEN);
    let parts = [
        others.map(|share| format!("other programs took {} of the machine", percent(share))),
        stolen.map(|share| format!("its host took {} away", percent(share))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let busy = (!parts.is_empty()).then(|| format!("{} while times were taken", parts.join(", ")));
    let paced = timing.congestion.as_ref().is_some_and(|name| name.starts_with(PACES));
    let paced = paced.then(|| {
        "the kernel paces each TCP connection at a rate of its own (`sysctl -w net.ipv4.tcp_congestion_control=cubic` ends that)"
            .to_owned()
    });
    let all: Vec<String> = busy.into_iter().chain(paced).collect();
    (!all.is_empty()).then(|| format!("{}: intervals are wider for it", all.join("; ")))
}

impl Ticks {
    fn now() -> Option<Ticks> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Ticks::of(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// Reads `/proc/stat` and a process's `stat`.
    fn of(stat: &str, process: &str) -> Option<Ticks> {
        let cpu: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|value| value.parse().ok())
            .collect();
        let [user, nice, system, idle, waiting, interrupts, soft, stolen] = *cpu.first_chunk()?;
        // After the name, which may hold anything, user and system time are the 12th and 13th, and the children's next.
        let own = process.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
        Some(Ticks {
            all: user + nice + system + idle + waiting + interrupts + soft + stolen,
            used: user + nice + system,
            stolen,
            own: own.map(|value| value.parse::<u64>()).sum::<Result<_, _>>().ok()?,
        })
    }

    /// The shares of the machine's time that other programs and the hypervisor took from here to `now`.
    fn until(self, now: Ticks) -> (f64, f64) {
        let all = now.all.saturating_sub(self.all).max(1) as f64;
        let others = now.used.saturating_sub(self.used).saturating_sub(now.own.saturating_sub(self.own));
        let rounded = |share: f64| (share * 1000.0).round() / 1000.0;
        (rounded(others as f64 / all), rounded(now.stolen.saturating_sub(self.stolen) as f64 / all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_is_what_was_used_without_this_process_and_its_children() {
        let of = |stat: &str, process: &str| Ticks::of(stat, process).expect("reads");
        let before = of("cpu  100 0 50 800 10 1 2 7 0 0\ncpu0 1 1 1", "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 3 4 1 2 20 0");
        assert_eq!(before, Ticks { all: 970, used: 150, stolen: 7, own: 10 });
        let now = of("cpu  260 0 90 1500 10 1 2 107 0 0\n", "1 (a) S 1 2 3 4 5 6 7 8 9 10 3 4 71 32 20 0");
        assert_eq!(before.until(now), (0.1, 0.1), "200 used, 100 of them here, of 1,000");
        assert!(Ticks::of("", "").is_none());
        assert!(Ticks::now().is_some_and(|now| now.all > 0));
    }

    #[test]
    fn a_machine_is_worth_a_warning_that_is_busy_or_paces() {
        let timing =
            |others, stolen| Timing { others_share: Some(others), steal_share: Some(stolen), ..Timing::default() };
        assert_eq!(warning(&timing(0.05, 0.01)), None);
        assert_eq!(warning(&Timing::default()), None);
        let said = warning(&timing(0.34, 0.08)).expect("busy");
        assert!(said.starts_with("other programs took 34 % of the machine, its host took 8 % away"), "{said}");
        let of = |congestion: &str| Timing { congestion: Some(congestion.to_owned()), ..timing(0.05, 0.01) };
        assert_eq!(warning(&of("cubic")), None);
        let said = warning(&of("bbr")).expect("paced");
        assert!(said.starts_with("the kernel paces each TCP connection") && said.contains("sysctl -w"), "{said}");
    }

    #[test]
    fn a_congestion_control_is_the_one_asked_for_only_where_it_can_be_had() {
        let own = congestion(None);
        assert_eq!(congestion(Some("no-such-control")), own);
        // RFC 5681's, which every kernel has and lets everybody choose.
        assert_eq!(congestion(Some("reno")), own.map(|_| "reno".to_owned()));
    }
}
