//! Section `ipMasq` of a profile, with ip-masq-agent's own key names.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// Masquerade rules to keep in table `nat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpMasqSpec {
    /// Destinations that keep their source address, in the order of the profile.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// True: 169.254.0.0/16 is masqueraded too.
    pub masq_link_local: bool,
    /// True: fe80::/10 is masqueraded too.
    pub masq_link_local_ipv6: bool,
    /// Also keep IPv6 rules.
    pub enable_ipv6: bool,
    /// Name of the chain, at most 28 characters.
    pub masq_chain: String,
    /// `--random-fully` on the MASQUERADE rule.
    pub random_fully: bool,
    /// Port ranges for MASQUERADE of TCP, UDP and SCTP (first, last); empty: the kernel chooses.
    pub to_ports: Vec<(u16, u16)>,
    /// Longest time between two looks at the table; at least one second.
    pub resync_interval: Duration,
}

impl IpMasqSpec {
    /// Name of the chain where a profile names none (ip-masq-agent, `--masq-chain`).
    pub const DEFAULT_CHAIN: &str = "IP-MASQ-AGENT";
    /// Number of prefixes allowed where a profile sets no `cidrLimit` (ip-masq-agent).
    pub const DEFAULT_CIDR_LIMIT: usize = 64;
    /// Time between two looks where a profile sets none (ip-masq-agent).
    pub const DEFAULT_RESYNC_INTERVAL: Duration = Duration::from_secs(60);

    /// Prefixes that keep their source address where a profile lists none: the private ranges of RFC 1918, or with
    /// `nomasqAllReservedRanges` all reserved ranges of RFC 5735 and RFC 6598, in ip-masq-agent's order.
    #[must_use]
    pub fn default_cidrs(all_reserved_ranges: bool) -> Vec<IpNet> {
        const RANGES: [(Ipv4Addr, u8); 11] = [
            (Ipv4Addr::new(10, 0, 0, 0), 8),
            (Ipv4Addr::new(172, 16, 0, 0), 12),
            (Ipv4Addr::new(192, 168, 0, 0), 16),
            (Ipv4Addr::new(100, 64, 0, 0), 10),
            (Ipv4Addr::new(192, 0, 0, 0), 24),
            (Ipv4Addr::new(192, 0, 2, 0), 24),
            (Ipv4Addr::new(192, 88, 99, 0), 24),
            (Ipv4Addr::new(198, 18, 0, 0), 15),
            (Ipv4Addr::new(198, 51, 100, 0), 24),
            (Ipv4Addr::new(203, 0, 113, 0), 24),
            (Ipv4Addr::new(240, 0, 0, 0), 4),
        ];
        let count = if all_reserved_ranges { RANGES.len() } else { 3 };
        let ranges = RANGES.iter().take(count);
        ranges.filter_map(|(address, length)| Ipv4Net::new(*address, *length).ok()).map(IpNet::V4).collect()
    }
}

impl Default for IpMasqSpec {
    fn default() -> Self {
        Self {
            non_masquerade_cidrs: Self::default_cidrs(false),
            masq_link_local: false,
            masq_link_local_ipv6: false,
            enable_ipv6: false,
            masq_chain: Self::DEFAULT_CHAIN.to_owned(),
            random_fully: true,
            to_ports: Vec::new(),
            resync_interval: Self::DEFAULT_RESYNC_INTERVAL,
        }
    }
}
