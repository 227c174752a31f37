//! What the rules of one family are to do, without the words of any back end: each renders it in its own form.
//!
//! A packet that leaves through POSTROUTING to a destination which is not this node meets the exemptions first: it keeps
//! its source if one holds the destination. Every other packet meets the masquerading rules in order; the first that
//! matches decides, and the last matches all.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Family;
use super::beyond::{Exception, Pool};
use crate::spec::IpMasqSpec;
use crate::spec::ip_masq::Compat;

/// Highest port number.
const LAST_PORT: u32 = 65_535;

/// The wish for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Name of the chain.
    pub chain: String,
    /// Destinations that keep their source; host bits are zero. Without [`Self::compat`] no prefix holds another.
    pub exempt: Vec<IpNet>,
    /// Packets that keep their source wherever they go.
    pub exceptions: Vec<Exception>,
    /// Only what comes from these is masqueraded, none of which holds another; absent: whatever its source. An empty list
    /// leaves everything as it is: sources were named, and none of this family.
    pub sources: Option<Vec<IpNet>>,
    /// Addresses to translate to; absent: the outgoing interface's.
    pub pool: Option<Pool>,
    /// What happens to every other packet, in order.
    pub masquerade: Vec<Masquerading>,
    /// Whose words are used.
    pub compat: Option<Compat>,
}

/// One way to masquerade: to the address of the outgoing interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masquerading {
    /// Only this protocol; `None`: all.
    pub protocol: Option<PortProtocol>,
    /// Only this share of the connections; `None`: all.
    pub share: Option<Share>,
    /// Source ports to choose from; `None`: the kernel chooses.
    pub ports: Option<(u32, u32)>,
    /// Choose ports at random (iptables 1.6.2).
    pub random_fully: bool,
}

/// A protocol that has ports which masquerading can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl PortProtocol {
    /// All, in ip-masq-agent's order.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The name as iptables and nft write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// `part` of every `whole` connections, at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Size of this range.
    pub part: u32,
    /// Sizes of this range and all later ones.
    pub whole: u32,
}

impl Share {
    /// From 0 to 1.
    #[must_use]
    pub fn probability(self) -> f64 {
        f64::from(self.part) / f64::from(self.whole.max(1))
    }
}

/// A wish that no back end can grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A port that does not exist.
    #[error("port {0} does not exist; toPorts may hold ports from 1 to 65535")]
    Port(u32),
}

impl Policy {
    /// What the profile asks for in one family.
    #[must_use]
    pub fn of(spec: &IpMasqSpec, family: Family) -> Self {
        let all = exempt_networks(spec, family);
        let exempt = if spec.compat.is_some() { all } else { without_contained(&all) };
        let rest = Masquerading { protocol: None, share: None, ports: None, random_fully: spec.random_fully };
        let masquerade = port_rules(spec).chain(std::iter::once(rest)).collect();
        let sources: Vec<IpNet> = spec.beyond.sources_of(family).collect();
        Self {
            chain: spec.masq_chain.clone(),
            exempt,
            exceptions: spec.beyond.exceptions.clone(),
            sources: (!spec.beyond.sources.is_empty()).then(|| without_contained(&sources)),
            pool: spec.beyond.pool_of(family),
            masquerade,
            compat: spec.compat,
        }
    }

    /// Whether it can be had at all.
    ///
    /// # Errors
    /// [`PolicyError`] with the value.
    pub fn check(&self) -> Result<(), PolicyError> {
        let ports = self.masquerade.iter().filter_map(|rule| rule.ports).flat_map(|(first, last)| [first, last]);
        ports.filter(|port| *port == 0 || *port > LAST_PORT).map(PolicyError::Port).next().map_or(Ok(()), Err)
    }

    /// The same for a tool that cannot choose ports at random.
    #[must_use]
    pub fn without_random(mut self) -> Self {
        for rule in &mut self.masquerade {
            rule.random_fully = false;
        }
        self
    }
}

