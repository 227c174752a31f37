//! Section `ipMasq` of a profile, with ip-masq-agent's own key names.

use ipnet::IpNet;

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
}
