//! The native back end: a table of our own in nftables, with the exempt destinations as an interval set.
//!
//! ```text
//! table ip trimtab-masq {
//!     set exempt { type ipv4_addr; flags interval; elements = { … } }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat + 10; policy accept;
//!         fib daddr type != local jump masq
//!     }
//!     chain masq {
//!         ip daddr @exempt counter return
//!         counter masquerade fully-random
//!     }
//! }
//! ```
//!
//! `srcnat + 10` is what "jump appended last" is to iptables: whoever else translates sources comes first.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Family;
use super::beyond::{Exception, Pool};
use super::policy::{Masquerading, Policy};

/// Name of the table, one per family; whatever bears it is ours.
pub const NATIVE_TABLE: &str = "trimtab-masq";

/// Addresses from `first` to `last`, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// Lowest address.
    pub first: u128,
    /// Highest address.
    pub last: u128,
}

/// What the table of one family does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Native {
    /// Destinations that keep their source: ascending, neither overlapping nor touching. The kernel refuses overlaps, and
    /// a range that others join is not found again by its own name.
    pub exempt: Vec<AddressRange>,
    /// Packets that keep their source wherever they go, in order.
    pub exceptions: Vec<Exception>,
    /// Only what comes from these is masqueraded; absent: whatever its source.
    pub sources: Option<Vec<AddressRange>>,
    /// Addresses to translate to; absent: the outgoing interface's.
    pub pool: Option<Pool>,
    /// What happens to every other packet, in order.
    pub masquerade: Vec<Masquerading>,
}

/// What the node shows of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeView {
    /// There is none.
    Absent,
    /// It does this, and nothing else.
    Holds(Native),
    /// It bears our name and is not what we write; what differs, for a person.
    Odd(String),
}

impl Native {
    /// A policy, normalised: no order and no repetition of the list can be seen in a set.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let ranges = |networks: &[IpNet]| joined(networks.iter().map(range).collect());
        Self {
            exempt: ranges(&policy.exempt),
            exceptions: policy.exceptions.clone(),
            sources: policy.sources.as_deref().map(ranges),
            pool: policy.pool,
            masquerade: policy.masquerade.clone(),
        }
    }

    /// `3 ranges exempt, 1 rule`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        format!("{} exempt, {}", count(self.exempt.len(), "range"), count(self.masquerade.len(), "rule"))
    }

    /// The form in which the ledger keeps it.
    #[must_use]
    pub fn to_text(&self, family: Family) -> String {
        let mut text = String::new();
        for range in &self.exempt {
            let (first, last) = (address(family, range.first), address(family, range.last));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "exempt {first}-{last}");
        }
        for exception in &self.exceptions {
            let _ = writeln!(text, "except {exception}");
        }
        for range in self.sources.iter().flatten() {
            let (first, last) = (address(family, range.first), address(family, range.last));
            let _ = writeln!(text, "from {first}-{last}");
        }
        if self.sources.as_ref().is_some_and(Vec::is_empty) {
            text.push_str("from nowhere\n");
        }
        if let Some(pool) = self.pool {
            let _ = writeln!(text, "to {pool}");
        }
        for rule in &self.masquerade {
            let protocol = rule.protocol.map(|protocol| format!(" {}", protocol.as_str())).unwrap_or_default();
            let share = rule.share.map(|share| format!(" {}/{}", share.part, share.whole)).unwrap_or_default();
            let ports = rule.ports.map(|(first, last)| format!(" to {first}-{last}")).unwrap_or_default();
            let random = if rule.random_fully { " random" } else { "" };
            let _ = writeln!(text, "masquerade{protocol}{share}{ports}{random}");
        }
        text
    }
}

/// The address that a number stands for.
#[must_use]
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

/// Highest address of a family, as a number.
#[must_use]
pub const fn last_address(family: Family) -> u128 {
    match family {
        Family::V4 => 0xffff_ffff,
        Family::V6 => u128::MAX,
    }
}

pub(super) fn range(network: &IpNet) -> AddressRange {
    match network {
        IpNet::V4(network) => {
            AddressRange { first: u32::from(network.network()).into(), last: u32::from(network.broadcast()).into() }
        }
        IpNet::V6(network) => AddressRange { first: network.network().into(), last: network.broadcast().into() },
    }
}

/// Ascending, with those that overlap or touch made one.
pub(super) fn joined(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort_unstable();
    let mut kept: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match kept.last_mut() {
            Some(before) if before.last.checked_add(1).is_none_or(|next| next >= range.first) => {
                before.last = before.last.max(range.last);
            }
            _ => kept.push(range),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::spec::IpMasqSpec;

    fn exempt(networks: &[&str], family: Family) -> String {
        let non_masquerade_cidrs = networks.iter().map(|text| text.parse().unwrap()).collect();
        let spec = IpMasqSpec {
            non_masquerade_cidrs,
            masq_link_local: true,
            masq_link_local_ipv6: true,
            ..IpMasqSpec::default()
        };
        let native = Native::of(&Policy::of(&spec, family));
        native.to_text(family).lines().filter_map(|line| line.strip_prefix("exempt ")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whatever_the_list_the_ranges_are_apart() {
        let rows: [(&[&str], &str); 7] = [
            (&["10.0.0.0/8"], "10.0.0.0-10.255.255.255"),
            (&["11.0.0.0/8", "10.0.0.0/8"], "10.0.0.0-11.255.255.255"),
            (&["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8"], "10.0.0.0-10.255.255.255"),
            (&["10.0.0.0/32", "10.0.0.2/32"], "10.0.0.0-10.0.0.0 10.0.0.2-10.0.0.2"),
            (&["0.0.0.0/0", "10.0.0.0/8"], "0.0.0.0-255.255.255.255"),
            (&["0.0.0.0/1", "128.0.0.0/1"], "0.0.0.0-255.255.255.255"),
            (&[], ""),
        ];
        for (networks, expected) in rows {
            assert_eq!(exempt(networks, Family::V4), expected, "{networks:?}");
        }
        assert_eq!(exempt(&["ff00::/8", "fd00::/8"], Family::V6).split(' ').count(), 2);
        let all = exempt(&["::/0"], Family::V6);
        assert_eq!(all, "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn the_families_are_apart_and_link_local_is_in_the_set() {
        let spec = IpMasqSpec { enable_ipv6: true, ..IpMasqSpec::default() };
        let text = |family| Native::of(&Policy::of(&spec, family)).to_text(family);
        assert_eq!(
            text(Family::V4),
            "exempt 10.0.0.0-10.255.255.255\nexempt 169.254.0.0-169.254.255.255\nexempt 172.16.0.0-172.31.255.255\n\
             exempt 192.168.0.0-192.168.255.255\nmasquerade random\n"
        );
        assert_eq!(text(Family::V6), "exempt fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff\nmasquerade random\n");
    }

    #[test]
    fn port_ranges_keep_their_order_and_share() {
        let spec = IpMasqSpec { to_ports: vec![(1024, 29_999), (32_768, 65_535)], ..IpMasqSpec::default() };
        let native = Native::of(&Policy::of(&spec, Family::V4));
        assert_eq!(native.summary(), "4 ranges exempt, 7 rules");
        let text = native.to_text(Family::V4);
        let last: Vec<&str> = text.lines().filter(|line| line.starts_with("masquerade")).collect();
        assert_eq!(last.first(), Some(&"masquerade tcp 28976/61744 to 1024-29999 random"));
        assert_eq!(last.last(), Some(&"masquerade random"));
    }
}