/// Link-local first, then the list in its order, both families apart.
fn exempt_networks(spec: &IpMasqSpec, family: Family) -> Vec<IpNet> {
    let (link_local, masqueraded) = match family {
        Family::V4 => (Ipv4Net::new(Ipv4Addr::new(169, 254, 0, 0), 16).map(IpNet::from), spec.masq_link_local),
        Family::V6 => {
            (Ipv6Net::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).map(IpNet::from), spec.masq_link_local_ipv6)
        }
    };
    let listed = spec.non_masquerade_cidrs.iter().filter(|network| Family::of(network) == family);
    link_local.ok().filter(|_| !masqueraded).into_iter().chain(listed.map(IpNet::trunc)).collect()
}

/// Leaves out what another prefix of the list holds already, and repetitions: all lead to the same verdict.
pub(super) fn without_contained(networks: &[IpNet]) -> Vec<IpNet> {
    let mut sorted = networks.to_vec();
    // By address, then the shorter prefix first: whatever holds a prefix stands ahead of it, with nothing else between.
    sorted.sort_unstable();
    let mut outermost: BTreeSet<IpNet> = BTreeSet::new();
    let mut last: Option<IpNet> = None;
    for network in sorted {
        if last.is_none_or(|last| !last.contains(&network)) {
            last = Some(network);
            outermost.insert(network);
        }
    }
    networks.iter().copied().filter(|network| outermost.remove(network)).collect()
}

/// One rule per protocol and range. A range is chosen with the probability of its size over the sizes of itself and
/// all later ones; the last takes what is left.
fn port_rules(spec: &IpMasqSpec) -> impl Iterator<Item = Masquerading> + '_ {
    let size = |(first, last): (u32, u32)| last.saturating_sub(first).saturating_add(1);
    PortProtocol::ALL.into_iter().flat_map(move |protocol| {
        spec.to_ports.iter().enumerate().map(move |(index, range)| {
            let whole = spec.to_ports.iter().skip(index).fold(0_u32, |sum, range| sum.saturating_add(size(*range)));
            let is_last = index + 1 == spec.to_ports.len();
            Masquerading {
                protocol: Some(protocol),
                share: (!is_last).then_some(Share { part: size(*range), whole }),
                ports: Some(*range),
                random_fully: spec.random_fully,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn exempt(compat: Option<Compat>, cidrs: &[&str]) -> Vec<String> {
        let non_masquerade_cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let spec = IpMasqSpec { non_masquerade_cidrs, compat, enable_ipv6: true, ..IpMasqSpec::default() };
        Family::ALL.into_iter().flat_map(|family| Policy::of(&spec, family).exempt).map(|net| net.to_string()).collect()
    }

    #[test]
    fn what_another_prefix_holds_is_left_out_but_never_in_compat() {
        let list =
            ["10.1.0.0/16", "169.254.169.254/32", "10.0.0.0/8", "9.0.0.0/8", "10.0.0.0/8", "fd00::1/128", "fd00::/8"];
        assert_eq!(exempt(None, &list), ["169.254.0.0/16", "10.0.0.0/8", "9.0.0.0/8", "fe80::/10", "fd00::/8"]);
        for compat in [Compat::KubernetesSigs, Compat::Azure] {
            assert_eq!(exempt(Some(compat), &list).len(), list.len() + 2, "{compat:?}");
        }
        // Adjacent prefixes stay two: a person finds what was written.
        assert_eq!(exempt(None, &["10.0.0.0/9", "10.128.0.0/9"]).len(), 4);
    }

    #[test]
    fn each_range_takes_its_share_of_what_is_left() {
        let spec = IpMasqSpec { to_ports: vec![(1024, 29_999), (32_768, 65_535)], ..IpMasqSpec::default() };
        let rules = Policy::of(&spec, Family::V4).masquerade;
        assert_eq!(rules.len(), 7);
        let shares: Vec<_> = rules.iter().take(2).map(|rule| rule.share).collect();
        assert_eq!(shares, [Some(Share { part: 28_976, whole: 61_744 }), None]);
        assert_eq!(rules.last().unwrap().protocol, None);
    }

    #[test]
    fn a_port_that_does_not_exist_is_told() {
        for (range, expected) in [((1, 65_535), Ok(())), ((60_000, 70_000), Err(70_000)), ((0, 5), Err(0))] {
            let spec = IpMasqSpec { to_ports: vec![range], ..IpMasqSpec::default() };
            assert_eq!(Policy::of(&spec, Family::V4).check(), expected.map_err(PolicyError::Port), "{range:?}");
        }
    }
}
