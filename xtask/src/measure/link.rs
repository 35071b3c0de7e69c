//! A link of a given speed: the sender paced, or two network namespaces joined by a shaped veth pair.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::quantity::Rate;
use crate::measure::program::{self, Program};

/// The addresses exist inside the two namespaces alone.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 213, 57, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 213, 57, 2);

/// Two namespaces and the shaped pair between them; taken down when dropped.
#[derive(Debug)]
pub(crate) struct Veth {
    ip: Program,
    server: String,
    client: String,
}

impl Veth {
    /// # Errors
    /// [`Kind::Environment`] without root or the tools.
    pub(crate) fn shaped(rate: Rate) -> anyhow::Result<Veth> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(Kind::Environment, "network namespaces need root")
                .help("run as root, or use --link-mode paced")
                .into());
        }
        let tool = |name: &str| {
            program::find(name).map(Program::new).ok_or_else(|| {
                Failure::new(Kind::Environment, format!("`{name}` is not installed"))
                    .help("apt-get install iproute2, or use --link-mode paced")
            })
        };
        let (ip, tc) = (tool("ip")?, tool("tc")?);
        let id = std::process::id();
        let veth = Veth { ip, server: format!("alloc-ladder-{id}-s"), client: format!("alloc-ladder-{id}-c") };
        // From here on a failure takes down what is there already.
        for (namespace, address) in [(&veth.server, SERVER), (&veth.client, CLIENT)] {
            succeed(veth.ip.clone().args(["netns", "add", namespace]))?;
            succeed(veth.ip.clone().args(["-n", namespace, "link", "set", "lo", "up"]))?;
            if address == CLIENT {
                let pair = ["link", "add", "veth0", "netns", &veth.server, "type", "veth", "peer", "name", "veth0"];
                succeed(veth.ip.clone().args(pair).args(["netns", &veth.client]))?;
            }
        }
        let bits = rate.0.to_string();
        // A burst of what the rate brings in 4 ms, the timer's coarsest tick; a queue of 20 ms.
        let burst = (rate.0 / 8 / 250).max(128 * 1024).to_string();
        for (namespace, address) in [(&veth.server, SERVER), (&veth.client, CLIENT)] {
            succeed(veth.ip.clone().args([
                "-n",
                namespace,
                "address",
                "add",
                &format!("{address}/30"),
                "dev",
                "veth0",
            ]))?;
            succeed(veth.ip.clone().args(["-n", namespace, "link", "set", "veth0", "up"]))?;
            let shape = ["qdisc", "add", "dev", "veth0", "root", "tbf", "rate", &bits, "burst", &burst];
            succeed(tc.clone().args(["-n", namespace]).args(shape).args(["latency", "20ms"]))?;
        }
        Ok(veth)
    }

    /// What the server is to listen on.
    pub(crate) fn listen(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(SERVER), 0)
    }

    /// `program` inside the server's namespace.
    pub(crate) fn server(&self, program: Program) -> Program {
        program.under(self.ip.clone().args(["netns", "exec", &self.server]))
    }

    /// `program` inside the client's namespace.
    pub(crate) fn client(&self, program: Program) -> Program {
        program.under(self.ip.clone().args(["netns", "exec", &self.client]))
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            // One that was never made cannot be deleted either.
            let _ = succeed(self.ip.clone().args(["netns", "delete", namespace]));
        }
    }
}

fn succeed(program: Program) -> anyhow::Result<()> {
    let mut command: Command = program.command();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(Kind::Environment, format!("{program}: {}", said.trim())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_tc_writes_them() {
        assert_eq!("5gbit".parse(), Ok(Rate(5_000_000_000)));
        assert_eq!("2.5gbit".parse(), Ok(Rate(2_500_000_000)));
        assert_eq!("100mbit".parse(), Ok(Rate(100_000_000)));
        for bad in ["5", "gbit", "5Gb", "0gbit", "-1gbit", "nangbit", "1kbit"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
