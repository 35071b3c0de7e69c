//! Which hosts a request may name: one check for every HTTP/1 server of this workspace.
//!
//! A page of another site whose name was made to resolve to loopback reads what is served there, unless the server
//! asks by which name it was asked. A request that names two hosts, or one with a user before it, is read in one way
//! by a proxy and in another way by the server behind it, so it is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

/// By which names a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// By any one name: other machines reach the server by names of their own.
    Any,
    /// By an address or as `localhost`: a browser that was led here by another name asks by that name.
    Local,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It names no host, several, or something that is not a host.
    Malformed,
    /// It names a host that this server does not answer for.
    Elsewhere,
}

impl Refused {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Refused::Malformed => 400,
            Refused::Elsewhere => 421,
        }
    }

    /// What to answer with, for people.
    pub const fn message(self) -> &'static str {
        match self {
            Refused::Malformed => "name the host once, as HOST or HOST:PORT\n",
            Refused::Elsewhere => "ask for it by its address, or as localhost\n",
        }
    }
}

impl Hosts {
    /// Whether a request may be answered whose request line names the authority `target` (if it names one) and that
    /// carries these values of `Host`: there must be exactly one.
    ///
    /// # Errors
    /// Why it must be refused.
    pub fn check<'a>(self, target: Option<&str>, headers: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Refused> {
        let mut headers = headers.into_iter();
        let (Some(header), None) = (headers.next(), headers.next()) else { return Err(Refused::Malformed) };
        let mut local = is_local(header).ok_or(Refused::Malformed)?;
        if let Some(target) = target {
            local &= is_local(target.as_bytes()).ok_or(Refused::Malformed)?;
        }
        if local || self == Hosts::Any { Ok(()) } else { Err(Refused::Elsewhere) }
    }
}

/// Whether `HOST` or `HOST:PORT` is an address or `localhost`; `None` where it is neither.
fn is_local(authority: &[u8]) -> Option<bool> {
    let authority = std::str::from_utf8(authority).ok()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    // A port may be left out, also behind its colon.
    if !port.is_empty() {
        let digits = port.strip_prefix(':')?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !(digits.is_empty() || digits.parse::<u16>().is_ok()) {
            return None;
        }
    }
    if authority.starts_with('[') {
        return host.parse::<Ipv6Addr>().ok().map(|_| true);
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(is_name) {
        return None;
    }
    Some(host.parse::<Ipv4Addr>().is_ok() || host.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: Hosts, target: Option<&str>, headers: &[&str]) -> Result<(), Refused> {
        hosts.check(target, headers.iter().map(|header| header.as_bytes()))
    }

    #[test]
    fn addresses_and_localhost_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1:9464",
            "[::1]:9464",
            "127.0.0.1",
            "10.0.0.7",
            "[fe80::1]",
            "127.0.0.1:",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(check(Hosts::Local, None, &[host]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_elsewhere() {
        for host in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x",
            "1",
            "127.1",
            "localhost.",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "my_host-2.internal:80",
        ] {
            assert_eq!(check(Hosts::Local, None, &[host]), Err(Refused::Elsewhere), "{host}");
            assert_eq!(check(Hosts::Any, None, &[host]), Ok(()), "{host}");
        }
    }

    #[test]
    fn what_is_not_one_host_is_refused_everywhere() {
        for host in [
            "",
            " ",
            ":80",
            "[evil]",
            "::1",
            "[::1",
            "[[::1]]",
            "[127.0.0.1]",
            "[::1%25lo]",
            "[::1]x",
            "127.0.0.1:80:80",
            "127.0.0.1:65536",
            "localhost:+1",
            "127.0.0.1,evil",
            "127.0.0.1 evil",
            "evil@localhost",
            "localhost@evil",
            "evil:80@localhost:80",
            "localhost/",
            "//localhost",
            "localhost%00",
            "localhost#x",
            "localhost?x",
            "\u{2460}27",
        ] {
            for hosts in [Hosts::Any, Hosts::Local] {
                assert_eq!(check(hosts, None, &[host]), Err(Refused::Malformed), "{host}");
                assert_eq!(check(hosts, Some(host), &["localhost"]), Err(Refused::Malformed), "{host}");
            }
        }
        for headers in
            [&[][..], &["localhost", "localhost"], &["localhost", "evil.example"], &["evil.example", "localhost"]]
        {
            for hosts in [Hosts::Any, Hosts::Local] {
                assert_eq!(check(hosts, None, headers), Err(Refused::Malformed), "{headers:?}");
            }
        }
    }

    #[test]
    fn the_request_line_is_held_to_the_same() {
        assert_eq!(check(Hosts::Local, Some("127.0.0.1:1"), &["localhost"]), Ok(()));
        assert_eq!(check(Hosts::Local, Some("evil.example"), &["localhost"]), Err(Refused::Elsewhere));
        assert_eq!(check(Hosts::Local, Some("localhost"), &["evil.example"]), Err(Refused::Elsewhere));
        assert_eq!(check(Hosts::Any, Some("evil.example"), &["localhost"]), Ok(()));
    }
}
