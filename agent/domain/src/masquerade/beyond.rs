//! What no masquerade agent has: rules by source, exceptions by port, interface and mark, and addresses of one's choice.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;
use super::guard::MetadataBlock;
use super::policy::PortProtocol;

/// Wishes beyond the agents'; the default is none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beyond {
    /// Only what comes from these is masqueraded; empty: whatever its source.
    pub sources: Vec<IpNet>,
    /// Packets that keep their source wherever they go.
    pub exceptions: Vec<Exception>,
    /// Addresses to translate to, at most one range per family; where there is none, the outgoing interface's.
    pub pools: Vec<Pool>,
    /// Pods kept away from the cloud's metadata service; absent: they are not.
    pub metadata: Option<MetadataBlock>,
}

/// A kind of packets that keep their source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exception {
    /// To these ports.
    Ports {
        /// Of this protocol.
        protocol: PortProtocol,
        /// Lowest port.
        first: u16,
        /// Highest port.
        last: u16,
    },
    /// Through this outgoing interface, by its whole name.
    Interface(String),
    /// With a mark that has this value in these bits.
    Mark {
        /// The bits' value.
        value: u32,
        /// The bits.
        mask: u32,
    },
}

/// Addresses from `first` to `last`, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address.
    pub last: IpAddr,
}

impl Beyond {
    /// True if nothing is wished for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The sources of one family.
    pub fn sources_of(&self, family: Family) -> impl Iterator<Item = IpNet> {
        self.sources.iter().filter(move |network| Family::of(network) == family).map(IpNet::trunc)
    }

    /// The pool of one family.
    #[must_use]
    pub fn pool_of(&self, family: Family) -> Option<Pool> {
        self.pools.iter().copied().find(|pool| pool.first.is_ipv4() == (family == Family::V4))
    }
}

impl Exception {
    /// The match of iptables, as `iptables-save` prints it.
    #[must_use]
    pub fn iptables_match(&self) -> String {
        match self {
            Self::Ports { protocol, first, last } => {
                let protocol = protocol.as_str();
                let ports = if first == last { first.to_string() } else { format!("{first}:{last}") };
                format!("-p {protocol} -m {protocol} --dport {ports}")
            }
            Self::Interface(name) => format!("-o {name}"),
            Self::Mark { value, mask: u32::MAX } => format!("-m mark --mark {value:#x}"),
            Self::Mark { value, mask } => format!("-m mark --mark {value:#x}/{mask:#x}"),
        }
    }
}

impl Pool {
    /// The argument of `--to-source`, as `iptables-save` prints it.
    #[must_use]
    pub fn to_source(self, ports: Option<(u32, u32)>) -> String {
        let bracket = |address: IpAddr| {
            if ports.is_some() && address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
        };
        let mut text = bracket(self.first);
        if self.first != self.last {
            text.push('-');
            text.push_str(&bracket(self.last));
        }
        match ports {
            None => {}
            Some((first, last)) if first == last => text.push_str(&format!(":{first}")),
            Some((first, last)) => text.push_str(&format!(":{first}-{last}")),
        }
        text
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports { protocol, first, last } => write!(f, "{}/{first}-{last}", protocol.as_str()),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Mark { value, mask } => write!(f, "mark {value:#x}/{mask:#x}"),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn texts_are_those_of_iptables_save() {
        let pool = |first: &str, last: &str| Pool { first: first.parse().unwrap(), last: last.parse().unwrap() };
        let rows = [
            (pool("192.0.2.1", "192.0.2.1"), None, "192.0.2.1"),
            (pool("192.0.2.1", "192.0.2.9"), Some((1, 9)), "192.0.2.1-192.0.2.9:1-9"),
            (pool("2001:db8::1", "2001:db8::1"), None, "2001:db8::1"),
            (pool("2001:db8::1", "2001:db8::2"), Some((7, 7)), "[2001:db8::1]-[2001:db8::2]:7"),
        ];
        for (pool, ports, text) in rows {
            assert_eq!(pool.to_source(ports), text);
        }
        let ports = |first, last| Exception::Ports { protocol: PortProtocol::Tcp, first, last };
        assert_eq!(ports(443, 443).iptables_match(), "-p tcp -m tcp --dport 443");
        assert_eq!(ports(80, 90).iptables_match(), "-p tcp -m tcp --dport 80:90");
        assert_eq!(Exception::Mark { value: 1, mask: u32::MAX }.iptables_match(), "-m mark --mark 0x1");
        assert_eq!(Exception::Mark { value: 0x4000, mask: 0x4000 }.iptables_match(), "-m mark --mark 0x4000/0x4000");
    }
}
