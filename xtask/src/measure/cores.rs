//! Which cores the two processes of a timed case run on.
//!
//! Left alone, the kernel moves both between cores, and now and then puts them on one: rounds of pinned processes vary
//! by a fifth of what others vary by. A process is pinned by narrowing the thread that starts it, whose cores it
//! inherits.

use alloc_ladder::subject::ladder::Runtime;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of the two sides; none is every core there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    pub(crate) client: Vec<usize>,
    /// Those of a server whose runtime has several threads.
    pub(crate) server_of_many: Vec<usize>,
}

impl Cores {
    /// A core for each side; none where this process may use one core only.
    pub(crate) fn apart() -> Cores {
        Cores::among(&allowed(), siblings)
    }

    /// Those of a timed case's server, which has this runtime, and of its client, which makes so many connections. Of a
    /// runtime a core only one works where there is one connection; left to all cores, it is now and then beside the client.
    pub(crate) fn of(&self, runtime: Runtime, connections: u32) -> (&[usize], &[usize]) {
        let server = match runtime {
            Runtime::CurrentThread => &self.server,
            Runtime::PerCore if connections == 1 => &self.server,
            Runtime::PerCore | Runtime::MultiThread => &self.server_of_many,
        };
        (server, &self.client)
    }

    /// The same among these, of which `siblings` says which share a physical core. The first core is the last to be
    /// taken: it has the most interrupts.
    fn among(cores: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Cores {
        let mut left = cores.iter().rev();
        let Some(server) = left.next().copied() else { return Cores::default() };
        let near = siblings(server);
        let Some(client) = left.clone().find(|core| !near.contains(core)).or_else(|| left.next()).copied() else {
            return Cores::default();
        };
        let others: Vec<usize> = cores.iter().copied().filter(|core| *core != client).collect();
        // With two cores a server of several threads keeps both: on one it would not be what it is.
        let server_of_many = if others.len() > 1 { others } else { cores.to_vec() };
        Cores { server: vec![server], client: vec![client], server_of_many }
    }
}

/// The cores this process may use.
fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None);
    set.map(|set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()).unwrap_or_default()
}

/// The logical cores of one physical core: `0,4` or `0-1`.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    list(&std::fs::read_to_string(path).unwrap_or_default())
}

fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// Runs `start`, and what it starts stays on these cores. Where the kernel refuses, it runs where it may.
pub(crate) fn on<T>(cores: &[usize], start: impl FnOnce() -> T) -> T {
    let before = if cores.is_empty() { None } else { sched_getaffinity(None).ok() };
    let Some(before) = before else { return start() };
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    let _ = sched_setaffinity(None, &set);
    let started = start();
    let _ = sched_setaffinity(None, &before);
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(cores: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> [Vec<usize>; 3] {
        let Cores { server, client, server_of_many } = Cores::among(cores, siblings);
        [server, client, server_of_many]
    }

    #[test]
    fn each_side_has_a_physical_core_where_there_are_two() {
        let alone = |core| vec![core];
        assert_eq!(among(&[0, 1], alone), [vec![1], vec![0], vec![0, 1]]);
        assert_eq!(among(&[0, 1, 2, 3], alone), [vec![3], vec![2], vec![0, 1, 3]]);
        let threads = |core: usize| vec![core & !1, core | 1];
        assert_eq!(among(&[0, 1, 2, 3], threads), [vec![3], vec![1], vec![0, 2, 3]]);
        assert_eq!(among(&[0, 1], threads), [vec![1], vec![0], vec![0, 1]], "better than none");
        assert_eq!(Cores::among(&[5], alone), Cores::default());
        assert_eq!(Cores::among(&[], alone), Cores::default());
    }

    #[test]
    fn a_server_has_as_many_cores_as_threads_that_work() {
        let cores = Cores { server: vec![1], client: vec![0], server_of_many: vec![0, 1] };
        let of = |runtime, connections| cores.of(runtime, connections).0.len();
        assert_eq!((of(Runtime::CurrentThread, 8), of(Runtime::PerCore, 1), of(Runtime::PerCore, 8)), (1, 1, 2));
        assert_eq!((of(Runtime::MultiThread, 1), cores.of(Runtime::PerCore, 1).1), (2, &[0][..]));
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(list("0,4\n"), [0, 4]);
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list(""), Vec::<usize>::new());
    }

    #[test]
    fn a_process_runs_on_its_cores_and_this_thread_where_it_did() {
        let before = allowed();
        let core = *before.last().expect("it runs somewhere");
        let child = on(&[core], || std::process::Command::new("cat").arg("/proc/self/status").output());
        let status = String::from_utf8(child.expect("it runs").stdout).expect("text");
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a line");
        assert_eq!(list(line.trim()), [core]);
        assert_eq!(allowed(), before);
    }
}
