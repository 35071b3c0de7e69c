//! TCP ports of this machine: who listens on them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use crate::measure::process::processes;

/// How long a connection to this machine may take.
const CONNECT: Duration = Duration::from_millis(250);

/// The address on which a program of this machine takes connections to the port, if one does.
pub(super) fn reachable(port: u16) -> Option<SocketAddr> {
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    addresses.into_iter().find(|address| TcpStream::connect_timeout(address, CONNECT).is_ok())
}

/// The ports that the processes listen on.
pub(super) fn of(processes: &[Pid]) -> BTreeSet<u16> {
    let listening = listening();
    let sockets = processes.iter().flat_map(|process| sockets(*process));
    sockets.filter_map(|inode| listening.iter().find(|(_, of)| *of == inode).map(|(port, _)| *port)).collect()
}

/// A process that listens on the port, as far as this user may see.
pub(super) fn holder(port: u16) -> Option<Pid> {
    let inodes: Vec<u64> = listening().into_iter().filter(|(of, _)| *of == port).map(|(_, inode)| inode).collect();
    processes().find(|process| sockets(*process).iter().any(|inode| inodes.contains(inode)))
}

/// The inodes of a process's sockets.
fn sockets(process: Pid) -> Vec<u64> {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_pid())).into_iter().flatten().flatten();
    let inode = |link: &Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    files.filter_map(|file| inode(&std::fs::read_link(file.path()).ok()?)).collect()
}

/// Port and inode of every TCP socket that listens.
fn listening() -> Vec<(u16, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().filter_map(listener)).collect()
}

/// From lines such as `0: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 …`.
fn listener(line: &str) -> Option<(u16, u64)> {
    const LISTEN: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    if *words.get(3)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(words[1].rsplit(':').next()?, 16).ok()?;
    Some((port, words.get(9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_has_the_process_that_listens_on_it() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = socket.local_addr().expect("bound").port();
        let own = rustix::process::getpid();
        assert!(of(&[own]).contains(&port));
        assert_eq!(holder(port), Some(own));
        assert_eq!(reachable(port).map(|address| address.port()), Some(port));
        drop(socket);
        assert!(!of(&[own]).contains(&port));
        assert_eq!(reachable(port), None);
        assert_eq!(listener("sl local_address rem_address st"), None);
    }
}
