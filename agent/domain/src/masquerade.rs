//! Masquerade rules in iptables' table `nat` or in a table of our own: what is there, what should be there, and the one
//! transaction between.
//!
//! Facts about the chain, its jump and its comments: kubernetes-sigs/ip-masq-agent, `cmd/ip-masq-agent`.

mod backend_choice;
mod beyond;
mod chain;
mod change;
mod conntrack;
mod decide;
mod findings;
mod foreign;
mod give_back;
mod guard;
mod native;
mod native_plan;
mod network;
mod policy;
mod preflight;
mod report;
mod rule;
mod saved;
mod source_ports;
mod traffic;
mod view;

pub use backend_choice::{Ability, Evidence, choose_backend};
pub use beyond::{Beyond, Exception, Pool};
pub use chain::{ChainNameError, ChainValue, check_chain_name};
pub use change::{Change, remove_chain, restore_original, write_chain};
pub use conntrack::{Conntrack, Window};
pub use decide::{Nat, Observed, Step, decide, tables_of_interest};
pub use foreign::{ForeignChain, ForeignRule};
pub use guard::{
    Answer, FORWARD, FilterView, GUARD_CHAIN, GUARD_TABLE, Guard, GuardTable, GuardView, MetadataBlock, NativeGuard,
    Ports, guard_object, guards_of_interest,
};
pub use native::{AddressRange, NATIVE_TABLE, Native, NativeView, address, last_address};
pub use network::Network;
pub use policy::{Masquerading, Policy, PolicyError, PortProtocol, Share};
pub use preflight::Connected;
pub use report::{ChainReport, objects};
pub use rule::{Rule, RuleError};
pub use saved::{SavedTable, TableError};
pub use source_ports::{Flow, PortRanges, PortUse, Route, Sample};
pub use traffic::{
    Counted, CountedChain, Hook, RuleCount, Totals, counted_chains, counts_come_with_rules, saved_counts,
};
pub use view::{ChainView, Jump, JumpForm, Nested, TableView};

use std::fmt;

use ipnet::IpNet;

/// The built-in chain that every masquerade chain is reached from.
pub const POSTROUTING: &str = "POSTROUTING";

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a prefix.
    #[must_use]
    pub const fn of(network: &IpNet) -> Self {
        match network {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// `IPv4` or `IPv6`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds the rules: one of iptables' two implementations or a table of our own; each is blind to the rules of the
/// others, and all act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// iptables-nft: rules live in `nf_tables`, changes are announced.
    Nft,
    /// iptables-legacy: rules live in `ip_tables`, nothing is announced.
    Legacy,
    /// nftables without iptables: a table of our own, changes are announced.
    Native,
}

impl Backend {
    /// `nft` or `legacy`, as in the names of the tools, or `nftables`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
            Self::Native => "nftables",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One table `nat`: there is one per family and backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// Its address family.
    pub family: Family,
    /// Where its rules live.
    pub backend: Backend,
}

impl TableId {
    /// The name under which a chain of this table is reported and recorded: `ipv4/nft/IP-MASQ-AGENT`.
    #[must_use]
    pub fn object(self, chain: &str) -> String {
        format!("{self}/{chain}")
    }

    /// Reads such a name back; `None` if it is not one.
    #[must_use]
    pub fn parse_object(object: &str) -> Option<(Self, &str)> {
        let mut parts = object.splitn(3, '/');
        let family = match parts.next()? {
            "ipv4" => Family::V4,
            "ipv6" => Family::V6,
            _ => return None,
        };
        let backend = match parts.next()? {
            "nft" => Backend::Nft,
            "legacy" => Backend::Legacy,
            "nftables" => Backend::Native,
            _ => return None,
        };
        Some((Self { family, backend }, parts.next()?))
    }

    /// The command that a person types for this table: `ip6tables-legacy`.
    #[must_use]
    pub const fn tool(self) -> &'static str {
        match (self.family, self.backend) {
            (Family::V4, Backend::Nft) => "iptables-nft",
            (Family::V6, Backend::Nft) => "ip6tables-nft",
            (Family::V4, Backend::Legacy) => "iptables-legacy",
            (Family::V6, Backend::Legacy) => "ip6tables-legacy",
            (_, Backend::Native) => "nft",
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        write!(f, "{family}/{}", self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_name_is_read_back() {
        for family in Family::ALL {
            for backend in [Backend::Nft, Backend::Legacy, Backend::Native] {
                let table = TableId { family, backend };
                let object = table.object("A/B-C");
                assert_eq!(TableId::parse_object(&object), Some((table, "A/B-C")), "{object}");
            }
        }
        for bad in ["", "ipv4", "ipv4/nft", "ipv5/nft/X", "ipv4/ebtables/X"] {
            assert_eq!(TableId::parse_object(bad), None, "{bad}");
        }
    }
}
